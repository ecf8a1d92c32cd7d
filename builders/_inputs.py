"""What a package's steps read: its folder without what is surely no source, and what other steps make in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from build_tests.core.builder import Component, Identity, Workspace, path_from_root, pattern_from_root

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


def everything(package: Package, *, others: Iterable[str], workspace: Workspace) -> Iterator[str]:
    """The package's folder, without noise and what git ignores as a folder. `others`: folders of other components."""
    folder = package.folder
    yield pattern_from_root("**", folder)
    yield from (f"!{pattern_from_root(text, folder)}" for text in (*NOISE, *LOCKS))
    yield from (f"!{pattern}" for pattern in _ignored(folder, workspace))
    yield from (f"!{other}/" for other in others if _inside(other, folder) and other != folder)


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
        elif _inside(found := path_from_root(name.lstrip("/"), home), folder) and found != folder:
            yield f"{found}/"
    except ValueError:
        return  # a pattern that only git knows


def made_inside(package: Package, component: Component, workspace: Workspace, *, generators: bool) -> Iterator[str]:
    """What other steps make in the package's folder, as inputs that make edges: generated code.

    `generators`: whether the component's own steps that build.yml adds, and gives outputs, count.
    """
    for other in workspace.components:
        own = other.name == component.name
        for path in _of_steps(other, USUAL if own else ()) if generators or not own else ():
            if _inside(path.rstrip("/"), package.folder):
                yield path
        for path in () if own else _of_languages(other):
            if _inside(path.rstrip("/"), package.folder):
                yield path


USUAL = ("build", "bundle", "test", "lint", "typecheck", "type-check", "check-types")
"""Scripts that become steps wherever they are."""


def _of_steps(other: Component, without: Iterable[str]) -> Iterator[str]:
    """The outputs that a component's steps have in build.yml."""
    for step in other.steps:
        for output in dict(step.fields).get("outputs", ()):
            if output.identity is Identity.CONTENT and step.name.rpartition(".")[2] not in without:
                yield f"{output.path}/" if output.directory else output.path


def _of_languages(other: Component) -> Iterator[str]:
    """The folders that a generator of code for several languages is told to fill."""
    languages = getattr(other.options, "languages", None)
    for language in languages.values() if isinstance(languages, dict) else ():
        if isinstance(out := getattr(language, "out", None), str) and out:
            yield path_from_root(out, other.path) + "/"


def _inside(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")
