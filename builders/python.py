"""Kind `python`: pyproject.toml → `venv`, `wheel`, `test`.

The wheel and the tests use what `venv` installed and fetch nothing themselves. Tests run against the sources, so they
need not wait for the wheel.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

from build_tests.core.builder import Component, Identity, ManifestError, Output, Step, Tool, Workspace

from ._manifests import DOWNLOAD, from_component, path_of, patterns_of, script

PYTHON = Tool(name="python3", hint="apt install python3-venv")
NETWORK = ("PIP_*",)
REQUIREMENTS = ("requirements.lock", "requirements.txt", "requirements-dev.txt")
EPOCH = "315532800"
"""1980, in seconds since 1970: the first second that a zip file can hold, so that wheels repeat byte for byte."""
REPORT = ".reports/pytest.xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonOptions:
    """Keys of a `python` component."""

    requirements: tuple[str, ...] | None = None
    """Requirement files for the environment; default: requirements.lock, .txt, -dev.txt where there, else what
    pyproject.toml names."""
    sources: tuple[str, ...] | None = None
    """What the wheel is made of, generated folders too; default: src/ where there, else the whole component."""
    tests: str = "tests/"
    """The tests' folder; "" = no tests."""
    out: str = "dist/"
    """Where the wheel goes."""
    venv: str = ".venv"
    """The virtual environment."""


class PythonBuilder:
    """`venv`, `wheel`, `test`."""

    kind: ClassVar[str] = "python"
    options: ClassVar[type[PythonOptions]] = PythonOptions

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: no pyproject.toml, or none that can be read."""
        project = _project(component, workspace)
        yield _venv(component, workspace, project)
        yield _wheel(component, workspace)
        if _has_tests(component, workspace):
            yield _test(component, workspace)


def _project(component: Component, workspace: Workspace) -> Mapping[str, Any]:
    # Python 3.10 has no tomllib; there pytest brings tomli, which is the same.
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    path = path_of(component, "pyproject.toml")
    try:
        project: dict[str, Any] = toml.loads(workspace.read_text(path))
    except toml.TOMLDecodeError as error:
        raise ManifestError(f"{path} is no TOML: {error}", file=path) from None
    return project


def _has_tests(component: Component, workspace: Workspace) -> bool:
    options: PythonOptions = component.options
    return bool(options.tests) and workspace.exists(path_of(component, options.tests))


def _venv(component: Component, workspace: Workspace, project: Mapping[str, Any]) -> Step:
    options: PythonOptions = component.options
    files = options.requirements
    if files is None:
        files = tuple(name for name in REQUIREMENTS if workspace.exists(path_of(component, name)))
    named = [argument for name in files for argument in ("-r", name if "//" not in name else _near(component, name))]
    wanted = named or _needs(project, tests=_has_tests(component, workspace))
    return _step(
        component,
        "venv",
        command=script(
            ["python3", "-m", "venv", "--clear", options.venv],
            [_python(component), "-m", "pip", "install", "--quiet", "--no-input", *wanted],
        ),
        inputs=patterns_of(component, ("pyproject.toml", *files)),
        outputs=(Output(path=path_of(component, options.venv), directory=True, identity=Identity.INSTALLED),),
        retries=DOWNLOAD,
        network_env=NETWORK,
    )


def _needs(project: Mapping[str, Any], *, tests: bool) -> list[str]:
    """What pyproject.toml asks for: to build, and where there are tests also to run and to test."""
    build = project.get("build-system", {}).get("requires", ["setuptools"])
    if not tests:
        return [*build]
    extras = project.get("project", {}).get("optional-dependencies", {})
    run = project.get("project", {}).get("dependencies", [])
    return [*build, *run, *(need for name in ("test", "tests", "dev") for need in extras.get(name, ())), "pytest"]


def _wheel(component: Component, workspace: Workspace) -> Step:
    options: PythonOptions = component.options
    build = (_python(component), "-m", "pip", "wheel", "--quiet", "--no-input", "--no-deps", "--no-build-isolation")
    return _step(
        component,
        "wheel",
        # setuptools leaves build/ and *.egg-info beside the sources and puts what it finds there into the next wheel,
        # modules deleted since too; so they go to a folder of their own. Other backends do not read the file.
        command=script(
            "tmp=$(mktemp -d)",
            """trap 'rm -rf "$tmp"' EXIT""",
            r'''printf '[build]\nbuild_base = %s\n[egg_info]\negg_base = %s\n' "$tmp" "$tmp" > "$tmp/setup.cfg"''',
            'export DIST_EXTRA_CONFIG="$tmp/setup.cfg"',
            [*build, "--wheel-dir", from_component(component, path_of(component, options.out)), "."],
        ),
        inputs=(*_sources(component, workspace), *_meta(component, workspace), *_without(component)),
        outputs=(Output(path=path_of(component, options.out), directory=True),),
        depends_on=(f"{component.name}:venv",),
        env=(("SOURCE_DATE_EPOCH", EPOCH),),
        network_env=NETWORK,
    )


def _test(component: Component, workspace: Workspace) -> Step:
    options: PythonOptions = component.options
    report = path_of(component, REPORT)
    run = (_python(component), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={REPORT}")
    source = "src" if workspace.exists(path_of(component, "src")) else "."
    return _step(
        component,
        "test",
        command=script([*run, options.tests.rstrip("/")]),
        inputs=(
            *_sources(component, workspace),
            *patterns_of(component, ("pyproject.toml", options.tests)),
            *_without(component, tests=True),
        ),
        outputs=(Output(path=report),),
        depends_on=(f"{component.name}:venv",),
        env=(("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONPATH", source)),
        junit=(report,),
    )


def _step(component: Component, name: str, **fields: Any) -> Step:
    return Step(
        component=component.name, name=name, kind=component.kind, path=component.path, tools=(PYTHON,), **fields
    )


def _python(component: Component) -> str:
    return f"{_near(component, component.options.venv)}/bin/python"


def _near(component: Component, text: str) -> str:
    return from_component(component, path_of(component, text))


def _sources(component: Component, workspace: Workspace) -> tuple[str, ...]:
    options: PythonOptions = component.options
    default = ("src/",) if workspace.exists(path_of(component, "src")) else ("**",)
    return patterns_of(component, options.sources or default)


def _meta(component: Component, workspace: Workspace) -> tuple[str, ...]:
    """What a wheel's metadata is made of, besides pyproject.toml."""
    single = ("pyproject.toml", "setup.py", "setup.cfg", "MANIFEST.in")
    there = (name for name in single if workspace.exists(path_of(component, name)))
    return patterns_of(component, (*there, "README*", "LICEN[CS]E*"))


def _without(component: Component, *, tests: bool = False) -> tuple[str, ...]:
    """What no source pattern means: the environment, and for the wheel the tests."""
    options: PythonOptions = component.options
    return patterns_of(component, _excluded(options, tests=tests))


def _excluded(options: PythonOptions, *, tests: bool) -> Iterator[str]:
    yield f"!{options.venv.rstrip('/')}/"
    if options.tests and not tests:
        yield f"!{options.tests.rstrip('/')}/"
