"""Checking the local store: every record by the rules of trust, every blob by its digest.

A record does not say under which key it lies, so the key is made again from the fingerprint that travels with it, and a
pointer's label is taken from the records of its scope. Where that can't be (results that the Python API kept), an entry
is *unchecked*: it is verified when somebody who knows the key reads it. Checking is no use, and changes nothing good.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat as st
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from build_tests.cache import pointer
from build_tests.cache.artifact import blobs_of
from build_tests.cache.local import LocalStore
from build_tests.cache.model import CHUNK, Blob, StoreError, pointer_name
from build_tests.cache.record import Record, record_of
from build_tests.cache.trust import Address, Refusal, Trust, UntrustedError
from build_tests.run.sharing import shared_key

_SCOPE = re.compile(rb"pytest-build entry \d{1,9} ([!-~]{1,256}) ")
_HEX = re.compile("[0-9a-f]{64}")
_ONLY_WITH_ADDRESS = frozenset({Refusal.SIGNATURE, Refusal.DAMAGED})
"""What an entry is refused for also when it was merely asked for under a wrong key."""
_NOT_TO_BE_TOLD = frozenset({Refusal.VERSION, Refusal.UNVERIFIABLE})


@dataclass(slots=True, kw_only=True)
class Report:
    """What a store holds, and what is wrong with it. Records are those of steps and pointers."""

    records: int = 0
    good: int = 0
    damaged_records: int = 0
    """Not what was once written; put aside."""
    untrusted: int = 0
    """Whole, and not to be believed by a job of their scope; left where they are, where they count as absent."""
    unchecked: int = 0
    incomplete: int = 0
    """Good or unchecked, and a blob is gone: they count as absent, and go with the next eviction."""
    blobs: int = 0
    blob_bytes: int = 0
    damaged_blobs: int = 0
    """Put aside."""
    reasons: list[str] = field(default_factory=list)
    """Why records are not believed."""

    @property
    def ok(self) -> bool:
        """Whether nothing was damaged or not to be believed."""
        return not (self.damaged_records or self.damaged_blobs or self.untrusted)


def check(store: LocalStore, trust: Trust, progress: Callable[[int, int], None]) -> Report:
    """Go through a store, and put aside what is damaged.

    Args:
        store: to be checked.
        trust: whose keys and secrets are used; each record is judged as a job of its own scope would.
        progress: told how many of how many files are done.

    Raises:
        StoreError: the folder can't be read.
    """
    return _Check(store, trust, progress).run()


class _Check:
    def __init__(self, store: LocalStore, trust: Trust, progress: Callable[[int, int], None]) -> None:
        self._store = store
        self._trust = trust
        self._progress = progress
        self._labels: dict[str, Address] = {}
        """Name of a pointer → what it is about."""
        self._report = Report()

    def run(self) -> Report:
        blobs, records = _names(self._store.blobs), _names(self._store.records)
        total = len(blobs) + len(records)
        # Blobs first: a record whose blob has just been put aside is incomplete.
        for done, digest in enumerate(blobs):
            self._progress(done, total)
            self._blob(digest)
        pointers = []
        for done, name in enumerate(records, len(blobs)):
            self._progress(done, total)
            envelope = self._envelope(name)
            if envelope is not None and _is_pointer(envelope):
                pointers.append((name, envelope))
            elif envelope is not None:
                self._action(name, envelope)
        for name, envelope in pointers:
            self._judge(envelope, self._labels.get(name))
        self._progress(total, total)
        return self._report

    # Blobs

    def _blob(self, digest: str) -> None:
        path = f"{self._store.blobs}/{digest[:2]}/{digest[2:]}"
        try:
            found = os.lstat(path)
            actual = _sha256(path) if st.S_ISREG(found.st_mode) else ""
            self._report.blob_bytes += found.st_size
        except FileNotFoundError:
            return  # evicted meanwhile
        except OSError:
            actual = ""  # what can't be read is no better than what is wrong
        self._report.blobs += 1
        if actual != digest:
            self._report.damaged_blobs += 1
            # A size that no blob has: the store reads it again, puts it aside if it is bad, and writes nothing.
            with contextlib.suppress(StoreError):
                self._store.fetch(Blob(digest, -1), os.devnull)

    # Records

    def _envelope(self, name: str) -> bytes | None:
        aside = self._store.quarantined
        envelope = self._store.peek(name)
        if envelope is None:
            self._store.read_record(name)  # which puts a damaged one aside; one that was evicted is no fault
            damaged = self._store.quarantined > aside
            self._report.damaged_records += damaged
            self._report.records += damaged
        else:
            self._report.records += 1
        return envelope

    def _action(self, name: str, envelope: bytes) -> None:
        scope = _scope(envelope)
        try:
            record = record_of(envelope.partition(b"\n")[2])
        except ValueError:
            self._judge(envelope, None)
            return
        address = None
        if record.fingerprint is not None:
            address = Address("action", scope, shared_key(record.fingerprint))
            if address.lookup != name:
                self._refuse(f"{record.label}, scope {scope}: it lies under another step's name")
                return
        self._labels[pointer_name(scope, record.label)] = Address("pointer", scope, record.label)
        if self._judge(envelope, address, record.label) and not self._complete(record):
            self._report.incomplete += 1

    def _judge(self, envelope: bytes, address: Address | None, label: str = "") -> bool:
        """Whether an entry may be good. Without an address only some faults show."""
        scope = _scope(envelope)
        try:
            replace(self._trust, scope=scope).opened(address or Address("action", scope, "?"), envelope, remote=False)
        except UntrustedError as error:
            unknown = address is None and error.refusal in _ONLY_WITH_ADDRESS and bool(scope)
            if not unknown and error.refusal not in _NOT_TO_BE_TOLD:
                self._refuse(f"{label}: {error.reason}" if label else error.reason)
                return False
            self._report.unchecked += 1
            return True
        self._report.good += 1
        return True

    def _refuse(self, reason: str) -> None:
        self._report.untrusted += 1
        self._report.reasons.append(reason)

    def _complete(self, record: Record) -> bool:
        return all(self._is_there(blob) for blob in blobs_of(record.items))

    def _is_there(self, blob: Blob) -> bool:
        try:
            return os.lstat(f"{self._store.blobs}/{blob.digest[:2]}/{blob.digest[2:]}").st_size == blob.size
        except OSError:
            return False


def _is_pointer(envelope: bytes) -> bool:
    try:
        pointer.keys_of(envelope.partition(b"\n")[2])
    except ValueError:
        return False
    return True


def _scope(envelope: bytes) -> str:
    """What an envelope says; "" = it is none."""
    found = _SCOPE.match(envelope)
    return found[1].decode() if found else ""


def _names(folder: str) -> list[str]:
    """Of the entries below a folder of a store, in order. Raises StoreError."""
    return sorted(
        shard + name
        for shard in _listed(folder)
        for name in _listed(f"{folder}/{shard}")
        if _HEX.fullmatch(shard + name)
    )


def _listed(folder: str) -> Iterator[str]:
    try:
        yield from os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}") from error


def _sha256(path: str) -> str:
    sha = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while data := os.read(descriptor, CHUNK):
            sha.update(data)
    finally:
        os.close(descriptor)
    return sha.hexdigest()
