"""What a step left, as a manifest of files, and putting it back without ever following a link.

A manifest is a sorted list of items: every file, every link and every empty folder of the declared outputs, by its
path below the root. `listed` makes one, `encode` and `decode` carry it, `checked` refuses what has no place in the
outputs, `stage` brings the files next to where they belong, and `place` gives them their names. Staged files of all
steps share one folder: making a folder, and the first file in it, costs ten times what another file costs.

A manifest may come from an enemy, and so may what lies in the checkout. Each folder on the way to an item is opened
by itself, from the one above, and never through a link; so nothing outside the outputs can change, whatever was
planted there before or by an earlier item. Knows no store and no step.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from build_tests.cache.model import CHUNK, Blob

Declared = Sequence[tuple[str, bool]]
"""The outputs that a step declares: path below the root, and whether it is a folder."""

_HEX = re.compile("[0-9a-f]{64}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LARGEST = 1 << 62


class Item(NamedTuple):
    """One file, link or empty folder."""

    path: str
    """Below the root; bytes that are no UTF-8 as Python's surrogates."""
    mode: str
    """f(ile), x (an executable file), l(ink) or d (a folder)."""
    content: str
    """SHA-256 of a file in hex; the text of a link; nothing for a folder."""
    size: int
    """Of a file, in bytes; else 0."""

    @property
    def blob(self) -> Blob:
        """The bytes of a file."""
        return Blob(self.content, self.size)

    @property
    def is_file(self) -> bool:
        """Whether it has a blob."""
        return self.mode in ("f", "x")


def blobs_of(items: Iterable[Item]) -> set[Blob]:
    """Everything that must be in a store for these items."""
    return {item.blob for item in items if item.is_file}


def digest_of(items: Iterable[Item], output: str) -> str:
    """SHA-256 over the items of one declared output: their paths below it, modes, contents."""
    inside = output + "/"
    rows = (
        f"{item.path[len(output) :]}\0{item.mode}\0{item.content}\0"
        for item in sorted(items)
        if item.path == output or item.path.startswith(inside)
    )
    # NUL can't be part of a path or a link.
    return hashlib.sha256("".join(rows).encode("utf-8", "surrogateescape")).hexdigest()


# As data


def encode(items: Iterable[Item]) -> list[list[Any]]:
    """Rows of path, mode, content, size, sorted by path; of strings (surrogates among them) and integers."""
    return [list(item) for item in sorted(items)]


def decode(data: Any) -> tuple[Item, ...]:
    """What `encode` gave. Raises ValueError for anything that it can't have given."""
    if not isinstance(data, list):
        raise ValueError("a manifest is a list")  # noqa: TRY004 - one kind of error for all that is malformed
    items = tuple(map(_decoded, data))
    for at in range(1, len(items)):
        if not items[at - 1].path < items[at].path:
            raise ValueError(f"not sorted, or twice there: {items[at].path!r}")
    return items


def _decoded(row: Any) -> Item:
    # bool is an int to isinstance; JSON's true is no size.
    if not isinstance(row, list) or [type(value) for value in row] != [str, str, str, int]:
        raise ValueError(f"not path, mode, content, size: {row!r:.200}")
    item = Item(*row)
    if not (_good_path(item.path) and _good_content(item)):
        raise ValueError(f"no item of a manifest: {row!r:.200}")
    return item


def _good_path(path: str) -> bool:
    return "\0" not in path and not any(name in ("", ".", "..") for name in path.split("/")) and _encodable(path)


def _good_content(item: Item) -> bool:
    if item.is_file:
        return _HEX.fullmatch(item.content) is not None and 0 <= item.size <= _LARGEST
    if item.mode == "l":
        return bool(item.content) and "\0" not in item.content and _encodable(item.content) and item.size == 0
    return item.mode == "d" and not item.content and item.size == 0


