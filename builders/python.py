"""Kind `python`: pyproject.toml → `venv`, `site`, `wheel`, `sdist`, `test`, `types`, `lint`.

Everything uses what `venv` installed and fetches nothing itself. Tests run against the sources, so they need not wait
for the wheel.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from build_tests.core.builder import Component, Output, Step, Tool, Workspace

from ._manifests import patterns_of, script
from ._pybackend import EPOCH
from ._pycontext import Context, metadata, sources
from ._pyenvironment import alone, backend_call, environment_steps
from ._pylocal import ancestors
from ._pyproject import load
from ._pytools import COVERAGE, find
from ._suggest import generated_sources

REPORT = ".reports/pytest.xml"
COVERAGE_DATA = ".reports/coverage.data"
MYPY_CACHE = ".mypy_cache"
MYPY = Tool(name="mypy", version_command=("mypy", "--version"), hint="pip install mypy")
RUFF = Tool(name="ruff", hint="pip install ruff")
BACKUPS = ("!**/*~", "!**/.*.sw[a-p]", "!**/.#*", "!**/#*#", "!**/.DS_Store")
"""What editors leave beside a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonOptions:
    """Keys of a `python` component."""

    requirements: tuple[str, ...] | None = None
    """Requirement files for the environment; default: what uv.lock, poetry.lock, pdm.lock or pylock.toml says, else
    requirements.lock, .txt, -dev.txt where there, else what pyproject.toml names."""
    extras: tuple[str, ...] | None = None
    """Extras and dependency groups to install beside what is always needed; default: dev, test, lint and their like."""
    sources: tuple[str, ...] | None = None
    """What the wheel is made of, generated folders too; default: src/ where there, else the packages beside
    pyproject.toml, with what other steps make in them."""
    tests: str | tuple[str, ...] | None = None
    """The tests' folders; "" = no tests; default: pytest's testpaths, else tests/ or test/."""
    types: bool | None = None
    """Whether mypy is run; default: where it is configured or depended on."""
    lint: bool | None = None
    """Whether ruff is run; default: where it is configured or depended on."""
    installed: bool = False
    """Tests see the built wheel in place of the sources: for projects with extension modules."""
    python: str = "python3"
    """The interpreter, as it is called."""
    installer: Literal["auto", "uv", "pip"] = "auto"
    """What makes the environment; auto = uv where it is there, else venv and pip."""
    out: str = "dist/"
    """Where the wheel goes."""
    sdist: str = "sdist/"
    """Where the source distribution goes; it is made when named or needed."""
    venv: str = ".venv"
    """The virtual environment."""


