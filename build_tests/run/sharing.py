"""A step's key as every machine knows it, and its outputs as every store names them: SHA-256 in place of xxh3.

xxh3 decides what changed here, since it is several times faster; but two contents of one xxh3 can be made on purpose,
so nothing that another machine can reach is named by it. Both digests are taken in one read: of a small file when it is
first read, of others later, and then it counts only if its xxh3 is still what was seen before.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat as st
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from build_tests.cache.artifact import Item
from build_tests.core.digest import FileTable, digest_of
from build_tests.core.fingerprint import Fingerprint

CHUNK = 1 << 20


class ChangedError(Exception):
    """A file is not what it was a moment ago."""


def shared_digest(path: str, mode: str, digest: str) -> str:
    """SHA-256 of a file, or of a link's text, that has this xxh3.

    `path` is absolute, `mode` f, x or l.

    Raises:
        ChangedError: it has another xxh3 by now.
        OSError: it can't be read.
    """
    if mode == "l":
        text = os.fsencode(os.readlink(path))
        return _same(path, hashlib.sha256(text).hexdigest(), digest_of(text), digest)
    import xxhash

    fast, slow = xxhash.xxh3_128(), hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not st.S_ISREG(os.fstat(descriptor).st_mode):
            raise ChangedError(path)
        while data := os.read(descriptor, CHUNK):
            fast.update(data)
            slow.update(data)
    finally:
        os.close(descriptor)
    return _same(path, slow.hexdigest(), fast.hexdigest(), digest)


def known_digest(table: FileTable, root: str, path: str, mode: str, digest: str) -> str:
    """As `shared_digest`, of a path below the root; not read again where the table took both digests."""
    return table.sha256(path, digest) or shared_digest(os.path.join(root, path), mode, digest)


def _same(path: str, shared: str, now: str, before: str) -> str:
    if now != before:
        raise ChangedError(path)
    return shared


def shared_items(root: str, manifest: Iterable[Sequence[Any]], table: FileTable) -> list[Item]:
    """The manifest of what a step left, with the names of its blobs. Raises ChangedError, OSError."""
    items = []
    for path, mode, digest, size, *_ in manifest:
        absolute = os.path.join(root, path)
        if mode == "d":
            items.append(Item(path, "d", "", 0))
        elif mode == "l":
            shared_digest(absolute, mode, digest)
            items.append(Item(path, "l", os.readlink(absolute), 0))
        else:
            items.append(Item(path, mode, known_digest(table, root, path, mode, digest), size))
    return sorted(items)


def shared_fingerprint(
    root: str, table: FileTable, fingerprint: Fingerprint, output_digest: Callable[[str, str, str], str]
) -> list[Any] | None:
    """The fingerprint as data that may travel; None where a dependency's output has no name that others know.

    `output_digest` gives, for a label, an output and its digest here, the digest that others know; "" = there is none.

    Raises:
        ChangedError, OSError: an input is not what the fingerprint saw.
    """
    inputs = [
        [path, mode, known_digest(table, root, path, mode, digest)] for path, mode, digest in fingerprint.inputs
    ]
    dependencies = []
    for name, digest in fingerprint.dependencies:
        label, _, path = name.partition(" ")
        shared = output_digest(label, path, digest) if path else ""
        if path and not shared:
            return None
        dependencies.append([name, shared])
    schema, platform, definition, env, tools, _, _, images = fingerprint.to_json()
    hidden = [[name, hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()] for name, value in env]
    return [schema, platform, definition, hidden, tools, inputs, dependencies, images]


def shared_key(fingerprint: list[Any]) -> str:
    """SHA-256, in hex, of the canonical JSON of what `shared_fingerprint` gave."""
    text = json.dumps(fingerprint, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
