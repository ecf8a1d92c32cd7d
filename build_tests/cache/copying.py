"""Copying a big open file while the bytes that have arrived are hashed; knows no store and no names.

The kernel copies (sharing the blocks where the file system can), a second thread reads what has arrived and hashes it,
so the time is that of the slower of the two, which is SHA-256. What is hashed is what the new file holds, not what the
old one held at some other moment.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import threading
from collections.abc import Callable

STRIDE = 8 << 20
"""Bytes that the copy goes ahead at a time."""
PIECE = 1 << 18
"""Bytes hashed at once: they stay in the processor's cache between being read and being hashed."""


class ReadError(Exception):
    """The source can't be read; `error` says why. Whatever else goes wrong is about the target."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def copy_hashed(source: int, target: int) -> tuple[str, int]:
    """Copy from descriptor to descriptor (open for reading too), both at their start; SHA-256 and size of the copy.

    Raises:
        ReadError: the source can't be read.
        OSError: the target can't be written, or not be read back.
    """
    follower = _Follower(target)
    follower.start()
    try:
        size = _copy(source, target, follower.reached.put)
    finally:
        follower.reached.put(None)
        follower.join()
    if follower.error is not None:
        raise follower.error
    return follower.sha.hexdigest(), size


class _Follower(threading.Thread):
    """Hashes a file up to the positions that it is told; None ends it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="cache-hash", daemon=True)
        self.reached: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.sha = hashlib.sha256()
        self.error: OSError | None = None
        self._descriptor = descriptor

    def run(self) -> None:
        at, room = 0, memoryview(bytearray(PIECE))
        try:
            while (end := self.reached.get()) is not None:
                while at < end:
                    at += self._hash(room[: end - at], at)
        except OSError as error:
            self.error = error

    def _hash(self, room: memoryview, at: int) -> int:
        count = os.preadv(self._descriptor, [room], at)
        if not count:
            raise OSError(errno.EIO, "the file became shorter while it was written")
        self.sha.update(room[:count])
        return count


def _copy(source: int, target: int, reached: Callable[[int], None]) -> int:
    size = 0
    while count := _by_kernel(source, target):
        size += count
        reached(size)
    # What the kernel would not copy (another file system, an older kernel, a full disk): here one sees whose fault it
    # is.
    while piece := read(source, STRIDE):
        write(target, piece)
        size += len(piece)
        reached(size)
    return size


def _by_kernel(source: int, target: int) -> int:
    try:
        return os.copy_file_range(source, target, STRIDE)
    except (OSError, AttributeError):
        return 0


def read(source: int, size: int) -> bytes:
    """At most `size` bytes. Raises ReadError."""
    try:
        return os.read(source, size)
    except OSError as error:
        raise ReadError(error) from error


def write(target: int, data: bytes | bytearray | memoryview) -> None:
    """All of it: a nearly full disk takes a part and says so only the next time. Raises OSError."""
    left = memoryview(data)
    while left:
        left = left[os.write(target, left) :]
