"""A store that can no longer hurt: what it answers is counted, what it costs is bounded, and it fails once, not often.

Knows no particular store. The rules:

- A call that fails because the store can't be reached turns it off for the rest of the run, with one warning. An answer
  that says no (RefusedError), or content that is wrong (CorruptError), is counted, and five of them turn it off;
  refused writes turn off writing only.
- While it is off, and for a call that failed, reading answers "absent" and `write_record` "not written", at once. Only
  `store` raises, since it has no other answer: StoreError if nothing was kept, CorruptError if the file was edited.
- Calls run on threads of their own, and a caller that has waited too long goes away: nothing else helps against a
  name server that is silent, or a server that sends a byte a second. A call is *late* when it takes longer than a small
  patience plus its bytes at `FLOOR` bytes a second; the time during which at least one call was late, or failed, is
  lost, and when `budget_seconds` are lost in all, the store is off and everyone who waits is let go.
- What an abandoned thread does later reaches nobody: a blob is fetched into a folder of its own and moved when whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from build_tests.cache.background import DaemonPool
from build_tests.cache.model import Blob, CorruptError, RefusedError, Store, StoreError

PATIENCE_SECONDS = 0.3
"""What a call may take that moves next to nothing."""
PER_BLOB_SECONDS = 0.01
"""What asking for the existence of one more blob may take."""
FLOOR = 256 * 1024
"""Bytes a second; a store that is slower costs more than it saves."""
LIMIT = 5
"""Wrong or refused answers that turn a store off."""
LOOK_SECONDS = 0.1
"""How often a late transfer is looked at: it may have caught up."""

T = TypeVar("T")


@runtime_checkable
class Prepares(Protocol):
    """A store that needs time, but no network, before its first call: that is not counted as the server's."""

    def prepare(self) -> None:
        """Import libraries. Raises StoreError if they are not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What went through one tier in this run."""

    hits: int = 0
    """Records and blobs that were there when they were read."""
    misses: int = 0
    bytes_in: int = 0
    written: int = 0
    """Records and blobs that were kept; a blob that was there already counts."""
    bytes_out: int = 0
    errors: int = 0
    """Calls that the store failed, corrupt ones included."""
    corrupt: int = 0
    """Blobs under whose name something else lay."""
    changed: int = 0
    """Files that were edited before they could be stored."""
    seconds: float = 0.0
    """Waited for, all callers together."""
    lost_seconds: float = 0.0
    """By the clock, in which a call was late or failed."""


class _Call:
    """One caller who waits."""

    __slots__ = ("due", "moved", "started", "wake")

    def __init__(self, started: float, due: float, moved: Callable[[], int]) -> None:
        self.started = started
        self.due = due
        """Seconds it may take besides those for the bytes moved."""
        self.moved = moved
        self.wake = threading.Event()


