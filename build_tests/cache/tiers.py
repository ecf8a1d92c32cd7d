"""Several stores as one: read from the nearest that has it, written to the nearest at once and to the others behind.

Knows no particular store. Local tiers are filled from farther ones: with blobs at once, with a record when `fill` is
called, since a record that its reader has not verified, or whose blobs did not come, must not be kept. Tiers that are
not local get only what `store` and `write_record` are given: what this run has built. They get it from threads of their
own, each tier at its pace; of an entry first the blobs, then, if they are all there, the record.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from build_tests.cache.background import DaemonPool
from build_tests.cache.model import Blob, CorruptError, Store, StoreError

AT_ONCE = 4
"""Uploads on their way to one tier."""
BATCH = 256
"""Blobs whose existence is asked at once."""


@runtime_checkable
class KeepsFiles(Protocol):
    """A store whose blobs lie in files: an upload is read from there, since outputs change."""

    def path_of(self, blob: Blob) -> str | None:
        """A file that holds the blob as long as it is not evicted, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One store with what may be done with it."""

    store: Store
    local: bool = False
    """In this machine: written at once, and filled with what farther tiers had."""
    writable: bool = True
    """False: `store` and `write_record` pass it by; a local one is filled all the same."""


class Tiers:
    """A Store over tiers; see the module. No error of one tier hides another's answer.

    Args:
        nearest_first: the tiers.
    """

    name = "tiers"

    def __init__(self, nearest_first: Sequence[Tier]) -> None:
        self._tiers = tuple(nearest_first)
        self._filled = [tier.store for tier in self._tiers if tier.local]
        self._written = [tier.store for tier in self._tiers if tier.local and tier.writable]
        self._uploads = [
            _Uploads(tier.store, self._file_of) for tier in self._tiers if tier.writable and not tier.local
        ]
        self._flights = _Flights()

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """Nearest first."""
        return self._tiers

    # Reading

    def read_record(self, name: str) -> bytes | None:
        """The nearest. See `candidates` for a reader who can tell good from bad."""
        return next((record for _, record in self.candidates(name)), None)

    def candidates(self, name: str, *, afar: bool = True) -> Iterator[tuple[str, bytes]]:
        """The records under a name, each with its tier's name, nearest first; a tier is asked when it is its turn.

        Without `afar` only local tiers are asked.
        """
        for tier in self._tiers if afar else [tier for tier in self._tiers if tier.local]:
            with contextlib.suppress(StoreError):
                record = tier.store.read_record(name)
                if record is not None:
                    yield tier.store.name, record

    def fill(self, name: str, record: bytes, blobs: Sequence[Blob], *, over: bytes | None = None) -> None:
        """Keep a record in the local tiers that a farther one had, and that was found good with all its blobs."""
        for store in self._filled:
            with contextlib.suppress(StoreError):
                store.write_record(name, record, blobs, over=over)

    def missing(self, blobs: Collection[Blob]) -> set[Blob]:
        """See Store: those that no tier has."""
        wanted = set(blobs)
        for tier in self._tiers:
            if wanted:
                with contextlib.suppress(StoreError):
                    wanted = tier.store.missing(wanted)
        return wanted

    def fetch(self, blob: Blob, destination: str) -> bool:
        """See Store. Where there is a local tier, many who want one blob at a time cost one download."""
        if self._fetch_from(blob, destination, local=True):
            return True
        if not self._filled:
            return self._fetch_from(blob, destination, local=False)
        with self._flights.alone(blob) as waited:
            if waited and self._fetch_from(blob, destination, local=True):
                return True
            if not self._fetch_from(blob, destination, local=False):
                return False
            for store in self._filled:
                # What can't be kept here is fetched again next time.
                with contextlib.suppress(StoreError, OSError):
                    store.store(blob, destination)
            return True

    def _fetch_from(self, blob: Blob, destination: str, *, local: bool) -> bool:
        for tier in self._tiers:
            if tier.local == local:
                with contextlib.suppress(StoreError):
                    if tier.store.fetch(blob, destination):
                        return True
        return False

    # Writing

    def store(self, blob: Blob, source: str) -> None:
        """See Store: in the local tiers now, in the others soon.

        Raises:
            StoreError: no tier took it.
            CorruptError: the file does not hold the blob. Without a local tier that shows too late to be raised: such a
                blob, and the record that needs it, are not uploaded.
        """
        failure: StoreError | None = None
        kept = False
        for store in self._written:
            try:
                store.store(blob, source)
                kept = True
            except CorruptError:  # noqa: PERF203 - there is one local tier, or none
                raise
            except StoreError as error:
                failure = error
        for uploads in self._uploads:
            uploads.add_blob(blob, source)
        if not kept and not self._uploads:
            raise failure or StoreError(f"{self.name}: none may be written")

    def write_record(self, name: str, record: bytes, blobs: Sequence[Blob], *, over: bytes | None = None) -> bool:
        """See Store: whether the nearest local tier wrote it; without one, whether it is on its way."""
        written = []
        for store in self._written:
            with contextlib.suppress(StoreError):
                written.append(store.write_record(name, record, blobs, over=over))
        for uploads in self._uploads:
            uploads.add_record(name, record, blobs, over)
        return written[0] if written else bool(self._uploads)

    def finish(self, timeout_seconds: float) -> int:
        """Wait for the uploads, and stop them after that time; how many blobs and records were left."""
        end = time.monotonic() + timeout_seconds
        return sum(uploads.finish(max(0.0, end - time.monotonic())) for uploads in self._uploads)

    def close(self) -> None:
        """Give up uploads that are not finished; close the stores."""
        self.finish(0.0)
        for tier in self._tiers:
            tier.store.close()

    def _file_of(self, blob: Blob) -> str | None:
        for store in self._filled:
            itself = getattr(store, "store_itself", store)
            if isinstance(itself, KeepsFiles):
                with contextlib.suppress(StoreError):
                    if (path := itself.path_of(blob)) is not None:
                        return path
        return None


class _Flights:
    """One at a time for each blob."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def alone(self, blob: Blob) -> Iterator[bool]:
        """Nobody else has this blob's turn meanwhile; whether there was someone before."""
        with self._lock:
            turn, others = self._running.get(blob.digest, (threading.Lock(), 0))
            self._running[blob.digest] = (turn, others + 1)
        try:
            with turn:
                yield others > 0
        finally:
            with self._lock:
                turn, others = self._running.pop(blob.digest)
                if others > 1:
                    self._running[blob.digest] = (turn, others - 1)