def _encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def checked(items: Sequence[Item], outputs: Declared) -> None:
    """Make sure that items are in the declared outputs, each output is there, and no item lies below another.

    Raises:
        ValueError: saying which item.
    """
    declared = dict(outputs)
    modes: dict[str, str] = {}
    for item in items:
        if not _good_path(item.path) or not _good_content(item):
            raise ValueError(f"no item of a manifest: {item!r:.200}")
        if item.path in modes:
            raise ValueError(f"twice there: {item.path!r}")
        modes[item.path] = item.mode
    lacking = set(declared)
    for item in items:
        lacking.discard(_output_of(item, declared, modes))
    if lacking:
        raise ValueError(f"an output is not there: {min(lacking)!r}")


def _output_of(item: Item, declared: dict[str, bool], modes: dict[str, str]) -> str:
    """The declared output that an item is, or lies in."""
    found = ""
    for folder in _parents(item.path):
        if modes.get(folder, "d") != "d":
            raise ValueError(f"below what is no folder: {item.path!r}")
        if declared.get(folder):
            found = folder
    if item.path in declared:
        if declared[item.path] != (item.mode == "d"):
            raise ValueError(f"not of the declared kind: {item.path!r}")
        return item.path
    if not found:
        raise ValueError(f"in no declared output: {item.path!r}")
    return found


def _parents(path: str) -> Iterator[str]:
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)


# Folders, never through a link


