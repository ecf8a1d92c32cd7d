"""The declared outputs of a step on disk: what they are, whether they are still that, and making way for new ones.

Content outputs and installed folders only; images are the engine's. Never follows a link, so nothing outside the
outputs can change.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as st
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build_tests.core.digest import SLACK_NS, FileTable, UnreadableError, digest_of, stat_of
from build_tests.core.globs import PathSet, Tree
from build_tests.core.graph import parents
from build_tests.core.model import Identity, Output

if TYPE_CHECKING:
    from build_tests.run.git import Git

STAMP = ".pytest-build-stamp"
"""In an installed folder: the key it was made for; in a virtual environment, below it, where that lies."""

Entry = list[Any]
"""Path, mode (f, x, l, d), digest, the five fields of its stat, 1 if the stat can be trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The content outputs as they lie. `digests` is per declared output, free of stats; `missing` says what."""

    manifest: list[Entry]
    digests: dict[str, str]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """The first difference between a manifest and the disk. `kind` is missing, changed or extra."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanError:
    """What stands in the way of a run, by name; nothing was removed."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


def capture(root: str, outputs: Sequence[Output], table: FileTable, tree: Tree) -> Captured:
    """Read the declared content outputs. An empty file and an empty folder are outputs. Raises UnreadableError."""
    manifest: list[Entry] = []
    digests: dict[str, str] = {}
    missing: list[str] = []
    for output in outputs:
        if output.identity is not Identity.CONTENT:
            continue
        if (wrong := _not_produced(root, output, table)) is not None:
            missing.append(output.path + wrong)
            continue
        entries = [_entry(path, table) for path in _files(output, table, tree)]
        manifest += entries
        digests[output.path] = _digest(output, entries)
    return Captured(manifest=manifest, digests=digests, missing=tuple(missing))


def _not_produced(root: str, output: Output, table: FileTable) -> str | None:
    """What is wrong with what lies where an output should, or None; "" = nothing lies there."""
    stat = table.stat(output.path)
    if stat is None:
        return ""
    kind = st.S_IFMT(stat.mode)
    if output.directory and kind == st.S_IFLNK:
        # Dependents would see the link's text and never a change in what it leads to.
        return " (a link, not a folder)"
    if output.directory:
        return None if kind == st.S_IFDIR else " (not a folder)"
    if kind == st.S_IFDIR:
        return f" (a folder: declare it as {output.path}/)"
    if kind == st.S_IFLNK:
        return None if os.path.exists(os.path.join(root, output.path)) else " (a dangling link)"
    return None if kind == st.S_IFREG else " (not a file)"


def _files(output: Output, table: FileTable, tree: Tree) -> Iterator[str]:
    """Every file and link of an output, and every empty folder of it."""
    if not output.directory or tree.listing(output.path) is None:
        if table.stat(output.path) is not None:
            yield output.path
        return
    stack = [output.path]
    while stack:
        folder = stack.pop()
        listing = tree.listing(folder)
        if listing is None:
            continue
        if not any(listing):
            yield folder
        for names in (listing.files, listing.links, listing.others):
            yield from (f"{folder}/{name}" for name in names)
        stack += [f"{folder}/{name}" for name in listing.folders]


def _entry(path: str, table: FileTable) -> Entry:
    state = table.require(path)
    stat = table.stat(path)
    return [path, state.mode, state.digest, *(stat or ()), int(state.mode == "d" or table.settled(path))]


def _digest(output: Output, entries: list[Entry]) -> str:
    base = len(output.path)
    # NUL alone can't be part of a name.
    rows = sorted(f"{entry[0][base:]}\0{entry[1]}\0{entry[2]}" for entry in entries)
    return digest_of("\0".join(rows).encode("utf-8", "surrogateescape"))


def intact(manifest: list[Entry], outputs: Sequence[Output], table: FileTable, tree: Tree) -> Deviation | None:
    """The first way in which the content outputs are not as the manifest says; one stat a file and folder."""
    known = {entry[0]: entry for entry in manifest}
    strange: Deviation | None = None
    for output in outputs:
        if output.identity is not Identity.CONTENT:
            continue
        if not known and table.stat(output.path) is None:
            return Deviation(kind="missing", path=output.path)
        for path in _files(output, table, tree):
            entry = known.pop(path, None)
            if entry is None:
                strange = strange or Deviation(kind="extra", path=path)
            elif not _unchanged(entry, table):
                strange = strange or Deviation(kind="changed", path=path)
    # What is missing says more than what its folder looks like without it.
    return Deviation(kind="missing", path=next(iter(known))) if known else strange


def _unchanged(entry: Entry, table: FileTable) -> bool:
    stat = table.stat(entry[0])
    if entry[1] == "d":
        return stat is not None and st.S_ISDIR(stat.mode)
    if table.trust and entry[8] and stat is not None and entry[3:8] == [*stat]:
        return True
    state = table.lookup(entry[0])
    if state is None or [*state] != entry[1:3]:
        return False
    # The same bytes under a newer stat: remembered, so that it is not read each time.
    stat = table.stat(entry[0])
    entry[3:] = [*(stat or ()), int(table.settled(entry[0]))]
    table.dirty = True
    return True


def settle(manifest: list[Entry], table: FileTable, limit: int = 1 << 24) -> None:
    """Read again what was read too soon after it was written, so that the next run need not.

    Files above `limit` bytes are left to it, and so are those that are no longer what the manifest says.
    """
    for entry in manifest:
        if len(entry) > 8 and not entry[8] and entry[3] <= limit:  # noqa: PLR2004
            _wait_until_old(entry)
            with contextlib.suppress(UnreadableError):
                _unchanged(entry, table)


def _wait_until_old(entry: Entry) -> None:
    """At most two ticks of the clock: the last step's outputs alone are ever that young."""
    missing_ns = max(entry[4], entry[5]) + SLACK_NS + 1_000_000 - time.time_ns()
    if 0 < missing_ns <= 2 * SLACK_NS:
        time.sleep(missing_ns / 1e9)


