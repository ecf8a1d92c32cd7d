"""Questions to git, few and safe: nothing is written, nothing prompts, nothing hangs, nothing raises.

Without git or a repository there is nothing tracked and nothing ignored. A repository that git refuses to read (a
broken index, another owner) gives the same answers, but then `problem` says why: whoever would delete by them must look
there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence

from build_tests.core.globs import PathSet

SECONDS = 60.0
"""How long git may take for one answer."""
LINE = 100_000
"""Bytes of paths that fit one command line everywhere; beyond them git lists all and we pick."""
KEPT = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH", "GIT_CEILING_DIRECTORIES")
"""Where git and its settings lie. All else goes: GIT_DIR and its kin, set inside a hook, name another repository."""


class Git:
    """Git over one root (which need not be the repository's top), looked for when first asked."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._available: bool | None = None
        self.problem = ""
        """Why the last question has no answer although there is a repository, or ""."""

    @property
    def available(self) -> bool:
        """Whether there is git, and a repository that it can read."""
        if self._available is None:
            self._available = (self._ask(["rev-parse", "--is-inside-work-tree"]) or "").strip() == "true"
        return self._available

    def tracked(self, paths: Collection[str]) -> set[str]:
        """The tracked files that are, or lie below, these paths (from the root; "" = all), those of submodules too."""
        if not paths:
            return set()
        wanted = [path.rstrip("/") for path in paths]
        pick = "" not in wanted and sum(len(path) + 12 for path in wanted) > LINE
        limit = [] if pick or "" in wanted else wanted
        command = ["--literal-pathspecs", "ls-files", "-z", "--cached", "--recurse-submodules", "--", *limit]
        found = set(_names(self._ask(command)))
        if not pick:
            return found
        chosen = PathSet(wanted, wanted)
        return {path for path in found if chosen.contains(path)}

    def ignored(self, paths: Collection[str]) -> set[str]:
        """Those of these paths that git ignores and does not track."""
        if not paths:
            return set()
        # In front of a colon it would read magic.
        text = "".join(f"./{path}\0" if path.startswith(":") else f"{path}\0" for path in paths)
        said = self._ask(["check-ignore", "-z", "--stdin"], text, fine=(0, 1))
        return {path.removeprefix("./") for path in _names(said)}

    def head(self) -> tuple[str, bool] | None:
        """The commit, and whether the work tree differs from it; None where there is no commit or no answer."""
        said = self._ask(["status", "--porcelain=v2", "--branch", "-z", "--untracked-files=no"])
        commit, dirty = "", False
        for line in _names(said):
            if line.startswith("# branch.oid "):
                commit = line.removeprefix("# branch.oid ")
            elif not line.startswith("#"):
                dirty = True
        return (commit, dirty) if commit and commit != "(initial)" else None

    def changed_since(self, ref: str) -> set[str] | None:
        """The files that differ between a commit and the work tree, untracked ones too; None = no answer.

        From the root; of a file that was moved, both names.
        """
        said = self._ask(["diff", "--name-only", "--no-renames", "--relative", "-z", ref, "--"])
        new = self._ask(["ls-files", "--others", "--exclude-standard", "-z"])
        return None if said is None or new is None else {*_names(said), *_names(new)}

    def merge_base(self, branches: Sequence[str]) -> str | None:
        """The commit that the work tree's branch has in common with the first of these that exists."""
        for branch in branches:
            if (found := self._ask(["merge-base", branch, "HEAD"])) is not None:
                return found.strip()
        return None

    def versions(self, path: str, most: int) -> Iterator[tuple[str, bytes]]:
        """The last versions of a file: short name of the commit, content; newest first. Large ones are left out."""
        said = self._ask(["--literal-pathspecs", "log", f"-n{most}", "--format=%h", "--", path])
        for commit in (said or "").split():
            text = self._ask(["cat-file", "blob", f"{commit}:./{path}"])
            if text is not None:
                yield commit, os.fsencode(text)

    def changed_lines(self, commit: str, path: str) -> tuple[int, int] | None:
        """Lines added to and removed from a file since a commit; None for a binary one."""
        said = self._ask(["--literal-pathspecs", "diff", "--numstat", commit, "--", path]) or ""
        numbers = said.split("\t")[:2]
        if len(numbers) < 2 or not all(number.isdigit() for number in numbers):  # noqa: PLR2004
            return None
        return int(numbers[0]), int(numbers[1])

    def _ask(self, arguments: list[str], text: str = "", fine: tuple[int, ...] = (0,)) -> str | None:
        import subprocess

        self.problem = ""
        # Its monitor is a daemon, which would outlive us.
        command = ["git", "-c", "core.fsmonitor=false", *arguments]
        try:
            done = subprocess.run(
                command, cwd=self._root, input=os.fsencode(text), capture_output=True, timeout=SECONDS,
                env=_environment(), check=False,
            )  # fmt: skip
        except FileNotFoundError:
            return None
        except (OSError, subprocess.TimeoutExpired) as error:
            self.problem = str(error)
            return None
        if done.returncode in fine:
            return os.fsdecode(done.stdout)
        said = done.stderr.decode("utf-8", "replace").strip()
        if "not a git repository" not in said:
            self.problem = said.rpartition("\n")[2] or f"git {arguments[0]} ended with {done.returncode}"
        return None


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in KEPT}
    # The messages that we look at are the untranslated ones.
    return kept | {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


def _names(answer: str | None) -> Iterator[str]:
    return (name for name in (answer or "").split("\0") if name)
