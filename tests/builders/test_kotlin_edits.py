"""Kind kotlin: which edits rebuild which steps, on the steps as they are derived. What comes behind a step that ran
follows from its outputs, and is the graph's."""

import os

import pytest
from build_tests.builders.kotlin import KotlinBuilder
from derived import Derived, changed
from test_kotlin_maven import KOTLIN, module, needs, project

SOURCES = {
    f"app/{name}/src/{kind}/kotlin/{file}.kt": f"class {file}\n"
    for name in ("lib", "web")
    for kind, file in (("main", "A"), ("test", "ATest"), ("main", "B"))
}
MAVEN = SOURCES | {
    "app/pom.xml": project(
        "<groupId>shop</groupId><artifactId>shop</artifactId><version>1.0</version><packaging>pom</packaging>",
        f"<modules><module>web</module><module>lib</module></modules><build><plugins>{KOTLIN}</plugins></build>",
    ),
    "app/lib/pom.xml": module("lib", "<build><sourceDirectory>gen</sourceDirectory></build>"),
    "app/web/pom.xml": module("web", needs("lib")),
    "app/.mvn/maven.config": "-T1\n",
    "app/mvnw": "#!/bin/sh\n",
    "app/lib/gen/G.java": "class G {}\n",
    "app/lib/src/main/resources/x.txt": "x",
}
GRADLE = SOURCES | {
    "app/settings.gradle.kts": 'include("web", "lib")\n',
    "app/build.gradle.kts": "subprojects { }\n",
    "app/gradle.properties": "a=b\n",
    "app/gradle/libs.versions.toml": "[versions]\n",
    "app/gradle/wrapper/gradle-wrapper.properties": "distributionUrl=x\n",
    "app/gradlew": "#!/bin/sh\n",
    "app/web/build.gradle.kts": 'dependencies { implementation(project(":lib")) }\n',
    "app/lib/build.gradle.kts": 'kotlin { sourceSets["main"].kotlin.srcDir("gen") }\n',
    "app/lib/gradle.lockfile": "a:b:1=compileClasspath\n",
    "app/web/gradle.lockfile": "c:d:1=compileClasspath\n",
    "app/lib/gen/G.java": "class G {}\n",
    "app/lib/src/main/resources/x.txt": "x",
}
KOTLINC = {
    "app/src/main/kotlin/A.kt": "class A\n", "app/src/main/kotlin/B.kt": "class B\n", "app/src/test/kotlin/ATest.kt": "class ATest\n",
    "app/src/main/resources/x.txt": "x", "app/lib/dep.jar": "jar", "app/lib/junit.jar": "jar", "app/tool/bin/kotlinc": "#!/bin/sh\n",
}  # fmt: skip
TOOLS = {
    "maven": (MAVEN, {}),
    "gradle": (GRADLE, {}),
    "kotlinc": (KOTLINC, {"classpath": ("lib/dep.jar",), "junit": "lib/junit.jar", "kotlinc": "tool/bin/kotlinc"}),
}
STEPS = {"compile", "test", "package"}
LIB, WEB = ({f"{name}-{step}" for step in STEPS} for name in ("lib", "web"))
ALL = LIB | WEB


@pytest.fixture
def derive(tmp_path):
    def derive(tool):
        files, options = TOOLS[tool]
        return Derived(tmp_path, KotlinBuilder, files, **options)

    return derive


def moved(old, new):
    return lambda d: (d.root / old).rename(d.root / new)


def mode(path):
    return lambda d: (d.root / path).chmod(0o755)


def appended(path, text="//\n"):
    return lambda d: d.append(path, text)


def written(path):
    return lambda d: d.write(path, "something\n")


def removed(path):
    return lambda d: (d.root / path).unlink()


def option(**options):
    return lambda d: d.options.update(options)