class PythonBuilder:
    """`requirements`, `venv`, `site`, `wheel`, `sdist`, `test`, `types`, `lint`: those that the project has use for."""

    kind: ClassVar[str] = "python"
    options: ClassVar[type[PythonOptions]] = PythonOptions
    nests: ClassVar[bool] = True

    @staticmethod
    def suggest(path: str, workspace: Workspace, others: Sequence[tuple[str, str]]) -> dict[str, object]:  # noqa: ARG004
        """What `init` writes down: the sources, where some of them are generated."""
        return generated_sources(path, workspace)

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: no pyproject.toml, or none that can be read."""
        context = Context(component=component, workspace=workspace)
        yield from environment_steps(context)
        if context.project.backend:
            yield _wheel(context)
            if context.options.sdist:
                yield _sdist(context)
        if context.tests:
            yield _test(context)
        if context.wants("mypy"):
            yield _types(context)
        if context.wants("ruff"):
            yield _lint(context)

    @staticmethod
    def detect(path: str, workspace: Workspace) -> bool:
        """A project of its own: it is packaged, says what it needs, or has a requirement file beside Python code."""
        project = load(workspace, path)
        if project.metadata or project.tool("poetry") or project.backend:
            return True
        beside = posixpath.join(path, "*.py")
        return workspace.exists(posixpath.join(path, "requirements.txt")) and bool(
            workspace.glob(beside) or workspace.exists(posixpath.join(path, "src"))
        )


def _wheel(context: Context) -> Step:
    backups = BACKUPS if context.project.backend.startswith("setuptools") else ()
    return context.step(
        "wheel",
        command=backend_call(context, "wheel", context.near(context.options.out)),
        inputs=(
            *sources(context),
            *metadata(context),
            *_without(context, context.tests),
            *_flat(context),
            # Other backends than setuptools pack whatever lies in the package, but for what git ignores.
            *patterns_of(context.component, backups),
            *_ignore_files(context),
        ),
        outputs=(Output(path=context.at(context.options.out), directory=True),),
        depends_on=(context.label("venv"),),
        env=(("SOURCE_DATE_EPOCH", EPOCH),),
        resources=alone(context),
    )


def _flat(context: Context) -> tuple[str, ...]:
    """What lies where several back ends look before they look into src/."""
    if context.layout.roots[:1] != ("src",):
        return ()
    module = context.project.name.replace("-", "_")
    return tuple(context.at(name) for name in (f"{module}.py", f"{module}/__init__.py") if context.has(name))


def _sdist(context: Context) -> Step:
    """A source distribution may hold any file of the project, so each is an input."""
    options = context.options
    ours = (options.venv, context.near(options.out), f"{context.venv}-site", ".reports", MYPY_CACHE)
    return context.step(
        "sdist",
        command=backend_call(context, "sdist", context.near(options.sdist), *(path.rstrip("/") for path in ours)),
        # The sources by name: what another step generates among them is never taken by a pattern.
        inputs=(
            *patterns_of(context.component, ("**",)),
            *sources(context),
            *_without(context),
            *_ignore_files(context),
        ),
        outputs=(Output(path=context.at(options.sdist), directory=True),),
        depends_on=(context.label("venv"),),
        env=(("SOURCE_DATE_EPOCH", EPOCH),),
        resources=alone(context),
        on_request=True,
    )


def _test(context: Context) -> Step:
    report, cover = context.at(REPORT), context.coverage
    run = (context.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={REPORT}")
    written = (*cover.outputs, COVERAGE_DATA) if cover else ()
    data = (("COVERAGE_FILE", COVERAGE_DATA),) if cover else ()
    return context.step(
        "test",
        command=script([*run, *(cover.arguments if cover else ()), *context.tests]),
        inputs=(*_checked(context, context.tests), *_conftests(context), *_configuration(context)),
        outputs=(
            Output(path=report),
            *(Output(path=context.at(text), directory=text.endswith("/")) for text in written),
        ),
        depends_on=(context.label("venv"),),
        env=(("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONPATH", _import_path(context)), *data),
        junit=(report,),
    )


def _configuration(context: Context) -> tuple[str, ...]:
    names = COVERAGE if context.coverage else ()
    more = (context.at(name) for name in names if context.has(name))
    return tuple(dict.fromkeys((*context.pytest.files, *more)))


def _conftests(context: Context) -> Iterator[str]:
    """pytest reads them from the folder of its configuration down to the tests, and asks which are packages."""
    for folder in ancestors(context.component.path):
        paths = (posixpath.join(folder, name) for name in ("conftest.py", "__init__.py"))
        yield from (path for path in paths if context.workspace.exists(path))
        if context.pytest.table is None or folder == context.pytest.folder:
            return


def _types(context: Context) -> Step:
    found = find(context.workspace, context.project, "mypy")
    chosen = {"files", "packages", "modules"} & (found.table or {}).keys()
    program, tools = _program(context, "mypy", MYPY)
    command = (program, "--no-color-output", f"--python-executable={context.python}", f"--cache-dir={MYPY_CACHE}")
    return context.step(
        "types",
        command=script([*command, *(() if chosen else context.layout.code or (".",))]),
        # A folder with such a file is a package, and src/ a package in it.
        inputs=(*_checked(context, context.tests if chosen else ()), *_beside(context, "__init__.py*"), *found.files),
        depends_on=(context.label("venv"),),
        env=(("MYPYPATH", _roots(context)), *((("PYTHONPATH", context.site),) if context.site else ())),
        state=(context.at(MYPY_CACHE),),
        tools=tools,
    )


def _lint(context: Context) -> Step:
    found = find(context.workspace, context.project, "ruff")
    program, tools = _program(context, "ruff", RUFF)
    # What git ignores is said in places that are no inputs: .git/info/exclude, the user's own file.
    always = ("--no-cache", "--no-respect-gitignore")
    commands = [[program, "check", *always, "--output-format=concise", *_targets(context)]]
    if "format" in (found.table or {}):
        commands.append([program, "format", "--check", *always, *_targets(context)])
    return context.step(
        "lint",
        command=script(*commands),
        # Imports are sorted by whether a module of that name lies here.
        inputs=(*_beside(context, "*.py*"), *_checked(context, context.tests, site=False), *found.files),
        depends_on=(context.label("venv"),) if program != "ruff" else (),
        tools=tools,
    )


def _program(context: Context, name: str, tool: Tool) -> tuple[str, tuple[Tool, ...]]:
    """The environment's own where it has one, else the one on PATH."""
    if context.depends_on(name) or not context.is_locked:
        return f"{context.venv}/bin/{name}", (context.interpreter,)
    return name, (context.interpreter, tool)


def _targets(context: Context) -> tuple[str, ...]:
    """What is checked, by name: a generated folder that happens to lie there is not."""
    return tuple(dict.fromkeys((*context.layout.code, *context.tests))) or (".",)


def _checked(context: Context, tests: Iterable[str], *, site: bool = True) -> tuple[str, ...]:
    """Code and tests, and what this repository adds to the environment."""
    tests = (text if text.endswith(".py") else f"{text}/" for text in tests)
    shown = () if context.options.installed and site else sources(context)
    return (
        *shown,
        *_without(context, context.tests),
        *patterns_of(context.component, tests),
        *_without(context),
        *patterns_of(context.component, BACKUPS),
        *((f"{context.at(context.site)}/",) if context.site and site else ()),
    )


def _beside(context: Context, name: str) -> tuple[str, ...]:
    """Files beside the manifest, as a pattern; nothing where none is there, which would be a warning in every run."""
    pattern = context.at(name)
    return (pattern,) if context.workspace.glob(pattern) else ()


def _import_path(context: Context) -> str:
    roots = "" if context.options.installed else _roots(context)
    return ":".join(filter(None, (roots, context.site)))


def _roots(context: Context) -> str:
    return ":".join(context.layout.roots)


def _without(context: Context, more: Iterable[str] = ()) -> tuple[str, ...]:
    """What no source pattern means."""
    ours = (context.options.venv.rstrip("/"), *more)
    return patterns_of(context.component, (f"!{path}" if path.endswith(".py") else f"!{path}/" for path in ours))


def _ignore_files(context: Context) -> tuple[str, ...]:
    """What git ignores most backends do not take."""
    above = (posixpath.join(folder, ".gitignore") for folder in ancestors(context.component.path))
    return tuple(path for path in above if context.workspace.exists(path))
