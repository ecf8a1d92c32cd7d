"""Lockfiles of npm, pnpm, yarn (classic and berry) and bun → who needs what, so that a package's own part can be told.

A lockfile holds the whole repository's packages, and changes when any of them does. What a step is made of is the part
that its package reaches: for each dependency its version and a digest of all that lies behind it. Pure text; the
lockfiles are machine-written, so a small reader does for those that look like YAML (ten times faster than a YAML one).
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")
RUNTIME = ("dependencies", "optionalDependencies", "peerDependencies")
"""What of a package its users get as well."""
UNLOCKED = "not locked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """One package as it was resolved. `token` is whatever tells its content: integrity, checksum, address."""

    name: str
    version: str
    token: str
    needs: tuple[str, ...] = ()
    """Ids of what it needs."""


@dataclass(slots=True, kw_only=True)
class Lock:
    """A lockfile. `find` gives the id of a dependency: (folder of the package from the workspace, name, range)."""

    file: str
    packages: Mapping[str, Locked]
    find: Callable[[str, str, str], str | None]
    _behind: dict[str, str] = field(default_factory=dict)

    def facts(self, folder: str, wanted: Mapping[str, str]) -> dict[str, str]:
        """For each dependency (name → range) of the package in `folder`: `VERSION DIGEST` of what it stands for here.

        Another package's entry changes none of it, and nothing that this one can reach is left out.
        """
        return {name: self._fact(self.find(folder, name, text)) for name, text in sorted(wanted.items())}

    def _fact(self, found: str | None) -> str:
        if found is None or found not in self.packages:
            return UNLOCKED
        if found not in self._behind:
            self._behind[found] = self._digest(found)
        return f"{self.packages[found].version} {self._behind[found]}"

    def _digest(self, start: str) -> str:
        seen = {start}
        stack = [start]
        while stack:
            for need in self.packages[stack.pop()].needs:
                if need not in seen and need in self.packages:
                    seen.add(need)
                    stack.append(need)
        lines = sorted(f"{p.name} {p.version} {p.token}" for p in map(self.packages.__getitem__, seen))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read(file: str, text: str, members: Mapping[str, Mapping[str, Any]]) -> Lock:
    """A lockfile of any kind, told by its name and its first lines.

    Args:
        file: its name.
        text: what it says.
        members: manifests of the workspace's packages by folder from the lockfile's ("" = its own).

    Raises:
        ValueError: it can't be read.
    """
    name = posixpath.basename(file)
    try:
        if name in {"package-lock.json", "npm-shrinkwrap.json"}:
            return _npm(name, json.loads(text))
        if name == "pnpm-lock.yaml":
            return _pnpm(name, indented(text))
        if name == "bun.lock":
            return _bun(name, without_comments(text))
        yarn = _berry if "__metadata:" in text else _classic
        return yarn(name, indented(text), members)
    except (AttributeError, TypeError, KeyError, IndexError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} can't be read as a lockfile: {error}") from None


# npm: a package is where it lies, and sees what lies beside it and above.


def _npm(file: str, data: Mapping[str, Any]) -> Lock:
    rows: Mapping[str, Any] = data["packages"] if "packages" in data else dict(_first_version(data))
    packages: dict[str, Locked] = {}

    def find(folder: str, name: str, _: str) -> str | None:
        for place in _upwards(folder):
            path = f"{place}/node_modules/{name}" if place else f"node_modules/{name}"
            row = rows.get(path)
            if row is not None:
                return str(row["resolved"]) if row.get("link") else path
        return None

    for path, row in rows.items():
        needs = _present(find(path, name, "") for kind in RUNTIME for name in row.get(kind, ()))
        if "node_modules/" not in path:
            packages[path or "."] = _member(path or ".", needs)
        elif not row.get("link"):
            packages[path] = Locked(
                name=row.get("name") or path.rpartition("node_modules/")[2],
                version=row.get("version", ""),
                token=row.get("integrity") or row.get("resolved", ""),
                needs=needs,
            )
    return Lock(file=file, packages=packages, find=find)


def _upwards(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
    yield ""


def _first_version(data: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of an npm 5 or 6 lockfile as those of a later one."""
    for name, row in data.get("dependencies", {}).items():
        path = f"{above}/node_modules/{name}" if above else f"node_modules/{name}"
        yield path, {**row, "dependencies": row.get("requires") or {}}
        yield from _first_version(row, path)


