"""Kind kotlin, through Maven: poms → compile, test and package of each module."""

import pytest
from build_tests.builders.kotlin import KotlinBuilder

from build_tests.core.builder import Component, ManifestError, Output
from build_tests.core.globs import matches
from build_tests.core.graph import build_graph


def project(*lines):
    return f'<project xmlns="http://maven.apache.org/POM/4.0.0">{"".join(lines)}</project>'


def pom(*lines):
    return {"app/pom.xml": project(*lines or ["<artifactId>app</artifactId><version>1.2</version>"])}


def module(name, *lines, parent="shop"):
    above = f"<parent><groupId>shop</groupId><artifactId>{parent}</artifactId><version>1.0</version></parent>" if parent else ""
    return project(above, f"<artifactId>{name}</artifactId>", *lines)


def needs(*names, **more):
    extra = "".join(f"<{tag}>{text}</{tag}>" for tag, text in more.items())
    each = (f"<dependency><groupId>${{project.groupId}}</groupId><artifactId>{n}</artifactId>{extra}</dependency>" for n in names)
    return f"<dependencies>{''.join(each)}</dependencies>"


def plugin(name, *executions, group="", more=""):
    """Executions as (id, phase, goal)."""
    inner = "".join(
        f"<execution><id>{i}</id>{f'<phase>{p}</phase>' if p else ''}<goals><goal>{g}</goal></goals></execution>" for i, p, g in executions
    )
    where = f"<groupId>{group}</groupId>" if group else ""
    return f"<plugin>{where}<artifactId>{name}</artifactId>{more}<executions>{inner}</executions></plugin>"


def build(*plugins):
    return f"<build><plugins>{''.join(plugins)}</plugins></build>"


KOTLIN = plugin(
    "kotlin-maven-plugin", ("compile", "", "compile"), ("test-compile", "", "test-compile"), group="org.jetbrains.kotlin"
)
SHOP = {
    "app/pom.xml": project(
        "<groupId>shop</groupId><artifactId>shop</artifactId><version>1.0</version><packaging>pom</packaging>",
        "<modules><module>web</module><module>libs/core</module><module>money</module></modules>",
        build(KOTLIN),
    ),
    "app/money/pom.xml": module("money"),
    "app/libs/core/pom.xml": module("core", needs("money")).replace("<version>1.0</version>", "<version>1.0</version><relativePath>../../pom.xml</relativePath>"),
    "app/web/pom.xml": module("web", needs("core")),
    "app/money/src/test/kotlin/ATest.kt": "",
}
MAIN = {"app/src/main/kotlin/A.kt": ""}
TESTS = {"app/src/test/kotlin/ATest.kt": ""}
NAMED = "<artifactId>a</artifactId><build><finalName>orders</finalName></build>"
MAVEN = """
echo "$@" >> calls
ls target > seen
mkdir -p target/classes target/lib target/surefire-reports target/tmp
touch target/classes/New.class target/orders.jar
"""


def goals_of(step):
    """The goals or phases on Maven's command line, without their groups."""
    (line,) = [line for line in step.command.splitlines() if line.startswith("set -- ")]
    return [goal.rpartition(":")[2] if "@" in goal else goal for goal in line.split()[2:]]


def test_the_jar_waits_for_no_test_and_nothing_is_compiled_twice(planned):
    steps = planned(KotlinBuilder, pom() | TESTS)
    assert list(steps) == ["compile", "test", "package"]
    graph = build_graph(steps.values())
    assert graph.needs["app:test"] == graph.needs["app:package"] == ("app:compile",)
    assert goals_of(steps["compile"]) == ["process-classes"]
    assert goals_of(steps["test"]) == ["testResources@default-testResources", "testCompile@default-testCompile", "test@default-test"]
    assert goals_of(steps["package"]) == ["jar@default-jar"]
    assert not matches(steps["compile"].inputs, "app/src/test/kotlin/ATest.kt")
    assert matches(steps["test"].inputs, "app/src/test/kotlin/ATest.kt")
    assert not matches(steps["package"].inputs, "app/src/main/kotlin/A.kt")
    assert steps["test"].junit == ("app/target/surefire-reports/TEST-*.xml",)


def test_the_steps_of_a_module_take_turns_in_its_target_folder_and_others_do_not_wait(planned):
    steps = planned(KotlinBuilder, SHOP)
    assert len({steps[name].resources.locks for name in ("money-compile", "money-test", "money-package")}) == 1
    assert steps["money-compile"].resources.locks != steps["web-compile"].resources.locks


