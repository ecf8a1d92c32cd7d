"""Which files of the repository one step used that it does not declare. Takes accesses, knows no tracer and no process.

What is declared is what the step's key was made of: the inputs as they were found, the outputs of dependencies, and
what the step itself may write. Everything else that was read or written is a finding. That a file was only looked at,
looked for, or listed with its folder is kept beside that, and is none: tools look for configuration up to the root,
and nothing could be declared for most of it.

All that is kept is what is not declared, `LIMIT` of each kind.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from build_tests.core.globs import NEVER, PathSet, matches
from build_tests.core.graph import parents
from build_tests.run.trace_lines import How

LIMIT = 2_000
"""Paths of a kind that are kept."""
SHOWN = 100
"""Paths of a kind that are told."""
MEMORY = 50_000
"""Paths whose place is remembered while a trace is read."""
_NO_NAMES = (b"", b".", b"..")
TICK = 0.05
"""Seconds by which a file's time may lag behind the clock."""


@dataclass(slots=True, kw_only=True)
class Traced:
    """What came of tracing a step; plain data. Paths are from the root, sorted."""

    status: str = "clean"
    """`clean`, `undeclared` (files were used that are not declared), or `unverified` (the trace is not whole)."""
    why: list[str] = field(default_factory=list)
    """What keeps the trace from being whole."""
    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    """Made, changed or removed, and not declared."""
    missing: list[str] = field(default_factory=list)
    """Looked for, and not there."""
    seen: list[str] = field(default_factory=list)
    """Looked at, not opened."""
    listed: list[str] = field(default_factory=list)
    """Folders whose names were read."""
    more: int = 0
    """How many findings are left out above."""
    calls: int = 0
    """Lines of the trace."""

    def to_json(self) -> dict[str, Any]:
        """Only what is set."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name))}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Traced:
        """The inverse of `to_json`; fields of newer releases are passed over."""
        known = {f.name for f in fields(Traced)}
        return Traced(**{name: value for name, value in data.items() if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a step may use, by paths from the root."""

    inputs: frozenset[str]
    """As its key saw them."""
    patterns: tuple[str, ...]
    readable: PathSet
    """The outputs of its dependencies."""
    writable: PathSet
    """Its own outputs and its tool's memory."""
    outputs: PathSet
    """The outputs of all steps: no pattern means these."""

    def folders(self) -> frozenset[str]:
        """Every folder that an input lies in."""
        found: set[str] = {""}
        for path in self.inputs:
            while (path := path.rpartition("/")[0]) and path not in found:
                found.add(path)
        return frozenset(found)


