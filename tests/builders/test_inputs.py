"""Each builder's declared inputs against what its real tools open. See inputs_are_right.py."""

import subprocess
import sys

import pytest

from tests.builders.inputs_are_right import JVM, MAVEN, PYTHON, check, faults

pytestmark = [
    pytest.mark.real("strace"),
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux traces"),
]


def test_a_wrong_input_is_found(build_workspace):
    """The negative control: a step that reads, writes and looks for more than it says fails the same check."""
    ws = build_workspace
    ws.components(app={"steps": {"make": {"command": "cat in.txt other.txt; test ! -e no.cfg; echo >stray", "inputs": ["in.txt"]}}})
    ws.write("app/in.txt", "")
    ws.write("app/other.txt", "")
    with pytest.raises(AssertionError) as told:
        check(ws, "app", steps=["make"], excepted={"app/other.txt": "no reason is good enough in its own folder"})
    assert str(told.value).splitlines()[:3] == [
        "app:make reads app/other.txt",
        "app:make writes app/stray",
        "app:make looks for app/no.cfg, and would not run again for it",
    ]
    unverified = {"status": "unverified", "why": ["x"]}
    assert list(faults("app", "app:make", unverified, {})) == ["app:make is not verified: ['x']"]
    assert list(faults("app", "app:make", {}, {})) == ["app:make is not verified: None"]


PROTO = 'syntax = "proto3";\npackage shop;\nimport "money.proto";\nmessage Price { common.Money money = 1; }\n'
MONEY = 'syntax = "proto3";\npackage common;\nmessage Money { int64 cents = 1; }\n'


@pytest.mark.real("protoc", "python-grpc-tools-protoc", "protoc-gen-es")
def test_protobuf(build_workspace):
    ws = build_workspace
    languages = {name: {"out": f"gen/{name}"} for name in ("python", "java", "kotlin", "cpp", "typescript")}
    languages["python"]["grpc"] = True
    ws.components(proto={"kind": "protobuf", "imports": ["//common"], "languages": languages})
    ws.write("proto/api.proto", PROTO)
    ws.write("common/money.proto", MONEY)
    check(ws, "proto", steps=languages)


PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "app"
version = "1.0"
readme = "README.md"
[project.optional-dependencies]
test = ["pytest"]
[tool.pytest.ini_options]
testpaths = ["tests"]
"""


def test_python(build_workspace):
    ws = build_workspace
    ws.components(app={"kind": "python"})
    ws.write("app/pyproject.toml", PYPROJECT)
    ws.write("app/README.md", "What it is")
    ws.write("app/src/app/__init__.py", "from app.deep import answer\n")
    ws.write("app/src/app/deep.py", "answer = 42\n")
    ws.write("app/src/app/py.typed", "")
    ws.write("app/tests/conftest.py", "import pytest\n\n@pytest.fixture\ndef wanted():\n    return 42\n")
    ws.write("app/tests/test_app.py", "import app\n\ndef test_answer(wanted):\n    assert app.answer == wanted\n")
    check(ws, "app", steps=["venv", "wheel", "test"], unmade=PYTHON)


PACKAGE = """{
  "name": "app", "version": "1.0.0", "private": true, "type": "module",
  "scripts": {"build": "tsc -p tsconfig.json", "test": "node --test test/"},
  "devDependencies": {"typescript": "5.9.3"}
}"""


@pytest.mark.real("npm")
def test_typescript(build_workspace):
    ws = build_workspace
    ws.components(app={"kind": "typescript"})
    ws.write("app/package.json", PACKAGE)
    ws.write("app/tsconfig.json", '{"compilerOptions": {"outDir": "dist", "rootDir": "src", "strict": true}, "include": ["src"]}')
    ws.write("app/src/index.ts", 'import {two} from "./two.js";\nexport const four: number = two * 2;\n')
    ws.write("app/src/two.ts", "export const two = 2;\n")
    ws.write("app/test/two.test.js", 'import test from "node:test";\ntest("runs", () => {});\n')
    subprocess.run(["npm", "install", "--package-lock-only", "--no-audit", "--no-fund"], cwd=ws.root / "app", check=True, capture_output=True)
    check(ws, "app", steps=["install", "build", "test"])


POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>shop</groupId><artifactId>app</artifactId><version>1.0.0</version>
<properties><maven.compiler.release>17</maven.compiler.release><project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties>
<dependencies>
  <dependency><groupId>org.jetbrains.kotlin</groupId><artifactId>kotlin-stdlib</artifactId><version>2.4.20</version></dependency>
  <dependency><groupId>org.junit.jupiter</groupId><artifactId>junit-jupiter</artifactId><version>5.14.4</version><scope>test</scope></dependency>
</dependencies>
<build><sourceDirectory>src/main/kotlin</sourceDirectory><testSourceDirectory>src/test/kotlin</testSourceDirectory><plugins>
  <plugin><groupId>org.jetbrains.kotlin</groupId><artifactId>kotlin-maven-plugin</artifactId><version>2.4.20</version><executions>
    <execution><id>compile</id><phase>compile</phase><goals><goal>compile</goal></goals></execution>
    <execution><id>test-compile</id><phase>test-compile</phase><goals><goal>test-compile</goal></goals></execution>
  </executions></plugin>
  <plugin><artifactId>maven-compiler-plugin</artifactId><version>3.16.0</version></plugin>
  <plugin><artifactId>maven-resources-plugin</artifactId><version>3.3.1</version></plugin>
  <plugin><artifactId>maven-surefire-plugin</artifactId><version>3.5.6</version></plugin>
  <plugin><artifactId>maven-jar-plugin</artifactId><version>3.5.0</version></plugin>
</plugins></build></project>
"""


