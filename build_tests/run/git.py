"""Questions to git, few and safe: nothing is written, nothing prompts, nothing hangs. No git or no repository: no answers."""

from __future__ import annotations

import os
from collections.abc import Collection

SECONDS = 60.0


class Git:
    """Git over one root (which need not be the repository's top)."""

    def __init__(self, root: str) -> None:
        self._root = root

    def tracked(self, paths: Collection[str]) -> set[str]:
        """The tracked files that are, or lie below, these paths (from the root)."""
        if not paths:
            return set()
        listed = self._ask(["ls-files", "-z", "--cached", "--", *(f":(literal){path}" for path in paths)], limit=paths)
        return {path for path in (listed or "").split("\0") if path}

    def ignored(self, paths: Collection[str]) -> set[str]:
        """Those of these paths that git ignores."""
        if not paths:
            return set()
        said = self._ask(["check-ignore", "-z", "--stdin"], "\0".join(paths) + "\0")
        return {path for path in (said or "").split("\0") if path}

    def head(self) -> tuple[str, bool] | None:
        """The commit, and whether the work tree differs from it."""
        commit = self._ask(["rev-parse", "HEAD"])
        if not commit:
            return None
        return commit.strip(), bool(self._ask(["status", "--porcelain", "--untracked-files=no"]))

    def _ask(self, arguments: list[str], text: str = "", limit: Collection[str] = ()) -> str | None:
        import subprocess

        # A list too long for one command line: ask for everything, the caller looks for its own.
        if sum(len(path) + 12 for path in limit) > 100_000:  # noqa: PLR2004 - ARG_MAX is 2 MB at the least on Linux
            arguments = arguments[: arguments.index("--")]
        # GIT_DIR and its kin, set inside a hook, would answer for another repository.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=self._root, input=os.fsencode(text), capture_output=True, timeout=SECONDS,
                env=environment, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None
        # check-ignore says 1 for "none of them".
        return os.fsdecode(done.stdout) if done.returncode in (0, 1) else None
