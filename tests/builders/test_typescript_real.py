"""Kind typescript with the real package managers and compilers: what is installed once, built, and built again."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from build_tests.testing import Outcome

MANAGERS = {
    # name → program, how the lockfile is made, further files
    "npm": ("npm", ["npm", "install", "--package-lock-only", "--no-audit", "--no-fund"], {}),
    "pnpm": ("pnpm", ["pnpm", "install", "--lockfile-only"], {"pnpm-workspace.yaml": "packages: ['packages/*']\n"}),
    "yarn": ("yarn", ["yarn", "install", "--ignore-scripts", "--non-interactive"], {}),
    "berry": (
        "yarn-berry", ["yarn-berry", "install", "--mode=update-lockfile"], {".yarnrc.yml": "nodeLinker: node-modules\n"},
    ),
    "plug and play": ("yarn-berry", ["yarn-berry", "install", "--mode=update-lockfile"], {}),
    "bun": ("bun", ["bun", "install", "--lockfile-only"], {}),
}  # fmt: skip
MAKE = "const made = require('{0}'); require('fs').mkdirSync('dist'); require('fs').writeFileSync('dist/index.js', {1});"


def workspace(ws, manager):
    """core needs a package of the registry, ui needs core; ui has a test."""
    program, lock, files = MANAGERS[manager]
    berry = program == "yarn-berry"
    ws.components(web={"kind": "typescript"})
    ws.write("web/package.json", json.dumps({
        "name": "web", "private": True, "workspaces": ["packages/*"],
        **({"packageManager": "yarn@4.0.0"} if berry else {}),
    }))  # fmt: skip
    core = {"name": "@w/core", "version": "1.0.0", "main": "dist/index.js", "dependencies": {"is-odd": "3.0.1"}}
    asked = "1.0.0" if manager in ("npm", "yarn") else "workspace:*"
    ui = {"name": "@w/ui", "version": "1.0.0", "main": "dist/index.js", "dependencies": {"@w/core": asked}}
    ws.write("web/packages/core/package.json", json.dumps(core | {"scripts": {"build": "node make.js"}}))
    ws.write("web/packages/core/make.js", MAKE.format("is-odd", "`module.exports = ${made(3)}`"))
    ws.write("web/packages/ui/package.json", json.dumps(ui | {"scripts": {"build": "node make.js", "test": "node --test"}}))
    ws.write("web/packages/ui/make.js", MAKE.format("@w/core", "`module.exports = 'core says ${made}'`"))
    ws.write("web/packages/ui/ui.test.js", "require('node:test').test('is odd', () => require('@w/core') || no())\n")
    for name, text in files.items():
        ws.write(f"web/{name}", text)
    if berry:
        # A repository's own yarn: nobody has to install one.
        where = Path(shutil.which("yarn-berry")).resolve()
        ws.write("web/tools/yarn.cjs", where.read_text(encoding="utf-8"))
        ws.write("web/.yarnrc.yml", files.get(".yarnrc.yml", "") + "yarnPath: tools/yarn.cjs\n")
    subprocess.run(lock, cwd=ws.root / "web", check=True, capture_output=True, env={**os.environ, "CI": ""})
    shutil.rmtree(ws.root / "web/node_modules", ignore_errors=True)


@pytest.mark.parametrize(
    "manager", [pytest.param(name, marks=pytest.mark.real(row[0], "node")) for name, row in MANAGERS.items()]
)
def test_a_workspace_is_installed_once_and_built_in_order(build_workspace, manager):
    ws = build_workspace
    workspace(ws, manager)
    first = ws.build()
    assert first.status == 0, first.output
    assert set(first.outcomes()) == {"web:install", "web:core.build", "web:ui.build", "web:ui.test"}
    assert ws.read("web/packages/ui/dist/index.js") == "module.exports = 'core says true'"
    assert "declared by no step" not in first.output
    assert ("is odd" in ws.read(".build/reports/junit.xml")) is (manager != "plug and play")
    again = ws.build()
    assert set(again.outcomes().values()) == {"fresh"}, again.output
    # What is installed comes back, and changes nobody's result; another package's manifest is its own matter.
    shutil.rmtree(ws.root / ("web/.yarn/unplugged" if manager == "plug and play" else "web/node_modules"))
    text = ws.read("web/packages/ui/package.json")
    ws.write("web/packages/ui/package.json", text.replace('"1.0.0"', '"1.0.1"', 1))
    third = ws.build()
    assert set(third.ran) == {"web:install", "web:ui.build", "web:ui.test"}, third.output
    assert third["web:core.build"] is Outcome.FRESH


LOCK = Path(__file__).parent.parent / "data" / "lockfiles" / "tools.package-lock.json"
TOOLS = json.loads(LOCK.read_text(encoding="utf-8"))["packages"]
COMPOSITE = {
    "compilerOptions": {
        "composite": True, "strict": True, "rootDir": "src", "outDir": "dist", "target": "es2022", "module": "nodenext",
        "removeComments": True,
    },
    "include": ["src"],
}  # fmt: skip


def toolbox(ws):
    """core is compiled by tsc -b and tested by vitest, site is bundled by Vite and linted."""
    ws.components(web={"kind": "typescript"})
    files = {
        "package.json": json.dumps(TOOLS[""]),
        "package-lock.json": LOCK.read_text(encoding="utf-8"),
        "packages/core/package.json": json.dumps({
            "name": "@w/core", "version": "1.0.0", "type": "module", "exports": "./dist/index.js",
            "scripts": {"build": "tsc -b", "test": "vitest run"},
        }),
        "packages/core/tsconfig.json": json.dumps(COMPOSITE),
        "packages/core/src/index.ts": 'export { total } from "./total.js";\nexport { old } from "./old.js";\n',
        "packages/core/src/total.ts": "export const total = (prices: number[]): number => prices.reduce((a, b) => a + b, 0);\n",
        "packages/core/src/old.ts": "export const old = 1;\n",
        "packages/core/test/total.test.js": 'import { test, expect } from "vitest";\nimport { total } from "@w/core";\n'
        'test("adds up", () => expect(total([1, 2])).toBe(3));\n',
        "packages/site/package.json": json.dumps({
            "name": "site", "version": "1.0.0", "type": "module", "dependencies": {"@w/core": "1.0.0"},
            "scripts": {"build": "vite build", "lint": "eslint --cache src"},
        }),
        "packages/site/index.html": '<script type="module" src="/src/main.js"></script>\n',
        "packages/site/src/main.js": 'import { total } from "@w/core";\ndocument.title = String(total([1, 2, 3]));\n',
        "packages/site/eslint.config.js": 'export default [{ rules: { "no-unused-vars": "error" } }];\n',
    }  # fmt: skip
    for name, text in files.items():
        ws.write(f"web/{name}", text)


def clean_build(ws, tmp_path):
    """What tsc makes of core in a folder of its own: file → bytes."""
    shutil.rmtree(tmp_path / "clean", ignore_errors=True)
    core = ws.root / "web/packages/core"
    shutil.copytree(core / "src", tmp_path / "clean/src")
    for name in ("package.json", "tsconfig.json"):
        shutil.copy(core / name, tmp_path / "clean")
    tsc = ws.root / "web/node_modules/.bin/tsc"
    subprocess.run([tsc, "-b"], cwd=tmp_path / "clean", check=True)
    return files_in(tmp_path / "clean/dist")


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.real("npm", "node")
@pytest.mark.slow
def test_real_tools_through_ten_edits(build_workspace, tmp_path):
    ws = build_workspace
    toolbox(ws)
    core, site = "web/packages/core", "web/packages/site"
    dist = ws.root / core / "dist"

    def ran(status=0):
        result = ws.build("-n0")
        assert result.status == status, result.output
        return {label.removeprefix("web:") for label in result.ran}, result

    def edit(path, old, new):
        text = ws.read(path)
        assert old in text
        ws.write(path, text.replace(old, new, 1))

    assert ran()[0] == {"install", "core.build", "core.test", "site.build", "site.lint"}
    assert files_in(dist) == clean_build(ws, tmp_path)
    assert "adds up" in ws.read(".build/reports/junit.xml")
    assert list((ws.root / site / "dist").rglob("*.js"))
    assert ran()[0] == set()

    # tsc goes on from what it remembers: what did not change is not written again
    untouched = (dist / "old.js").stat().st_mtime_ns
    edit(f"{core}/src/total.ts", ", 0)", ", 10)")
    names, result = ran(1)
    assert names == {"core.build", "core.test", "site.build"}
    assert result["web:core.test"] is Outcome.FAILED
    assert "expected 13 to be 3" in result.output
    assert (dist / "old.js").stat().st_mtime_ns == untouched
    assert files_in(dist) == clean_build(ws, tmp_path)
    # put back, it is not built again
    edit(f"{core}/src/total.ts", ", 10)", ", 0)")
    names, result = ran()
    assert names == set()
    assert result["web:core.build"] is Outcome.RESTORED
    assert files_in(dist) == clean_build(ws, tmp_path)

    # a comment that does not reach the output ends at tsc
    edit(f"{core}/src/old.ts", "export", "// why\nexport")
    assert ran()[0] == {"core.build"}
    # a source that is gone leaves nothing behind
    (ws.root / core / "src/old.ts").unlink()
    edit(f"{core}/src/index.ts", 'export { old } from "./old.js";\n', "")
    assert "core.build" in ran()[0]
    assert files_in(dist) == clean_build(ws, tmp_path)
    assert "old.js" not in files_in(dist)
    # another setting, and no output of the former
    edit(f"{core}/tsconfig.json", '"removeComments"', '"declarationMap": true, "removeComments"')
    assert "core.build" in ran()[0]
    assert files_in(dist) == clean_build(ws, tmp_path)
    # a linted file concerns the linter and the bundle
    edit(f"{site}/src/main.js", "document", "const unused = 1;\ndocument")
    names, result = ran(1)
    assert names == {"site.lint", "site.build"}
    assert "'unused' is assigned a value but never used" in result.output
    edit(f"{site}/src/main.js", "const unused = 1;\n", "")
    ran()
    # and these concern nobody
    for path in (f"{core}/README.md", f"{core}/src/total.ts~", f"{site}/.idea/x.xml", "web/notes.log"):
        ws.write(path, "x")
    os.utime(ws.root / core / "src/total.ts")
    assert ran()[0] == set()
    # the compiler's own words, with file and line
    edit(f"{core}/src/total.ts", "): number", "): string")
    names, result = ran(1)
    assert names == {"core.build"}
    assert "src/total.ts(1,51): error TS2322" in result.output
    assert result["web:site.build"] is Outcome.BLOCKED
