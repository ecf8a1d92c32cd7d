"""Kind kotlin, through Gradle: settings and build files, in both languages → compile, test and package of each module."""

import pytest
from build_tests.builders.kotlin import KotlinBuilder

from build_tests.core.builder import Identity, ManifestError
from build_tests.core.globs import matches
from build_tests.core.graph import build_graph

GROOVY = {
    "app/settings.gradle": "rootProject.name = 'shop' // include 'no'\ninclude 'web', ':libs:core',\n    'money'\n",
    "app/build.gradle": "subprojects { apply plugin: 'kotlin' }\n",
    "app/web/build.gradle": "dependencies {\n    implementation project(':libs:core')\n    testImplementation project(':money')\n}\n",
    "app/libs/core/build.gradle": "dependencies { compile project(path: ':money', configuration: 'default') }",
    "app/money/build.gradle": "",
}
KOTLIN = {
    "app/settings.gradle.kts": 'rootProject.name = "shop"\ninclude("web", ":libs:core") /* include("no") */\ninclude(":money")\n',
    "app/build.gradle.kts": 'plugins { kotlin("jvm") version "2.4.20" apply false }\n',
    "app/web/build.gradle.kts": "dependencies {\n    implementation(project(\":libs:core\"))\n    testImplementation(testFixtures(projects.money))\n}\n",
    "app/libs/core/build.gradle.kts": 'dependencies { api(project(path = ":money")) }',
    "app/money/build.gradle.kts": "",
}
SOURCES = {f"app/{module}/src/{kind}/kotlin/A.kt": "" for module in ("web", "libs/core", "money") for kind in ("main", "test")}


@pytest.mark.parametrize("files", [GROOVY, KOTLIN], ids=["groovy", "kotlin"])
def test_modules_and_their_edges_are_read_off_the_build_files(planned, files):
    steps = planned(KotlinBuilder, files | SOURCES)
    assert set(steps) == {f"{m}-{s}" for m in ("web", "libs.core", "money") for s in ("compile", "test", "package")}
    needs = build_graph(steps.values()).needs
    assert set(needs["app:money-compile"]) == set()
    assert set(needs["app:money-package"]) == set(needs["app:money-test"]) == {"app:money-compile"}
    assert set(needs["app:libs.core-compile"]) == {"app:money-compile", "app:money-package"}
    # What core needs is on web's class path too.
    assert set(needs["app:web-compile"]) == {f"app:{m}-{s}" for m in ("libs.core", "money") for s in ("compile", "package")}
    assert "app:web-package" not in needs["app:web-test"]


@pytest.mark.parametrize("files", [GROOVY, KOTLIN], ids=["groovy", "kotlin"])
def test_what_only_the_tests_need_does_not_hold_up_the_rest(planned, files):
    files = files | SOURCES | {name: "" for name in files if "/libs/core/" in name}
    needs = build_graph(planned(KotlinBuilder, files).values()).needs
    assert "app:money-package" not in needs["app:web-compile"]
    assert "app:money-package" in needs["app:web-test"]


def test_each_step_asks_for_one_task_and_the_rest_is_switched_off(planned, run, tmp_path):
    steps = planned(KotlinBuilder, GROOVY | SOURCES)
    gradle = 'echo "$*" >asked; while [ $# -gt 0 ]; do [ "$1" != --init-script ] || cp "$2" init; shift; done'
    assert run(steps["libs.core-test"], gradle=gradle).returncode == 0
    asked = (tmp_path / "app/asked").read_text().split()
    assert asked[-1] == ":libs:core:test"
    assert {"--daemon", "--build-cache", "--parallel"} <= set(asked)
    assert "--offline" not in asked
    init = (tmp_path / "app/init").read_text()
    assert "task.project.path != ':libs:core'" in init
    assert "it.path in [':libs:core:classes']" in init
    assert (tmp_path / "app/libs/core/build/test-results/test").is_dir()


def test_the_daemon_is_declared_or_not_started(planned):
    with_daemon = planned(KotlinBuilder, GROOVY | SOURCES)["web-compile"]
    assert with_daemon.daemons == ("GradleDaemon", "KotlinCompileDaemon")
    without = planned(KotlinBuilder, GROOVY | SOURCES, daemon=False, offline=True)["web-compile"]
    assert without.daemons == ()
    assert "--no-daemon" in without.command
    assert "--offline" in without.command


def test_the_repositorys_own_wrapper_is_what_runs(planned, run, tmp_path):
    wrapper = {"app/gradlew": "#!/bin/sh\necho wrapped >called\n", "app/gradle/wrapper/gradle-wrapper.properties": ""}
    steps = planned(KotlinBuilder, GROOVY | SOURCES | wrapper)
    (tmp_path / "app/gradlew").chmod(0o755)
    assert run(steps["web-compile"]).returncode == 0
    assert (tmp_path / "app/called").exists()
    assert {"app/gradlew", "app/gradle/"} <= set(steps["web-compile"].inputs)
    assert [tool.name for tool in steps["web-compile"].tools] == ["java"]


