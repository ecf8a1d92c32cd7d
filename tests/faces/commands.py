"""The installed command, as a user of a workspace runs it."""

import subprocess
import sys
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("pytest-build"))
AMBIENT = (
    "CI",
    "GITHUB_ACTIONS",
    "CI_MERGE_REQUEST_IID",
    "GITHUB_EVENT_NAME",
    "PYTEST_BUILD_CACHE",
    "PYTEST_BUILD_SCOPE",
    "PYTEST_BUILD_SIGNING_KEY_FILE",
)
"""What the service that runs these tests may have set."""


def environment(ws, **more):
    return {**{name: value for name, value in ws.environ.items() if name not in AMBIENT}, **more}


def run(ws, *arguments, seconds=120, **more):
    """`pytest-build ARGUMENTS…` in a workspace; `more` are variables."""
    return subprocess.run(
        [COMMAND, *arguments], cwd=ws.root, env=environment(ws, **more), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip


def start(ws, *arguments):
    """The same, going on."""
    return subprocess.Popen(
        [COMMAND, *arguments], cwd=ws.root, env=environment(ws), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
