"""Lines that survive a kill: appended one write each, every line with its own check sum.

A write() that returned is in the kernel's hands, so a killed process loses nothing and no fsync is needed; a power cut
may tear the end off, which the check sums show. Knows nothing of what the lines mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any


class Journal:
    """Append-only. Errors of the disk surface as OSError at the line that met them."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, line: Any) -> None:
        """Append one JSON value."""
        from xxhash import xxh3_64_hexdigest

        body = json.dumps(line, separators=(",", ":")).encode()
        data = b"%s %s\n" % (xxh3_64_hexdigest(body).encode(), body)
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        """No further lines."""
        os.close(self._descriptor)


def replay(path: str) -> Iterator[Any]:
    """The whole lines of a journal that a run left behind; torn and damaged ones are passed over."""
    from xxhash import xxh3_64_hexdigest

    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return
    for line in data.split(b"\n"):
        checksum, _, body = line.partition(b" ")
        if checksum and checksum == xxh3_64_hexdigest(body).encode():
            yield json.loads(body)