A, ATEST = "app/lib/src/main/kotlin/A.kt", "app/lib/src/test/kotlin/ATest.kt"
MODULES = {
    "a source": (appended(A), {"lib-compile"}),
    "a new source": (written("app/lib/src/main/kotlin/New.kt"), {"lib-compile"}),
    "a deleted source": (removed(A), {"lib-compile"}),
    "a renamed source": (moved(A, "app/lib/src/main/kotlin/C.kt"), {"lib-compile"}),
    "a source's mode": (mode(A), {"lib-compile"}),
    "a test": (appended(ATEST), {"lib-test"}),
    "a resource": (appended("app/lib/src/main/resources/x.txt"), {"lib-compile"}),
    "a generated source": (appended("app/lib/gen/G.java"), {"lib-compile"}),
    "the folders of sources, in build.yml": (option(sources=("src/main/kotlin/",)), {"lib-compile"}),
    "offline": (option(offline=True), ALL),
}
REBUILD = {
    "maven": MODULES | {
        "the parent": (appended("app/pom.xml", "\n"), ALL),
        "a manifest": (appended("app/web/pom.xml", "\n"), WEB),
        "the manifest of a module that others need": (appended("app/lib/pom.xml", "\n"), ALL),
        "Maven's own configuration": (appended("app/.mvn/maven.config", "-o\n"), ALL),
        "the wrapper": (appended("app/mvnw", "#\n"), ALL),
    },
    "gradle": MODULES | {
        "the settings": (appended("app/settings.gradle.kts"), ALL),
        "any manifest, since each may change the others": (appended("app/web/build.gradle.kts"), ALL),
        "the properties": (appended("app/gradle.properties", "c=d\n"), ALL),
        "the versions": (appended("app/gradle/libs.versions.toml", "a = '1'\n"), ALL),
        "the wrapper's Gradle": (appended("app/gradle/wrapper/gradle-wrapper.properties", "#\n"), ALL),
        "a module's lock": (appended("app/lib/gradle.lockfile", "x:y:1=z\n"), {"lib-compile", "lib-test"}),
        "no daemon": (option(daemon=False), ALL),
    },
    "kotlinc": {
        "a source": (appended("app/src/main/kotlin/A.kt"), {"compile"}),
        "a new source": (written("app/src/main/kotlin/New.kt"), {"compile"}),
        "a deleted source": (removed("app/src/main/kotlin/A.kt"), {"compile"}),
        "a renamed source": (moved("app/src/main/kotlin/A.kt", "app/src/main/kotlin/C.kt"), {"compile"}),
        "a source's mode": (mode("app/src/main/kotlin/A.kt"), {"compile"}),
        "a test": (appended("app/src/test/kotlin/ATest.kt"), {"test"}),
        "a resource": (appended("app/src/main/resources/x.txt"), {"compile"}),
        "a jar of the class path": (appended("app/lib/dep.jar"), STEPS),
        "the tests' runner": (appended("app/lib/junit.jar"), {"test"}),
        "the compiler": (appended("app/tool/bin/kotlinc"), STEPS),
        "the main class": (option(main_class="A"), {"package"}),
    },
}  # fmt: skip


@pytest.mark.parametrize(("tool", "edit"), [(tool, edit) for tool, edits in REBUILD.items() for edit in edits])
def test_what_must_rebuild(derive, tool, edit):
    derived = derive(tool)
    change, expected = REBUILD[tool][edit]
    assert derived.rebuilt_by(change) == expected


def test_another_version_of_a_tool_rebuilds_everything(tmp_path):
    derived = Derived(tmp_path, KotlinBuilder, {name: text for name, text in MAVEN.items() if name != "app/mvnw"})
    assert changed(derived.keys(), derived.keys(java="2")) == changed(derived.keys(), derived.keys(mvn="2")) == ALL


KEEP = {
    "a README": written("app/README.md"),
    "a README of a module": written("app/lib/README.md"),
    "notes beside the sources": written("app/lib/src/notes.txt"),
    "an editor's backup": written("app/lib/src/main/kotlin/A.kt~"),
    "an editor's swap file": written("app/lib/src/main/kotlin/.A.kt.swp"),
    "an editor's lock": written("app/lib/src/test/kotlin/.#ATest.kt"),
    "what a file manager leaves": written("app/lib/src/main/.DS_Store"),
    "an editor's project": written("app/.idea/misc.xml"),
    "what a tool remembers": written("app/.gradle/8.9/fileHashes.bin"),
    "what a step made": written("app/lib/target/classes/Old.class"),
    "what a step left behind": written("app/lib/build/tmp/x"),
    "another folder": written("app/scripts/deploy.sh"),
    "another component": written("other/src/main/kotlin/X.kt"),
    "the time of a source": lambda d: [os.utime(path, (1, 1)) for path in (d.root / "app").rglob("*.kt")],
    "a file of the repository": written(".editorconfig"),
}


@pytest.mark.parametrize("edit", KEEP)
@pytest.mark.parametrize("tool", TOOLS)
def test_what_must_not_rebuild(derive, tool, edit):
    derived = derive(tool)
    if tool == "kotlinc":
        derived.write("app/lib/src/main/kotlin/A.kt", "")  # not one of its sources
    assert derived.rebuilt_by(KEEP[edit]) == set()


@pytest.mark.parametrize(("tool", "edit"), [
    ("maven", appended("app/web/pom.xml", "\n")),
    ("gradle", appended("app/web/gradle.lockfile", "x:y:2=z\n")),
    ("gradle", appended("app/web/src/main/kotlin/A.kt")),
])  # fmt: skip
def test_what_is_anothers_alone_does_not_rebuild_the_rest(derive, tool, edit):
    derived = derive(tool)
    before = derived.keys()
    edit(derived)
    assert not changed(before, derived.keys()) & LIB