class Guarded:
    """A Store around a Store; see the module.

    Args:
        store: what does the work.
        warn: told one line, once at most.
        budget_seconds: that this store may cost a run. None: a store inside this machine, whose calls are not timed and
            run in the caller's thread; wrong content never turns it off, and a failed write turns off writing only.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        store: Store,
        *,
        warn: Callable[[str], None],
        budget_seconds: float | None = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._warn = warn
        self._budget = budget_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._preparing = threading.Lock()
        self._prepared = not isinstance(store, Prepares)
        self._pool = DaemonPool(f"cache-{store.name}")
        self._sums: dict[str, Any] = asdict(Traffic())
        self._off: str | None = None
        self._writing_off: str | None = None
        self._warned = False
        self._refused = {"read": 0, "write": 0}
        self._calls: set[_Call] = set()
        self._late: dict[_Call, float] = {}
        self._counted = 0.0

    @property
    def name(self) -> str:
        """The store's."""
        return self._store.name

    @property
    def store_itself(self) -> Store:
        """What is guarded."""
        return self._store

    @property
    def traffic(self) -> Traffic:
        """What went through until now."""
        with self._lock:
            return Traffic(**self._sums)

    @property
    def off(self) -> str | None:
        """Why it is off, or None."""
        return self._off

    def read_record(self, name: str) -> bytes | None:
        """See Store; never raises StoreError."""
        answer = self._ask("read", lambda: self._store.read_record(name))
        record = answer[0] if answer else None
        self._read(answer, 0 if record is None else len(record), there=record is not None)
        return record

    def write_record(self, name: str, record: bytes, blobs: Sequence[Blob], *, over: bytes | None = None) -> bool:
        """See Store; never raises StoreError."""
        due = PATIENCE_SECONDS + PER_BLOB_SECONDS * len(blobs) + len(record) / FLOOR
        answer = self._ask("write", lambda: self._store.write_record(name, record, blobs, over=over), due)
        if answer and answer[0]:
            self._count(written=1, bytes_out=len(record))
        return bool(answer and answer[0])

    def missing(self, blobs: Collection[Blob]) -> set[Blob]:
        """See Store; never raises StoreError. All, where it can't be told."""
        if not blobs:
            return set()
        answer = self._ask("read", lambda: self._store.missing(blobs), PATIENCE_SECONDS + PER_BLOB_SECONDS * len(blobs))
        return answer[0] if answer else set(blobs)

    def fetch(self, blob: Blob, destination: str) -> bool:
        """See Store; never raises StoreError."""
        if self._budget is None:
            answer = self._ask("read", lambda: self._store.fetch(blob, destination), files=True)
        else:
            answer = self._fetch_aside(blob, destination)
        there = bool(answer and answer[0])
        self._read(answer, blob.size, there=there)
        return there

    def store(self, blob: Blob, source: str) -> None:
        """See Store.

        Raises:
            StoreError: nothing was kept; the one warning, if it was due, is given already.
        """
        due = PATIENCE_SECONDS + blob.size / FLOOR
        answer = self._ask("write", lambda: self._kept(blob, source), due, files=True)
        if answer is None:
            raise StoreError(f"{self.name}: {self._off or self._writing_off or 'a blob was not kept'}")
        if answer[0] is not None:
            self._count(changed=1)
            raise answer[0]
        self._count(written=1, bytes_out=blob.size)

    def close(self) -> None:
        """Let go of everyone who waits, and of the store's connections, without waiting long for them."""
        with self._lock:
            self._off = self._off or "closed"
            waiting = list(self._calls)
        for call in waiting:
            call.wake.set()
        if self._budget is None:
            self._store.close()
            return
        with contextlib.suppress(Exception):  # a second is what a good-bye is worth
            self._pool.submit(self._store.close).result(1.0)
        self._pool.close()

    # Calls

    def _kept(self, blob: Blob, source: str) -> CorruptError | None:
        try:
            self._store.store(blob, source)
        except CorruptError as changed:  # the caller's file is wrong, not the store
            return changed
        return None

    def _fetch_aside(self, blob: Blob, destination: str) -> tuple[bool] | None:
        if self._off is not None:
            return None
        folder, name = os.path.split(destination)
        # Named after the file: who cleans the folder sees whose it is.
        aside = tempfile.mkdtemp(prefix=f"{name}-", dir=folder or ".")
        part = os.path.join(aside, "blob")
        try:
            answer = self._ask("read", lambda: self._store.fetch(blob, part), moved=lambda: _size(part), files=True)
            if answer and answer[0]:
                os.rename(part, destination)
            return answer
        finally:
            _remove(aside)

    def _ask(
        self,
        way: str,
        call: Callable[[], T],
        due: float = PATIENCE_SECONDS,
        moved: Callable[[], int] = lambda: 0,
        *,
        files: bool = False,
    ) -> tuple[T] | None:
        """What the store answers, or None where it does not. With `files`, an OSError is the caller's, about them."""
        if self._off is not None or (way == "write" and self._writing_off is not None):
            return None
        started = self._clock()
        try:
            self._prepare()
            started = self._clock()
            return (call() if self._budget is None else self._timed(call, _Call(started, due, moved)),)
        except _AbandonedError:
            self._count(errors=1)
        except CorruptError as error:
            self._corrupt(error)
        except RefusedError as error:
            self._no(way, error)
        except StoreError as error:
            self._failed(way, str(error))
        except Exception as error:  # a store's own mistake must not end a build; it is warned of
            if files and isinstance(error, OSError):
                raise
            self._failed(way, f"{self.name}: {type(error).__name__}: {error}")
        finally:
            self._count(seconds=self._clock() - started)
        return None

    def _prepare(self) -> None:
        if not self._prepared and isinstance(self._store, Prepares):
            with self._preparing:
                if not self._prepared and self._off is None:
                    self._store.prepare()
                    self._prepared = True

    def _timed(self, call: Callable[[], T], waiter: _Call) -> T:
        with self._lock:
            self._calls.add(waiter)
        future = self._pool.submit(call)
        future.add_done_callback(lambda _: waiter.wake.set())
        failed = True
        try:
            while not future.done():
                if self._off is not None:
                    future.cancel()
                    raise _AbandonedError
                waiter.wake.wait(self._patience(waiter))
            value = future.result()
            failed = False
            return value
        finally:
            self._ended(waiter, failed=failed)

    def _patience(self, waiter: _Call) -> float:
        """Seconds until it is worth looking again; turns the store off when the budget is gone."""
        with self._lock:
            now = self._clock()
            left = waiter.due + waiter.moved() / FLOOR - (now - waiter.started)
            if left > 0:
                self._late.pop(waiter, None)
                return left + 0.001
            self._late[waiter] = waiter.started
            lost = self._lost(now)
        budget = self._budget or 0.0
        if lost >= budget:
            self._turn_off(self._slow())
        return max(0.001, min(LOOK_SECONDS, budget - lost))

    def _lost(self, now: float) -> float:
        """Seconds lost, those that run included."""
        running = now - max(min(self._late.values()), self._counted) if self._late else 0.0
        return float(self._sums["lost_seconds"]) + max(0.0, running)

    def _ended(self, waiter: _Call, *, failed: bool) -> None:
        with self._lock:
            now = self._clock()
            self._calls.discard(waiter)
            if failed or now - waiter.started > waiter.due + waiter.moved() / FLOOR:
                self._late[waiter] = waiter.started
                self._sums["lost_seconds"] = self._lost(now)
                self._counted = now
            self._late.pop(waiter, None)
            spent = self._sums["lost_seconds"]
        if self._budget is not None and spent >= self._budget:
            self._turn_off(self._slow())

    def _slow(self) -> str:
        return f"{self.name}: too slow: {self._budget:g} seconds were lost to it"

    # What comes of answers

    def _read(self, answer: tuple[Any] | None, size: int, *, there: bool) -> None:
        if there:
            self._count(hits=1, bytes_in=size)
        elif answer:
            self._count(misses=1)

    def _count(self, **more: float) -> None:
        with self._lock:
            for name, value in more.items():
                self._sums[name] += value

    def _corrupt(self, error: CorruptError) -> None:
        self._count(errors=1, corrupt=1)
        if self._budget is not None and self.traffic.corrupt >= LIMIT:
            self._turn_off(str(error))

    def _no(self, way: str, error: RefusedError) -> None:
        self._count(errors=1)
        with self._lock:
            self._refused[way] += 1
            often = self._refused[way] >= LIMIT
        if often or self._budget is None:
            self._turn_off(str(error), writing_only=way == "write")

    def _failed(self, way: str, reason: str) -> None:
        self._count(errors=1)
        self._turn_off(reason, writing_only=way == "write" and self._budget is None)

    def _turn_off(self, reason: str, *, writing_only: bool = False) -> None:
        with self._lock:
            if writing_only:
                self._writing_off = self._writing_off or reason
            else:
                self._off = self._off or reason
            first, self._warned = not self._warned, True
            waiting = [] if writing_only else list(self._calls)
        for call in waiting:
            call.wake.set()
        if first:
            what = "nothing is written to it" if writing_only else "it is not used"
            self._warn(f"cache {reason.rstrip('.')}; {what} for the rest of this run")


class _AbandonedError(Exception):
    """The store was turned off while this call waited for it."""


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _remove(folder: str) -> None:
    # An abandoned thread may just be making its one file.
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