# pnpm


def _pnpm(file: str, data: Mapping[str, Any]) -> Lock:
    rows = data.get("snapshots") or data.get("packages") or {}
    about = data.get("packages") or {}
    importers = data.get("importers") or {".": data}

    def of(folder: str, name: str, version: str) -> str | None:
        if version.startswith("link:"):
            return posixpath.normpath(posixpath.join(folder, version[5:])) or "."
        names = (f"{name}@{version}", f"/{name}@{version}", f"/{name}/{version}", version)
        return next((key for key in names if key in rows), None)

    packages = {
        key: Locked(
            name=key,
            version=_pnpm_version(key),
            # Only this is its content: the rest tells who needs it, and that it was deprecated since.
            token=str((about.get(key) or about.get(key.partition("(")[0]) or {}).get("resolution", "")),
            needs=_present(of("", *pair) for kind in RUNTIME for pair in _texts(row, kind)),
        )
        for key, row in ((key, row or {}) for key, row in rows.items())
    }
    locked: dict[str, dict[str, str | None]] = {}
    for folder, row in importers.items():
        pairs = {kind: dict(_importer(row or {}, kind)) for kind in KINDS}
        locked[folder] = {name: of(folder, name, text) for kind in KINDS for name, text in pairs[kind].items()}
        needs = _present(of(folder, *pair) for kind in RUNTIME for pair in pairs[kind].items())
        packages[folder] = _member(folder, needs)

    def find(folder: str, name: str, _: str) -> str | None:
        return locked.get(folder or ".", {}).get(name)

    return Lock(file=file, packages=packages, find=find)


def _pnpm_version(key: str) -> str:
    plain = key.partition("(")[0].lstrip("/")
    return plain.rpartition("@")[2] if "@" in plain[1:] else plain.rpartition("/")[2]


def _importer(row: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    """Name and version; before pnpm 8 it is plain text."""
    for name, value in (row.get(kind) or {}).items():
        yield name, str(value.get("version", "")) if isinstance(value, dict) else str(value)


def _texts(row: Mapping[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    found = row.get(kind)
    if isinstance(found, dict):
        yield from ((name, str(text)) for name, text in found.items())


def _member(folder: str, needs: tuple[str, ...]) -> Locked:
    """A package of the workspace itself: its own content is no matter of the lockfile."""
    return Locked(name=folder, version="workspace", token="", needs=needs)


def _present(found: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(one for one in found if one)


# yarn: a package is found by what was asked for.

Asked = Callable[[str, str], str | None]


def _classic(file: str, data: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]]) -> Lock:
    rows = {ask: (keys, row) for keys, row in data.items() if isinstance(row, dict) for ask in keys.split(", ")}
    return _yarn(file, rows, members, lambda name, text: [f"{name}@{text}"])


def _berry(file: str, data: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]]) -> Lock:
    rows = {
        ask: (keys, row)
        for keys, row in data.items()
        if isinstance(row, dict) and keys != "__metadata" and "@workspace:" not in str(row.get("resolution", ""))
        for ask in keys.split(", ")
    }
    return _yarn(file, rows, members, lambda name, text: [f"{name}@{text}", f"{name}@npm:{text}"])


def _yarn(
    file: str,
    rows: Mapping[str, tuple[str, Mapping[str, Any]]],
    members: Mapping[str, Mapping[str, Any]],
    asks: Callable[[str, str], list[str]],
) -> Lock:
    by_name: dict[str, list[str]] = {}
    for ask, (key, _) in rows.items():
        by_name.setdefault(_name_of(ask), []).append(key)
    folders = {manifest["name"]: folder for folder, manifest in members.items() if manifest.get("name")}

    def of(name: str, text: str) -> str | None:
        if name in folders:
            return folders[name] or "."
        found = next((rows[ask][0] for ask in asks(name, text) if ask in rows), None)
        # `resolutions` make it another than was asked for; the only one of its name is meant.
        return found or next(iter(by_name.get(name, ())), None)

    packages = {
        key: Locked(
            name=_name_of(key),
            version=str(row.get("version", "")),
            token=str(row.get("checksum") or row.get("integrity") or row.get("resolution") or row.get("resolved", "")),
            needs=_present(of(*pair) for kind in RUNTIME for pair in _texts(row, kind)),
        )
        for key, row in dict(rows.values()).items()
    }
    for folder, manifest in members.items():
        needs = _present(of(*pair) for kind in RUNTIME for pair in _texts(manifest, kind))
        packages[folder or "."] = _member(folder or ".", needs)
    return Lock(file=file, packages=packages, find=lambda _, name, text: of(name, text))