def test_a_step_leaves_what_other_steps_made_and_nothing_else(planned, run, tmp_path):
    steps = planned(KotlinBuilder, GROOVY | SOURCES)
    made = ("classes/kotlin/main/A.class", "libs/money.jar", "test-results/test/TEST-A.xml")
    scratch = ("classes/kotlin/test/ATest.class", "tmp/x", "kotlin/caches/x", "reports/tests/index.html")
    for path in (*made, *scratch):
        (tmp_path / "app/money/build" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app/money/build" / path).write_text("")
    assert run(steps["money-package"], gradle="exit 5").returncode == 5
    build = tmp_path / "app/money/build"
    assert sorted(str(p.relative_to(build)) for p in build.rglob("*") if p.is_file()) == sorted(made)
    assert not (build / "reports").exists()


def test_a_build_of_one_module_and_one_without_settings(planned):
    steps = planned(KotlinBuilder, {"app/build.gradle.kts": "application", "app/src/main/kotlin/A.kt": "", "app/src/test/kotlin/T.kt": ""})
    assert list(steps) == ["compile", "test", "package"]
    assert ":assemble" in steps["package"].command
    assert {output.path for output in steps["package"].outputs} == {"app/build/libs", "app/build/distributions", "app/build/scripts"}


def test_folders_of_modules_have_no_steps_and_folders_may_lie_elsewhere(planned):
    files = {
        "app/settings.gradle": "include 'a:b'\nproject(':a:b').projectDir = new File(settingsDir, 'other/place')\n",
        "app/other/place/src/main/kotlin/A.kt": "",
    }
    assert set(planned(KotlinBuilder, files)) == {"other.place-compile", "other.place-package"}


def test_the_roots_build_file_may_say_what_modules_need(planned):
    files = GROOVY | SOURCES | {
        "app/build.gradle": """
            subprojects { if (name != 'money') dependencies { implementation project(':money') } }
            project(':web') { dependencies { implementation project(':libs:core') } }
        """,
        "app/web/build.gradle": "", "app/libs/core/build.gradle": "",
    }  # fmt: skip
    needs = build_graph(planned(KotlinBuilder, files).values()).needs
    assert set(needs["app:web-compile"]) == {f"app:{m}-{s}" for m in ("libs.core", "money") for s in ("compile", "package")}
    assert needs["app:money-compile"] == ()


def test_source_folders_are_read_off_the_build_file(planned):
    files = GROOVY | SOURCES | {
        "app/money/build.gradle": """
            sourceSets {
                main { kotlin.srcDirs += 'gen/kotlin'; resources.srcDirs = ["$projectDir/conf", "$buildDir/made"] }
                test { kotlin.srcDir("checks") }
            }
        """
    }
    steps = planned(KotlinBuilder, files)
    assert {"app/money/gen/kotlin/", "app/money/conf/"} <= set(steps["money-compile"].inputs)
    assert "app/money/checks/" in steps["money-test"].inputs
    assert "app/money/checks/" not in steps["money-compile"].inputs


def test_what_configures_gradle_is_an_input_of_every_step(planned):
    more = {
        "app/gradle.properties": "", "app/gradle/libs.versions.toml": "", "app/common.gradle": "", "app/money/gradle.lockfile": "",
        "app/buildSrc/src/main/kotlin/P.kt": "", "app/buildSrc/build/x": "", "app/buildSrc/.gradle/y": "",
    }  # fmt: skip
    steps = planned(KotlinBuilder, GROOVY | SOURCES | more)
    for path in ("app/settings.gradle", "app/build.gradle", "app/web/build.gradle", "app/gradle.properties",
                 "app/gradle/libs.versions.toml", "app/common.gradle", "app/buildSrc/src/main/kotlin/P.kt"):  # fmt: skip
        assert all(matches(step.inputs, path) for step in steps.values()), path
    assert [name for name, step in steps.items() if matches(step.inputs, "app/money/gradle.lockfile")] == ["money-compile", "money-test"]
    assert not any(matches(step.inputs, path) for step in steps.values() for path in ("app/buildSrc/build/x", "app/buildSrc/.gradle/y"))


def test_plugins_of_the_repository_are_built_first(planned):
    settings = {"app/settings.gradle": "pluginManagement { includeBuild('logic') }\ninclude 'money'\n", "app/logic/conv/build.gradle": ""}
    steps = planned(KotlinBuilder, SOURCES | settings)
    outputs = {output.path: output.identity for output in steps["plugins"].outputs}
    assert outputs == dict.fromkeys(
        ("app/logic/build", "app/logic/.gradle", "app/logic/conv/build", "app/logic/conv/.gradle"), Identity.INSTALLED
    )
    assert "app:plugins" in build_graph(steps.values()).needs["app:money-compile"]


@pytest.mark.parametrize(
    "settings",
    ["file('.').eachDir { include it.name }", "include(*names.toTypedArray())", 'include ":x-${flavour}"'],
)
def test_settings_that_compute_their_modules_want_them_named(planned, settings):
    with pytest.raises(ManifestError, match="computes what it includes") as raised:
        planned(KotlinBuilder, {"app/settings.gradle": settings} | SOURCES)
    assert "modules:" in raised.value.hint
    named = planned(KotlinBuilder, {}, modules=("money", "libs/core"))
    assert {"money-compile", "libs.core-compile"} <= set(named)


@pytest.mark.parametrize("words", ['kotlin("multiplatform")', "id 'com.android.library'"])
def test_what_is_not_supported_says_so(planned, words):
    with pytest.raises(ManifestError, match="not supported"):
        planned(KotlinBuilder, GROOVY | SOURCES | {"app/money/build.gradle": words})


def test_a_module_alone_says_where_its_build_is(planned):
    with pytest.raises(ManifestError, match=r"app/money is a module of the Gradle build in app$"):
        planned(KotlinBuilder, GROOVY | SOURCES, path="app/money")
