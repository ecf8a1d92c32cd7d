"""What eviction remembers from one run to the next: the time, what was counted, how far a sweep is.

One small JSON file, written by who holds the lock of the sweep. Losing it costs a sweep. Knows no store.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

DAY = 86400.0
"""Seconds."""
SHARDS = 256
PARTS = 4
"""Of a sweep; each goes over all shards."""


@dataclass(slots=True, kw_only=True)
class Sweep:
    """How far a sweep is."""

    started: float
    part: int = 0
    shard: int = 0
    """The next one of that part."""
    total: int = 0
    """Bytes counted, less those removed."""
    by_time: dict[float, int] = field(default_factory=dict)
    """Bytes last used before a time, and not before the next smaller one."""
    largest: int = 0
    """Bytes of the largest blob that is not condemned."""
    condemned: set[str] = field(default_factory=set)
    """Digests of the blobs of entries larger than the store may be."""
    before: float = 0.0
    """The cutoff: what was last used before this goes."""

    def exported(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "started": self.started,
            "part": self.part,
            "shard": self.shard,
            "total": self.total,
            "by_time": sorted(self.by_time.items()),
            "largest": self.largest,
            "condemned": sorted(self.condemned),
            "before": self.before,
        }

    @classmethod
    def imported(cls, data: Any) -> Sweep:
        """What `exported` gave. Raises ValueError, TypeError or KeyError for anything else."""
        return cls(
            started=float(data["started"]),
            part=range(PARTS)[data["part"]],
            shard=range(SHARDS)[data["shard"]],
            total=int(data["total"]),
            by_time={float(moment): int(size) for moment, size in data["by_time"]},
            largest=int(data["largest"]),
            condemned={str(digest) for digest in data["condemned"]},
            before=float(data["before"]),
        )


@dataclass(slots=True, kw_only=True)
class Memory:
    """What one run leaves for the next. Losing it costs a sweep."""

    path: str
    seen: float | None = None
    """When the last run was."""
    steady: bool = True
    """Whether the clock has not gone back since."""
    jumps: list[tuple[float, float]] = field(default_factory=list)
    """Between which times nothing can have been used: the clock jumped ahead, or nobody was there."""
    counted: int = 0
    counted_at: float | None = None
    sweep: Sweep | None = None

    @classmethod
    def load(cls, path: str) -> Memory:
        """Read; empty where there is nothing, or nothing sensible."""
        try:
            with open(path, "rb") as file:
                data = json.loads(file.read())
            return cls(
                path=path,
                seen=float(data["seen"]),
                jumps=[(float(before), float(after)) for before, after in data["jumps"]],
                counted=int(data["counted"]),
                counted_at=None if data["counted_at"] is None else float(data["counted_at"]),
                sweep=None if data["sweep"] is None else Sweep.imported(data["sweep"]),
            )
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            return cls(path=path)

    def save(self) -> None:
        """Write, if that is possible: a full disk must not keep anyone from making room."""
        data = {
            "seen": self.seen,
            "jumps": self.jumps,
            "counted": self.counted,
            "counted_at": self.counted_at,
            "sweep": None if self.sweep is None else self.sweep.exported(),
        }
        temporary = f"{self.path}.new"
        try:
            with open(temporary, "wb") as file:
                file.write(json.dumps(data).encode())
            os.replace(temporary, self.path)
        except OSError:
            # Rather nothing than an older state: its sweep may be over.
            for path in (temporary, self.path):
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def saw(self, now: float, ttl: float | None) -> None:
        """Take note of the time. A gap that is out of proportion is no time in which things grow old."""
        if self.seen is not None:
            self.steady = now >= self.seen
            if ttl is not None and now - self.seen > max(2 * ttl, DAY):
                self.jumps.append((self.seen, now))
        # One that ends in the future was an error of the clock, which is over.
        self.jumps = [jump for jump in self.jumps if jump[1] <= now][-8:]
        self.seen = now

    def expiry(self, now: float, ttl: float) -> float:
        """What was last used before this time is older than `ttl`, gaps not counted."""
        moment = now - ttl
        for before, after in reversed(self.jumps):
            if moment < after:
                moment -= after - before
        return moment
