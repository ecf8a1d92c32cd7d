"""Kind typescript with the real package managers and compilers: what is installed once, built, and built again."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from inputs_are_right import judge

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


YARNS_OWN = dict.fromkeys(
    ("web/.yarn/install-state.gz", "web/yarn.lock", "web/packages/*/package.json"),
    "with Plug'n'Play yarn starts each program, and looks up where what the package depends on lies",
)
LINKER = "what yarn's other way to install leaves, which it removes"
BERRYS = {
    "web/.pnp*": LINKER,
    "web/.yarn/unplugged": LINKER,
    "web/**/node_modules": LINKER,
    "web/node_modules/.*": LINKER,
    "web/tools/package.json": "node asks it what a .js file is; yarn's own is a .cjs",
    "web/packages/*/yarn.lock": "makes a project of its own of the folder, which is no package of this one then",
}
UNMADE = {
    "yarn": {
        "web/.pnp.js": LINKER,
        "web/**/.yarn-metadata.json": "stands in for the manifest in yarn's cache",
    },
    "pnpm": {
        "web/package.json5": "package.json goes before",
        "web/package.yaml": "package.json goes before",
        "web/packages/*/pnpm-workspace.yaml": "pnpm warns that it reads the root's only",
    },
    "berry": BERRYS,
    "plug and play": BERRYS,
}
"""What a manager looks for, and why nobody has to declare it."""


@pytest.mark.parametrize(
    "manager", [pytest.param(name, marks=pytest.mark.real(row[0], "node", "strace")) for name, row in MANAGERS.items()]
)
def test_a_workspace_is_installed_once_and_built_in_order(build_workspace, manager):
    ws = build_workspace
    workspace(ws, manager)
    first = ws.build("--build-trace")
    assert first.status == 0, first.output
    judge(
        ws, first, "web", steps=("install", "core.build", "ui.build", "ui.test"),
        in_facts=YARNS_OWN if manager == "plug and play" else {}, unmade=UNMADE.get(manager, {}),
    )
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
    if manager == "npm":
        plan = ws.pytest("build.yml", "--build-dry-run").stdout
        assert re.search(r"web:core.build +up to date", plan), plan  # though it comes after an install that must run
    third = ws.build()
    assert set(third.ran) == {"web:install", "web:ui.build", "web:ui.test"}, third.output
    assert third["web:core.build"] is Outcome.FRESH


def many(ws, count):
    """Packages that need no registry, each on the one of half its number."""
    ws.write("build.yml", 'version: "2.0"\ncomponents:\n  web: {kind: typescript}\n')
    lock = {"": {"name": "web", "workspaces": ["packages/*"]}}
    for i in range(count):
        needs = {f"@w/p{i // 2}": "1.0.0"} if i else {}
        scripts = {"build": "node ../../make.js", "test": "node --test"}
        manifest = {"name": f"@w/p{i}", "version": "1.0.0", "main": "dist/index.js", "dependencies": needs}
        ws.write(f"web/packages/p{i}/package.json", json.dumps(manifest | {"scripts": scripts}))
        ws.write(f"web/packages/p{i}/src/name.txt", f"p{i}")
        ws.write(f"web/packages/p{i}/p.test.js", "require('node:test').test('has a name', () => require('.').length || no())\n")
        lock |= {f"packages/p{i}": manifest, f"node_modules/@w/p{i}": {"resolved": f"packages/p{i}", "link": True}}
    ws.write("web/package.json", json.dumps(lock[""]))
    ws.write("web/package-lock.json", json.dumps({"name": "web", "lockfileVersion": 3, "requires": True, "packages": lock}))
    ws.write("web/make.js", """