def test_what_the_poms_bind_runs_in_the_order_of_the_phases(planned):
    plugins = build(
        plugin("jacoco-maven-plugin", ("agent", "", "prepare-agent"), ("report", "", "report"), group="org.jacoco"),
        KOTLIN,
        plugin("maven-dependency-plugin", ("default", "package", "copy-dependencies")),
        plugin("maven-compiler-plugin", ("default-compile", "none", "compile"), ("default-testCompile", "none", "testCompile")),
    )
    steps = planned(KotlinBuilder, pom("<artifactId>a</artifactId><version>1</version>", plugins) | TESTS)
    assert goals_of(steps["test"]) == ["prepare-agent@agent", "testResources@default-testResources", "test-compile@test-compile", "test@default-test"]
    assert goals_of(steps["package"]) == ["prepare-agent@agent", "jar@default-jar", "copy-dependencies@default"]
    assert Output(path="app/target/jacoco.exec") in steps["test"].outputs


def test_what_maven_binds_itself_comes_first_in_a_phase(planned):
    steps = planned(KotlinBuilder, pom("<artifactId>a</artifactId><version>1</version>", build(KOTLIN)) | TESTS)
    assert goals_of(steps["test"]) == [
        "testResources@default-testResources", "testCompile@default-testCompile", "test-compile@test-compile", "test@default-test",
    ]  # fmt: skip


def test_kotlins_plugin_as_an_extension_binds_its_goals_itself(planned):
    extension = plugin("kotlin-maven-plugin", group="org.jetbrains.kotlin", more="<extensions>true</extensions>")
    steps = planned(KotlinBuilder, pom("<artifactId>a</artifactId><version>1</version>", build(extension)) | TESTS)
    assert goals_of(steps["compile"]) == ["process-classes"]
    assert goals_of(steps["test"]) == [
        "test-kapt@default-test-kapt", "testResources@default-testResources",
        "test-compile@default-test-compile", "testCompile@default-testCompile", "test@default-test",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "lines",
    [
        "<parent><groupId>org.springframework.boot</groupId><artifactId>spring-boot-starter-parent</artifactId><version>3</version></parent>",
        "<profiles><profile><build/></profile></profiles>",
        build(plugin("some-maven-plugin", more="<extensions>true</extensions>")),
        build(plugin("some-maven-plugin", ("x", "", "unheard-of"))),
    ],
    ids=["parent from elsewhere", "profile", "extension", "goal without a phase"],
)
def test_where_others_have_a_say_the_phases_themselves_run(planned, lines):
    steps = planned(KotlinBuilder, pom("<artifactId>a</artifactId><version>1</version>", lines) | TESTS | MAIN)
    assert list(steps) == ["test", "package"]
    assert goals_of(steps["package"]) == ["package", "-Dmaven.test.skip=true"]
    assert goals_of(steps["test"]) == ["test"]
    assert build_graph(steps.values()).needs["app:test"] == ("app:package",)
    assert all(matches(step.inputs, "app/src/main/kotlin/A.kt") for step in steps.values())


@pytest.mark.parametrize(
    ("lines", "jar"),
    [
        ("", "app/target/app-1.2.jar"),
        (NAMED, "app/target/orders.jar"),
        # A dependency's or a parent's name is not the project's.
        (
            "<parent><artifactId>p</artifactId></parent><artifactId>a</artifactId><version>2</version>",
            "app/target/a-2.jar",
        ),
        ("<artifactId>a</artifactId><version>${revision}</version><properties><revision>7</revision></properties>", "app/target/a-7.jar"),
        ("<artifactId>a</artifactId><version>1</version><packaging>war</packaging>", "app/target/a-1.war"),
    ],
)
def test_the_jar_is_read_off_the_pom(planned, lines, jar):
    assert planned(KotlinBuilder, pom(*[lines] if lines else []))["package"].outputs == (Output(path=jar),)


def test_no_tests_no_test_step(planned):
    assert list(planned(KotlinBuilder, pom())) == ["compile", "package"]


def test_what_lies_beside_the_jar_is_an_output_too(planned):
    step = planned(KotlinBuilder, pom(NAMED), out=("target/lib/",))["package"]
    assert step.outputs[1] == Output(path="app/target/lib", directory=True)


