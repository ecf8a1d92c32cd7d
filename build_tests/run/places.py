"""Where our own files lie below a root. Knows names, not what is in the files."""

from __future__ import annotations

import os
from dataclasses import dataclass

FOLDER = ".build"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The `.build` folder of a root; every path is absolute."""

    folder: str
    warning: str = ""
    """Set when the checkout can't be written and a temporary folder stands in."""

    @property
    def lock(self) -> str:
        """Held while a build runs."""
        return f"{self.folder}/lock"

    @property
    def journal(self) -> str:
        """What the running build has done so far."""
        return f"{self.folder}/journal"

    @property
    def staging(self) -> str:
        """Files on their way from a cache to the outputs."""
        return f"{self.folder}/staging"

    @property
    def runs(self) -> str:
        """Records of runs, `ID.jsonl`."""
        return f"{self.folder}/runs"

    @property
    def reports(self) -> str:
        """JUnit files."""
        return f"{self.folder}/reports"

    @property
    def daemons(self) -> str:
        """Processes that steps were allowed to leave behind."""
        return f"{self.folder}/daemons"

    @property
    def artifacts(self) -> str:
        """Collected outputs of targets with `artifacts: true`."""
        return f"{self.folder}/artifacts"

    @property
    def logs(self) -> str:
        """Whole logs, a folder a run."""
        return f"{self.folder}/logs"

    def log(self, run: str, label: str) -> str:
        """The log file of one step in one run."""
        component, _, step = label.partition(":")
        # Names may have dots, but no plus sign: a:b.c and a.b:c are two.
        return f"{self.logs}/{run}/{component.replace('.', '+')}.{step}.log"


def prepare(root: str) -> Places:
    """Make the `.build` folder with a `.gitignore` of its own; a read-only checkout gets a temporary one."""
    folder = os.path.join(root, FOLDER)
    try:
        os.makedirs(folder, exist_ok=True)
        ignore = f"{folder}/.gitignore"
        if not os.path.exists(ignore):
            with open(ignore, "w", encoding="utf-8") as file:
                file.write("*\n")
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "not writable", folder)
    except OSError as error:
        import tempfile

        stand_in = tempfile.mkdtemp(prefix="pytest-build-")
        return Places(
            folder=stand_in,
            warning=f"{folder} can't be written ({error.strerror}): records and logs of this run go to {stand_in}",
        )
    return Places(folder=folder)


def in_use(name: str, *, but: int = 0) -> bool:
    """Whether a file on its way, `restore-PROCESS-…`, belongs to a process that lives, and is not `but`."""
    kind, _, rest = name.partition("-")
    process = rest.partition("-")[0]
    if kind != "restore" or not process.isdigit() or int(process) == but:
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
