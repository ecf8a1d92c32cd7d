"""The declared outputs of a step on disk: what they are, whether they are still that, and making way for new ones.

Content outputs and installed folders only; images are the engine's. Never follows a link, so nothing outside the
outputs can change.
"""

from __future__ import annotations

import os
import shutil
import stat as st
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from build_tests.core.digest import FileTable, digest_of
from build_tests.core.globs import Tree
from build_tests.core.model import Identity, Output
from build_tests.run.git import Git

STAMP = ".pytest-build-stamp"
"""In an installed folder: the key it was made for."""

Entry = list[Any]
"""Path, mode (f, x, l, d), digest, the five fields of its stat, 1 if the stat can be trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The content outputs as they lie. `digests` is per declared output, free of stats."""

    manifest: list[Entry]
    digests: dict[str, str]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """The first difference between a manifest and the disk. `kind` is missing, changed or extra."""

    kind: str
    path: str


def capture(root: str, outputs: Sequence[Output], table: FileTable, tree: Tree) -> Captured:
    """Read the declared content outputs. Raises UnreadableError."""
    manifest: list[Entry] = []
    digests: dict[str, str] = {}
    missing: list[str] = []
    for output in outputs:
        if output.identity is not Identity.CONTENT:
            continue
        if not _produced(root, output):
            missing.append(output.path)
            continue
        entries = [_entry(path, table) for path in _files(output, table, tree)]
        manifest += entries
        digests[output.path] = _digest(output, entries)
    return Captured(manifest=manifest, digests=digests, missing=tuple(missing))


def _produced(root: str, output: Output) -> bool:
    """There, of the declared kind, and no link into nothing."""
    absolute = os.path.join(root, output.path)
    return os.path.isdir(absolute) if output.directory else os.path.exists(absolute)


def _files(output: Output, table: FileTable, tree: Tree) -> Iterator[str]:
    """Every file and link of an output, and every empty folder of it."""
    found = table.stat(output.path)
    if found is None:
        return
    if not st.S_ISDIR(found.mode):
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
    rows = sorted(f"{entry[0][base:]}\0{entry[1]}\0{entry[2]}" for entry in entries)
    return digest_of("\n".join(rows).encode("utf-8", "surrogateescape"))


def intact(manifest: list[Entry], outputs: Sequence[Output], table: FileTable, tree: Tree) -> Deviation | None:
    """The first way in which the content outputs are not as the manifest says; one stat a file and folder."""
    known = {entry[0]: entry for entry in manifest}
    seen = 0
    for output in outputs:
        if output.identity is not Identity.CONTENT:
            continue
        before = seen
        for path in _files(output, table, tree):
            entry = known.get(path)
            if entry is None:
                return Deviation(kind="extra", path=path)
            if not _unchanged(entry, table):
                return Deviation(kind="changed", path=path)
            seen += 1
        if seen == before:
            return Deviation(kind="missing", path=output.path)
    if seen != len(known):
        gone = next((path for path in known if table.stat(path) is None), next(iter(known)))
        return Deviation(kind="missing", path=gone)
    return None


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


def total_size(manifest: list[Entry]) -> int:
    """Bytes of all files."""
    return sum(entry[3] for entry in manifest if entry[1] in ("f", "x") and len(entry) > 3)  # noqa: PLR2004


def write_stamp(folder: str, key: str) -> None:
    """Say which key an installed folder was made for. Raises OSError."""
    with open(os.path.join(folder, STAMP), "w", encoding="ascii") as file:
        file.write(key)


def read_stamp(folder: str) -> str:
    """The key an installed folder was made for, or "" where there is none."""
    try:
        with open(os.path.join(folder, STAMP), encoding="ascii", errors="replace") as file:
            return file.read(200)
    except OSError:
        return ""


def stamp_intact(path: str, key: str, table: FileTable) -> bool:
    """Whether the installed folder at `path` (from the root) carries this key."""
    state = table.lookup(f"{path}/{STAMP}")
    return bool(key) and state is not None and state.digest == digest_of(key.encode())


# Making way


def clean(
    root: str, outputs: Sequence[Output], *, manifest_paths: Collection[str], interrupted: bool, git: Git
) -> str:
    """Remove the outputs before a run; "" or what stands in the way, and then nothing was removed.

    Goes: what the last manifest lists, anything a cut-off run may have left (`interrupted`), what git ignores, a declared
    file that git does not track, an installed folder with our stamp. Raises OSError.
    """
    present = [o for o in outputs if o.identity is not Identity.IMAGE and os.path.lexists(os.path.join(root, o.path))]
    for output in present:
        if (link := _link_above(root, output.path)) is not None:
            return f"output {output.path} lies behind the link {link}: remove the link, or declare the real folder"
    if not interrupted and (problem := _not_ours(root, present, set(manifest_paths), git)):
        return problem
    for output in present:
        _remove(os.path.join(root, output.path))
    return ""


def _link_above(root: str, path: str) -> str | None:
    parts = path.split("/")[:-1]
    for end in range(1, len(parts) + 1):
        if os.path.islink(os.path.join(root, *parts[:end])):
            return "/".join(parts[:end])
    return None


def _not_ours(root: str, present: Sequence[Output], ours: set[str], git: Git) -> str:
    unknown: list[str] = []
    for output in present:
        if output.tracked:
            continue
        absolute = os.path.join(root, output.path)
        if output.identity is Identity.INSTALLED and read_stamp(absolute):
            continue
        if os.path.islink(absolute) or not os.path.isdir(absolute):
            if output.directory or git.tracked([output.path]):
                unknown.append(output.path)
        else:
            unknown += [path for path in _walk(root, output.path) if path not in ours]
    left = set(unknown) - git.ignored(unknown) if unknown else set()
    if not left:
        return ""
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    return (
        f"{min(left)}{more} lies in a declared output and was not made by this build: move it away, or let git ignore it"
    )


def _walk(root: str, folder: str) -> Iterator[str]:
    for current, folders, files in os.walk(os.path.join(root, folder)):
        relative = os.path.relpath(current, root)
        yield from (f"{relative}/{name}" for name in files)
        yield from (f"{relative}/{name}" for name in folders if os.path.islink(os.path.join(current, name)))


def _remove(path: str) -> None:
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        # Some tools (Go's module cache, Bazel-like sandboxes) leave read-only folders.
        for current, _, _ in os.walk(path):
            os.chmod(current, 0o700)  # noqa: S103
        shutil.rmtree(path)


def prepare(root: str, outputs: Sequence[Output]) -> None:
    """Make the folders that outputs lie in. Raises OSError."""
    for output in outputs:
        if output.identity is not Identity.IMAGE:
            os.makedirs(os.path.dirname(os.path.join(root, output.path)), exist_ok=True)
