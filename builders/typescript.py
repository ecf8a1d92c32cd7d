"""Kind `typescript`: package.json and its lockfile → `install`, then `bundle` and `test`.

`install` is `npm ci`, keyed by the two manifests. `bundle` is webpack where its configuration is there, else the
package's own `build` script.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from build_tests.core.builder import Component, Identity, ManifestError, Output, Step, Tool, Workspace

from ._manifests import DOWNLOAD, output_of, path_of, patterns_of

NODE = Tool(name="node", hint="apt install nodejs")
NPM = Tool(name="npm", hint="apt install npm")
NETWORK = ("npm_config_*", "NPM_CONFIG_*")
WEBPACK = tuple(f"webpack.config.{ending}" for ending in ("js", "cjs", "mjs", "ts", "cts", "mts"))
LOCKFILES = ("package-lock.json", "npm-shrinkwrap.json")
NO_TEST = "no test specified"
"""Stands in the test script that `npm init` writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeScriptOptions:
    """Keys of a `typescript` component."""

    sources: tuple[str, ...] = ("**",)
    """What the bundle is made of, generated folders too; the manifests beside package.json are always read."""
    out: tuple[str, ...] = ("dist/",)
    """What the bundler writes; a trailing slash makes it a folder."""
    tests: tuple[str, ...] = ("test/", "tests/")
    """What only the test script reads."""
    mode: str = "production"
    """webpack's mode."""


class TypeScriptBuilder:
    """`install`, `bundle`, `test`."""

    kind: ClassVar[str] = "typescript"
    options: ClassVar[type[TypeScriptOptions]] = TypeScriptOptions

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: no package.json, none that can be read, or no lockfile."""
        package = _package(component, workspace)
        scripts = package.get("scripts", {})
        yield _install(component, workspace)
        webpack = next((name for name in WEBPACK if workspace.exists(path_of(component, name))), "")
        if webpack:
            # A file of node_modules/.bin, run by node: npx costs half a second, and npm's own shim would be hashed.
            yield _bundle(
                component, workspace, ("node", "node_modules/.bin/webpack", "--mode", component.options.mode), (NODE,)
            )
        elif "build" in scripts:
            yield _bundle(component, workspace, ("npm", "run", "--silent", "build"), (NODE, NPM))
        if NO_TEST not in scripts.get("test", NO_TEST):
            yield _test(component, workspace)


def _package(component: Component, workspace: Workspace) -> Mapping[str, Any]:
    path = path_of(component, "package.json")
    try:
        package = json.loads(workspace.read_text(path))
    except ValueError as error:
        raise ManifestError(f"{path} is no JSON: {error}", file=path, line=getattr(error, "lineno", 0)) from None
    if not isinstance(package, dict) or not isinstance(package.get("scripts", {}), dict):
        raise ManifestError(f"{path} is no package manifest", file=path)
    return package


def _step(component: Component, name: str, **fields: Any) -> Step:
    return Step(
        component=component.name,
        name=name,
        kind=component.kind,
        path=component.path,
        network_env=NETWORK,
        **fields,
    )


def _install(component: Component, workspace: Workspace) -> Step:
    if not any(workspace.exists(path_of(component, name)) for name in LOCKFILES):
        raise ManifestError(
            f"{path_of(component, LOCKFILES[0])} is missing: without a lockfile two machines install different things",
            hint="npm install --package-lock-only",
        )
    return _step(
        component,
        "install",
        command=("npm", "ci", "--no-audit", "--no-fund", "--no-update-notifier", "--prefer-offline"),
        inputs=_present(component, workspace, ("package.json", *LOCKFILES, ".npmrc")),
        outputs=(Output(path=path_of(component, "node_modules"), directory=True, identity=Identity.INSTALLED),),
        tools=(NODE, NPM),
        retries=DOWNLOAD,
    )


def _bundle(component: Component, workspace: Workspace, command: tuple[str, ...], tools: tuple[Tool, ...]) -> Step:
    options: TypeScriptOptions = component.options
    return _step(
        component,
        "bundle",
        command=command,
        inputs=(*_sources(component, workspace), *_without(component, options.tests)),
        outputs=tuple(output_of(component, text) for text in options.out),
        depends_on=(f"{component.name}:install",),
        tools=tools,
    )


def _test(component: Component, workspace: Workspace) -> Step:
    options: TypeScriptOptions = component.options
    tests = patterns_of(component, options.tests)
    return _step(
        component,
        "test",
        command=("npm", "test", "--silent"),
        inputs=(*_sources(component, workspace), *(path for path in tests if workspace.exists(path.rstrip("/")))),
        depends_on=(f"{component.name}:install",),
        tools=(NODE, NPM),
        env=(("CI", "true"),),
    )


def _sources(component: Component, workspace: Workspace) -> tuple[str, ...]:
    """The declared sources and the manifests, never what was installed."""
    manifests = _present(component, workspace, ("package.json", *LOCKFILES, "tsconfig.json", *WEBPACK))
    return (*patterns_of(component, component.options.sources), *manifests, *_without(component, ("node_modules/",)))


def _present(component: Component, workspace: Workspace, names: Iterable[str]) -> tuple[str, ...]:
    return patterns_of(component, (name for name in names if workspace.exists(path_of(component, name))))


def _without(component: Component, texts: Iterable[str]) -> tuple[str, ...]:
    return patterns_of(component, (f"!{text}" for text in texts))
