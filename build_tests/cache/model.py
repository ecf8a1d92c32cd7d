"""What every store agrees on: blobs, records, the names they lie under, and the Store protocol.

A *blob* is the bytes of one file under their SHA-256. A *record* says which blobs a step's outputs consist of; for a
store it is opaque bytes under a name. Nothing here or in a store knows steps, signatures or what a record says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

CHUNK = 1 << 20
"""Bytes that are read, hashed and written at once; bounds the memory of every transfer."""


@dataclass(frozen=True, slots=True)
class Blob:
    """The bytes of one file."""

    digest: str
    """SHA-256, 64 lower-case hex digits."""
    size: int
    """In bytes."""


class StoreError(Exception):
    """A store can't do its work now: refused, timed out, full, forbidden. Says which and why in one line."""


class CorruptError(StoreError):
    """What lay under a digest's name was something else. The store has put it out of the way; it counts as absent."""


class RefusedError(StoreError):
    """The store answered that it would not: full, read-only, forbidden, busy. It may well do something else for us."""


class Store(Protocol):
    """One place that keeps blobs and records; safe to use from several threads and processes at once.

    Every method raises StoreError when the store can't answer; none waits longer than the store's own time limits.
    """

    @property
    def name(self) -> str:
        """`local`, `redis`, `s3`, `reapi`: as in `storage:`, for messages and statistics."""

    def read_record(self, name: str) -> bytes | None:
        """The record under a name (64 hex digits), or None."""

    def write_record(self, name: str, record: bytes, blobs: Sequence[Blob], *, over: bytes | None = None) -> bool:
        """Keep a record whose blobs are stored already; whether it was written.

        Write-once: where a record is there, it stays, unless it is `over` to the byte (which its reader found bad).
        """

    def missing(self, blobs: Collection[Blob]) -> set[Blob]:
        """Those of the blobs that are not there; one round trip, or a few, whatever their number."""

    def fetch(self, blob: Blob, destination: str) -> bool:
        """Write a blob to a path where nothing is yet; whether it was there.

        Digest and size are verified; where they do not hold, or anything fails, nothing is left at the path. The file
        is a plain new one with the modes that the umask gives; editing it later never changes what the store keeps.

        Raises:
            CorruptError: something else lay under the name.
            OSError: the destination can't be written.
        """

    def store(self, blob: Blob, source: str) -> None:
        """Keep the bytes of a file. A blob that is there already is left alone (and counts as used).

        Raises:
            CorruptError: the file does not hold what the blob says (it was edited since); nothing is kept.
            OSError: the source can't be read.
        """

    def close(self) -> None:
        """Give back connections."""


def record_name(scope: str, key: str) -> str:
    """The name that a step's record lies under: nobody finds a scope's record without asking for that scope."""
    return _name("action", scope, key)


def pointer_name(scope: str, label: str) -> str:
    """The name of the list of a step's last keys in a scope."""
    return _name("pointer", scope, label)


def _name(*parts: str) -> str:
    # Lengths, so that no two lists of parts make the same bytes.
    text = "".join(f"{len(part.encode())}:{part}" for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()
