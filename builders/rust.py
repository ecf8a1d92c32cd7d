"""Kind `rust`: Cargo.toml and its Cargo.lock → `build`, `test` and, if asked for, `clippy`.

cargo's own memory, the target folder, is kept as state: one for each step, below target/, so that no step waits for
another's lock and nobody's own `cargo build` is in between. Programs are copied out of it.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from build_tests.core.builder import Component, ManifestError, Output, Step, Tool, Workspace

from ._cargo import MANIFEST, Package, included, members, read_manifest, read_package, root_of
from ._manifests import DOWNLOAD, from_component, path_of, script
from ._rustjunit import CONVERT

CARGO = Tool(name="cargo", hint="apt install cargo, or https://rustup.rs")
RUSTC = Tool(name="rustc", hint="apt install rustc, or https://rustup.rs")
CC = Tool(name="cc", optional=True)
"""It links; crates with C in them have it compile."""
PYTHON = Tool(name="python3", hint="apt install python3")
CLIPPY = Tool(name="cargo-clippy", version_command=("cargo-clippy", "--version"), hint="rustup component add clippy")
NETWORK = ("CARGO_HOME", "CARGO_NET_*", "CARGO_HTTP_*", "CARGO_REGISTRIES_*", "CARGO_REGISTRY_*", "RUSTUP_HOME",
           "RUSTUP_DIST_SERVER", "SSH_AUTH_SOCK")  # fmt: skip
"""How crates are reached and where they are kept."""
PASSED = ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WRAPPER",
          "RUSTUP_TOOLCHAIN", "CC", "CFLAGS")  # fmt: skip
"""What changes the result."""
CONFIGURATION = (".cargo/config.toml", ".cargo/config", "rust-toolchain.toml", "rust-toolchain")
"""Looked for in every folder above."""
TESTS = ("tests", "examples", "benches")
STAMP = ".pytest-build"
REPORT = ".reports/cargo-test.xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class RustOptions:
    """Keys of a `rust` component."""

    profile: str = "release"
    """What `build` is built with; `dev` is cargo's own default."""
    features: tuple[str, ...] = ()
    """Features of the component's packages."""
    flags: tuple[str, ...] = ()
    """Further flags of `cargo build`, `cargo test` and `cargo clippy` (`--all-features`)."""
    out: str = "bin/"
    """Where programs and libraries for others go; nothing where there are none."""
    tests: bool = True
    """Whether `cargo test` is a step."""
    clippy: bool = False
    """Whether `cargo clippy`, with warnings as errors, is a step."""
    data: tuple[str, ...] = ()
    """What build scripts, macros and tests read beyond their package (`//schemas/*.json`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    """What a component is compiled from. Paths are from the root."""

    own: tuple[Package, ...]
    """The packages that its commands concern."""
    all: tuple[Package, ...]
    """These, and what they need of the repository."""
    build: tuple[str, ...]
    """What a build reads, as patterns."""
    tests: tuple[str, ...]
    """What tests read."""
    folders: str
    """Those of the folders of tests that are there: cargo looks, whatever it builds."""


class RustBuilder:
    """`build`, `test`, `clippy`."""

    kind: ClassVar[str] = "rust"
    options: ClassVar[type[RustOptions]] = RustOptions

    @staticmethod
    def detect(path: str, workspace: Workspace) -> bool:
        """A package or a workspace."""
        return workspace.exists(posixpath.join(path, MANIFEST))

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: no Cargo.toml or Cargo.lock, or one that can't be read."""
        options: RustOptions = component.options
        code = _code(component, workspace)
        build = _build(component, code)
        yield build
        if options.tests:
            yield _test(component, code, build)
        if options.clippy:
            lint = ["cargo", "clippy", "--all-targets"]
            yield _step(component, code, "clippy", lint, after=(build.label,), tools=(CLIPPY,))


