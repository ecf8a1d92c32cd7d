"""One build at a time in a checkout. A dead holder's lock is free, since the kernel lets go of it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable

from build_tests.core.errors import LockHeldError


class CheckoutLock:
    """An advisory lock on a file that names its holder. Not re-entrant."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, *, wait: bool, say: Callable[[str], None]) -> None:
        """Take the lock; while another holds it, wait (saying once for whom) or raise.

        Raises:
            LockHeldError: another build holds it and `wait` is false.
            OSError: the lock file can't be opened.
        """
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not self._try():
            holder = self._holder()
            if not wait:
                os.close(self._descriptor)
                self._descriptor = -1
                raise LockHeldError(f"another build runs in this checkout: {holder}")
            say(f"waiting for another build in this checkout: {holder}")
            while not self._try():
                time.sleep(0.05)
        line = json.dumps({"pid": os.getpid(), "since": time.strftime("%H:%M:%S")})
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, line.encode(), 0)

    def release(self) -> None:
        """Let go; the file stays, so that nobody locks one that another has just removed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _try(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> str:
        try:
            held = json.loads(os.pread(self._descriptor, 1000, 0))
            return f"process {held['pid']}, since {held['since']}"
        except (ValueError, KeyError, TypeError):
            return "a process that has just started"
