"""When to build: edits come in, starts and cancellations go out. Pure: is told the time, touches no file, no process.

Edits are held until there has been quiet for a moment. What changes while a build runs is built after it, or instead
of it. Nothing that changed is forgotten before a build that began later has come to its end.

A file that a step writes without saying so looks like an edit. Such a file changes in every build that it has caused;
so builds that only such files have caused come slower each time, and in the pauses a person's edit shows as one. After
some of them it is left alone, said so, until it is edited while nothing runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

LIMIT = 10.0
"""Quiet is waited for at most so many times as long as it should last: somebody may never stop."""
PAUSES = (0.0, 0.0, 0.5, 1.0, 2.0)
"""Seconds before a build that a file has caused which changed in the last so many builds that it caused."""
RESTARTS = 2
"""So many times in a row such a file may end a build: mostly it is a person who saves again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Build now. `labels`: the steps that changes concern; None = everything."""

    labels: frozenset[str] | None
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """End the build that runs: what it builds is not what is there any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveAlone:
    """These files are written by the build itself, as far as one can see: nothing is built for them."""

    paths: tuple[str, ...]


Action = Start | Cancel | LeaveAlone


@dataclass(slots=True)
class _Window:
    """The last build: when it ran, and for which files."""

    began: float = 0.0
    ended: float | None = 0.0
    causes: frozenset[str] = frozenset()
    suspected: bool = False
    """Only files that changed in the build before have caused it."""
    labels: frozenset[str] | None = frozenset()


@dataclass(slots=True)
class Loop:
    """See the module's text. Times are seconds since the epoch, since they are compared with files' own.

    Args:
        debounce: seconds of quiet after an edit.
        restart: end a build that runs when something else is edited; else build again after it.
    """

    debounce: float
    restart: bool
    _labels: set[str] = field(default_factory=set)
    _all: bool = False
    _paths: dict[str, None] = field(default_factory=dict)
    _first: float = 0.0
    _last: float = 0.0
    _foreign: bool = False
    """Something waits that surely is no file of the build's own."""
    _cancelling: bool = False
    _held: bool = False
    _told: bool = False
    _window: _Window = field(default_factory=_Window)
    _streaks: dict[str, int] = field(default_factory=dict)
    _counted: set[str] = field(default_factory=set)

    @property
    def building(self) -> bool:
        """Whether a build runs."""
        return self._window.ended is None

    @property
    def waiting(self) -> bool:
        """Whether there is something that was not built."""
        return self._all or bool(self._labels)

    def changed(self, changed: Mapping[str, float | None], labels: Collection[str] | None, now: float) -> None:
        """Files changed: path → when, None where nobody knows. `labels`: whom it concerns, None = anybody."""
        own = [path for path, at in changed.items() if self._is_own(path, at)]
        for path in changed:
            if path not in own:
                self._streaks.pop(path, None)
        foreign = len(own) < len(changed) or labels is None
        self._add(labels, changed, now, foreign=foreign)

    def ask(self, now: float) -> None:
        """Somebody wants everything built, now."""
        self._streaks.clear()
        self._add(None, {}, now - self.debounce, foreign=True)

    def _add(self, labels: Collection[str] | None, paths: Collection[str], now: float, *, foreign: bool) -> None:
        if not self.waiting:
            self._first = now
        if labels is None:
            self._all = True
        else:
            self._labels.update(labels)
        self._paths.update(dict.fromkeys(paths))
        self._last = now
        self._foreign = self._foreign or foreign
        self._held = self._told = False

    def _is_own(self, path: str, at: float | None) -> bool:
        """Whether it changed in the very build that it has caused; counts how often in a row."""
        window = self._window
        inside = self.building if at is None else at >= window.began and (window.ended is None or at <= window.ended)
        if not inside or path not in window.causes:
            return False
        if path not in self._counted:
            self._counted.add(path)
            # Where a person's edit was among the causes, it may be that person again.
            self._streaks[path] = self._streaks.get(path, 0) + 1 if window.suspected else 1
        return True

    def due(self, now: float) -> Action | None:
        """What is to be done now."""
        if not self.waiting or self._held or now < self._ready_at():
            return None
        if self.building:
            if self._may_restart() and not self._cancelling:
                self._cancelling = True
                return Cancel()
            return None
        if not self._foreign and self._streak() >= len(PAUSES):
            if self._told:
                return None
            self._told = True
            return LeaveAlone(paths=tuple(sorted(self._paths)))
        return self._start(now)

    def _may_restart(self) -> bool:
        return self.restart and (self._foreign or self._streak() <= RESTARTS)

    def next(self, now: float) -> float | None:
        """Seconds until `due` may have an answer without anything happening; None = never."""
        if not self.waiting or self._held or (self.building and (self._cancelling or not self._may_restart())):
            return None
        if not self.building and not self._foreign and self._streak() >= len(PAUSES) and self._told:
            return None
        left = self._ready_at() - now
        return max(0.0, left) if left > 0 or not self.building else None

    def _ready_at(self) -> float:
        quiet = min(self._last + self.debounce, self._first + LIMIT * self.debounce)
        return quiet if self._foreign else quiet + PAUSES[min(self._streak(), len(PAUSES) - 1)]

    def _streak(self) -> int:
        return max((self._streaks.get(path, 0) for path in self._paths), default=0)

    def _start(self, now: float) -> Start:
        labels = None if self._all else frozenset(self._labels)
        paths = tuple(self._paths)
        self._window = _Window(
            began=now, ended=None, causes=frozenset(paths), suspected=not self._foreign, labels=labels
        )
        self._forget()
        self._cancelling = False
        self._counted.clear()
        return Start(labels=labels, paths=paths)

    def _forget(self) -> None:
        self._labels.clear()
        self._paths.clear()
        self._all = self._foreign = False

    def ended(self, now: float, *, finished: bool, possible: bool = True) -> None:
        """The build is over.

        Args:
            now: when.
            finished: each step has an outcome; else what was to be built still is.
            possible: False where it could not even begin: to try again is no use before something changes.
        """
        window = self._window
        window.ended = now
        if finished:
            return
        waited = self.waiting
        if window.labels is None:
            self._all = True
        else:
            self._labels |= window.labels
        self._paths.update(dict.fromkeys(window.causes))
        if not waited:
            self._first = self._last = now - self.debounce
        if not window.causes or any(path not in self._streaks for path in window.causes):
            self._foreign = True
        self._held = not possible and not waited
