"""Kind typescript: which edits rebuild which steps, on the steps as they are derived."""

import json
import os
import re

import pytest
from build_tests.builders.typescript import TypeScriptBuilder
from derived import Derived, changed

from build_tests.core.builder import Output
from build_tests.core.model import Component, StepOverride
from tests.builders.test_typescript_locks import DATA

FILES = {
    ".gitignore": "tmp/\ngen/\n",
    "app/package.json": json.dumps({
        "name": "shop", "workspaces": ["packages/*", "apps/*"], "devDependencies": {"ms": "2.1.3"},
        "packageManager": "pnpm@9.0.0",
    }),
    "app/pnpm-workspace.yaml": "packages: ['packages/*', 'apps/*']\n",
    "app/pnpm-lock.yaml": (DATA / "pnpm-lock.yaml").read_text(encoding="utf-8"),
    "app/tsconfig.base.json": '{"compilerOptions": {"strict": true}}',
    "app/.npmrc": "",
    "app/packages/core/package.json": json.dumps({
        "name": "@shop/core", "main": "dist/index.js", "dependencies": {"is-odd": "3.0.1"},
        "scripts": {"build": "tsc -p .", "test": "vitest run", "lint": "eslint src"},
    }),
    "app/packages/core/tsconfig.json": json.dumps({
        "extends": "../../tsconfig.base.json", "compilerOptions": {"outDir": "dist"}, "include": ["src"],
    }),
    "app/packages/core/src/index.ts": "export {};\n",
    "app/packages/core/src/more.ts": "export {};\n",
    "app/packages/core/test/index.ts": "",
    "app/packages/ui/package.json": json.dumps({
        "name": "@shop/ui", "main": "dist/index.js", "dependencies": {"@shop/core": "workspace:*", "is-even": "1.0.0"},
        "scripts": {"build": "vite build", "test": "vitest run"},
    }),
    "app/packages/ui/src/index.ts": "",
    "app/packages/ui/src/gen/shop.ts": "",
    "app/apps/site/package.json": json.dumps({"name": "site", "dependencies": {"@shop/ui": "workspace:*"}}),
}  # fmt: skip
CORE = {"core.build", "core.test", "core.lint"}
UI = {"ui.build", "ui.test"}
EVERY = CORE | UI
CORE_SOURCE = "app/packages/core/src/index.ts"
LOCK = "app/pnpm-lock.yaml"
GENERATED = StepOverride(
    name="ts", fields=(("outputs", (Output(path="app/packages/ui/src/gen", directory=True),)),)
)


@pytest.fixture
def derived(tmp_path):
    proto = Component(name="proto", kind="command", path="proto", steps=(GENERATED,))
    return Derived(tmp_path, TypeScriptBuilder, FILES, proto)


def replace(name, old, new):
    def change(derived):
        text = (derived.root / name).read_text(encoding="utf-8")
        assert old in text
        derived.write(name, text.replace(old, new))

    return change


def other_integrity(package):
    """Another resolution of a package, as its integrity shows."""
    pattern = re.compile(rf"(  {re.escape(package)}:\n    resolution: \{{integrity: sha512-)..")

    def change(derived):
        text = (derived.root / LOCK).read_text(encoding="utf-8")
        assert pattern.search(text)
        derived.write(LOCK, pattern.sub(r"\1xx", text))

    return change


def script(derived):
    replace("app/packages/core/package.json", "vitest run", "vitest run --coverage")(derived)


