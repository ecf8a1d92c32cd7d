"""Bytes between a file and a store, in pieces, with the digest checked on the way. Knows no store and no connection."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator

from build_tests.cache.background import ahead
from build_tests.cache.model import CHUNK, Blob, CorruptError


def receive(store: str, blob: Blob, destination: str, pieces: Iterable[bytes]) -> None:
    """Write the pieces to a path where nothing is yet. Whatever goes wrong, nothing is left there.

    Raises:
        CorruptError: the pieces are not the blob. `store` is named in the message.
        OSError: the destination can't be written; besides whatever the pieces raise.
    """
    descriptor = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.writelines(checked(store, blob, ahead(pieces) if blob.size > CHUNK else pieces))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(destination)
        raise


def checked(store: str, blob: Blob, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, and an error after (or, where there are too many bytes, before) the last if they are not the blob.

    Raises:
        CorruptError: as said.
    """
    sha, size = hashlib.sha256(), 0
    for piece in pieces:
        size += len(piece)
        if size > blob.size:
            raise CorruptError(f"{store}: more than {blob.size} bytes under {blob.digest}")
        sha.update(piece)
        yield piece
    if size != blob.size or sha.hexdigest() != blob.digest:
        raise CorruptError(f"{store}: {size} bytes under {blob.digest} are not those")


class Source:
    """A file to be stored, read in pieces. The last piece is given only if the whole is what the blob says.

    Looks like a binary file to the libraries that read one; not for several threads.

    Raises:
        CorruptError: from the read that would have given the last bytes; `changed` is true from then on.
        OSError: the file can't be read.
    """

    def __init__(self, blob: Blob, path: str) -> None:
        self.changed = False
        self._blob = blob
        self._path = path
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._restart()

    def __enter__(self) -> Source:  # noqa: PYI034 - Self is not in Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._blob.size

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(CHUNK):
            yield piece

    def read(self, size: int = -1) -> bytes:
        """The next bytes, `size` at most."""
        left = self._blob.size - self._position
        want = left if size is None or size < 0 else min(size, left)
        piece = self._file.read(want) if want else b""
        self._sha.update(piece)
        self._position += len(piece)
        if want and not piece:
            self._refuse()
        if self._position == self._blob.size and not self._verified:
            self._verify()
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """To the start, or to the end to ask for the size: what libraries do before they send (again)."""
        if whence == os.SEEK_END:
            return self._blob.size
        if whence == os.SEEK_SET and offset == 0:
            self._file.seek(0)
            self._restart()
        elif whence != os.SEEK_SET or offset != self._position:
            raise OSError(f"{self._path} is read from its start only")
        return self._position

    def tell(self) -> int:
        """How much was read."""
        return self._position

    def seekable(self) -> bool:
        """It can begin again."""
        return True

    def verify(self) -> None:
        """Read the whole and begin again.

        Raises:
            CorruptError: it is not the blob.
        """
        while self.read(CHUNK):
            pass
        if not self._verified:
            self._verify()
        self.seek(0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _restart(self) -> None:
        self._sha = hashlib.sha256()
        self._position = 0
        self._verified = False

    def _verify(self) -> None:
        if self._sha.hexdigest() != self._blob.digest or self._file.read(1):
            self._refuse()
        self._verified = True

    def _refuse(self) -> None:
        self.changed = True
        raise CorruptError(f"{self._path} does not hold {self._blob.digest}: it was edited")
