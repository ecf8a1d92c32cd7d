"""Keeping the local store small: what was not used for `ttl` goes, and what is over `max_size`, oldest use first.

A file's modification time is its last use: the store sets it when it keeps, finds or hands out something. So blobs go
by their own times, and nobody must know which records name them. A record goes when it is old itself, or when one of
its blobs is gone or goes: what is kept keeps all its blobs.

A sweep has four parts, each over the 256 shards: count; condemn entries that are larger than the whole store may be;
remove records; remove blobs. All but the first happen only where there is something to remove. It can stop after any
shard and be taken up by the next run, in whatever process; only its cutoff time must stay the same, and only one
process sweeps at a time. Others read and write meanwhile: what they use gets a new time and stays, and what vanishes
under them is a miss. Between sweeps a run costs two small files: what was counted, and what writers have added since.

Knows no steps and no record's format.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from build_tests.cache.local import HOUR, LocalStore, occupied
from build_tests.cache.model import Blob, StoreError
from build_tests.cache.sweepstate import DAY, PARTS, SHARDS, Memory, Sweep

RECOUNT = DAY
"""Seconds. A sweep is due at least as often; damaged entries are kept as long."""
GRACE = 600.0
"""Seconds. A blob used since is never removed: the record that names it may be about to be written."""
HIGH, LOW = 0.95, 0.85
"""Of `max_size`: where a sweep begins, since others write meanwhile, and where it stops, or each run would sweep."""
NAMED = 32
"""Bytes that a record needs at least for naming a blob: its digest."""
STALE = 7 * DAY
"""Seconds. A sweep begun longer ago is begun again."""
_SHARDS = [f"{number:02x}" for number in range(SHARDS)]
FINE, COARSE = 1 / 16, 60.0
"""Seconds. How finely times of the last hour, and older ones, are told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a store holds. Bytes in whole blocks of 4 KiB."""

    records: int = 0
    blobs: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """What a run has removed, or would remove. Bytes in whole blocks of 4 KiB."""

    records: int = 0
    blobs: int = 0
    bytes: int = 0
    temporary: int = 0
    """What writers that were killed have left, and damaged entries of more than a day ago."""
    finished: bool = True
    """False: the time was over first, and the next run goes on from there; or another process is sweeping."""


def usage(store: LocalStore) -> Usage:
    """Count everything. Raises StoreError."""
    counts, total = {}, 0
    for folder in (store.records, store.blobs):
        sizes = [occupied(found.st_size) for shard in _SHARDS for _, found in _listed(store, folder, shard)]
        counts[folder] = len(sizes)
        total += sum(sizes)
    return Usage(records=counts[store.records], blobs=counts[store.blobs], bytes=total)


class Evictor:
    """Removes what is old or too much.

    Args:
        store: whose clock it goes by.
        ttl: seconds since the last use; None = for ever.
        max_size: bytes; None = without limit.
        blobs_of: the blobs that a record names, which takes 32 bytes or more for each; ValueError where it can't be
            read, and then the record may go.
        grace: seconds; see GRACE.
    """

    def __init__(
        self,
        store: LocalStore,
        *,
        ttl: float | None,
        max_size: int | None,
        blobs_of: Callable[[bytes], Collection[Blob]],
        grace: float = GRACE,
    ) -> None:
        self.store = store
        self.ttl = ttl
        self.max_size = max_size
        self.blobs_of = blobs_of
        self.grace = grace

    def run(self, *, budget_seconds: float | None = None, full: bool = False) -> Evicted:
        """Do what is due, if no other process is at it; most often that is nothing.

        Args:
            budget_seconds: stop after about this long, and leave the rest to the next run; None = to the end.
            full: sweep also when it is not due.

        Raises:
            StoreError: the folder can't be read or changed.
        """
        if not os.path.isdir(self.store.base):
            return Evicted()
        with self._alone() as alone:
            if not alone:
                return Evicted(finished=False)
            memory = Memory.load(os.path.join(self.store.base, "sweep"))
            now = self.store.clock()
            memory.saw(now, self.ttl)
            if memory.sweep is not None and (full or not 0 <= now - memory.sweep.started < STALE):
                memory.sweep = memory.counted_at = None
            if memory.sweep is None and (full or self._due(memory, now)):
                memory.sweep = self._begin(now)
            removed = self._go_on(memory, budget_seconds)
            memory.save()
        return removed

    def plan(self) -> Evicted:
        """What a full run would remove now. Raises StoreError."""
        memory = Memory.load(os.path.join(self.store.base, "sweep"))
        now = self.store.clock()
        memory.saw(now, self.ttl)
        memory.sweep = Sweep(started=now)
        return _Sweeper(self, memory, memory.sweep, dry=True).run(None)

    def _due(self, memory: Memory, now: float) -> bool:
        if memory.counted_at is None or not -HOUR < now - memory.counted_at < RECOUNT:
            return True
        return self.max_size is not None and memory.counted + _added(self.store) > self.max_size * HIGH

    def _begin(self, now: float) -> Sweep:
        # From here on writers count anew. What is also seen by the count is counted twice: rather too much.
        with contextlib.suppress(OSError):
            os.unlink(self.store.added)
        return Sweep(started=now)

    def _go_on(self, memory: Memory, budget_seconds: float | None) -> Evicted:
        if memory.sweep is None:
            return Evicted()
        until = None if budget_seconds is None else time.monotonic() + budget_seconds
        sweeper = _Sweeper(self, memory, memory.sweep, dry=False)
        removed = sweeper.run(until)
        if removed.finished:
            memory.counted, memory.counted_at = memory.sweep.total, memory.sweep.started
            memory.sweep = None
        return removed

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether this process may sweep."""
        path = os.path.join(self.store.base, "sweep.lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _failed(self.store, error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)


class _Sweeper:
    """Takes a sweep further."""

    def __init__(self, evictor: Evictor, memory: Memory, sweep: Sweep, *, dry: bool) -> None:
        self._store = evictor.store
        self._evictor = evictor
        self._memory = memory
        self._sweep = sweep
        self._dry = dry
        self._cap = evictor.max_size
        self._young = sweep.started - evictor.grace
        self._records = self._blobs = self._bytes = self._temporary = 0

    def run(self, until: float | None) -> Evicted:
        """Up to the end, or until a time.monotonic(); one shard at least, or a small budget would never do."""
        sweep = self._sweep
        if sweep.part == sweep.shard == 0:
            self._tidy()
        while sweep.part < PARTS:
            _PARTS[sweep.part](self, _SHARDS[sweep.shard])
            sweep.shard += 1
            if sweep.shard == SHARDS:
                sweep.part, sweep.shard = self._next_part(), 0
            if until is not None and time.monotonic() >= until and sweep.part < PARTS:
                return self._removed(finished=False)
        return self._removed(finished=True)

    def _removed(self, *, finished: bool) -> Evicted:
        return Evicted(
            records=self._records,
            blobs=self._blobs,
            bytes=self._bytes,
            temporary=self._temporary,
            finished=finished,
        )

    def _next_part(self) -> int:
        sweep = self._sweep
        if sweep.part == 0 and self._over():
            return 1
        if sweep.part <= 1:
            sweep.before = min(max(self._expiry(), self._least_used()), self._young)
            old = bool(sweep.by_time) and min(sweep.by_time) <= sweep.before + COARSE
            return 2 if old or sweep.condemned else PARTS
        return sweep.part + 1

    def _over(self) -> bool:
        return self._cap is not None and self._sweep.total > self._cap * HIGH

    def _expiry(self) -> float:
        ttl = self._evictor.ttl
        return float("-inf") if ttl is None else self._memory.expiry(self._sweep.started, ttl)

    def _least_used(self) -> float:
        """The time before which everything must go to get below the size limit."""
        if self._cap is None or not self._over():
            return float("-inf")
        kept = 0
        for moment, size in sorted(self._sweep.by_time.items(), reverse=True):
            kept += size
            if kept > self._cap * LOW:
                return moment
        return float("-inf")

    def _tidy(self) -> None:
        """What killed writers have left; damaged entries that nobody has looked at."""
        for folder, age in ((self._store.temporary, HOUR), (self._store.quarantine, RECOUNT)):
            for name, found in _listed(self._store, folder):
                if abs(self._sweep.started - found.st_mtime) > age:
                    self._temporary += self._remove(f"{folder}/{name}", found)

    # The parts, each for one shard

    def _count(self, shard: str) -> None:
        for name, found in _listed(self._store, self._store.records, shard):
            self._add(f"{self._store.records}/{shard}/{name}", found)
        for name, found in _listed(self._store, self._store.blobs, shard):
            if self._cap is not None and occupied(found.st_size) > self._cap:
                self._sweep.condemned.add(shard + name)
                self._sweep.total += occupied(found.st_size)
            else:
                self._sweep.largest = max(self._sweep.largest, occupied(found.st_size))
                self._add(f"{self._store.blobs}/{shard}/{name}", found)

    def _add(self, path: str, found: os.stat_result) -> None:
        sweep, size = self._sweep, occupied(found.st_size)
        moment = _upper(self._used(path, found), sweep.started)
        sweep.by_time[moment] = sweep.by_time.get(moment, 0) + size
        sweep.total += size

    def _used(self, path: str, found: os.stat_result) -> float:
        """When a file was last used; what claims to be from the future is used now."""
        now = self._sweep.started
        if found.st_mtime <= now + HOUR:
            return found.st_mtime
        # While the clock is going back, it may be the clock that is wrong: the order of uses is worth keeping.
        if self._memory.steady and not self._dry:
            with contextlib.suppress(OSError):
                os.utime(path, (now, now))
        return now

    def _condemn(self, shard: str) -> None:
        """An entry larger than the limit would push out everything else and then still be too large."""
        cap, sweep = self._cap or 0, self._sweep
        for name, found in _listed(self._store, self._store.records, shard):
            if found.st_size // NAMED * sweep.largest <= cap:
                continue  # so few blobs, and none so large
            blobs = frozenset(self._blobs_of(shard + name) or ())
            if sum(occupied(blob.size) for blob in blobs) <= cap:
                continue
            for blob in blobs:
                self._discount(blob)
            sweep.condemned.update(blob.digest for blob in blobs)

    def _discount(self, blob: Blob) -> None:
        found = self._blob(blob)
        if found is None or blob.digest in self._sweep.condemned:
            return
        moment = _upper(min(found.st_mtime, self._sweep.started), self._sweep.started)
        if moment in self._sweep.by_time:
            self._sweep.by_time[moment] -= occupied(found.st_size)

    def _remove_records(self, shard: str) -> None:
        folder = f"{self._store.records}/{shard}"
        for name, found in _listed(self._store, self._store.records, shard):
            if found.st_mtime >= self._sweep.before and self._whole(shard + name):
                continue
            if self._remove(f"{folder}/{name}", found):
                self._records += 1
                self._note(found)

    def _whole(self, name: str) -> bool:
        """Whether all blobs of a record are there, and will be after this sweep."""
        blobs = self._blobs_of(name)
        if blobs is None:
            return False
        for blob in blobs:
            found = self._blob(blob)
            if found is None or self._goes(blob.digest, found):
                return False
        return True

    def _remove_blobs(self, shard: str) -> None:
        folder = f"{self._store.blobs}/{shard}"
        for name, found in _listed(self._store, self._store.blobs, shard):
            if self._goes(shard + name, found) and self._remove(f"{folder}/{name}", found):
                self._blobs += 1
                self._note(found)

    def _goes(self, digest: str, found: os.stat_result) -> bool:
        if found.st_mtime >= self._young:
            return False
        return found.st_mtime < self._sweep.before or digest in self._sweep.condemned

    # Files

    def _blobs_of(self, name: str) -> Collection[Blob] | None:
        """None = the record is gone, damaged or unreadable."""
        record = self._store.peek(name)
        if record is None:
            return None
        try:
            return self._evictor.blobs_of(record)
        except ValueError:
            return None

    def _blob(self, blob: Blob) -> os.stat_result | None:
        try:
            return os.lstat(f"{self._store.blobs}/{blob.digest[:2]}/{blob.digest[2:]}")
        except OSError:
            return None

    def _remove(self, path: str, found: os.stat_result) -> bool:
        if self._dry:
            return True
        try:
            # Whoever has used it while we went through the shard keeps it.
            if os.lstat(path).st_mtime != found.st_mtime:
                return False
            _unlink(path, found)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _failed(self._store, error) from error
        return True

    def _note(self, found: os.stat_result) -> None:
        self._bytes += occupied(found.st_size)
        self._sweep.total -= occupied(found.st_size)


_PARTS: tuple[Callable[[_Sweeper, str], None], ...] = (
    _Sweeper._count,  # noqa: SLF001
    _Sweeper._condemn,  # noqa: SLF001
    _Sweeper._remove_records,  # noqa: SLF001
    _Sweeper._remove_blobs,  # noqa: SLF001
)


def _upper(moment: float, now: float) -> float:
    """The end of the span of time that a moment is counted in."""
    width = FINE if moment > now - HOUR else COARSE
    return (moment // width + 1) * width


def _listed(store: LocalStore, folder: str, shard: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """The names in a folder of the store that are still there, with their stat. Raises StoreError."""
    try:
        with os.scandir(os.path.join(folder, shard)) as listing:
            entries = list(listing)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _failed(store, error) from error
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):
            yield entry.name, entry.stat(follow_symlinks=False)


def _unlink(path: str, found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(path)
        return
    # Nothing of ours makes one there.
    import shutil

    shutil.rmtree(path)


def _added(store: LocalStore) -> int:
    """Bytes that writers say they have added since the last count; about."""
    try:
        with open(store.added, "rb") as file:
            return sum(int(line) for line in file.read().split() if line.isdigit())
    except OSError:
        return 0


def _failed(store: LocalStore, error: OSError) -> StoreError:
    return StoreError(f"{store.folder}: {error.strerror or error}")