@pytest.mark.real("mvn", "java")
def test_kotlin_by_maven(build_workspace):
    ws = build_workspace
    ws.components(app={"kind": "kotlin"})
    ws.write("app/pom.xml", POM)
    ws.write("app/src/main/kotlin/App.kt", "package shop\n\nfun answer() = 42\n")
    ws.write("app/src/main/resources/app.properties", "a=1\n")
    ws.write(
        "app/src/test/kotlin/AppTest.kt",
        "package shop\n\nimport org.junit.jupiter.api.Assertions.assertEquals\nimport org.junit.jupiter.api.Test\n\n"
        "class AppTest { @Test fun answers() = assertEquals(42, answer()) }\n",
    )
    check(ws, "app", steps=["compile", "test", "package"], unmade=JVM | MAVEN)


@pytest.mark.real("gradle", "java")
def test_kotlin_by_gradle(build_workspace):
    """Without its daemon, whose work nobody sees. Java sources: Debian's Gradle can't load a current Kotlin plugin."""
    ws = build_workspace
    ws.components(app={"kind": "kotlin", "daemon": False, "offline": True})
    ws.write("app/settings.gradle", "rootProject.name = 'app'\ninclude 'core', 'web'\n")
    ws.write("app/build.gradle", "subprojects { apply plugin: 'java' }\n")
    ws.write("app/core/build.gradle", "")
    ws.write("app/web/build.gradle", "dependencies { compile project(':core') }\n")
    ws.write("app/core/src/main/java/shop/Core.java", "package shop; public class Core { public static int answer() { return 42; } }\n")
    ws.write("app/web/src/main/java/shop/Web.java", "package shop; public class Web { int twice() { return 2 * Core.answer(); } }\n")
    check(ws, "app", steps=["core-compile", "web-compile", "core-package", "web-package"], unmade=JVM)


@pytest.mark.real("go", "python3")
def test_go(build_workspace):
    ws = build_workspace
    ws.components(app={"kind": "go"}, lib={"kind": "go"})
    ws.write("lib/go.mod", "module example.com/lib\n\ngo 1.19\n")
    ws.write("lib/lib.go", "package lib\n\nfunc Twice(n int) int { return 2 * n }\n")
    ws.write("app/go.mod", "module example.com/app\n\ngo 1.19\n\nrequire example.com/lib v0.0.0\n\nreplace example.com/lib => ../lib\n")
    ws.write("app/main.go", 'package main\n\nimport (\n\t_ "embed"\n\t"example.com/lib"\n)\n\n//go:embed hello.txt\nvar hello string\n\nfunc main() { println(hello, lib.Twice(21)) }\n')
    ws.write("app/hello.txt", "hello")
    ws.write("app/main_test.go", 'package main\n\nimport (\n\t"os"\n\t"testing"\n)\n\nfunc TestData(t *testing.T) {\n\tif _, err := os.ReadFile("testdata/a.txt"); err != nil {\n\t\tt.Fatal(err)\n\t}\n}\n')
    ws.write("app/testdata/a.txt", "a")
    check(ws, "app", steps=["build", "vet", "test"], unmade={"app/vendor": "a folder; its modules.txt counts and is declared"})


@pytest.mark.real("cargo", "rustc")
def test_rust(build_workspace):
    ws = build_workspace
    ws.components(app={"kind": "rust", "profile": "dev"})
    ws.write("lib/Cargo.toml", '[package]\nname = "own"\nversion = "0.1.0"\nedition = "2021"\n')
    ws.write("lib/src/lib.rs", "pub fn twice(n: i32) -> i32 { 2 * n }\n")
    ws.write("app/Cargo.toml", '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nown = { path = "../lib" }\n')
    ws.write("app/Cargo.lock", 'version = 3\n\n[[package]]\nname = "app"\nversion = "0.1.0"\ndependencies = ["own"]\n\n[[package]]\nname = "own"\nversion = "0.1.0"\n')
    ws.write("app/src/main.rs", 'fn main() { println!("{} {}", include_str!("hello.txt"), own::twice(21)); }\n')
    ws.write("app/src/hello.txt", "hello")
    ws.write("app/tests/it.rs", "#[test]\nfn works() { assert_eq!(own::twice(2), 4); }\n")
    unmade = {
        "app/.cargo": "a folder; its config is declared",
        "app/README*": "a default of the package's description; only a program that asks for it is told its name",
        "app/libgcc_s.so.1": "the loader looks in the current folder for a library of rustc's",
    }
    check(ws, "app", steps=["build", "test"], unmade=unmade)


@pytest.mark.real("kotlinc", "java")
def test_kotlin_by_kotlinc(build_workspace):
    ws = build_workspace
    ws.components(app={"kind": "kotlin", "main_class": "shop.MainKt"})
    ws.write("app/src/main/kotlin/Main.kt", "package shop\n\nfun main() = println(42)\n")
    ws.write("app/src/main/resources/a.txt", "a")
    check(ws, "app", steps=["compile", "package"], unmade=JVM)
