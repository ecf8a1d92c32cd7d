"""Which package manager a repository uses, and how it installs. Told by `packageManager` and the lockfiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from build_tests.core.builder import ManifestError, Tool, Workspace

from ._workspaces import Package, below, yaml_of

NODE = Tool(name="node", hint="apt install nodejs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """One package manager."""

    name: str
    """`yarn` is the classic one, `berry` any later."""
    tool: Tool
    install: tuple[str, ...]
    """From the lockfile alone, and failing where that is out of date."""
    lockfiles: tuple[str, ...]
    settings: tuple[str, ...] = ()
    """Files that it reads beside manifests and lockfile."""
    env: tuple[tuple[str, str], ...] = ()
    hooks: bool = True
    """Whether `prebuild` and `postbuild` are run around `build`."""
    state: tuple[str, ...] = ()
    """What it remembers outside of node_modules."""
    plug_and_play: bool = False
    """Packages are not in node_modules; every program is started through it."""
    program: tuple[str, ...] = ("yarn",)
    """How it is started where it runs every program."""
    make_lock: str = ""
    """How the lockfile comes to be, for a message."""


NATIVE = "binding.gyp"
"""All managers compile a package in whose folder it lies, the workspace's own as well."""
NETWORK = ("npm_config_*", "NPM_CONFIG_*", "pnpm_config_*", "YARN_*", "BUN_*", "COREPACK_*")
"""Registries, caches and the like: passed, and no part of a key."""

MANAGERS = (
    Manager(
        name="npm",
        tool=Tool(name="npm", hint="apt install npm"),
        install=("npm", "ci", "--no-audit", "--no-fund", "--no-update-notifier", "--prefer-offline"),
        # Where both are there, npm reads the first.
        lockfiles=("npm-shrinkwrap.json", "package-lock.json"),
        settings=(".npmrc",),
        make_lock="npm install --package-lock-only",
    ),
    Manager(
        name="pnpm",
        tool=Tool(name="pnpm", hint="npm install --global pnpm"),
        install=("pnpm", "install", "--frozen-lockfile", "--prefer-offline"),
        lockfiles=("pnpm-lock.yaml",),
        settings=(".npmrc", "pnpm-workspace.yaml", ".pnpmfile.cjs", ".pnpmfile.mjs"),
        env=(("CI", "true"),),
        make_lock="pnpm install --lockfile-only",
    ),
    Manager(
        name="yarn",
        tool=Tool(name="yarn", hint="npm install --global yarn"),
        install=("yarn", "install", "--frozen-lockfile", "--non-interactive", "--prefer-offline"),
        lockfiles=("yarn.lock",),
        settings=(".npmrc", ".yarnrc", ".yarnrc.yml", ".yarnclean", "yarn.json"),
        make_lock="yarn install",
    ),
    Manager(
        name="berry",
        tool=Tool(name="yarn", hint="npm install --global @yarnpkg/cli-dist, or corepack enable"),
        install=("yarn", "install", "--immutable"),
        lockfiles=("yarn.lock",),
        settings=(".yarnrc.yml", ".env.yarn"),
        state=(".yarn/install-state.gz", ".pnp.loader.mjs"),
        env=(("YARN_ENABLE_TELEMETRY", "0"),),
        hooks=False,
        make_lock="yarn install --mode=update-lockfile",
    ),
    Manager(
        name="bun",
        tool=Tool(name="bun", hint="npm install --global bun"),
        install=("bun", "install", "--frozen-lockfile"),
        lockfiles=("bun.lock", "bun.lockb"),
        settings=(".npmrc", "bunfig.toml"),
        make_lock="bun install --lockfile-only",
    ),
)


