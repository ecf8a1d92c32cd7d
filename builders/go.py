"""Kind `go`: go.mod or go.work → `build`, `vet` and `test`.

go keeps what it compiled in a cache of its own, by content, outside the repository; so a step has no state. What other
modules of the repository a module is made of is read off `replace` and go.work.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from build_tests.core.builder import Component, ManifestError, Output, Step, Tool, Workspace

from ._gojunit import CONVERT
from ._gomodule import Module, Sources, nested_modules, read_module, read_sources
from ._manifests import DOWNLOAD, from_component, path_of, patterns_of, script

GO = Tool(name="go", hint="apt install golang-go, or https://go.dev/dl")
CC = Tool(name="gcc", optional=True)
"""Where there is one, parts of the standard library are compiled with it."""
PYTHON = Tool(name="python3", hint="apt install python3")
NETWORK = ("GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GONOPROXY", "GOINSECURE", "GOVCS", "GOAUTH",
           "GOPATH", "GOCACHE", "GOMODCACHE", "GOTMPDIR", "GOBIN", "SSH_AUTH_SOCK")  # fmt: skip
"""How modules are reached and where they are kept."""
PASSED = ("GOFLAGS", "GOOS", "GOARCH", "GOAMD64", "GOARM", "GOARM64", "GOEXPERIMENT", "GODEBUG", "GOTOOLCHAIN",
          "GOWORK", "GO111MODULE", "CGO_ENABLED", "CGO_CFLAGS", "CGO_LDFLAGS", "CC", "CXX")  # fmt: skip
"""What changes the result."""
COMPILED = ("**/*.[csSh]", "**/*.[ch]pp", "**/*.cc", "**/*.hh", "**/*.syso", "**/default.pgo")
"""What is compiled beside .go files, and the profile that optimises a program."""
MANIFESTS = ("go.mod", "go.sum", "vendor/modules.txt")
REPORT = ".reports/go-test.xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoOptions:
    """Keys of a `go` component."""

    packages: tuple[str, ...] = ()
    """What is built, vetted and tested; default: `./...`, in a workspace all of its modules."""
    out: str = "bin/"
    """Where programs go; nothing where there is no package main."""
    flags: tuple[str, ...] = ()
    """Further flags of `go build`, `go vet` and `go test` (`-tags=netgo`)."""
    ldflags: str = ""
    """What the linker is told (`-s -w`)."""
    vet: bool = True
    """Whether `go vet` is a step."""
    test_flags: tuple[str, ...] = ()
    """Further flags of `go test` (`-race`)."""
    data: tuple[str, ...] = ("**/testdata/**",)
    """What only tests read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    """What a component is compiled from."""

    packages: tuple[str, ...]
    compiled: list[str] = field(default_factory=list)
    """Patterns; tests too, since go looks at each package whole, whatever it makes of it."""
    left_out: list[str] = field(default_factory=list)
    """What go does not look at."""
    files: list[str] = field(default_factory=list)
    """Manifests, and what is embedded, wherever it lies."""
    tests: list[str] = field(default_factory=list)
    """What only tests read."""
    sources: list[Sources] = field(default_factory=list)
    """Of the component's own module, or modules."""


class GoBuilder:
    """`build`, `vet`, `test`."""

    kind: ClassVar[str] = "go"
    options: ClassVar[type[GoOptions]] = GoOptions

    @staticmethod
    def detect(path: str, workspace: Workspace) -> bool:
        """A module or a workspace."""
        return any(workspace.exists(posixpath.join(path, name)) for name in ("go.mod", "go.work"))

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: no go.mod and no go.work, or one that can't be read."""
        options: GoOptions = component.options
        code = _code(component, workspace)
        programs = any(sources.commands for sources in code.sources)
        build = _build(component, code, programs=programs)
        yield build
        if options.vet:
            vet = (*_flags(options), *code.packages)
            yield _step(component, code, "vet", script(["go", "vet", *vet]), after=(build.label,))
        if any(sources.tests for sources in code.sources):
            yield _test(component, code, build)


def _build(component: Component, code: _Code, *, programs: bool) -> Step:
    options: GoOptions = component.options
    link = (f"-ldflags={options.ldflags}",) if options.ldflags else ()
    out = from_component(component, path_of(component, options.out))
    to = ("-o", f"{out}/") if programs else ()
    return _step(
        component,
        code,
        "build",
        # Neither a path of this machine nor the state of git belongs into a program.
        script(["go", "build", "-trimpath", *_flags(options), *link, *to, *code.packages]),
        outputs=(Output(path=path_of(component, options.out), directory=True),) if programs else (),
    )


