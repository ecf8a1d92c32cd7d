"""Kind kotlin, through kotlinc alone: sources → compile, test, package."""

import pytest
from build_tests.builders.kotlin import KotlinBuilder

from build_tests.core.builder import Component, Identity, ManifestError, Output, Step
from build_tests.core.globs import matches
from build_tests.core.graph import build_graph

SOURCES = {"app/src/main/kotlin/A.kt": "", "app/src/test/kotlin/ATest.kt": ""}
LAUNCHER = {"junit": "lib/junit.jar"}


def test_compile_test_and_package_are_steps_of_their_own(planned):
    steps = planned(KotlinBuilder, SOURCES, **LAUNCHER)
    assert list(steps) == ["compile", "test", "package"]
    needs = build_graph(steps.values()).needs
    assert needs["app:test"] == needs["app:package"] == ("app:compile",)
    assert steps["package"].outputs == (Output(path="app/build/app.jar"), Output(path="app/build/lib", directory=True))
    assert "app/lib/junit.jar" in steps["test"].inputs
    assert not matches(steps["compile"].inputs, "app/src/test/kotlin/ATest.kt")


@pytest.mark.parametrize(
    ("files", "tests", "given", "never"),
    [
        ({"app/A.kt": "", "app/sub/B.kt": ""}, (), "A.kt", "app/sub/B.kt"),
        ({"app/src/A.kt": "", "app/src/test/B.kt": ""}, ("src/test/",), "src/A.kt", "app/src/test/B.kt"),
    ],
    ids=["in the folder", "in src"],
)
def test_sources_lie_in_src_main_or_src_or_the_folder_itself(planned, files, tests, given, never):
    step = planned(KotlinBuilder, files, tests=tests, junit="j.jar")["compile"]
    compiler = next(line for line in step.command.splitlines() if line.startswith('"$kotlinc"'))
    assert compiler.endswith(f" {given}")
    assert not matches(step.inputs, never)


def test_a_compiler_of_the_repository_is_installed_first(planned):
    npm = Step(
        component="tools", name="install", kind="typescript", path="tools",
        outputs=(Output(path="tools/node_modules", directory=True, identity=Identity.INSTALLED),),
    )  # fmt: skip
    steps = planned(KotlinBuilder, SOURCES, kotlinc="//tools/node_modules/kotlin-compiler/bin/kotlinc", **LAUNCHER)
    graph = build_graph([npm, *steps.values()])
    assert graph.needs["app:compile"] == ("tools:install",)
    assert "kotlinc=../tools/node_modules/kotlin-compiler/bin/kotlinc" in steps["compile"].command
    assert [tool.name for tool in steps["compile"].tools] == ["java"]
    # The JDK alone could do without.
    assert "tools:install" in graph.needs["app:package"]


def test_jars_of_other_components_are_edges(planned):
    steps = planned(KotlinBuilder, SOURCES, classpath=("//money/build/money.jar",), **LAUNCHER)
    money = KotlinBuilder().plan(
        Component(name="money", kind="kotlin", path="money", options=KotlinBuilder.options()), Folder({"money/src", "money/src/main"})
    )
    needs = build_graph([*money, *steps.values()]).needs
    assert all("money:package" in needs[f"app:{name}"] for name in ("compile", "test", "package"))
    assert "lib/money.jar" in steps["package"].command


class Folder(set):
    """A workspace of names."""

    components = ()
    exists = set.__contains__

    def glob(self, pattern):
        return ["money/src/main/A.kt"] if pattern.endswith("src/**/*.kt") else []


def test_java_sources_and_resources_go_into_the_classes(planned):
    more = {"app/src/main/java/B.java": "", "app/src/main/resources/x.txt": ""}
    command = planned(KotlinBuilder, SOURCES | more, **LAUNCHER)["compile"].command
    assert command.index("$kotlinc") < command.index('"$jdk"javac')
    assert "src/main/java/B.java" in command
    assert "cp -R src/main/resources/. build/classes/" in command


def test_tests_that_nothing_runs(planned):
    with pytest.raises(ManifestError, match="nothing is said that runs them") as raised:
        planned(KotlinBuilder, SOURCES)
    assert "junit:" in raised.value.hint
    assert list(planned(KotlinBuilder, SOURCES, tests=())) == ["compile", "package"]