def total_size(manifest: list[Entry]) -> int:
    """Bytes of all files."""
    return sum(entry[3] for entry in manifest if entry[1] in ("f", "x") and len(entry) > 3)  # noqa: PLR2004


def write_stamp(folder: str, key: str) -> None:
    """Say which key an installed folder was made for. Raises OSError, also when the folder is a link."""
    if os.path.islink(folder):
        raise NotADirectoryError(errno.ENOTDIR, "an installed output must be a folder, and this is a link", folder)
    stamp = os.path.join(folder, STAMP)
    # Never written through: a tool may have left a link in its place.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(stamp)
    with os.fdopen(os.open(stamp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
        file.write(_stamp(key, os.path.realpath(folder) if _is_environment(folder) else ""))


def _stamp(key: str, place: str) -> bytes:
    return (f"{key}\n{place}" if place else key).encode("utf-8", "surrogateescape")


def _is_environment(folder: str) -> bool:
    """A virtual environment of Python: its scripts and its `pyvenv.cfg` hold absolute paths."""
    return os.path.isfile(os.path.join(folder, "pyvenv.cfg"))


def read_stamp(folder: str) -> str:
    """The key an installed folder was made for, or "" where there is none."""
    try:
        with open(os.path.join(folder, STAMP), encoding="ascii", errors="replace") as file:
            return file.readline(200).rstrip("\n")
    except OSError:
        return ""


def stamp_fault(root: str, path: str, key: str, table: FileTable) -> str:
    """Why the installed folder at `path` (from the root) is not what the step left under this key; "" = it is.

    `missing`: it carries another key or none; `moved`: a virtual environment that was made elsewhere; `broken`: one
    whose interpreter is gone.
    """
    state = table.lookup(f"{path}/{STAMP}")
    if not key or state is None:
        return "missing"
    if state.digest == digest_of(_stamp(key, "")):
        return ""
    folder = os.path.join(root, path)
    # The root may be a link, or lie behind one: its real path is asked for only where the plain one will not do.
    if state.digest in (digest_of(_stamp(key, place(folder))) for place in (os.path.abspath, os.path.realpath)):
        return "" if os.path.exists(os.path.join(folder, "bin", "python")) else "broken"
    return "moved" if read_stamp(folder) == key else "missing"


# Making way


def clean(
    root: str, outputs: Sequence[Output], *, manifest_paths: Collection[str], interrupted: bool, git: Git
) -> CleanError | None:
    """Remove the outputs before a run; None, or the first thing that stands in the way, and then nothing was removed.

    Goes: what the last manifest lists, anything a cut-off run may have left (`interrupted`), what git ignores, a
    declared file that git does not track, an installed folder with our stamp, and git's own files in an output that is
    `tracked` (git can give them back). Raises OSError when something can't be removed.
    """
    declared = [output for output in outputs if output.identity is not Identity.IMAGE]
    if (wrong := _link_above(root, declared)) is not None:
        return wrong
    present = [output for output in declared if os.path.lexists(os.path.join(root, output.path))]
    if not interrupted and (wrong := _not_ours(root, present, frozenset(manifest_paths), git)) is not None:
        return wrong
    for output in present:
        remove(os.path.join(root, output.path))
    return None


def _link_above(root: str, outputs: Sequence[Output]) -> CleanError | None:
    for folder in dict.fromkeys(parent for output in outputs for parent in parents(output.path)):
        if os.path.islink(os.path.join(root, folder)):
            return CleanError(path=folder, reason="is a link, and outputs lie behind it: declare the real folder")
    return None


def _not_ours(root: str, present: Sequence[Output], ours: frozenset[str], git: Git) -> CleanError | None:
    files: list[str] = []  # declared as such: ours unless git tracks them
    others: list[str] = []
    for output in present:
        absolute = os.path.join(root, output.path)
        folder = _is_folder(absolute)
        if folder and output.identity is Identity.INSTALLED and read_stamp(absolute):
            continue
        found = _walk(root, output.path) if folder else [output.path]
        (others if folder or output.directory else files).extend(path for path in found if path not in ours)
    if not files and not others:
        return None  # by far the most frequent case: git is not asked
    return _unless_git_agrees(present, files, others, git)


def _unless_git_agrees(
    present: Sequence[Output], files: Sequence[str], others: Sequence[str], git: Git
) -> CleanError | None:
    tracked = git.tracked([output.path for output in present])
    if not git.problem:
        generated = [output.path for output in present if output.tracked]
        replaceable = PathSet(generated, generated)
        given_back = {path for path in tracked if replaceable.contains(path)}
        left = ({path for path in files if path in tracked} | set(others)) - given_back
        # What git tracks it does not call ignored, so no source is among those.
        left -= git.ignored(sorted(left))
    if git.problem:
        return CleanError(path=min([*files, *others]), reason=f"is in the way, and git can't say whose: {git.problem}")
    if not left:
        return None
    first = min(left)
    more = f"and {len(left) - 1} more lie" if len(left) > 1 else "lies"
    whose = "tracked by git" if first in tracked else "not made by this build"
    return CleanError(path=first, reason=f"{more} in a declared output, {whose}: move it away, or let git ignore it")


def _is_folder(path: str) -> bool:
    """A folder itself, not a link to one."""
    found = stat_of(path)
    return found is not None and st.S_ISDIR(found.mode)


def _walk(root: str, folder: str) -> Iterator[str]:
    """Everything but folders, at any depth. Raises OSError: what can't be seen must not be taken for nothing."""
    stack = [folder]
    while stack:
        current = stack.pop()
        absolute = os.path.join(root, current)
        _open_up(absolute)
        with os.scandir(absolute) as entries:
            for entry in entries:
                path = f"{current}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    stack.append(path)
                else:
                    yield path


def remove(path: str) -> None:
    """Remove a file, a link (never what it leads to) or a folder with all below it, if there is one. Raises OSError."""
    if not _is_folder(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    folders = [path]
    for folder in folders:  # it grows under the loop, so that each folder stands before those in it
        _open_up(folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    os.unlink(entry.path)
    for folder in reversed(folders):
        os.rmdir(folder)


def _open_up(folder: str) -> None:
    """Some tools (Go's module cache among them) leave folders that even their owner can't list or change."""
    mode = os.lstat(folder).st_mode
    if st.S_ISDIR(mode) and mode & st.S_IRWXU != st.S_IRWXU:
        os.chmod(folder, st.S_IMODE(mode) | st.S_IRWXU)


def prepare(root: str, outputs: Sequence[Output]) -> None:
    """Make the folders that outputs lie in; an installed folder that is kept loses its stamp until its step has ended.

    Raises:
        OSError: a folder can't be made, or is a link: what is written behind it would lie elsewhere.
    """
    declared = [output for output in outputs if output.identity is not Identity.IMAGE]
    if (wrong := _link_above(root, declared)) is not None:
        raise NotADirectoryError(errno.ENOTDIR, wrong.reason, wrong.path)
    for output in declared:
        absolute = os.path.join(root, output.path)
        os.makedirs(os.path.dirname(absolute), exist_ok=True)
        if output.identity is Identity.INSTALLED and not os.path.islink(absolute):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(os.path.join(absolute, STAMP))
