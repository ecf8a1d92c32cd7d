"""What reading a build file looked at beyond the file itself, as plain data, and whether it is still so.

Builders read manifests, ask whether files are there, and list files by patterns; all of it through workspaces, which
remember it. As long as every one of these answers would be the same, so would be the steps. Knows no step.

The stat short cut is that of core/digest.py: what was young when it was looked at is looked at again.
"""

from __future__ import annotations

import os
import stat as st
import time
from collections.abc import Iterable
from typing import Any

from build_tests.core.digest import Stat, digest_of, settled
from build_tests.core.errors import UnreadableError
from build_tests.core.globs import PathSet, Tree
from build_tests.core.model import Identity, Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from build_tests.core.workspace import FileWorkspace


Witness = dict[str, Any]
FOLDER = "folder"


def taken(
    root: str, workspaces: Iterable[FileWorkspace], modules: Iterable[str], outputs: Iterable[Output]
) -> Witness | None:
    """What these workspaces were asked, with the code that asked; None where some of it changed meanwhile.

    Args:
        root: absolute.
        workspaces: all that were shown to builders.
        modules: files of builders that lie outside this package; absolute.
        outputs: of all steps. What lies there makes no difference: a plan is that of a fresh clone.
    """
    from build_tests.core.workspace import hides

    made = [output for output in outputs if output.identity is not Identity.IMAGE]
    hidden = ([o.path for o in made if not o.directory], [o.path for o in made if o.directory])
    outside = hides(PathSet(*hidden))
    answers: dict[tuple[str, str], list[str]] = {}
    rows: dict[str, Any] = {}
    files: dict[str, Any] = {path: _row(path) for path in modules}
    for workspace in workspaces:
        files.update((path, _row(os.path.join(root, path))) for path in workspace.read if path not in files)
        if any((row := files[path]) is None or row[-1] != text for path, text in workspace.texts.items()):
            return None
        if any((files[path] is not None) != there for path, there in workspace.there.items()):
            return None
        for (kind, pattern), found in workspace.answers.items():
            end = "/" if kind == FOLDER else ""
            answers[kind, pattern] = [path for path in found if not outside(path + end)]
        rows.update((row[0], row) for row in workspace.listings())
    return {
        "files": sorted(files.items()), "answers": sorted(answers.items()), "hidden": hidden,
        "folders": [rows[path] for path in sorted(rows)],
    }  # fmt: skip


def renewed(root: str, known: Witness) -> Witness | None:
    """The same, as it is now: `known` itself where stats tell, another one where it took a closer look; None = changed.

    Raises nothing: what can't be looked at has changed.
    """
    try:
        files = [(path, _again(os.path.join(root, path), row)) for path, row in known["files"]]
        if any(now is False for _, now in files):
            return None
        fresh = [
            (path, row if now is True else now)
            for (path, row), (_, now) in zip(known["files"], files, strict=True)
        ]
        rows = known["folders"]
        if not all(_unmoved(root, row) for row in rows):
            tree = Tree(root, rows)
            if not _answers_alike(tree, known):
                return None
            # Without the folders that are not looked into for this (outputs): they may change as they like.
            rows = sorted(tree.export_seen())
    except (OSError, ValueError, UnreadableError):
        return None
    if rows is known["folders"] and all(now is True for _, now in files):
        return known
    return {**known, "files": fresh, "folders": rows}


def _answers_alike(tree: Tree, known: Witness) -> bool:
    from build_tests.core.workspace import hides

    exclude = hides(PathSet(*known["hidden"]))
    for (kind, pattern), answer in known["answers"]:
        now = tree.folders(pattern, exclude=exclude) if kind == FOLDER else tree.select([pattern], exclude=exclude)
        if now != answer:
            return False
    return True


def _unmoved(root: str, row: list[Any]) -> bool:
    if not row[6]:
        return False
    now = os.lstat(f"{root}/{row[0]}")
    return row[1:6] == [now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino, now.st_mode]


def _row(path: str) -> list[Any] | None:
    """Stat, whether it may be trusted later, digest; None = absent. Of what a link leads to, as builders see it."""
    looked_ns = time.time_ns()
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not st.S_ISREG(found.st_mode):
        return [0, 0, 0, 0, found.st_mode, True, ""]
    stat = Stat(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode)
    try:
        with open(path, "rb") as file:
            content = digest_of(file.read())
    except OSError:
        content = "unreadable"
    return [*stat, settled(stat, looked_ns), content]


def _again(path: str, row: list[Any] | None) -> Any:
    """True: as it was; a new row: as it was, on a closer look; False: changed."""
    try:
        found = os.stat(path)
    except OSError:
        return row is None
    if row is None:
        return False
    if not st.S_ISREG(found.st_mode):
        return st.S_IFMT(found.st_mode) == st.S_IFMT(row[4])
    stat = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_mode]
    if row[5] and stat == row[:5]:
        return True
    now = _row(path)
    return now if now is not None and now[-1] == row[-1] else False