@dataclass(frozen=True, slots=True)
class _BlobItem:
    blob: Blob
    source: str


@dataclass(frozen=True, slots=True)
class _RecordItem:
    name: str
    record: bytes
    blobs: tuple[Blob, ...]
    over: bytes | None


class _Uploads:
    """What is on its way to one store."""

    def __init__(self, store: Store, file_of: Callable[[Blob], str | None]) -> None:
        self._store = store
        self._file_of = file_of
        self._state = threading.Condition()
        self._queue: deque[_BlobItem | _RecordItem] = deque()
        self._pending = 0
        self._stopped = False
        self._running = False
        self._there: set[Blob] = set()
        self._pool = DaemonPool(f"upload-{store.name}", AT_ONCE)

    def add_blob(self, blob: Blob, source: str) -> None:
        self._add(_BlobItem(blob, source))

    def add_record(self, name: str, record: bytes, blobs: Sequence[Blob], over: bytes | None) -> None:
        self._add(_RecordItem(name, record, tuple(blobs), over))

    def finish(self, seconds: float) -> int:
        with self._state:
            self._state.wait_for(lambda: self._pending == 0 or self._stopped, seconds)
            left, self._stopped = self._pending, True
            self._queue.clear()
        self._pool.close()
        return left

    def _add(self, item: _BlobItem | _RecordItem) -> None:
        with self._state:
            if self._stopped:
                return
            self._queue.append(item)
            self._pending += 1
            start, self._running = not self._running, True
        if start:
            threading.Thread(target=self._drain, name=f"upload-{self._store.name}", daemon=True).start()

    def _drain(self) -> None:
        """Until nothing is left to do: a thread that only waits is not worth keeping."""
        while batch := self._next():
            sent = False
            try:
                self._send(batch)
                sent = True
            finally:
                with self._state:
                    self._pending -= len(batch)
                    self._stopped |= not sent  # by a mistake of a store's; nobody shall wait for the rest
                    self._state.notify_all()

    def _next(self) -> list[_BlobItem | _RecordItem]:
        with self._state:
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            self._running = bool(batch) and not self._stopped
            return batch

    def _send(self, batch: Sequence[_BlobItem | _RecordItem]) -> None:
        self._send_blobs(batch)
        wave: dict[str, _RecordItem] = {}
        for item in batch:
            if isinstance(item, _RecordItem) and self._there.issuperset(item.blobs):
                if item.name in wave:  # the records of one name go one after the other
                    self._pool.map(self._send_record, wave.values())
                    wave = {}
                wave[item.name] = item
        self._pool.map(self._send_record, wave.values())

    def _send_blobs(self, batch: Sequence[_BlobItem | _RecordItem]) -> None:
        sources: dict[Blob, str | None] = {}
        for item in batch:
            if isinstance(item, _BlobItem):
                sources[item.blob] = item.source
            else:
                for blob in item.blobs:
                    sources.setdefault(blob, None)
        for blob in self._there:
            sources.pop(blob, None)
        with contextlib.suppress(StoreError):
            absent = self._store.missing(sources.keys())
            self._there.update(sources.keys() - absent)
            sent = self._pool.map(lambda blob: self._send_blob(blob, sources[blob]), absent)
            self._there.update(blob for blob, done in zip(absent, sent, strict=True) if done)

    def _send_blob(self, blob: Blob, source: str | None) -> bool:
        for path in (self._file_of(blob), source):
            if path is not None and not self._stopped:
                # Evicted or edited meanwhile: the other may do. The store refuses what is not the blob.
                with contextlib.suppress(StoreError, OSError):
                    self._store.store(blob, path)
                    return True
        return False

    def _send_record(self, item: _RecordItem) -> None:
        if not self._stopped:
            with contextlib.suppress(StoreError):
                self._store.write_record(item.name, item.record, item.blobs, over=item.over)
