"""Two clean builds, in two places, with other times, another umask and nothing cached in common: the same bytes come out.

What does not is a line of docs/reproducibility.md, with the reason. What other tests compare in this way is listed there.
"""

import json
import os
import re
from fnmatch import fnmatchcase
from pathlib import Path

import layouts
import pytest

from build_tests.core import assemble
from build_tests.core.model import Identity
from build_tests.registry import Registry
from build_tests.testing import BuildWorkspace

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reproducibility.md"

KINDS = ("go", "python", "rust", "typescript")
SERVICES = {
    **{
        name: text
        for name, text in layouts.ferry("1").items()
        if not name.endswith("Dockerfile") and not name.startswith(("services/seats", "services/notices", "libs/tides"))
    },
    "build.yml": json.dumps({"components": {
        kind: {"kind": kind, "path": "services/*"} | ({"vet": False} if kind == "go" else {}) for kind in KINDS
    }}),
    "services/bookings/pyproject.toml": layouts.PROJECT.format(name="bookings", more="") + layouts.FLIT,
    "services/fares/tests/fares.rs": "#[test]\nfn counts() {\n    assert_eq!(1 + 1, 2);\n}\n",
}  # fmt: skip
JVM = {
    "build.yml": 'version: "2.0"\ncomponents:\n  price: {kind: kotlin, main_class: PriceKt}\n',
    "price/src/main/kotlin/Price.kt": 'data class Price(val cents: Int)\n\nfun main() = println(Price(3))\n',
    "price/src/main/java/Box.java": "class Box { Price price = new Price(1); }\n",
}
LANGUAGES = ("python", "java", "kotlin", "cpp", "ruby", "php", "csharp", "objc")
SCHEMAS = {
    **layouts.stations(),
    "build.yml": json.dumps({"components": {"schemas": {"kind": "protobuf", "languages": {name: f"gen/{name}" for name in LANGUAGES}}}}),
}
PAGES = {
    "build.yml": 'version: "2.0"\ncomponents:\n  web: {kind: typescript}\n  page: {kind: typescript}\n',
    "web/package-lock.json": (ROOT / "tests/data/lockfiles/tools.package-lock.json").read_text(encoding="utf-8"),
    "web/packages/core/package.json": json.dumps({
        "name": "@w/core", "version": "1.0.0", "type": "module", "exports": "./dist/index.js", "scripts": {"build": "tsc -b"},
    }),
    "web/packages/core/tsconfig.json": json.dumps({
        "compilerOptions": {"composite": True, "rootDir": "src", "outDir": "dist", "target": "es2022", "module": "nodenext"},
        "include": ["src"],
    }),
    "web/packages/core/src/index.ts": "export const total = (prices: number[]) => prices.reduce((a, b) => a + b, 0);\n",
    "web/packages/site/package.json": json.dumps({
        "name": "site", "version": "1.0.0", "type": "module", "dependencies": {"@w/core": "1.0.0"},
        "scripts": {"build": "vite build --sourcemap", "test": "vitest run"},
    }),
    "web/packages/site/index.html": '<script type="module" src="/src/main.js"></script>\n',
    "web/packages/site/src/main.js": 'import { total } from "@w/core";\ndocument.title = String(total([1, 2, 3]));\n',
    "web/packages/site/src/main.test.js": 'import { test } from "vitest";\ntest("is there", () => {});\n',
    "page/package.json": (ROOT / "examples/shop/web/package.json").read_text(encoding="utf-8"),
    "page/package-lock.json": (ROOT / "examples/shop/web/package-lock.json").read_text(encoding="utf-8"),
    "page/webpack.config.js": (
        'module.exports = { entry: "./src/a.ts", devtool: "source-map", cache: { type: "filesystem" }, resolve: { extensions: [".ts", ".js"] },\n'
        '  module: { rules: [{ test: /\\.ts$/, use: "ts-loader" }] }, output: { filename: "[name].[contenthash].js" } };\n'
    ),
    "page/tsconfig.json": '{"compilerOptions": {"strict": true, "target": "es2022", "module": "es2022", "moduleResolution": "bundler", "types": []}}\n',
    "page/src/a.ts": 'import { b } from "./b";\n\ndocument.title = b(1);\n',
    "page/src/b.ts": "export const b = (n: number): string => `${n}`;\n",
}  # fmt: skip
PAGES["web/package.json"] = json.dumps(json.loads(PAGES["web/package-lock.json"])["packages"][""])