def test_source_folders_are_read_off_the_pom(planned):
    files = pom(
        "<artifactId>a</artifactId><version>1</version><build><sourceDirectory>gen</sourceDirectory>"
        "<testSourceDirectory>${project.basedir}/checks</testSourceDirectory>"
        "<resources><resource><directory>conf</directory></resource></resources></build>"
    )
    steps = planned(KotlinBuilder, files | MAIN | {"app/checks/A.kt": ""})
    assert {"app/gen/", "app/conf/", "app/src/main/"} <= set(steps["compile"].inputs)
    assert "app/checks/" in steps["test"].inputs


# Several modules


def test_modules_have_steps_of_their_own_and_edges_that_nobody_wrote_down(planned):
    steps = planned(KotlinBuilder, SHOP)
    assert set(steps) == {
        "money-compile", "money-test", "money-package", "libs.core-compile", "libs.core-package", "web-compile", "web-package",
    }  # fmt: skip
    graph = build_graph(steps.values())
    assert set(graph.needs["app:libs.core-compile"]) == {"app:money-package"}
    # What core needs is on web's class path too.
    assert set(graph.needs["app:web-compile"]) == {"app:libs.core-package", "app:money-package"}
    assert "app:money-test" not in graph.needs["app:web-package"]
    assert {"app/pom.xml", "app/money/pom.xml", "app/libs/core/pom.xml"} <= set(steps["web-compile"].inputs)
    assert "app/web/pom.xml" not in steps["money-compile"].inputs


def test_a_test_dependency_is_the_tests_alone(planned):
    files = SHOP | {
        "app/web/pom.xml": module("web", needs("core", scope="test")),
        "app/web/src/test/kotlin/A.kt": "",
    }
    graph = build_graph(planned(KotlinBuilder, files).values())
    assert graph.needs["app:web-compile"] == ()
    assert {"app:libs.core-package", "app:money-package"} <= set(graph.needs["app:web-test"])


def test_another_component_is_a_module_like_others(planned):
    other = Component(name="money", kind="kotlin", path="money", options=KotlinBuilder.options())
    files = {"money/pom.xml": project("<groupId>g</groupId><artifactId>money</artifactId><version>1</version>")} | pom(
        "<groupId>g</groupId><artifactId>app</artifactId><version>1</version>", needs("money")
    )
    steps = planned(KotlinBuilder, files, other)
    assert {"money/target/money-1.jar", "money/pom.xml"} <= set(steps["compile"].inputs)


def test_the_modules_of_this_repository_are_laid_over_the_users_own(planned, run, tmp_path):
    files = SHOP | {"app/money/target/money-1.0.jar": "jar"}
    steps = planned(KotlinBuilder, files)
    home = tmp_path / "home"
    (home / ".m2/repository/shop/money/0.9").mkdir(parents=True)
    (home / ".m2/repository/org/else").mkdir(parents=True)
    maven = """
    for word in "$@"; do case $word in -Dmaven.repo.local=*) repository=${word#*=} ;; esac; done
    (cd "$repository" && find -L . | sort) >"$HOME/found"
    mkdir -p target/classes
    """
    done = run(steps["libs.core-compile"], HOME=str(home), mvn=maven)
    assert done.returncode == 0, done.stderr
    found = (home / "found").read_text().split()
    assert {"./shop/money/1.0/money-1.0.jar", "./shop/money/1.0/money-1.0.pom", "./shop/shop/1.0/shop-1.0.pom", "./org/else"} <= set(found)
    assert "./shop/money/0.9" not in found
    assert not (home / ".m2/repository/shop/money/1.0").exists()


FETCHING = """
case "$*" in *--offline*) echo "[ERROR] $SAYS"; exit 1 ;; esac
for word in "$@"; do case $word in -Dmaven.repo.local=*) repository=${word#*=} ;; esac; done
echo online >>"$HOME/calls"
mkdir -p target/classes "${repository:-$HOME/.m2/repository}/new"
"""


LACKING = ("Cannot access central in offline mode and x has not been downloaded from it before", "1 required artifact is missing.")


@pytest.mark.parametrize("says", LACKING)
@pytest.mark.parametrize("step", ["money-compile", "libs.core-compile"])
def test_what_is_not_there_yet_is_fetched_into_the_users_repository(planned, run, tmp_path, step, says):
    steps = planned(KotlinBuilder, SHOP | {"app/money/target/money-1.0.jar": "jar"})
    home = tmp_path / "home"
    home.mkdir()
    done = run(steps[step], HOME=str(home), SAYS=says, mvn=FETCHING)
    assert done.returncode == 0, done.stderr
    assert (home / "calls").read_text() == "online\n"
    assert [path.name for path in (home / ".m2/repository").iterdir() if path.name != "shop"] == ["new"]
    assert not (home / ".m2/repository/shop/money/1.0").exists()


