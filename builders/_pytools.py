"""What a Python project says to pytest, coverage, mypy and ruff: whether, with which files, writing what."""

from __future__ import annotations

import configparser
import posixpath
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from build_tests.core.builder import ManifestError, Workspace

from ._pylocal import ancestors
from ._pyproject import Project, read_toml

PYTEST = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
MYPY = ("mypy.ini", ".mypy.ini", "pyproject.toml", "setup.cfg")
RUFF = (".ruff.toml", "ruff.toml", "pyproject.toml")
COVERAGE = (".coveragerc", ".coveragerc.toml", "setup.cfg", "tox.ini", "pyproject.toml")
_SECTIONS = {
    "pytest": {"tox.ini": "pytest", "setup.cfg": "tool:pytest", "pytest.ini": "pytest", ".pytest.ini": "pytest"},
    "mypy": {"setup.cfg": "mypy", "mypy.ini": "mypy", ".mypy.ini": "mypy"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A tool's configuration, as the tool itself would find it: the nearest, from the project's folder upwards."""

    files: tuple[str, ...]
    """From the root: every file that the tool looks into, whether or not it says something."""
    table: Mapping[str, Any] | None
    """The first that says something; None = none does."""
    folder: str = ""
    """Where that lies, from the root."""


def find(workspace: Workspace, project: Project, tool: str) -> Found:
    """The configuration of `pytest`, `mypy` or `ruff`. Raises ManifestError: a file can't be read."""
    files: list[str] = []
    for folder in ancestors(project.folder):
        for name in {"pytest": PYTEST, "mypy": MYPY, "ruff": RUFF}[tool]:
            path = posixpath.join(folder, name)
            if workspace.exists(path):
                files.append(path)
                table = _said(workspace, path, tool)
                if table is not None:
                    return Found(files=tuple(files), table=table, folder=folder)
    return Found(files=tuple(files), table=None)


def _said(workspace: Workspace, path: str, tool: str) -> Mapping[str, Any] | None:
    name = posixpath.basename(path)
    if name == "pyproject.toml":
        table = read_toml(workspace, path).get("tool", {}).get(tool)
        return table if tool != "pytest" or table is None else {**table, **table.get("ini_options", {})}
    if name.endswith(".toml"):
        table = read_toml(workspace, path)
        return table.get("pytest", table) if tool == "pytest" else table
    return _section(workspace, path, _SECTIONS[tool][name], always=name in {"pytest.ini", ".pytest.ini"})


def _section(workspace: Workspace, path: str, section: str, *, always: bool) -> Mapping[str, Any] | None:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(workspace.read_text(path))
    except configparser.Error as error:
        raise ManifestError(f"{path} can't be read: {error}", file=path) from None
    if parser.has_section(section):
        return dict(parser[section])
    return {} if always else None


def words(value: Any) -> list[str]:
    """`addopts`, `testpaths` and their like: a list, or one text of words."""
    if isinstance(value, str):
        try:
            return shlex.split(value, comments=True)
        except ValueError:
            return value.split()
    return [str(each) for each in value] if isinstance(value, list) else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How pytest-cov is used."""

    arguments: tuple[str, ...]
    """Added to pytest's, where its own configuration does not turn it on."""
    outputs: tuple[str, ...]
    """What it writes, from the project's folder; a trailing / = a folder."""


def coverage(project: Project, pytest: Found, *, depends: bool) -> Coverage | None:
    """What pytest-cov does here; None = it is not used.

    It is where pytest's `addopts` has `--cov`, or the project depends on it and configures coverage.
    """
    options = words((pytest.table or {}).get("addopts", ()))
    settings = project.tool("coverage")
    if any(word == "--cov" or word.startswith("--cov=") for word in options):
        if "--no-cov" in options:
            return None
        return Coverage(arguments=(), outputs=tuple(dict.fromkeys(_reports(options, settings))))
    if depends and settings:
        chosen = ("--cov", "--cov-report=xml")
        return Coverage(arguments=chosen, outputs=tuple(_reports(list(chosen), settings)))
    return None


def _reports(options: list[str], settings: Mapping[str, Any]) -> Iterator[str]:
    for at, word in enumerate(options):
        if word.startswith("--cov-report"):
            said = word.partition("=")[2] or "".join(options[at + 1 : at + 2])
            kind, _, place = said.partition(":")
            table = settings.get(kind, {})
            match kind:
                case "xml":
                    yield place or table.get("output", "coverage.xml")
                case "html":
                    yield (place or table.get("directory", "htmlcov")).rstrip("/") + "/"
                case "json":
                    yield place or table.get("output", "coverage.json")
                case "lcov":
                    yield place or table.get("output", "coverage.lcov")
                case _:
                    pass