class _Folders:
    """The folders below a root, one of them open at a time (and those above it)."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._names: list[str] = []
        self._open = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]

    def close(self) -> None:
        """Close what is open."""
        while self._open:
            os.close(self._open.pop())

    def at(self, folder: str, *, make: bool = False) -> int:
        """A descriptor of a folder, good until the next call.

        Raises:
            OSError: naming the path that is a link, or no folder, or absent and not to be made.
        """
        names = folder.split("/") if folder else []
        same = 0
        for mine, theirs in zip(self._names, names, strict=False):
            if mine != theirs:
                break
            same += 1
        while len(self._names) > same:
            self._names.pop()
            os.close(self._open.pop())
        for name in names[same:]:
            self._open.append(self._enter(name, make=make))
            self._names.append(name)
        return self._open[-1]

    def _enter(self, name: str, *, make: bool) -> int:
        above = self._open[-1]
        try:
            if make:
                with contextlib.suppress(FileNotFoundError):
                    return os.open(name, _FOLDER, dir_fd=above)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=above)
            return os.open(name, _FOLDER, dir_fd=above)
        except OSError as error:
            path = "/".join([self._root, *self._names, name])
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise NotADirectoryError(errno.ENOTDIR, "a link or a file where a folder should be", path) from error
            raise OSError(error.errno, error.strerror, path) from error


# Listing


def listed(root: str, outputs: Declared) -> list[Item]:
    """The declared outputs as they lie there, read and hashed; sorted.

    Raises:
        OSError: one is absent, of another kind than declared, unreadable, or holds something that is neither file,
            link nor folder. Names it.
    """
    with contextlib.closing(_Folders(root)) as folders:
        items = [item for path, is_folder in outputs for item in _listed(root, folders, path, is_folder=is_folder)]
    return sorted(items)


def _listed(root: str, folders: _Folders, path: str, *, is_folder: bool) -> Iterator[Item]:
    if not is_folder:
        above, _, name = path.rpartition("/")
        yield _item(root, path, name, folders.at(above))
        return
    stack = [path]
    while stack:
        folder = stack.pop()
        descriptor = folders.at(folder)
        with os.scandir(descriptor) as entries:
            found = list(entries)
        if not found:
            yield Item(folder, "d", "", 0)
        for entry in found:
            inside = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                stack.append(inside)
            else:
                yield _item(root, inside, entry.name, descriptor)


def _item(root: str, path: str, name: str, above: int) -> Item:
    try:
        if stat.S_ISLNK(os.lstat(name, dir_fd=above).st_mode):
            return Item(path, "l", os.readlink(name, dir_fd=above), 0)
        descriptor = os.open(name, _FILE, dir_fd=above)
        try:
            mode = os.fstat(descriptor).st_mode
            digest, size = _hashed(descriptor) if stat.S_ISREG(mode) else ("", 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.path.join(root, path)) from error
    if not digest:
        raise OSError(errno.ENOTSUP, "neither a file nor a link", os.path.join(root, path))
    return Item(path, "x" if mode & 0o111 else "f", digest, size)


def _hashed(descriptor: int) -> tuple[str, int]:
    sha, size = hashlib.sha256(), 0
    while piece := os.read(descriptor, CHUNK):
        sha.update(piece)
        size += len(piece)
    return sha.hexdigest(), size


# Putting back


def stage(
    items: Sequence[Item],
    fetch: Callable[[Blob, str], bool],
    staging: str,
    *,
    each: Callable[[Callable[[Item, str], bool], Iterable[Item], Iterable[str]], Iterable[bool]] = map,
) -> Blob | None:
    """Fetch the bytes of all files into a folder of ours, before anything in the checkout changes.

    Args:
        items: checked.
        fetch: a Store's; the bytes that it writes are verified.
        staging: how the names of the files begin, for these items alone; their folder is there, on the checkout's file
            system.
        each: as `map`; an executor's `map` fetches many at once.

    Returns:
        None, or a blob that was not there; then, as after any exception, the files are gone.

    Raises:
        OSError: the folder can't be written.
        StoreError: as `fetch` raises it.
    """
    files = [item for item in items if item.is_file]
    missing: list[Blob] = []
    errors: list[Exception] = []

    def get(item: Item, path: str) -> bool:
        # After the first failure the others are of no use. Nobody may still be writing when the folder is removed, so
        # errors wait until all have returned.
        if not missing and not errors:
            try:
                if not fetch(item.blob, path):
                    missing.append(item.blob)
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        return not missing and not errors

    whole = False
    try:
        whole = all(list(each(get, files, _staged(files, staging))))
    finally:
        if not whole:
            discard(items, staging)
    if errors:
        raise errors[0]
    return missing[0] if missing else None


def _staged(items: Sequence[Item], staging: str) -> Iterator[str]:
    """Where each file of the items lies."""
    return (f"{staging}.{number}" for number in range(sum(item.is_file for item in items)))


def discard(items: Sequence[Item], staging: str) -> None:
    """Remove what is left of staged items. Never raises for it."""
    for path in _staged(items, staging):
        with contextlib.suppress(OSError):
            os.unlink(path)


def place(root: str, items: Sequence[Item], staging: str) -> None:
    """Give staged files their names, and make links and empty folders; none is left where they were staged.

    The outputs should have been removed. A file or a link where an item's file belongs is replaced (a link itself, not
    what it leads to).

    Args:
        root: absolute.
        items: checked, and staged in this order.
        staging: as `stage` was given it.

    Raises:
        OSError: naming what is in the way: a folder, a link on the way to an item. A part may lie there then.
    """
    staged = _staged(items, staging)
    whole = False
    try:
        with contextlib.closing(_Folders(root)) as folders:
            for item in items:
                if item.mode == "d":
                    folders.at(item.path, make=True)
                    continue
                above, _, name = item.path.rpartition("/")
                _put(root, item, name, folders.at(above, make=True), next(staged) if item.is_file else "")
        whole = True
    finally:
        if not whole:
            discard(items, staging)


def _put(root: str, item: Item, name: str, above: int, staged: str) -> None:
    try:
        if item.mode == "l":
            os.symlink(item.content, name, dir_fd=above)
            return
        if item.mode == "x":
            # Staged with the modes of the umask: who may read it may run it.
            modes = os.lstat(staged).st_mode & 0o666
            os.chmod(staged, modes | (modes & 0o444) >> 2)
        os.rename(staged, name, dst_dir_fd=above)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.path.join(root, item.path)) from error