def _test(component: Component, code: _Code, build: Step) -> Step:
    options: GoOptions = component.options
    report = path_of(component, REPORT)
    run = ("go", "test", "-json", *_flags(options), *options.test_flags, *code.packages)
    return _step(
        component,
        code,
        "test",
        script(
            ["mkdir", "-p", posixpath.dirname(REPORT)],
            "tmp=$(mktemp)",
            """trap 'rm -f "$tmp"' EXIT""",
            f'status=0; {script(run)} >"$tmp" || status=$?',
            f'{script(["python3", "-c", CONVERT])} "$tmp" {REPORT}',
            "exit $status",
        ),
        after=(build.label,),
        tools=(PYTHON,),
        outputs=(Output(path=report),),
        junit=(report,),
    )


def _flags(options: GoOptions) -> tuple[str, ...]:
    return ("-buildvcs=false", *options.flags)


def _step(component: Component, code: _Code, name: str, command: str, **fields: Any) -> Step:
    options: GoOptions = component.options
    mine = patterns_of(component, (f"!{options.out.rstrip('/')}/**", f"!{posixpath.dirname(REPORT)}/**"))
    return Step(
        component=component.name,
        name=name,
        kind=component.kind,
        path=component.path,
        command=command,
        inputs=(
            *code.compiled,
            *(() if name == "build" else code.tests),
            *code.left_out,
            *mine,
            *code.files,
        ),
        # Generated code lies among the sources.
        takes_outputs=True,
        pass_env=PASSED,
        network_env=NETWORK,
        tools=(GO, CC, *fields.pop("tools", ())),
        retries=DOWNLOAD,
        **fields,
    )


def _code(component: Component, workspace: Workspace) -> _Code:
    """Raises ManifestError."""
    work = _workspace_file(component, workspace)
    module = path_of(component, "go.mod")
    if work is not None and posixpath.dirname(work) == component.path:
        own = list(read_module(work, workspace).uses)
        near = [from_component(component, folder) for folder in own]
        packages = tuple("./..." if folder == "." else f"./{folder}/..." for folder in near)
    elif workspace.exists(module):
        own, packages = [component.path], ("./...",)
    else:
        raise ManifestError(f"{module} is missing", hint="go mod init NAME")
    code = _Code(packages=component.options.packages or packages)
    files = [work, f"{work}.sum"] if work is not None else []
    needed = list(_needed(own, work, workspace))
    for folder in needed:
        nested = nested_modules(folder, workspace)
        sources = read_sources(folder, nested, workspace)
        code.compiled.append(posixpath.join(folder, "**/*.go"))
        code.compiled.extend(pattern for pattern in _joined(folder, COMPILED) if workspace.glob(pattern))
        code.compiled.append(f"!{posixpath.join(folder, '**/testdata/**')}")
        code.left_out.extend(f"!{pattern}" for pattern in _joined(folder, ("**/_*/**", "**/.*/**")))
        code.left_out.extend(f"!{other}/**" for other in nested if other not in needed)
        files.extend(_joined(folder, MANIFESTS))
        code.files.extend(sources.embeds)
        if folder in own:
            code.sources.append(sources)
            data = _joined(folder, component.options.data)
            code.tests.extend(pattern for pattern in data if workspace.glob(pattern))
    code.files.extend(path for path in files if workspace.exists(path))
    return code


def _workspace_file(component: Component, workspace: Workspace) -> str | None:
    """The go.work that go finds: the component's, or the nearest above."""
    folder = component.path
    while True:
        path = posixpath.join(folder, "go.work")
        if workspace.exists(path):
            return path
        if not folder:
            return None
        folder = posixpath.dirname(folder)


def _needed(own: list[str], work: str | None, workspace: Workspace) -> Iterator[str]:
    """The folders of the modules in the repository that these are compiled from, themselves included."""
    local: dict[str, str] = {}
    if work is not None:
        outer = read_module(work, workspace)
        used = [read_module(posixpath.join(folder, "go.mod"), workspace) for folder in outer.uses]
        local = {module.name: folder for module, folder in zip(used, outer.uses, strict=True)} | dict(outer.replaces)
    # Only the main modules' own `replace` counts; go.work makes all of its modules main ones.
    for folder in own:
        for name, target in read_module(posixpath.join(folder, "go.mod"), workspace).replaces:
            local.setdefault(name, target)
    waiting = list(own)
    seen = set(own)
    while waiting:
        folder = waiting.pop(0)
        yield folder
        module: Module = read_module(posixpath.join(folder, "go.mod"), workspace)
        found = [local[name] for name in sorted(module.requires) if name in local and local[name] not in seen]
        seen.update(found)
        waiting.extend(found)


def _joined(folder: str, patterns: Iterable[str]) -> list[str]:
    return [posixpath.join(folder, pattern) for pattern in patterns]