REBUILD = {
    "a source": (lambda d: d.append(CORE_SOURCE, "// new"), CORE),
    "a new source": (lambda d: d.write("app/packages/core/src/new.ts", ""), CORE),
    "a deleted source": (lambda d: (d.root / "app/packages/core/src/more.ts").unlink(), CORE),
    "a renamed source": (lambda d: (d.root / CORE_SOURCE).rename(d.root / f"{CORE_SOURCE}x"), CORE),
    "a mode bit": (lambda d: (d.root / CORE_SOURCE).chmod(0o755), CORE),
    "a script": (script, EVERY | {"install"}),  # a manifest is read by all who depend on it
    "a test": (lambda d: d.append("app/packages/core/test/index.ts", "x"), {"core.test", "core.lint"}),
    "a configuration": (lambda d: d.append("app/packages/core/tsconfig.json", " "), EVERY),  # Vite looks for it as well
    "a configuration that it extends": (lambda d: d.append("app/tsconfig.base.json", " "), EVERY),
    "a new configuration": (lambda d: d.write("app/packages/ui/vite.config.ts", ""), UI),
    "a new variable of Vite's": (lambda d: d.write("app/packages/ui/.env.local", "A=1"), UI),
    "what its package locks": (other_integrity("is-even@1.0.0"), UI | {"install"}),
    "what that needs in turn": (other_integrity("is-buffer@1.1.6"), UI | {"install"}),
    "what a package below it locks": (other_integrity("is-odd@3.0.1"), EVERY | {"install"}),
    "the workspace's tools": (other_integrity("ms@2.1.3"), EVERY | {"install"}),
    "the manager's settings": (lambda d: d.append("app/.npmrc", "hoist=false"), EVERY | {"install"}),
    "generated code": (lambda d: d.append("app/packages/ui/src/gen/shop.ts", "x"), UI),
    "the name that a script sees": (
        replace("app/packages/ui/package.json", '"main"', '"version": "2.0.0", "main"'), UI | {"install"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit", REBUILD)
def test_what_must_rebuild(derived, edit):
    change, expected = REBUILD[edit]
    assert derived.rebuilt_by(change) == expected


@pytest.mark.parametrize(("tool", "expected"), [("node", EVERY | {"install"}), ("pnpm", {"install"})])
def test_another_version_of_a_tool_rebuilds_what_uses_it(derived, tool, expected):
    assert changed(derived.keys(), derived.keys(**{tool: "2"})) == expected


KEEP = {
    "a README": lambda d: d.write("app/packages/core/README.md", "# Core\n"),
    "a README among the sources": lambda d: d.write("app/packages/core/src/README.md", "# Core\n"),
    "an editor's backup": lambda d: d.write(f"{CORE_SOURCE}~", "x"),
    "an editor's swap file": lambda d: d.write("app/packages/core/src/.index.ts.swp", "x"),
    "an ignored folder": lambda d: d.write("app/packages/core/tmp/x.ts", "x"),
    "an editor's folder": lambda d: d.write("app/packages/core/.idea/workspace.xml", "x"),
    "the time of a source": lambda d: os.utime(d.root / CORE_SOURCE, (1, 1)),
    "what is installed": lambda d: d.write("app/packages/core/node_modules/x/index.js", "x"),
    "what it made": lambda d: d.write("app/packages/core/dist/index.js", "x"),
    "a file of the workspace that no tool looks for": lambda d: d.write("app/notes.txt", "x"),
    "the Dockerfile": lambda d: d.write("app/packages/core/Dockerfile", "x"),
    "a log": lambda d: d.write("app/packages/core/npm-debug.log", "x"),
    "a report": lambda d: d.write("app/packages/core/reports/junit.xml", "x"),
    "what tsc remembers": lambda d: d.write("app/packages/core/tsconfig.tsbuildinfo", "x"),
    "another component": lambda d: d.write("proto/x.proto", "x"),
}


@pytest.mark.parametrize("edit", KEEP)
def test_what_must_not_rebuild(derived, edit):
    assert derived.rebuilt_by(KEEP[edit]) == set()


KEEP_BUT_INSTALL = {
    "another package's lock entry": other_integrity("once@1.4.0"),
    "a comment in the lockfile": lambda d: d.append(LOCK, "# merged\n"),
    "another package's manifest": lambda d: d.append("app/apps/site/package.json", "\n"),
    "who else needs a locked package": replace(LOCK, "optional: true", "optional: false"),
}


@pytest.mark.parametrize("edit", KEEP_BUT_INSTALL)
def test_what_is_only_the_installs_matter(derived, edit):
    assert derived.rebuilt_by(KEEP_BUT_INSTALL[edit]) == {"install"}
