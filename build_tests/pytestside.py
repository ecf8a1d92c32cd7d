"""What pytest is like here: its state folder, and whether any of it must see a build in which nothing runs.

pytest alone knows which of its settings, conftests and plugins hold. So nothing is worked out here: a pytest that
`pytest-build` started notes what it found (`session/learn.py`), with the stats of all that it could have found instead
(settings files, conftests, installed distributions). While they are the same, the note holds. Knows no pytest.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import build_tests
from build_tests.core.digest import SLACK_NS
from build_tests.run.resources import machine_workers
from build_tests.run.state import write_atomically

VERSION = 1
NAME = "pytest.json"
SETTINGS = (
    "pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "setup.py",
    "conftest.py",
)  # fmt: skip
"""What pytest looks for in the build file's folder and above it."""
INERT = ("PYTEST_BUILD_", "PYTEST_CURRENT_TEST", "PYTEST_VERSION", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID")
"""Variables called PYTEST_… that change nothing here: ours, and those that pytest sets for what it starts."""

Note = dict[str, Any]
"""why (pytest must see every build, for this reason; "" = it need not), state (the state folder, or None), auto (how
many workers `-n auto` is), verbosity (before the command's own -v)."""


def recall(folder: str, file: str) -> Note | None:
    """The note, where it still holds; None = ask pytest. `folder` is `.build`, `file` the build file; absolute both."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as opened:
            note = json.load(opened)
        known = note["version"] == VERSION and note["for"] == _asked(file)
        holds = known and all(_stat(path) == stat for path, stat in note["files"])
        holds = holds and all(_installed(path, known) == known for path, known in note["folders"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if holds else None


def grounds(file: str) -> Note | None:
    """What a note will rest on, taken before pytest is started (a conftest may change sys.path).

    None where some of it is too young to be told from an edit a moment later.
    """
    now = time.time_ns()
    files = [(path, _stat(path)) for path in _candidates(file)]
    if any(stat and max(stat[1:3]) > now - SLACK_NS for _, stat in files):
        return None
    folders = [[path, _installed(path, None)] for path in sys.path if path]
    return {"version": VERSION, "for": _asked(file), "files": files, "folders": folders}


def record(folder: str, rests_on: Note, note: Note) -> None:
    """Keep a note."""
    whole = {**rests_on, **note}
    try:
        write_atomically(os.path.join(folder, NAME), json.dumps(whole).encode())
    except (OSError, UnicodeEncodeError):
        return  # asked again next time


def state_folder(folder: str, root: str) -> str:
    """Where the last build kept its state: as noted, whether or not the note still holds, or as pytest does it."""
    try:
        with open(os.path.join(folder, NAME), encoding="utf-8") as opened:
            found = json.load(opened)["state"]
        if isinstance(found, str):
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return os.path.join(root, ".pytest_cache", "d", "build")


def _asked(file: str) -> Note:
    """What else decides which pytest this is."""
    pytests = {name: text for name, text in os.environ.items() if name.startswith("PYTEST_")}
    return {
        "file": file, "cwd": os.getcwd(), "python": sys.executable, "release": build_tests.__version__,
        "processors": machine_workers(), "tox": os.environ.get("TOX_ENV_DIR", ""), "path": list(sys.path),
        "variables": {name: text for name, text in sorted(pytests.items()) if not name.startswith(INERT)},
    }  # fmt: skip


def _candidates(file: str) -> list[str]:
    found, folder = [], os.path.dirname(file)
    while True:
        found += [os.path.join(folder, name) for name in SETTINGS]
        above = os.path.dirname(folder)
        if above == folder:
            return found
        folder = above


def _stat(path: str) -> list[int] | None:
    """Size, times, inode."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _installed(folder: str, known: list[Any] | None) -> list[Any] | None:
    """[mtime, the distributions in a folder of sys.path]; looked at again only where the folder has changed."""
    try:
        changed = os.stat(folder).st_mtime_ns
    except OSError:
        return None
    if known is not None and known[0] == changed:
        return known
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith((".dist-info", ".egg-info", ".pth")))
    except OSError:  # a zip file
        names = []
    # A folder in which files come and go, but no distribution, is the same for pytest.
    return known if known is not None and known[1] == names else [changed, names]