@pytest.mark.parametrize(
    ("files", "steps"),
    [
        pytest.param(SERVICES, 6, marks=pytest.mark.real("go", "cargo", "python3", "node", "npm"), id="go, rust, python, node"),
        pytest.param(JVM, 2, marks=pytest.mark.real("kotlinc", "java", "javac", "jar"), id="kotlinc"),
        pytest.param(SCHEMAS, len(LANGUAGES), marks=pytest.mark.real("protoc"), id="protobuf"),
        pytest.param(PAGES, 4, marks=pytest.mark.real("node", "npm"), id="tsc, vite, webpack"),
    ],
)
def test_two_clean_builds_make_the_same_bytes(tmp_path, files, steps):
    compared, differ = two_builds(tmp_path, files)
    assert compared >= steps
    assert {path for path in differ if not any(fnmatchcase(path, pattern) for pattern in named())} == set()


def test_a_step_that_writes_where_it_is_differs(tmp_path):
    steps = {"same": {"command": "echo 1 >same", "outputs": ["same"]}, "where": {"command": "pwd >where", "outputs": ["where"]}}
    files = {"build.yml": json.dumps({"components": {"app": {"kind": "command", "steps": steps}}}), "app/in": ""}
    assert two_builds(tmp_path, files) == (2, {"app/where"})
    assert "*junit.xml" in named()


def two_builds(tmp_path, files):
    """How many steps had outputs to compare, and the paths that came out in two ways."""
    one = made(tmp_path / "one/ws", files, 0o022, 10**9)
    # go's cache of compiled packages would give the second what the first has compiled.
    two = made(tmp_path / "quite/another/place", files, 0o077, 15 * 10**8, GOCACHE=str(tmp_path / "go"))
    assert {label: set(outputs) for label, outputs in one.items()} == {label: set(outputs) for label, outputs in two.items()}
    return len(one), {path for label, outputs in one.items() for path, data in outputs.items() if two[label][path] != data}


def made(place, files, umask, mtime, **environ):
    """label → path → bytes of each declared output of a clean build; those that are installed are nobody's result."""
    before = os.umask(umask)
    try:
        ws = BuildWorkspace(place)
        ws.environ["GOCACHE"] = f"{place}-go"
        for name, text in files.items():
            os.utime(ws.write(name, text), (mtime, mtime))
        result = ws.build("-n2", "--build-cache=off", *on_request(ws))
        assert result.status == 0, result.output
        assert set(result.outcomes().values()) == {"built"}, result.outcomes()
        return {label: found for label, step in steps_of(ws).items() if (found := contents(ws.root, step))}
    finally:
        os.umask(before)


def steps_of(ws):
    return assemble.read(str(ws.root / "build.yml"), registry=Registry())[1].steps


def on_request(ws):
    """Steps that run only when they are named: source distributions. The others are named with them."""
    steps = steps_of(ws)
    return [f"build.yml::{label}" for label in steps] if any(step.on_request for step in steps.values()) else []


def contents(root, step):
    outputs = [root / output.path for output in step.outputs if output.identity is Identity.CONTENT]
    files = (file for output in outputs for file in (output.rglob("*") if output.is_dir() else [output]) if file.is_file())
    return {str(file.relative_to(root)): (os.access(file, os.X_OK), file.read_bytes()) for file in files}


def named():
    """The patterns in the first column of the page's table of what differs."""
    _, _, table = PAGE.read_text(encoding="utf-8").partition("## What does not repeat")
    return [pattern for row in re.findall(r"(?m)^\| (`[^|]*) \|", table) for pattern in re.findall(r"`([^`]+)`", row)]
