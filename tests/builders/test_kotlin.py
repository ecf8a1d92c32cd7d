"""Kind kotlin: pom.xml → package and test."""

import pytest
from build_tests.builders.kotlin import KotlinBuilder

from build_tests.core.builder import ManifestError, Output
from build_tests.core.globs import matches
from build_tests.core.graph import build_graph


def pom(*lines):
    body = "".join(lines) or "<artifactId>app</artifactId><version>1.2</version>"
    return {"app/pom.xml": f'<project xmlns="http://maven.apache.org/POM/4.0.0">{body}</project>'}


TESTS = {"app/src/test/kotlin/ATest.kt": ""}
NAMED = "<artifactId>a</artifactId><build><finalName>orders</finalName></build>"
MAVEN = """
echo "$@" >> calls
ls target > seen
mkdir -p target/classes target/lib target/surefire-reports
touch target/classes/New.class target/orders.jar
"""


def test_the_jar_waits_for_no_test_and_tests_come_after_it(planned):
    steps = planned(KotlinBuilder, pom() | TESTS)
    assert list(steps) == ["package", "test"]
    assert steps["package"].depends_on == ()
    assert steps["test"].depends_on == ("app:package",)
    assert not matches(steps["package"].inputs, "app/src/test/kotlin/ATest.kt")
    assert matches(steps["test"].inputs, "app/src/test/kotlin/ATest.kt")
    assert steps["test"].junit == ("app/target/surefire-reports/TEST-*.xml",)
    build_graph(steps.values())


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
    ],
)
def test_the_jar_is_read_off_the_pom(planned, lines, jar):
    assert planned(KotlinBuilder, pom(lines))["package"].outputs == (Output(path=jar),)


def test_no_tests_no_test_step(planned):
    assert list(planned(KotlinBuilder, pom())) == ["package"]


def test_what_lies_beside_the_jar_is_an_output_too(planned):
    step = planned(KotlinBuilder, pom(NAMED), out=("target/lib/",))["package"]
    assert step.outputs[1] == Output(path="app/target/lib", directory=True)


def test_a_class_whose_source_is_gone_does_not_reach_the_next_jar(planned, run, tmp_path):
    steps = planned(KotlinBuilder, pom(NAMED) | TESTS | {"app/target/classes/Gone.class": ""}, out=("target/lib/",))
    assert run(steps["package"], mvn=MAVEN).returncode == 0
    assert "classes" not in (tmp_path / "app/seen").read_text().split()
    assert {path.name for path in (tmp_path / "app/target").iterdir()} == {"orders.jar", "lib"}


def test_the_tests_leave_the_jar_alone(planned, run, tmp_path):
    steps = planned(KotlinBuilder, pom(NAMED) | TESTS, out=("target/lib/",))
    (tmp_path / "app/target/lib").mkdir(parents=True)
    (tmp_path / "app/target/orders.jar").write_text("jar")
    assert run(steps["test"], mvn=MAVEN).returncode == 0
    assert {path.name for path in (tmp_path / "app/target").iterdir()} == {"orders.jar", "lib", "surefire-reports"}
    assert (tmp_path / "app/seen").read_text().split() == ["lib", "orders.jar"]


def test_a_failing_maven_fails_the_step(planned, run, tmp_path):
    step = planned(KotlinBuilder, pom(NAMED))["package"]
    assert run(step, mvn="mkdir target/classes; exit 7").returncode == 7
    assert list((tmp_path / "app/target").iterdir()) == []


def test_one_maven_at_a_time_downloads(planned, run, tmp_path):
    assert planned(KotlinBuilder, pom())["package"].resources.locks == ("maven-repository",)
    offline = planned(KotlinBuilder, pom(), offline=True)["package"]
    assert offline.resources.locks == ()
    run(offline, mvn=MAVEN)
    assert "--offline" in (tmp_path / "app/calls").read_text()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"app/x": ""}, "pom.xml is missing"),
        ({"app/pom.xml": "<project>"}, "pom.xml is no XML"),
        ({"app/build.gradle.kts": ""}, "Gradle is not supported yet"),
        (pom("<modules><module>a</module></modules>"), "has modules"),
        (pom("<artifactId>a</artifactId><version>${revision}</version>"), "can't be read off the pom"),
        (pom("<artifactId>a</artifactId>"), "can't be read off the pom"),
    ],
)
def test_manifests_that_will_not_do(planned, files, message):
    with pytest.raises(ManifestError, match=message):
        planned(KotlinBuilder, files)