def _build(component: Component, code: _Code) -> Step:
    options: RustOptions = component.options
    made = [name for package in code.own for name in (*package.programs, *package.libraries)]
    profile = "debug" if options.profile == "dev" else options.profile
    out = from_component(component, path_of(component, options.out))
    copy = [
        ["mkdir", "-p", out],
        ["cp", *(f"target/build/{profile}/{name}" for name in dict.fromkeys(made)), f"{out}/"],
    ]
    return _step(
        component,
        code,
        "build",
        ["cargo", "build", *(() if options.profile == "dev" else ("--profile", options.profile))],
        copy if made else (),
        outputs=(Output(path=path_of(component, options.out), directory=True),) if made else (),
    )


def _test(component: Component, code: _Code, build: Step) -> Step:
    report = path_of(component, REPORT)
    return _step(
        component,
        code,
        "test",
        ["cargo", "test", "--no-fail-fast"],
        after=(build.label,),
        tools=(PYTHON,),
        outputs=(Output(path=report),),
        junit=(report,),
    )


def _step(
    component: Component, code: _Code, name: str, cargo: list[str], then: Iterable[list[str]] = (), **fields: Any
) -> Step:
    options: RustOptions = component.options
    target = f"target/{name}"
    folders = [from_component(component, package.folder) for package in code.all]
    features = ("--features", ",".join(options.features)) if options.features else ()
    last = ("--", "-D", "warnings") if name == "clippy" else ()
    return Step(
        component=component.name,
        name=name,
        kind=component.kind,
        path=component.path,
        command=script(
            *_honest(target, folders),
            *_nameless(component),
            *_run(shlex.join(cargo), shlex.join([*features, *options.flags, *last]), target, report=name == "test"),
            f"mv {target}/{STAMP}.new {target}/{STAMP}",
            *then,
        ),
        inputs=code.build if name == "build" else code.tests,
        # Generated code lies among the sources.
        takes_outputs=True,
        facts=(("folders of tests", code.folders),),
        state=(path_of(component, target),),
        pass_env=PASSED,
        network_env=NETWORK,
        tools=(CARGO, RUSTC, CC, *fields.pop("tools", ())),
        retries=DOWNLOAD,
        **fields,
    )


def _run(cargo: str, flags: str, target: str, *, report: bool) -> Iterator[list[str] | str]:
    call = f"{cargo} --locked --target-dir {target} {flags}".rstrip()
    if not report:
        yield call
        return
    yield ["mkdir", "-p", posixpath.dirname(REPORT)]
    # What is said is told at once, and once more read for the report.
    yield "tmp=$(mktemp -d)"
    yield """trap 'rm -rf "$tmp"' EXIT"""
    yield f'{{ {call} 2>&1 || echo "$?" >"$tmp/status"; }} | tee "$tmp/said"'
    yield f'{script(["python3", "-c", CONVERT])} "$tmp/said" {REPORT}'
    yield '[ ! -e "$tmp/status" ] || exit "$(cat "$tmp/status")"'


def _nameless(component: Component) -> Iterator[str]:
    """Lines that keep the checkout's and the user's folders out of what is compiled, beside flags of the user's own.

    cargo parts the variable at spaces, so folders with one in their names stay in.
    """
    yield f"root=$(cd {shlex.quote(from_component(component, ''))} && pwd -P)"
    yield "home=${CARGO_HOME:-$HOME/.cargo}"
    yield 'case "$root$home" in *" "*) ;; *)'
    yield (
        '  export CARGO_BUILD_RUSTFLAGS="${CARGO_BUILD_RUSTFLAGS:-}'
        ' --remap-path-prefix=$root=. --remap-path-prefix=$home=cargo"'
    )
    yield "esac"


def _honest(target: str, folders: list[str]) -> Iterator[list[str] | str]:
    """Lines that have cargo begin anew where it would take a changed source for the old one.

    It compares times only, and a file that was unpacked, or copied with its times, has an old one.
    """
    yield ["mkdir", "-p", target]
    look = script(["find", *folders, "-name", "target", "-prune", "-o", "-type", "f", "-newercm", f"{target}/{STAMP}"])
    yield f"if [ -e {target}/{STAMP} ] && "
    yield f'  [ -n "$({look} ! -newermm {target}/{STAMP} -print)" ]; then'
    yield f"  rm -rf {target}; mkdir -p {target}"
    yield "fi"
    yield f"touch {target}/{STAMP}.new"