class Watched:
    """Takes the accesses of one step, keeps those that are not declared. A `Sink` of trace_lines.

    Args:
        root: absolute.
        started: seconds since the epoch; what was written before was not written by this step.
    """

    def __init__(self, root: str, declared: Declared, started: float) -> None:
        self._root = os.path.realpath(root)
        self._base = os.fsencode(self._root).rstrip(b"/") + b"/"
        self.roots = tuple({os.fsencode(path) for path in (self._root, os.path.abspath(root))})
        """The root as accesses may write it."""
        self._declared = declared
        self._started = started
        self._places: dict[bytes, str | None] = {}
        self._folders: dict[bytes, bytes] = {}
        self._made: set[str] = set()
        """What was not there, as far as is known, before the step made it."""
        self._found: dict[How, dict[str, None]] = {how: {} for how in How}
        self._why: dict[str, None] = {}
        self.hindered = False
        self.more = 0

    # What a Sink does

    def access(self, how: How, path: bytes, real: bytes) -> None:
        """See `Sink`."""
        place = self._place(path)
        there = self._place(real, resolved=True) if real else place
        if place is not None and there != place:
            # A link that was followed is as much an input as what it leads to.
            self._take(How.READ, place)
        if there is not None:
            self._take(how, there)

    def moved(self, old: bytes, new: bytes) -> None:
        """See `Sink`."""
        was, now = self._place(old), self._place(new)
        if was is not None:
            self._take(How.REMOVE, was)
        if now is not None:
            self._take(How.MAKE, now)
        # Folders in it may lead elsewhere by now.
        self._folders.clear()
        self._places.clear()

    def ran(self, path: bytes) -> None:
        """See `Sink`."""
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return
        if mode & (stat.S_ISUID | stat.S_ISGID):
            self.obstacle(f"{os.fsdecode(path)} has rights of its own (setuid), which a trace takes away", hinders=True)

    def obstacle(self, why: str, *, hinders: bool = False) -> None:
        """See `Sink`."""
        if why and len(self._why) < SHOWN:
            self._why[why] = None
        self.hindered = self.hindered or hinders

    # Places

    def _place(self, path: bytes, *, resolved: bool = False) -> str | None:
        """The path from the root; None = outside, or nothing that a step could declare."""
        try:
            return self._places[path]
        except KeyError:
            pass
        if len(self._places) > MEMORY:
            self._places.clear()
        place = self._places[path] = self._worked_out(path, resolved=resolved)
        return place

    def _worked_out(self, path: bytes, *, resolved: bool) -> str | None:
        absolute = path if resolved else self._canonical(path)
        if not absolute.startswith(self._base):
            return None
        place = os.fsdecode(absolute[len(self._base) :])
        if place == ".git" or place.startswith(".git/"):
            return ".git"
        return None if not place or not NEVER.isdisjoint(place.split("/")) else place

    def _canonical(self, path: bytes) -> bytes:
        """With the links on the way followed, but not one at its end."""
        folder, _, name = path.rstrip(b"/").rpartition(b"/")
        if name in _NO_NAMES:
            return os.path.realpath(path or b"/")
        return self._real(folder).rstrip(b"/") + b"/" + name

    def _real(self, folder: bytes) -> bytes:
        """A folder with the links on the way followed; only what is new on the way is looked at."""
        real = self._folders.get(folder)
        if real is None:
            if len(self._folders) > MEMORY:
                self._folders.clear()
            above, _, name = folder.rpartition(b"/")
            if name in _NO_NAMES:
                real = os.path.realpath(folder or b"/")
            else:
                real = self._real(above).rstrip(b"/") + b"/" + name
                if os.path.islink(real):
                    real = os.path.realpath(real)
            self._folders[folder] = real
        return real

    # Sorting

    def _take(self, how: How, place: str) -> None:
        if self._declared.writable.contains(place):
            return
        match how:
            case How.READ | How.SEEN | How.MISSING | How.LISTED:
                self._look(how, place)
            case How.FOLDER:
                self._note_made(place)
            case How.REMOVE:
                self._remove(place)
            case How.MAKE | How.WRITE:
                if how is How.MAKE and not self._known(place):
                    self._note_made(place)
                if place != ".git":
                    self._keep(How.WRITE, place)

    def _look(self, how: How, place: str) -> None:
        declared = self._declared
        if place in declared.inputs or declared.readable.contains(place):
            return
        if place in self._made or place in self._found[How.WRITE] or (place == ".git" and how is not How.READ):
            return
        self._keep(how, place)

    def _remove(self, place: str) -> None:
        if place in self._made or any(folder in self._made for folder in parents(place)):
            self._made.discard(place)
            self._found[How.WRITE].pop(place, None)
        elif place != ".git":
            self._keep(How.REMOVE, place)

    def _note_made(self, place: str) -> None:
        if len(self._made) < MEMORY:
            self._made.add(place)
        else:
            self.obstacle("it made more undeclared files than can be followed")

    def _known(self, place: str) -> bool:
        """Whether it was there before the step wrote it, as far as the trace tells."""
        return place in self._declared.inputs or any(
            place in self._found[how] for how in (How.READ, How.SEEN, How.WRITE, How.REMOVE)
        )

    def _keep(self, how: How, place: str) -> None:
        kept = self._found[how]
        if place not in kept:
            if len(kept) < LIMIT:
                kept[place] = None
            else:
                self.more += how in (How.READ, How.WRITE)

    # The end

    def finish(self, calls: int) -> Traced:
        """What came of it. Looks at the disk: what was made and is gone again was nobody's concern."""
        reads = [path for path in self._found[How.READ] if path == ".git" or not self._is_folder(path)]
        writes = sorted({*self._written(), *self._removed()})
        missing = [path for path in self._found[How.MISSING] if not self._meant(path)]
        seen = [path for path in self._found[How.SEEN] if path not in self._found[How.READ]]
        traced = Traced(why=list(self._why), more=self.more, calls=calls)
        for name, paths in (
            ("reads", reads), ("writes", writes), ("missing", missing),
            ("seen", [path for path in seen if not self._is_folder(path)]), ("listed", list(self._undeclared_lists())),
        ):  # fmt: skip
            listed = sorted(paths)
            setattr(traced, name, listed[:SHOWN])
            traced.more += max(0, len(listed) - SHOWN) if name in ("reads", "writes") else 0
        traced.status = "undeclared" if traced.reads or traced.writes else "unverified" if traced.why else "clean"
        return traced

    def _is_folder(self, path: str) -> bool:
        return os.path.isdir(os.path.join(self._root, path))

    def _written(self) -> Iterator[str]:
        for path in self._found[How.WRITE]:
            try:
                found = os.lstat(os.path.join(self._root, path))
            except OSError:
                if path not in self._made and path in (*self._found[How.READ], *self._declared.inputs):
                    yield path
                continue
            if stat.S_ISDIR(found.st_mode):
                yield f"{path}/"
            # Opened for writing is not written; a file that was moved here keeps its time, but not its change time.
            elif found.st_ctime >= self._started - TICK:
                yield path

    def _removed(self) -> Iterator[str]:
        return (path for path in self._found[How.REMOVE] if not os.path.lexists(os.path.join(self._root, path)))

    def _meant(self, path: str) -> bool:
        """Whether the file would be noticed if it came to be, or could not: a folder that the step made was empty."""
        if path in self._made or any(folder in self._made for folder in parents(path)):
            return True
        return self._declared.outputs.contains(path) or matches(self._declared.patterns, path)

    def _undeclared_lists(self) -> Iterable[str]:
        folders = self._declared.folders()
        return (path for path in self._found[How.LISTED] if path not in folders)