def manager_of(root: Package, workspace: Workspace) -> tuple[Manager, str]:
    """The manager, and its lockfile's path from the root.

    Raises:
        ManifestError: no lockfile, two managers' lockfiles and no word which counts, or a manager that is not known.
    """
    there = [m for m in MANAGERS if m.name != "berry" and _lockfile(m, root, workspace)]
    named = _named(root)
    if named:
        chosen = next((m for m in MANAGERS if m.name == named), None)
        if chosen is None:
            raise ManifestError(
                f"{below(root.folder, 'package.json')}: packageManager {named!r} is not known",
                hint=f"known: {', '.join(dict.fromkeys(m.tool.name for m in MANAGERS))}",
            )
    elif len(there) > 1:
        files = " and ".join(_lockfile(m, root, workspace) for m in there)
        raise ManifestError(
            f"{files}: which manager installs?",
            hint='say "packageManager": "npm@11.0.0" in package.json, or remove one',
        )
    else:
        chosen = there[0] if there else MANAGERS[0]
    lockfile = _lockfile(chosen, root, workspace)
    if not lockfile:
        if home := _workspace_above(root, workspace):
            path = f"//{home.rpartition('/')[0]}"
            raise ManifestError(
                f"{root.folder} has no lockfile of its own: it is one of the packages of {home}",
                hint=f"make that the component (path: {path}); its packages have steps of their own",
            )
        raise ManifestError(
            f"{below(root.folder, chosen.lockfiles[-1])} is missing: without a lockfile two machines install different "
            "things",
            hint=chosen.make_lock,
        )
    if chosen.name == "yarn" and not named and "__metadata:" in workspace.read_text(lockfile):
        chosen = next(m for m in MANAGERS if m.name == "berry")
    return (_berry(chosen, root, workspace) if chosen.name == "berry" else chosen), lockfile


def _lockfile(manager: Manager, root: Package, workspace: Workspace) -> str:
    paths = (below(root.folder, name) for name in manager.lockfiles)
    return next((path for path in paths if workspace.exists(path)), "")


def _workspace_above(root: Package, workspace: Workspace) -> str:
    """The package.json above this folder that has a lockfile beside it, or ""."""
    folder = root.folder
    while folder:
        folder = folder.rpartition("/")[0]
        locks = (below(folder, name) for manager in MANAGERS for name in manager.lockfiles)
        if workspace.exists(below(folder, "package.json")) and any(map(workspace.exists, locks)):
            return below(folder, "package.json")
    return ""


def _named(root: Package) -> str:
    """`pnpm@9.1.0+sha512.…` → pnpm."""
    engines = root.manifest.get("devEngines")
    said = engines.get("packageManager") if isinstance(engines, dict) else None
    text = root.manifest.get("packageManager")
    if not isinstance(text, str):
        if not isinstance(said, dict):
            return ""
        text = f"{said.get('name', '')}@{said.get('version', '')}"
    name, _, version = text.partition("@")
    return "berry" if name == "yarn" and version.lstrip("^~>=v")[:1] not in {"", "0", "1"} else name


def _berry(manager: Manager, root: Package, workspace: Workspace) -> Manager:
    """With what .yarnrc.yml says: its own program, and where packages go."""
    path = below(root.folder, ".yarnrc.yml")
    said = yaml_of(path, workspace) if workspace.exists(path) else {}
    manager = replace(manager, plug_and_play=said.get("nodeLinker", "pnp") == "pnp")
    program = said.get("yarnPath")
    if not isinstance(program, str):
        return manager
    return replace(
        manager,
        tool=NODE,
        program=("node", program),
        install=("node", program, *manager.install[1:]),
        settings=(*manager.settings, program),
    )


def files_of(manager: Manager, root: Package, workspace: Workspace) -> Iterator[str]:
    """The files that the manager reads beside manifests and lockfile, from the root, as far as they are there."""
    for name in manager.settings:
        if workspace.exists(path := below(root.folder, name)):
            yield path
    for folder in ("patches", ".yarn/patches", ".yarn/plugins"):
        if workspace.exists(path := below(root.folder, folder)):
            yield f"{path}/"
