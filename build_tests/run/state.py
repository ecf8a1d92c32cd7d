"""What the builds of this checkout have left: per step, the fingerprint and outputs of its last run.

Lies in pytest's cache folder as one file, written atomically by one writer at the end of a run; what happened since is
in the journal. Every claim in it is checked against the disk before it is believed, so a stale file costs time only.
"""

from __future__ import annotations

import json
import marshal
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from build_tests.run.journal import Journal, replay

VERSION = 1
MARSHAL = 4
"""The form that every Python from 3.4 on reads; at 1,000 steps it saves 0.04 s a run over JSON."""
NAME = "hashes"
MADE = "made.json"
"""Beside the journal: what lies in outputs because we made it. pytest's cache may be cleared by anyone; without this,
the next build could not tell its own files from somebody's, and would have to refuse to remove them."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """The last run of one step here."""

    key: str = ""
    """"" unless it ended well and its inputs held still: then `fingerprint` is what the outputs were made from."""
    status: str = "ok"
    """ok, failed, raced (an input changed meanwhile), interrupted."""
    fingerprint: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    """The manifest of its content outputs, with stats."""
    digests: dict[str, str] = field(default_factory=dict)
    """Output path or image reference → digest, as dependents see it."""
    seconds: float = 0.0
    """How long its last good run took."""
    context: str = ""
    """What else than files entered the key, as a digest; "" where the files of `fingerprint` may not be all."""
    shared: dict[str, str] = field(default_factory=dict)
    """Output path → the digest that other machines know it by; empty where nobody has asked yet."""
    restored: bool = False
    """Its outputs came from a cache: a tool's own memory in this checkout does not belong to them."""
    cases: str = ""
    """The JUnit cases its own tool reported, as XML text; they join the report of a run that restores it."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(slots=True, kw_only=True)
class Memory:
    """The whole state, plain data."""

    entries: dict[str, Entry] = field(default_factory=dict)
    unfinished: dict[str, str] = field(default_factory=dict)
    """label → failed, blocked or cancelled: what `--lf` selects."""
    files: list[Any] = field(default_factory=list)
    folders: list[Any] = field(default_factory=list)
    tools: dict[str, Any] = field(default_factory=dict)
    checked: dict[str, list[str]] = field(default_factory=dict)
    """label → the outputs that git was asked about."""


class StateStore:
    """Loads, journals and saves the memory of a checkout. One writer: the controller that holds the lock.

    Args:
        folder: pytest's cache folder for us, created at the first save.
        journal: the path of the journal.
        warn: takes one line; no state file ever stops a build.
    """

    def __init__(self, folder: str, journal: str, warn: Callable[[str], None]) -> None:
        self._path = os.path.join(folder, NAME)
        self._journal_path = journal
        self._made_path = os.path.join(os.path.dirname(journal), MADE)
        self._journal: Journal | None = None
        self._warn = warn
        self._ours = True
        self.memory = Memory()
        self.changed = False
        """Something must be saved at the end."""

    def load(self) -> Memory:
        """Read the file, then what a run that was cut off left in the journal."""
        self.memory = self._read()
        for line in replay(self._journal_path):
            self.changed = True
            try:
                self._apply(line)
            except (KeyError, TypeError) as error:
                self._warn(f"{self._journal_path}: a line of another release is passed over ({error})")
        return self.memory

    def started(self, label: str) -> None:
        """The step is about to touch its outputs: until `ended`, they are what a cut-off run left."""
        self._append({"start": label})
        self.memory.entries[label] = self._interrupted(label)
        self.changed = True

    def ended(self, label: str, entry: Entry) -> None:
        """The step's new entry; safe from a kill when this returns."""
        self._append({"end": label, "entry": entry.to_json()})
        self.memory.entries[label] = entry

    def save(self) -> None:
        """Write the whole memory, then forget the journal. A failure is a warning."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        if not self.changed or not self._ours:
            return
        try:
            self._write()
        except OSError as error:
            self._warn(f"{self._path} can't be written ({error.strerror}): the next build does this work again")
            return
        self._drop_journal()
        self.changed = False

    def leave(self) -> None:
        """Save nothing: whoever loads next finds what was noted so far in the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def forget(self) -> None:
        """`--cache-clear`: nothing was ever built here; what lies in outputs may still be removed as ours."""
        self._drop_journal()

    def _drop_journal(self) -> None:
        try:
            os.unlink(self._journal_path)
        except FileNotFoundError:
            return
        except OSError as error:
            # Its lines are in the state already: read twice, they say the same.
            self._warn(f"{self._journal_path} can't be removed ({error.strerror})")

    def _append(self, line: Any) -> None:
        try:
            if self._journal is None:
                self._journal = Journal(self._journal_path)
            self._journal.write(line)
        except OSError as error:
            if not self.changed:
                self._warn(f"{self._journal_path} can't be written ({error.strerror})")

    def _apply(self, line: dict[str, Any]) -> None:
        if "start" in line:
            self.memory.entries[line["start"]] = self._interrupted(line["start"])
        else:
            self.memory.entries[line["end"]] = Entry(**line["entry"])

    def _interrupted(self, label: str) -> Entry:
        before = self.memory.entries.get(label, Entry())
        return Entry(status="interrupted", outputs=before.outputs, seconds=before.seconds)

    def _read(self) -> Memory:
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return self._only_made()
        except OSError as error:
            return self._unusable(f"can't be read ({error.strerror})")
        header, _, body = data.partition(b"\n")
        try:
            version, checksum = json.loads(header)
            if version > VERSION:
                self._ours = False
                return self._unusable("was written by a newer release, and is left alone")
            if version == VERSION and checksum == _checksum(body):
                saved = marshal.loads(body)  # noqa: S302 - checked, and written by us
                saved["entries"] = {label: Entry(**entry) for label, entry in saved["entries"].items()}
                return Memory(**saved)
        except (ValueError, TypeError, KeyError, AttributeError, EOFError, RecursionError):
            pass
        return self._unusable("is damaged or of another release")

    def _unusable(self, why: str) -> Memory:
        self._warn(f"{self._path} {why}: everything counts as not built")
        return self._only_made()

    def _only_made(self) -> Memory:
        """The hashes are lost: entries that say only what may be removed as ours."""
        try:
            with open(self._made_path, "rb") as file:
                checksum, _, body = file.read().partition(b"\n")
            made = json.loads(body) if checksum == _checksum(body).encode() else {}
        except (OSError, ValueError):
            made = {}
        return Memory(entries={label: Entry(outputs=outputs) for label, outputs in made.items()})

    def _write(self) -> None:
        memory = self.memory
        body = marshal.dumps(
            {
                **{f.name: getattr(memory, f.name) for f in fields(memory) if f.name != "entries"},
                "entries": {label: entry.to_json() for label, entry in memory.entries.items()},
            },
            MARSHAL,
        )
        header = json.dumps([VERSION, _checksum(body)]).encode()
        outputs = {label: entry.outputs for label, entry in memory.entries.items()}
        made = json.dumps(outputs, separators=(",", ":")).encode()
        # First: a manifest too new only lets us remove what we made, one too old would forget some of it.
        write_atomically(self._made_path, _checksum(made).encode() + b"\n" + made)
        write_atomically(self._path, header + b"\n" + body)


def _checksum(body: bytes) -> str:
    from xxhash import xxh3_128_hexdigest

    return xxh3_128_hexdigest(body)


def write_atomically(path: str, data: bytes, *, durable: bool = True) -> None:
    """Whoever reads `path` sees the old content or all of the new. Raises OSError; leaves no temporary file.

    Without `durable`, a power cut may leave it empty: for what is made anew each time.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    # Always the same name: what a kill leaves is overwritten by the next write.
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
