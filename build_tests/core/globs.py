r"""Which files a step's patterns mean. Knows directories, not steps; reads no file's content.

Patterns are POSIX text relative to the root, read in order as in gitignore: a leading `!` takes away, the last match
decides. Segment by segment:

- `*` any run of characters, `?` one, `[a-z]` `[!a-z]` one of a set, hidden names included; none of them crosses a `/`;
- `**` as a whole segment: any number of folders, none too;
- a trailing `/`: everything below that folder (`src/` is `src/**`; the file `src` is not meant);
- a last segment without wildcard means that file, or everything below that folder;
- a backslash takes the next character as it is: `pages/\[id\].tsx`, `\!important`. `escape` does it.

A link found on the way is listed as itself and never followed, so loops are harmless. A link that is *named*, in front
of a wildcard or a `/`, is a folder like another: what lies behind it has been declared. `.git`, `.build`,
`.pytest_cache` and `__pycache__` are never seen, whatever a pattern says. Fifos, sockets and devices are not files.
"""

from __future__ import annotations

import errno
import os
import re
import stat as st
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from build_tests.core.digest import ATTEMPTS, FileTable, Memo, Stat, settled, stat_of
from build_tests.core.errors import UnreadableError

__all__ = [
    "NEVER",
    "Listing",
    "PathSet",
    "Selection",
    "Tree",
    "UnreadableError",
    "escape",
    "is_literal",
    "literal_prefix",
    "matches",
    "reaches",
    "validate",
]

NEVER = frozenset({".git", ".build", ".pytest_cache", "__pycache__"})
"""Names that no pattern matches, at any depth."""

Exclude = Callable[[str], bool]
"""Asked for files and for folders (with a trailing /); must hold for all below a folder that it holds for."""
Row = list[Any]
"""Folder, the five fields of its Stat, 1 if trusted, then four sorted lists: files, folders, links, others."""

_NEVER = re.compile(r"(?:^|/)(?:\.git|\.build|\.pytest_cache|__pycache__)(?:/|\Z)")
# A pattern in which this finds nothing is a plain, valid path: by far the most frequent kind, told by one search.
_UNUSUAL = re.compile(r"[*?\[\\\0]|^[!/]|^\Z|//|/\Z|(?:^|/)\.\.?(?:/|\Z)|" + _NEVER.pattern)
_STARS = None
"""The segment `**`."""


class Listing(NamedTuple):
    """The names in one folder, each list sorted."""

    files: list[str]
    folders: list[str]
    links: list[str]
    others: list[str]


class Selection(NamedTuple):
    """What patterns mean now: sorted paths, and the patterns that contribute none."""

    paths: list[str]
    empty: list[str]
    plain: bool = False
    """Every pattern is the path of one file: as long as these files are there, the selection is this one."""


def literal_prefix(pattern: str) -> str:
    """The longest leading path without a wildcard, unescaped, no trailing /: where the pattern must be looked for.

    Raises ValueError for a malformed pattern.
    """
    return pattern if not _UNUSUAL.search(pattern) else _compile(pattern).prefix


def is_literal(pattern: str) -> bool:
    """Whether a pattern has no wildcard: it names one file, or one folder. Raises ValueError as above."""
    return not _UNUSUAL.search(pattern) or _compile(pattern).literal


def validate(pattern: str) -> str | None:
    """What is wrong with a pattern, or None."""
    try:
        compiled = _compile(pattern)
    except ValueError as error:
        return str(error)
    if not compiled.negated and _NEVER.search(compiled.prefix):
        return f"{pattern!r} can match nothing: {', '.join(sorted(NEVER))} are never inputs"
    return None


def escape(path: str) -> str:
    """The pattern that means exactly this path."""
    path = re.sub(r"([*?\[\\])", r"\\\1", path)
    return "\\" + path if path.startswith("!") else path