def _inputs(
    component: Component, own: list[Package], everything: list[Package], workspace: Workspace, tests: tuple[str, ...]
) -> Iterator[str]:
    """Later patterns take away from earlier ones."""
    options: RustOptions = component.options
    for package in everything:
        yield from _of_package(package, tests if package in own else (), workspace)
    for folder in dict.fromkeys([*(package.folder for package in own), component.path]):
        yield f"!{posixpath.join(folder, 'target')}/**"
    yield f"!{path_of(component, options.out)}/**"
    yield from (path_of(component, text) for text in options.data)


def _of_package(package: Package, tests: Iterable[str], workspace: Workspace) -> Iterator[str]:
    if package.script:
        # cargo's own rule for a build script that does not say what it reads.
        yield posixpath.join(package.folder, "**")
        return
    folders = [posixpath.join(package.folder, name) for name in ("src", *tests)]
    for folder in folders:
        if folder.endswith("/src") or folder == "src" or workspace.exists(folder):
            yield f"{folder}/**"
    sources = [path for folder in folders for path in workspace.glob(f"{folder}/**/*.rs")]
    yield from dict.fromkeys(included(sources, workspace))
    yield posixpath.join(package.folder, MANIFEST)


def _code(component: Component, workspace: Workspace) -> _Code:
    """Raises ManifestError."""
    manifest_path = path_of(component, MANIFEST)
    manifest = read_manifest(component.path, workspace)
    root_folder = root_of(component.path, workspace)
    root = manifest if root_folder == component.path else read_manifest(root_folder, workspace)
    lock = posixpath.join(root_folder, "Cargo.lock")
    if not workspace.exists(lock):
        raise ManifestError(
            f"{lock} is missing: without it two machines build different things",
            hint="cargo generate-lockfile",
        )
    folders = [component.path]
    if "workspace" in manifest and "package" not in manifest:
        # In a workspace without a package of its own, cargo's commands concern all members.
        folders = members(component.path, manifest["workspace"], workspace)
    own = _packages(folders, root, root_folder, workspace, deep=False)
    if not own:
        raise ManifestError(f"{manifest_path} has no package and no member", file=manifest_path)
    everything = _packages(folders, root, root_folder, workspace, deep=True)
    # cargo reads the manifests of all members, whichever it builds.
    beside = members(root_folder, root.get("workspace", {}), workspace)
    files = dict.fromkeys(posixpath.join(folder, MANIFEST) for folder in (component.path, root_folder, *beside))
    above = [posixpath.join(folder, name) for folder in _above(component.path) for name in CONFIGURATION]
    files |= dict.fromkeys([lock, *(path for path in above if workspace.exists(path))])
    build = _inputs(component, own, everything, workspace, ())
    tests = _inputs(component, own, everything, workspace, TESTS)
    there = [path for package in everything for path in (posixpath.join(package.folder, name) for name in TESTS)]
    return _Code(
        own=tuple(own),
        all=tuple(everything),
        build=(*build, *files),
        tests=(*tests, *files),
        folders=",".join(path for path in there if workspace.exists(path)),
    )


def _packages(
    folders: Iterable[str], root: Any, root_folder: str, workspace: Workspace, *, deep: bool
) -> list[Package]:
    """The packages of folders; `deep`: with those that they need."""
    found: list[Package] = []
    waiting = list(folders)
    seen = set(waiting)
    while waiting:
        package = read_package(waiting.pop(0), root, root_folder, workspace)
        if package is not None:
            found.append(package)
            further = [folder for folder in package.needs if deep and folder not in seen]
            seen.update(further)
            waiting.extend(further)
    return found


def _above(folder: str) -> Iterator[str]:
    yield folder
    while folder:
        folder = posixpath.dirname(folder)
        yield folder
