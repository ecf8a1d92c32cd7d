"""What a package's steps read: its folder without what is surely no source, and what is found above it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from build_tests.core.builder import Workspace, path_from_root, pattern_from_root

from ._generated import is_inside
from ._workspaces import Package, below

NOISE = (
    "**/*~", "**/.*.sw?", "**/#*#", "**/.#*", "**/*.orig", "**/*.rej", "**/.DS_Store", "**/Thumbs.db", "**/*.log",
    "**/*.tsbuildinfo", "**/.eslintcache", "**/.vscode/", "**/.idea/", "**/.turbo/", "**/.cache/", ".github/",
    ".husky/", "**/README*", "**/CHANGELOG*", "**/LICENSE*", "CONTRIBUTING*", "Dockerfile*", "*.dockerfile",
    ".dockerignore", ".gitattributes", "compose*.yaml", "compose*.yml", "docker-compose*.yml", "**/.env.example",
    "coverage/", "reports/",
)  # fmt: skip
"""No build reads them, or it is what a build leaves."""
TEST_FILES = ("**/*.test.*", "**/*.spec.*", "**/__tests__/", "**/__mocks__/", "**/__snapshots__/", "e2e/", "cypress/")
"""What only tests read, beside the option `tests`; a bundler never looks at them."""
LOCKS = ("package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb")
"""Each step has its own part of it among its facts."""
SHARED = (
    "package.json", "tsconfig*.json", "jsconfig.json", "*.config.js", "*.config.cjs", "*.config.mjs", "*.config.ts",
    "*.config.mts", "*.config.cts", ".eslintrc*", ".babelrc*", "babel.config.json", ".browserslistrc", ".swcrc",
    ".prettierrc*", ".editorconfig", "jest.preset.*", "biome.json*", "vitest.workspace.*",
)  # fmt: skip
"""In a folder above a package: what its tools look for up there."""
USUAL = ("build", "bundle", "test", "lint", "typecheck", "type-check", "check-types")
"""Scripts that become steps wherever they are."""


def everything(package: Package, *, others: Iterable[str], workspace: Workspace) -> Iterator[str]:
    """The package's folder, without noise and what git ignores as a folder. `others`: folders of other components."""
    folder = package.folder
    yield pattern_from_root("**", folder)
    yield from (f"!{pattern_from_root(text, folder)}" for text in (*NOISE, *LOCKS))
    yield from (f"!{pattern}" for pattern in _ignored(folder, workspace))
    yield from (f"!{other}/" for other in others if is_inside(other, folder) and other != folder)


def shared(root: Package, workspace: Workspace) -> Iterator[str]:
    """The files of a workspace's own folder that its packages' tools find."""
    for text in SHARED:
        yield from workspace.glob(pattern_from_root(text, root.folder))


def _ignored(folder: str, workspace: Workspace) -> Iterator[str]:
    """Patterns for the folders that .gitignore, here or above, ignores by name.

    Files are left: what git ignores may still be read (.env.local). A line with a wildcard counts only with a slash at
    its end.
    """
    parts = folder.split("/") if folder else []
    for length in range(len(parts) + 1):
        home = "/".join(parts[:length])
        if workspace.exists(path := below(home, ".gitignore")):
            for line in workspace.read_text(path).splitlines():
                yield from _ignored_by(line.strip(), home, folder)


def _ignored_by(line: str, home: str, folder: str) -> Iterator[str]:
    name = line.rstrip("/")
    wild = any(char in name for char in "*?[\\")
    if not name or line[0] in "#!" or (wild and not line.endswith("/")):
        return
    try:
        if "/" not in name:
            yield pattern_from_root(f"**/{name}/", folder)
        elif is_inside(found := path_from_root(name.lstrip("/"), home), folder) and found != folder:
            yield f"{found}/"
    except ValueError:
        return  # a pattern that only git knows