def _name_of(ask: str) -> str:
    return ask[: ask.find("@", 1)]


# bun: as npm's, by names in place of folders.


def _bun(file: str, data: Mapping[str, Any]) -> Lock:
    rows: Mapping[str, Any] = data["packages"]
    names = {folder: str(row.get("name", "")) for folder, row in data["workspaces"].items()}
    folders = {name: folder for folder, name in names.items()}

    def of(above: str, name: str) -> str | None:
        parts = _bun_parts(above)
        for end in range(len(parts), -1, -1):
            key = "/".join([*parts[:end], name])
            if key in rows:
                return folders[name] or "." if "@workspace:" in rows[key][0] and name in folders else key
        return None

    packages: dict[str, Locked] = {}
    for key, row in rows.items():
        details = next((part for part in row if isinstance(part, dict)), {})
        packages[key] = Locked(
            name=row[0],
            version=row[0].rpartition("@")[2],
            token=json.dumps([part for part in row if isinstance(part, str)]),
            needs=_present(of(key, name) for kind in RUNTIME for name in details.get(kind, ())),
        )
    for folder, row in data["workspaces"].items():
        needs = _present(of(names[folder], name) for kind in RUNTIME for name in row.get(kind, ()))
        packages[folder or "."] = _member(folder or ".", needs)
    return Lock(file=file, packages=packages, find=lambda folder, name, _: of(names.get(folder, ""), name))


def _bun_parts(key: str) -> list[str]:
    """`a/@scope/b` → `a`, `@scope/b`."""
    return re.findall(r"@[^/]+/[^/]+|[^/]+", key)


# Two forms of text


def without_comments(text: str) -> Any:
    """JSON with comments and trailing commas (tsconfig.json, bun.lock). Raises ValueError."""
    return json.loads(re.sub(_JSON, lambda found: found[1] or "", text.lstrip("\ufeff")))


_JSON = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]])', re.DOTALL)


def indented(text: str) -> dict[str, Any]:
    """Nested `key: value` lines as pnpm and yarn write them; a value that is no mapping is text as it stands.

    Enough of YAML for a lockfile, and of yarn's own form: lists and folded texts are passed over.
    """
    top: dict[str, Any] = {}
    levels: list[tuple[int, dict[str, Any]]] = [(-1, top)]
    explicit = ""
    for line in text.splitlines():
        body = line.lstrip(" ")
        if not body or body[0] in "#-":
            continue
        depth = len(line) - len(body)
        if body.startswith("? "):
            explicit = _bare(body[2:])
            continue
        key, value = (explicit, body[1:].strip()) if body[0] == ":" else _pair(body)
        while levels[-1][0] >= depth:
            levels.pop()
        if value:
            levels[-1][1][key] = _bare(value)
        elif key:
            inner: dict[str, Any] = {}
            levels[-1][1][key] = inner
            levels.append((depth, inner))
    return top


_KEY = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s"'].*?)(?::(?=\s|$)|\s(?=["\w]))\s*(.*)""")
_LIST = re.compile(r'"?[^\s"]+@.*:$')


def _pair(body: str) -> tuple[str, str]:
    if body[0] != "'" and _LIST.match(body):
        # yarn: several things that were asked for, quoted one by one or together.
        return body[:-1].replace('"', ""), ""
    found = _KEY.match(body)
    return (_bare(found[1]), found[2].strip()) if found else ("", "")


def _bare(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].replace("''", "'") if text[0] == "'" else text[1:-1]
    return "" if text == "{}" else text
