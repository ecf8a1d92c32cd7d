"""What this user or job may do with the caches: from the environment and the user's own file, never from a repository.

    PYTEST_BUILD_CACHE             off | ro | rw    remote tiers; `off` turns the local one off too
    PYTEST_BUILD_SCOPE             the scope that is written, and read first
    PYTEST_BUILD_SIGNING_KEY_FILE  its private key

or `cache`, `scope` and `signing_key_file` in `$XDG_CONFIG_HOME/pytest-build/config.yml`. A variable wins over the file.
The file is read by a few lines of ours: `name: value`, comments, quotes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from build_tests.core.errors import ConfigError, Diagnostic, Place

Access = Literal["off", "ro", "rw"]
LEVELS: tuple[Access, ...] = ("off", "ro", "rw")
DEFAULT_SCOPE = "local"
SCOPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")

_VARIABLES = {
    "cache": "PYTEST_BUILD_CACHE",
    "scope": "PYTEST_BUILD_SCOPE",
    "signing_key_file": "PYTEST_BUILD_SIGNING_KEY_FILE",
}
_LINE = re.compile(r"(?P<name>[^\s:#'\"]+)\s*:(?:\s+(?P<value>.*))?")
_VALUE = re.compile(
    r"""(?:"(?P<double>[^"\\]*)"|'(?P<single>[^']*)'|(?P<plain>[^\s"'#\[{&*!|>%@`][^#]*?))?\s*(?:(?:^|\s)#.*)?"""
)
_LARGEST = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What may be done. The local store is read and written whenever it is on."""

    local: bool = True
    """Whether the local store is used."""
    remote: Access = "ro"
    scope: str = DEFAULT_SCOPE
    signing_key_file: str | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What the user asked for and did not get; a sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    value: str
    place: Place


def permissions(environ: Mapping[str, str], option: str | None = None) -> Permissions:
    """What the environment and the user's file allow, narrowed by `--build-cache`.

    Args:
        environ: the process's environment.
        option: `off`, `ro`, `rw`, or None where it was not given.

    Raises:
        ConfigError: every wrong setting, with its place.
    """
    diagnostics: list[Diagnostic] = []
    settings = _user_file(user_file(environ), diagnostics)
    settings.update(_variables(environ))
    allowed = _access(settings.get("cache"), diagnostics)
    scope = _scope(settings.get("scope"), diagnostics)
    if diagnostics:
        raise ConfigError(diagnostics)
    key_file = settings.get("signing_key_file")
    asked = allowed if option is None else _level(option)
    granted = min(asked, allowed, key=LEVELS.index)
    return Permissions(
        local=granted != "off",
        remote=granted,
        scope=scope,
        signing_key_file=_path(key_file, environ) if key_file else None,
        notes=() if granted == asked else (_lowered(asked, allowed, settings.get("cache")),),
    )


def user_file(environ: Mapping[str, str]) -> str:
    """Where the user's own file lies, whether or not it is there."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(_home(environ), ".config")
    return os.path.join(base, "pytest-build", "config.yml")


def _variables(environ: Mapping[str, str]) -> dict[str, _Setting]:
    # An empty variable is one that was not set: CI services make those of a secret that a job may not see.
    return {
        name: _Setting(value=environ[variable], place=Place(file=variable))
        for name, variable in _VARIABLES.items()
        if environ.get(variable)
    }


def _user_file(path: str, diagnostics: list[Diagnostic]) -> dict[str, _Setting]:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        diagnostics.append(Diagnostic(place=Place(file=path), message=f"can't be read: {reason}"))
        return {}
    settings: dict[str, _Setting] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            _read_line(line, Place(file=path, line=number, column=1, text=line), settings, diagnostics)
    return settings


def _read_line(line: str, place: Place, settings: dict[str, _Setting], diagnostics: list[Diagnostic]) -> None:
    found = _LINE.fullmatch(line)
    value = _VALUE.fullmatch(found["value"] or "") if found else None
    if found is None or value is None:
        message = "not a line of the form `name: value`"
    elif found["name"] not in _VARIABLES:
        message = f"{found['name']!r} is not known here"
    elif found["name"] in settings:
        message = f"{found['name']!r} is there twice"
    else:
        text = value["double"] or value["single"] or value["plain"]
        if text:
            settings[found["name"]] = _Setting(value=text, place=place)
            return
        message = f"{found['name']!r} has no value"
    hint = f"this file may say {', '.join(_VARIABLES)}"
    diagnostics.append(Diagnostic(place=place, message=message, hint=hint))


def _access(setting: _Setting | None, diagnostics: list[Diagnostic]) -> Access:
    if setting is None:
        return "ro"
    if setting.value not in LEVELS:
        diagnostics.append(Diagnostic(place=setting.place, message=f"{setting.value!r} is not off, ro or rw"))
        return "off"
    return _level(setting.value)


def _scope(setting: _Setting | None, diagnostics: list[Diagnostic]) -> str:
    if setting is None:
        return DEFAULT_SCOPE
    if SCOPE.fullmatch(setting.value) is None:
        message = f"{setting.value!r} is no scope: letters, digits, _ . and -, beginning with a letter"
        diagnostics.append(Diagnostic(place=setting.place, message=message))
    return setting.value


def _level(text: str) -> Access:
    return LEVELS[LEVELS.index(text)]


def _lowered(asked: Access, allowed: Access, setting: _Setting | None) -> str:
    by = f"{setting.place} says {allowed}" if setting else f"{allowed} unless {_VARIABLES['cache']} says rw"
    return f"--build-cache {asked} is not allowed here ({by}): the caches are {allowed}"


def _path(setting: _Setting, environ: Mapping[str, str]) -> str:
    path = setting.value
    if path == "~" or path.startswith("~/"):
        path = _home(environ) + path[1:]
    # In the user's file a relative path is that of the file's own folder, in a variable the caller's.
    base = os.path.dirname(setting.place.file) if setting.place.line else ""
    return os.path.join(base, path)


def _home(environ: Mapping[str, str]) -> str:
    return environ.get("HOME") or os.path.expanduser("~")
