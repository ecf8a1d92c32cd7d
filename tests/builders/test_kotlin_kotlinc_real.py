"""Kind kotlin with the real kotlinc: Debian's, and a current one from npm."""

import subprocess
import xml.etree.ElementTree as ET

import pytest
from kotlin_day import JUPITER, MAIN, PRICE

pytestmark = pytest.mark.slow

KOTLINC = "//tools/node_modules/kotlin-compiler/bin/kotlinc"
LAUNCHER = "org.junit.platform:junit-platform-console-standalone:1.14.4"


def sources(ws, **options):
    ws.write("shop/src/main/kotlin/Price.kt", PRICE)
    ws.write("shop/src/main/kotlin/Main.kt", MAIN)
    return {"kind": "kotlin", "main_class": "app.MainKt", **options}


def run_jar(ws):
    done = subprocess.run(["java", "-jar", "shop/build/shop.jar"], cwd=ws.root, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.real("kotlinc", "java", "javac", "jar")
def test_debians_compiler_builds_a_jar_that_runs(build_workspace):
    ws = build_workspace
    ws.components(shop=sources(ws, tests=[]))
    ws.write("shop/src/main/java/shop/Box.java", "package shop;\n\npublic class Box { int size = PriceKt.price(1); }\n")
    result = ws.build()
    assert result.status == 0, result.output
    assert run_jar(ws) == "300\n"
    first = (ws.root / "shop/build/shop.jar").read_bytes()
    assert b"shop/Box.class" in first
    again = ws.build("--build-force", file="build.yml::shop:package")
    assert again.ran == ["shop:package"]
    assert (ws.root / "shop/build/shop.jar").read_bytes() == first


@pytest.mark.real("npm", "node", "mvn", "java", "jar")
def test_npms_compiler_compiles_tests_and_packages(build_workspace):
    ws = build_workspace
    ws.write("tools/package.json", '{"name": "tools", "private": true, "dependencies": {"kotlin-compiler": "2.4.20"}}')
    subprocess.run(["npm", "install", "--package-lock-only", "--silent", "--no-audit", "--no-fund"], cwd=ws.root / "tools", check=True)
    fetch = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={LAUNCHER}", f"-DoutputDirectory={ws.root}/shop/lib", "-Dmdep.stripVersion=true"]
    subprocess.run(fetch, cwd=ws.root.parent, check=True)
    ws.write("shop/src/test/kotlin/PriceTest.kt", JUPITER)
    ws.components(
        tools={"kind": "typescript"},
        shop=sources(ws, kotlinc=KOTLINC, junit="lib/junit-platform-console-standalone.jar"),
    )
    result = ws.build("-n2")
    assert result.status == 0, result.output
    assert result.outcomes() == dict.fromkeys(("tools:install", "shop:compile", "shop:test", "shop:package"), "built")
    assert run_jar(ws) == "300\n"
    names = [case.get("name") for case in ET.parse(ws.root / ".build/reports/junit.xml").iter("testcase")]
    assert "hundred()" in names
    assert ws.build().ran == []