def test_offline_fetches_nothing(planned, run, tmp_path):
    step = planned(KotlinBuilder, pom(), offline=True)["compile"]
    done = run(step, HOME=str(tmp_path), SAYS=LACKING[0], mvn=FETCHING)
    assert done.returncode == 1
    assert "in offline mode" in done.stdout
    assert not (tmp_path / "calls").exists()


def test_an_ordinary_failure_is_tried_once(planned, run, tmp_path):
    done = run(planned(KotlinBuilder, pom())["compile"], HOME=str(tmp_path), mvn="echo x >> calls; echo '[ERROR] A.kt: no'; exit 3")
    assert done.returncode == 3
    assert done.stdout == "[ERROR] A.kt: no\n"
    assert (tmp_path / "app/calls").read_text() == "x\n"


def test_the_repositorys_own_wrapper_is_what_runs(planned, run, tmp_path):
    files = SHOP | {"app/mvnw": "#!/bin/sh\necho wrapped >called; mkdir -p target/classes\n", "app/.mvn/wrapper/maven-wrapper.properties": ""}
    steps = planned(KotlinBuilder, files)
    (tmp_path / "app/mvnw").chmod(0o755)
    done = run(steps["money-compile"], HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "app/money/called").exists()
    assert {"app/mvnw", "app/.mvn/"} <= set(steps["money-compile"].inputs)
    assert [tool.name for tool in steps["money-compile"].tools] == ["java"]


@pytest.mark.parametrize("folder", ["", "app/", "app/money/"])
def test_mavens_configuration_is_looked_for_upwards(planned, folder):
    steps = planned(KotlinBuilder, SHOP | {f"{folder}.mvn/maven.config": "-T1"})
    assert f"{folder}.mvn/" in steps["money-compile"].inputs


# What a step leaves


def test_a_class_whose_source_is_gone_does_not_reach_the_next_jar(planned, run, tmp_path):
    lines = (NAMED, "<parent><artifactId>elsewhere</artifactId></parent>")
    steps = planned(KotlinBuilder, pom(*lines) | TESTS | {"app/target/classes/Gone.class": ""}, out=("target/lib/",))
    assert run(steps["package"], mvn=MAVEN, HOME=str(tmp_path)).returncode == 0
    assert "classes" not in (tmp_path / "app/seen").read_text().split()
    assert {path.name for path in (tmp_path / "app/target").iterdir()} == {"orders.jar", "lib", "surefire-reports"}


def test_no_step_touches_what_another_made(planned, run, tmp_path):
    steps = planned(KotlinBuilder, pom(NAMED) | TESTS, out=("target/lib/",))
    (tmp_path / "app/target/lib").mkdir(parents=True)
    (tmp_path / "app/target/orders.jar").write_text("jar")
    assert run(steps["test"], mvn=MAVEN, HOME=str(tmp_path)).returncode == 0
    assert {path.name for path in (tmp_path / "app/target").iterdir()} == {"orders.jar", "lib", "surefire-reports", "classes"}
    assert (tmp_path / "app/seen").read_text().split() == ["lib", "orders.jar"]


def test_a_failing_maven_fails_the_step(planned, run, tmp_path):
    step = planned(KotlinBuilder, pom(NAMED))["package"]
    assert run(step, mvn="mkdir target/tmp; exit 7", HOME=str(tmp_path)).returncode == 7
    assert list((tmp_path / "app/target").iterdir()) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"app/pom.xml": "<project>"}, "pom.xml is no XML"),
        (pom("<modules><module>a</module></modules><artifactId>x</artifactId>"), "has the module 'a', which has no pom.xml"),
        (pom("<modules><module>../../a</module></modules><artifactId>x</artifactId>"), "which has no pom.xml"),
        (pom("<artifactId>a</artifactId><version>${unknown}</version>"), "can't be read off the pom"),
        (pom("<artifactId>a</artifactId>"), "can't be read off the pom"),
        (SHOP | {"app/web/pom.xml": module("web", needs("core", type="test-jar"))}, "needs shop:core as 'test-jar'"),
    ],
)
def test_manifests_that_will_not_do(planned, files, message):
    with pytest.raises(ManifestError, match=message):
        planned(KotlinBuilder, files)
