"""What an action's record says: which files the outputs consist of, and what they were made from. Pure values."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from build_tests.cache.artifact import Item, blobs_of, decode, encode
from build_tests.cache.model import Blob

VERSION = 1
LARGEST_REASONS = 256 << 10
"""Characters of the fingerprint that travel with a record; a larger one stays at home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One step's result, as it travels."""

    label: str
    items: tuple[Item, ...]
    seconds: float = 0.0
    """How long it took to build."""
    cases: str = ""
    """The JUnit cases that its own tool reported, as XML text."""
    fingerprint: Any = None
    """What the key was made from, values of variables as digests; None where it was too large."""


def body_of(record: Record) -> bytes:
    """As canonical JSON."""
    reasons = record.fingerprint
    if len(json.dumps(reasons)) > LARGEST_REASONS:
        reasons = None
    data = {
        "version": VERSION, "label": record.label, "items": encode(record.items), "seconds": round(record.seconds, 3),
        "cases": record.cases, "fingerprint": reasons,
    }  # fmt: skip
    # ASCII: surrogates of odd file names are escapes, so that every body is UTF-8.
    return json.dumps(data, separators=(",", ":"), sort_keys=True).encode()


def record_of(body: bytes) -> Record:
    """The inverse of `body_of`. Raises ValueError for anything else, whoever made it."""
    try:
        data = json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise ValueError("not a record of this version")
    label, seconds, cases = data.get("label"), data.get("seconds"), data.get("cases")
    if not isinstance(label, str) or not isinstance(seconds, (int, float)) or not isinstance(cases, str):
        raise ValueError("not a record")  # noqa: TRY004 - one kind of error for all that is malformed
    return Record(
        label=label, items=decode(data.get("items")), seconds=float(seconds), cases=cases,
        fingerprint=data.get("fingerprint"),
    )  # fmt: skip


def blobs_in(envelope: bytes) -> Collection[Blob]:
    """The blobs that a sealed record names, unverified: for eviction. Raises ValueError where it is no entry."""
    body = json.loads(envelope.partition(b"\n")[2])
    if isinstance(body, dict) and "keys" in body:
        return ()  # a pointer
    return blobs_of(decode(body.get("items") if isinstance(body, dict) else None))