const fs = require("fs"), { dependencies } = JSON.parse(fs.readFileSync("package.json"));
const names = [fs.readFileSync("src/name.txt", "utf8"), ...Object.keys(dependencies).map((name) => require(name))];
fs.mkdirSync("dist");
fs.writeFileSync("dist/index.js", `module.exports = ${JSON.stringify(names.join(" on "))}`);
""")


@pytest.mark.real("npm", "node")
def test_thirty_packages_are_built_from_a_build_file_of_three_lines(build_workspace):
    ws = build_workspace
    many(ws, 30)
    first = ws.build("-n2")
    assert first.status == 0, first.output
    assert len(first.ran) == 61
    assert ws.read("web/packages/p29/dist/index.js") == 'module.exports = "p29 on p14 on p7 on p3 on p1 on p0"'
    ws.write("web/packages/p14/src/name.txt", "other")
    second = ws.build("-n2")
    assert set(second.ran) == {f"web:p{i}.{step}" for i in (14, 28, 29) for step in ("build", "test")}, second.output
    assert set(ws.build("-n2").outcomes().values()) == {"fresh"}


LOCK = Path(__file__).parent.parent / "data" / "lockfiles" / "tools.package-lock.json"
TOOLS = json.loads(LOCK.read_text(encoding="utf-8"))["packages"]
COMPOSITE = {
    "compilerOptions": {
        "composite": True, "strict": True, "rootDir": "src", "outDir": "dist", "target": "es2022", "module": "nodenext",
        "removeComments": True,
    },
    "include": ["src"],
}  # fmt: skip


CORE, SITE = "web/packages/core", "web/packages/site"
FILES = {
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


class Toolbox:
    """core is compiled by tsc -b and tested by vitest, site is bundled by Vite and linted."""

    def __init__(self, ws, tmp_path):
        self.ws = ws
        self.tmp_path = tmp_path
        self.dist = ws.root / CORE / "dist"
        ws.components(web={"kind": "typescript"})
        for name, text in FILES.items():
            ws.write(f"web/{name}", text)

    def ran(self, status=0, *options):
        """The steps that ran, and the whole result."""
        result = self.ws.build("-n0", *options)
        assert result.status == status, result.output
        return {label.removeprefix("web:") for label in result.ran}, result

    def edit(self, path, old, new):
        text = self.ws.read(path)
        assert old in text
        self.ws.write(path, text.replace(old, new, 1))

    def is_as_built_anew(self):
        """Whether core's outputs are, byte for byte, what tsc makes in a folder of its own."""
        clean, core = self.tmp_path / "clean", self.ws.root / CORE
        shutil.rmtree(clean, ignore_errors=True)
        shutil.copytree(core / "src", clean / "src")
        for name in ("package.json", "tsconfig.json"):
            shutil.copy(core / name, clean)
        subprocess.run([self.ws.root / "web/node_modules/.bin/tsc", "-b"], cwd=clean, check=True)
        return files_in(self.dist) == files_in(clean / "dist")


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.real("npm", "node", "strace")
@pytest.mark.slow
def test_real_tools_through_ten_edits(build_workspace, tmp_path):
    box = Toolbox(build_workspace, tmp_path)
    names, result = box.ran(0, "--build-trace")
    assert names == {"install", "core.build", "core.test", "site.build", "site.lint"}
    assert "trace: 5 clean\n" in result.output, result.output
    assert box.is_as_built_anew()
    assert "adds up" in box.ws.read(".build/reports/junit.xml")
    assert list((box.ws.root / SITE / "dist").rglob("*.js"))
    assert box.ran()[0] == set()
    a_change_and_back(box)
    what_tsc_must_not_leave_behind(box)
    what_concerns_few_or_nobody(box)


def a_change_and_back(box):
    untouched = (box.dist / "old.js").stat().st_mtime_ns
    box.edit(f"{CORE}/src/total.ts", ", 0)", ", 10)")
    names, result = box.ran(1)
    assert names == {"core.build", "core.test", "site.build"}
    assert result["web:core.test"] is Outcome.FAILED
    assert "expected 13 to be 3" in result.output
    assert (box.dist / "old.js").stat().st_mtime_ns == untouched  # tsc went on from what it remembers
    assert box.is_as_built_anew()
    box.edit(f"{CORE}/src/total.ts", ", 10)", ", 0)")
    names, result = box.ran()
    assert names == set()
    assert result["web:core.build"] is Outcome.RESTORED
    assert box.is_as_built_anew()


def what_tsc_must_not_leave_behind(box):
    # a comment that does not reach the output ends at tsc
    box.edit(f"{CORE}/src/old.ts", "export", "// why\nexport")
    assert box.ran()[0] == {"core.build", "core.test"}
    # a source that is gone leaves nothing
    (box.ws.root / CORE / "src/old.ts").unlink()
    box.edit(f"{CORE}/src/index.ts", 'export { old } from "./old.js";\n', "")
    assert "core.build" in box.ran()[0]
    assert not (box.dist / "old.js").exists()
    assert box.is_as_built_anew()
    # nor does another setting
    box.edit(f"{CORE}/tsconfig.json", '"removeComments"', '"declarationMap": true, "removeComments"')
    assert "core.build" in box.ran()[0]
    assert box.is_as_built_anew()


def what_concerns_few_or_nobody(box):
    box.edit(f"{SITE}/src/main.js", "document", "const unused = 1;\ndocument")
    names, result = box.ran(1)
    assert names == {"site.lint", "site.build"}
    assert "'unused' is assigned a value but never used" in result.output
    box.edit(f"{SITE}/src/main.js", "const unused = 1;\n", "")
    box.ran()
    for path in (f"{CORE}/README.md", f"{CORE}/src/total.ts~", f"{SITE}/.idea/x.xml", "web/notes.log"):
        box.ws.write(path, "x")
    os.utime(box.ws.root / CORE / "src/total.ts")
    assert box.ran()[0] == set()
    # a mistake: the compiler's own words, with file and line, and those behind it wait
    box.edit(f"{CORE}/src/total.ts", "): number", "): string")
    names, result = box.ran(1)
    assert names == {"core.build"}
    assert "src/total.ts(1,52): error TS2322" in result.output
    assert result["web:site.build"] is Outcome.BLOCKED