def matches(patterns: Iterable[str], path: str) -> bool:
    """Whether patterns mean a file of this path, without looking at the disk. Raises ValueError as above."""
    found = False
    for pattern in patterns:
        compiled = _compile(pattern)
        if compiled.negated == found and compiled.matches(path):
            found = not found
    return found and not _NEVER.search(path)


def reaches(patterns: Iterable[str], folder: str) -> bool:
    """Whether patterns may mean something below a folder, without looking at the disk. Raises ValueError as above."""
    found = False
    for pattern in patterns:
        compiled = _compile(pattern)
        at = compiled.through(folder)
        everything = bool(at) and at[-1] == compiled.size
        found = found and not everything if compiled.negated else found or bool(at)
    return found and not _NEVER.search(folder)


class PathSet:
    """Files, and folders with all that is below them; asked in the depth of the path, whatever the size of the set."""

    def __init__(self, files: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
        self._files = frozenset(files)
        self._folders = frozenset(folder.rstrip("/") for folder in folders)

    @staticmethod
    def of(paths: Iterable[str]) -> PathSet:
        """From one list, in which folders have a trailing slash."""
        paths = list(paths)
        return PathSet([p for p in paths if not p.endswith("/")], [p for p in paths if p.endswith("/")])

    def contains(self, path: str) -> bool:
        """Whether a path (a folder's may end with /) is in the set or below a folder of it."""
        if path in self._files:
            return True
        if not self._folders:
            return False
        end = len(path) - path.endswith("/")
        while end > 0:
            if path[:end] in self._folders:
                return True
            end = path.rfind("/", 0, end)
        return False


class Tree:
    """The folders below a root, each listed at most once until it is forgotten, and remembered between runs.

    Args:
        root: absolute.
        known: what `export` gave in an earlier run. Rows that are no rows are dropped.
        trust: a folder whose stat is as it was is not listed again.
        files: shares its stats of literal paths, so that no path is stat'ed by both.
    """

    def __init__(
        self, root: str, known: Iterable[Row] | None = None, *, trust: bool = True, files: FileTable | None = None
    ) -> None:
        self._base = root.rstrip("/") + "/"
        self._rows: dict[str, Row] = {row[0]: row for row in known or () if isinstance(row, list) and len(row) == 11}  # noqa: PLR2004
        self._memo: Memo[Listing | None] = Memo()
        self._trust = trust
        self._files = files or FileTable(root)
        self.dirty = False
        """Whether anything differs from what was known."""
        self.stats = 0
        self.listings = 0

    def select(self, patterns: Sequence[str], *, exclude: Exclude | None = None) -> list[str]:
        """The files and links that patterns mean, sorted. Raises UnreadableError, ValueError (malformed pattern)."""
        return self.find(patterns, exclude=exclude).paths

    def empty_patterns(self, patterns: Sequence[str], *, exclude: Exclude | None = None) -> list[str]:
        """The patterns that contribute nothing, unless `exclude` holds for where they look."""
        return self.find(patterns, exclude=exclude).empty

    def find(self, patterns: Sequence[str], *, exclude: Exclude | None = None) -> Selection:
        """Both at once. Raises UnreadableError, ValueError (malformed pattern)."""
        # A file is meant if some pattern matches it and no later `!` does: each pattern is walked for itself, and only
        # what comes after it can take away.
        found: list[str] = []
        empty: list[str] = []
        if (plain := self._plain(patterns, exclude)) is not None:
            return plain
        negatives = [(i, _compile(p)) for i, p in enumerate(patterns) if p.startswith("!")]
        for i, pattern in enumerate(patterns):
            if pattern.startswith("!"):
                continue
            before = len(found)
            later = [negative for j, negative in negatives if j > i]
            looked = self._one(pattern, later, exclude, found)
            if looked and len(found) == before:
                empty.append(pattern)
        paths = sorted(set(found)) if len(patterns) - len(negatives) > 1 else sorted(found)
        return Selection(paths, empty)

    def _plain(self, patterns: Sequence[str], exclude: Exclude | None) -> Selection | None:
        """The selection where every pattern is the path of a file: by far the most frequent kind of inputs."""
        found: list[str] = []
        empty: list[str] = []
        for pattern in patterns:
            if _UNUSUAL.search(pattern):
                return None
            if exclude is not None and exclude(pattern):
                continue
            stat = self._files.stat(pattern)
            if stat is None:
                empty.append(pattern)
            elif st.S_ISDIR(stat.mode):
                return None
            else:
                found.append(pattern)
        return Selection(sorted(set(found)), empty, plain=not empty)

    def folders(self, pattern: str, *, exclude: Exclude | None = None) -> list[str]:
        """The folders that one pattern matches, sorted; hidden ones and links are not seen.

        Raises:
            UnreadableError: a folder can't be listed.
            ValueError: the pattern is malformed.
        """
        compiled = _compile(pattern.rstrip("/"))
        found: list[str] = []
        start = compiled.prefix if not compiled.literal else compiled.prefix.rpartition("/")[0]
        stack = [(start, compiled.through(start))]
        while stack:
            folder, positions = stack.pop()
            listing = self.listing(folder)
            front = folder + "/" if folder else ""
            names = [n for n in listing.folders if not n.startswith(".") and n not in NEVER] if listing else []
            names = [name for name in names if exclude is None or not exclude(f"{front}{name}/")]
            found.extend(front + name for name in compiled.hits(positions, names))
            below = compiled.descend_into(positions, names)
            # A name at the end means for files all that lies below; a folder of that name is one folder.
            stack.extend((front + name, at) for name, at in below if not (compiled.deep and at[-1] == compiled.size))
        return sorted(found)

    def listing(self, folder: str, *, follow: bool = False) -> Listing | None:
        """The names in a folder; None = absent or no folder (a link to one counts only with `follow`).

        Raises:
            UnreadableError: it can't be listed.
        """
        found = self._memo.get(folder)
        if found is None:
            listing = self._listing(folder)
            self._memo.put(folder, listing)
        else:
            listing = found[0]
        if listing is None and follow and folder and not folder.endswith("/"):
            # With a slash behind it, a link is what it leads to.
            return self.listing(folder + "/")
        return listing

    def forget_under(self, prefix: str) -> None:
        """This folder and all below it may have changed, and so may the listings that it stands in; "" = everything."""
        prefix = prefix.rstrip("/")
        self._memo.forget_under(prefix)
        self._files.forget_under(prefix)
        end = prefix.rfind("/")
        while end > 0:
            self._memo.forget(prefix[:end])
            self._memo.forget(prefix[: end + 1])
            end = prefix.rfind("/", 0, end)
        self._memo.forget("")

    def export(self, *, prune: bool = False) -> list[Row]:
        """All known listings as plain lists. `prune` drops those of folders that are gone."""
        if prune:
            for folder in [folder for folder in self._rows if self._memo.get(folder) is None]:
                self.listing(folder)
        return list(self._rows.values())

    def export_seen(self) -> list[Row]:
        """As `export`, of the folders that were looked into in this run only."""
        return [row for path, row in self._rows.items() if self._memo.get(path) is not None]

    def _one(self, pattern: str, negatives: Sequence[_Pattern], exclude: Exclude | None, found: list[str]) -> bool:
        """Add what one pattern means. False = it looks only where it is excluded."""
        if not _UNUSUAL.search(pattern):
            return self._path(pattern, negatives, exclude, found)
        compiled = _compile(pattern)
        prefix = compiled.prefix
        if _NEVER.search(prefix):
            return True
        if compiled.literal and not compiled.folder_only:
            return self._path(prefix, negatives, exclude, found)
        if exclude is not None and prefix and exclude(prefix + "/"):
            return False
        self._walk(prefix, compiled, compiled.start(), negatives, exclude, found)
        return True

    def _path(self, path: str, negatives: Sequence[_Pattern], exclude: Exclude | None, found: list[str]) -> bool:
        if exclude is not None and exclude(path):
            return False
        stat = self._files.stat(path)
        if stat is None:
            return True
        if st.S_ISDIR(stat.mode):
            self._walk(path, _EVERYTHING, _EVERYTHING.start(), negatives, exclude, found)
        elif not any(negative.matches(path) for negative in negatives):
            found.append(path)
        return True

    def _walk(  # noqa: C901, PLR0913, PLR0917
        self,
        start: str,
        pattern: _Pattern,
        positions: _Positions,
        negatives: Sequence[_Pattern],
        exclude: Exclude | None,
        found: list[str],
    ) -> None:
        against = _moved(negatives, [n.through(start) for n in negatives])
        if against is None or self.listing(start, follow=True) is None:
            return
        stack = [(start, positions, against)]
        while stack:
            folder, positions, against = stack.pop()
            listing = self.listing(folder, follow=folder == start)
            if listing is None:
                raise UnreadableError(folder, "it was there a moment ago and is gone")
            front = folder + "/" if folder else ""
            for names in (listing.files, listing.links):
                for name in pattern.hits(positions, names):
                    if name in NEVER or (against and any(p.hit(at, name) for p, at in against)):
                        continue
                    path = front + name
                    if exclude is None or not exclude(path):
                        found.append(path)
            for name, below in pattern.descend_into(positions, listing.folders):
                if name in NEVER:
                    continue
                taken = against and _moved([p for p, _ in against], [p.descend(at, name) for p, at in against])
                if taken is not None and (exclude is None or not exclude(f"{front}{name}/")):
                    stack.append((front + name, below, taken))

    def _listing(self, folder: str) -> Listing | None:
        stat = self._stat(folder)
        if stat is None or not st.S_ISDIR(stat.mode):
            if self._rows.pop(folder, None) is not None:
                self.dirty = True
            return None
        row = self._rows.get(folder)
        if self._trust and row is not None and row[6] and row[1:6] == [*stat]:
            return Listing(*row[7:])
        return self._read(folder, stat)

    def _stat(self, folder: str) -> Stat | None:
        self.stats += 1
        try:
            return stat_of(self._base + folder)
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None
            raise UnreadableError(folder, error.strerror or str(error)) from error

    def _read(self, folder: str, stat: Stat) -> Listing | None:
        """List until the stats before and after agree, or attempts run out."""
        for attempt in range(1, ATTEMPTS + 1):
            read_ns = time.time_ns()
            listing = self._scan(folder)
            after = self._stat(folder)
            if listing is None or after is None:
                break
            if after == stat or attempt == ATTEMPTS:
                trusted = after == stat and settled(stat, read_ns)
                self._remember([folder, *after, int(trusted), *listing])
                return listing
            stat = after
        return None

    def _remember(self, row: Row) -> None:
        if self._rows.get(row[0]) != row:
            self._rows[row[0]] = row
            self.dirty = True

    def _scan(self, folder: str) -> Listing | None:
        self.listings += 1
        listing = Listing([], [], [], [])
        try:
            with os.scandir(self._base + folder) as entries:
                for entry in entries:
                    _kind(listing, entry).append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UnreadableError(folder, error.strerror or str(error)) from error
        for names in listing:
            names.sort()
        return listing


def _kind(listing: Listing, entry: os.DirEntry[str]) -> list[str]:
    if entry.is_symlink():
        return listing.links
    if entry.is_dir(follow_symlinks=False):
        return listing.folders
    return listing.files if entry.is_file(follow_symlinks=False) else listing.others


_Positions = tuple[int, ...]
"""Which segments of a pattern may match the next name; its number of segments = everything from here on."""


def _moved(patterns: Sequence[_Pattern], positions: Sequence[_Positions]) -> list[tuple[_Pattern, _Positions]] | None:
    """The patterns that may still match below, or None if one of them matches everything below."""
    if any(at and at[-1] == pattern.size for pattern, at in zip(patterns, positions, strict=True)):
        return None
    return [(pattern, at) for pattern, at in zip(patterns, positions, strict=True) if at]


class _Pattern:
    """One pattern as a machine that reads a path name by name."""

    __slots__ = ("deep", "folder_only", "literal", "negated", "prefix", "segments", "size")

    def __init__(self, text: str) -> None:
        self.negated = text.startswith("!")
        segments = _split(text)
        self.folder_only = text.endswith("/")
        plain = [segment.literal for segment in segments if segment is not _STARS and segment.literal is not None]
        self.literal = len(plain) == len(segments)
        last = segments[-1]
        self.deep = last is not _STARS and last.literal is not None and not self.folder_only
        leading = len(segments) if self.literal else _first_wild(segments)
        self.prefix = "/".join(plain[:leading])
        if self.folder_only and last is not _STARS:
            segments.append(_STARS)
        self.segments = segments
        self.size = len(segments)

    def start(self) -> _Positions:
        """The positions at its own prefix."""
        return self.through(self.prefix)

    def through(self, folder: str) -> _Positions:
        """The positions after descending from the root into a folder."""
        at = self._settle(0)
        for name in folder.split("/") if folder else ():
            at = self.descend(at, name)
        return at

    def matches(self, path: str) -> bool:
        """Whether a file of this path matches."""
        folder, _, name = path.rpartition("/")
        return self.hit(self.through(folder), name)

    def hit(self, at: _Positions, name: str) -> bool:
        """Whether a file of this name matches here."""
        return any(True for _ in self.hits(at, (name,)))

    def hits(self, at: _Positions, names: Sequence[str]) -> Iterable[str]:
        """The names of files that match here; `names` are sorted."""
        if not at:
            return ()
        if at[-1] == self.size:
            return names
        # Only the last segment can end a path, and were it `**`, the position would be "everything".
        last = self.segments[-1]
        return last.among(names) if at[-1] == self.size - 1 and last is not _STARS else ()

    def descend(self, at: _Positions, name: str) -> _Positions:
        """The positions in a folder of this name; () = nothing below it can match."""
        if not at or at[-1] == self.size:
            return at
        below: set[int] = set()
        for position in at:
            segment = self.segments[position]
            if segment is _STARS:
                below.update((position, position + 1))
            elif segment.matches(name):
                if position + 1 < self.size:
                    below.update(self._settle(position + 1))
                elif self.deep:
                    below.add(self.size)
        return (self.size,) if self.size in below else tuple(sorted(below))

    def descend_into(self, at: _Positions, names: Sequence[str]) -> Iterator[tuple[str, _Positions]]:
        """The folders below which something may match, with the positions there; `names` are sorted."""
        if len(at) == 1 and at[0] < self.size and (only := self.segments[at[0]]) is not _STARS:
            likely: Iterable[str] = only.among(names)
        else:
            likely = names
        for name in likely:
            if below := self.descend(at, name):
                yield name, below

    def _settle(self, position: int) -> _Positions:
        """`**` may stand for no folder at all; at the end it is everything."""
        if self.segments[position] is not _STARS:
            return (position,)
        return (self.size,) if position == self.size - 1 else (position, position + 1)


class _Segment:
    """One name of a pattern."""

    __slots__ = ("front", "literal", "regex")

    def __init__(self, literal: str | None, front: str, regex: re.Pattern[str] | None) -> None:
        self.literal = literal
        """The whole name, if there is no wildcard in it."""
        self.front = front
        """The text before the first wildcard."""
        self.regex = regex
        """None = a `*` follows the front and nothing else does."""

    def matches(self, name: str) -> bool:
        if self.literal is not None:
            return name == self.literal
        return name.startswith(self.front) and (self.regex is None or self.regex.fullmatch(name) is not None)

    def among(self, names: Sequence[str]) -> Iterable[str]:
        """Those of sorted names that match: a search, not a scan, for what has a literal front."""
        if self.literal is None and not self.front:
            return names if self.regex is None else [name for name in names if self.regex.fullmatch(name)]
        return self._from(names, bisect_left(names, self.front))

    def _from(self, names: Sequence[str], first: int) -> Iterator[str]:
        for i in range(first, len(names)):
            name = names[i]
            if not name.startswith(self.front):
                return
            if self.matches(name):
                yield name


@lru_cache(maxsize=1 << 15)
def _compile(pattern: str) -> _Pattern:
    return _Pattern(pattern)


def _split(text: str) -> list[_Segment | None]:
    """The segments of a pattern. Raises ValueError saying what is wrong with it."""
    body = text.removeprefix("!")
    if not body:
        raise ValueError("a pattern may not be empty")
    if "\0" in body:
        raise ValueError(f"{text!r} holds a NUL character")
    if body.startswith("/"):
        raise ValueError(f"{text!r} begins with /: patterns are relative to the root")
    segments: list[_Segment | None] = []
    for part in body.removesuffix("/").split("/"):
        if part in {"", ".", ".."}:
            raise ValueError(f"{text!r} has the segment {part!r}: patterns can't lead out of the root or stand still")
        if part != "**":
            try:
                segments.append(_segment(part))
            except ValueError as error:
                raise ValueError(f"{text!r}: {error}") from None
        elif not segments or segments[-1] is not _STARS:
            segments.append(_STARS)
    return segments


def _first_wild(segments: Sequence[_Segment | None]) -> int:
    return next(i for i, segment in enumerate(segments) if segment is _STARS or segment.literal is None)


@lru_cache(maxsize=1 << 13)
def _segment(part: str) -> _Segment:
    if not re.search(r"[*?\[\\]", part):
        return _Segment(part, part, None)
    front: list[str] = []
    regex: list[str] = []
    wild = 0
    only_star = False
    for literal, piece in _pieces(part):
        regex.append(piece)
        if literal is None:
            wild += 1
            only_star = piece == ".*"
        elif wild:
            only_star = False
        else:
            front.append(literal)
    text = "".join(front)
    if not wild:
        return _Segment(text, text, None)
    if wild == 1 and only_star:
        return _Segment(None, text, None)
    return _Segment(None, text, re.compile("".join(regex), re.DOTALL))


def _pieces(part: str) -> Iterator[tuple[str | None, str]]:
    """Each character with its regular expression; a wildcard has no character. Raises ValueError."""
    at = 0
    while at < len(part):
        char = part[at]
        at += 1
        if char == "*":
            while part[at : at + 1] == "*":
                at += 1
            yield None, ".*"
        elif char == "?":
            yield None, "."
        elif char == "[":
            text, at = _set(part, at)
            yield None, text
        else:
            if char == "\\":
                char, at = _escaped(part, at)
            yield char, re.escape(char)


def _escaped(part: str, at: int) -> tuple[str, int]:
    if at == len(part):
        raise ValueError("a backslash with nothing behind it")
    return part[at], at + 1


def _set(part: str, at: int) -> tuple[str, int]:
    """The regular expression of a `[…]` whose inside begins at `at`, and where the rest begins."""
    negated = part[at : at + 1] in {"!", "^"}
    at += negated
    first = at
    items: list[str] = []
    while at < len(part) and (part[at] != "]" or at == first):
        if part.startswith("[:", at):
            raise ValueError("classes such as [:alpha:] are not known; write [a-z]")
        low, at = _member(part, at)
        high = low
        if part[at : at + 1] == "-" and part[at + 1 : at + 2] not in {"", "]"}:
            high, at = _member(part, at + 1)
        if high < low:
            raise ValueError(f"the range {low}-{high} runs backwards")
        items.append(re.escape(low) if low == high else f"{re.escape(low)}-{re.escape(high)}")
    if at == len(part):
        raise ValueError("a [ that no ] closes (a name with a [ in it is written \\[)")
    return f"[{'^' if negated else ''}{''.join(items)}]", at + 1


def _member(part: str, at: int) -> tuple[str, int]:
    return _escaped(part, at + 1) if part[at] == "\\" else (part[at], at + 1)


_EVERYTHING = _compile("**")
