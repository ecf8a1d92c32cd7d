"""Why the state of a running build is an append-only journal: 1,000 finished steps written one by one, four ways.

A record must outlive a SIGKILL of the writer the moment its write returns. Each way is timed, then killed in the
middle, and what it had acknowledged is compared with what is found. Run: `python benchmarks/state_store.py`.
"""

import argparse
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import measure

from build_tests.run.journal import Journal, replay
from build_tests.run.state import Entry, StateStore, write_atomically

STEPS = 1000
KILLED_AFTER = 400
ROUNDS = 5


def entry(number: int) -> dict:
    """A record as large as a step's with ten inputs, in round numbers 1.5 kB."""
    inputs = [[f"layer/in/s{number}.{at}.txt", "f", f"{number * 31 + at:032x}"] for at in range(10)]
    outputs = [[f"layer/out/s{number}.txt", "f", f"{number:032x}", 20, 10**18, 10**18, number, 33188, 1]]
    return {
        "key": f"{number:032x}", "status": "ok", "fingerprint": [[], [], [], inputs], "outputs": outputs,
        "digests": {f"layer/out/s{number}.txt": f"{number:032x}"}, "seconds": 0.5, "cases": "",
    }  # fmt: skip


def label(number: int) -> str:
    """Of a step."""
    return f"layer:s{number}"


class OurJournal:
    """The way of `build_tests`: one checksummed line, one write()."""

    name = "journal, one write each"
    sync = False

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.path = os.path.join(folder, "journal")
        self._journal = Journal(self.path)

    def put(self, number: int) -> None:
        self._journal.write({"end": label(number), "entry": entry(number)})
        if self.sync:
            descriptor = os.open(self.path, os.O_WRONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        self._journal.close()

    def load(self) -> int:
        return sum(1 for _ in replay(self.path))

    def compact(self) -> None:
        """Read the journal, write the whole state in one piece, forget the journal."""
        store = StateStore(os.path.join(self.folder, "state"), self.path, print)
        store.load()
        store.save()


class SyncedJournal(OurJournal):
    """What a power cut could not touch either."""

    name = "journal, fsync each"
    sync = True


class Wal:
    """SQLite in WAL mode, a transaction a record."""

    name = "SQLite WAL, synchronous=NORMAL"
    synchronous = "NORMAL"

    def __init__(self, folder: str) -> None:
        self._base = sqlite3.connect(os.path.join(folder, "state.sqlite"), isolation_level=None)
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute(f"PRAGMA synchronous={self.synchronous}")
        self._base.execute("CREATE TABLE IF NOT EXISTS entries (label TEXT PRIMARY KEY, entry TEXT)")

    def put(self, number: int) -> None:
        text = json.dumps(entry(number), separators=(",", ":"))
        self._base.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (label(number), text))

    def close(self) -> None:
        self._base.close()

    def load(self) -> int:
        rows = self._base.execute("SELECT label, entry FROM entries")
        return len({name: Entry(**json.loads(text)) for name, text in rows})

    def compact(self) -> None:
        self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class SyncedWal(Wal):
    """With an fsync a transaction."""

    name = "SQLite WAL, synchronous=FULL"
    synchronous = "FULL"


class WholeFile:
    """One JSON file, written again for each record, as pytest's own cache would (here: atomically)."""

    name = "one JSON file, rewritten each time"

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "state.json")
        self._all: dict[str, dict] = {}

    def put(self, number: int) -> None:
        self._all[label(number)] = entry(number)
        write_atomically(self._path, json.dumps(self._all).encode())

    def close(self) -> None:
        """Nothing is open."""

    def load(self) -> int:
        with open(self._path, encoding="utf-8") as file:
            return len(json.load(file))

    def compact(self) -> None:
        """It is compact."""


WAYS = {way.__name__: way for way in (OurJournal, SyncedJournal, Wal, SyncedWal, WholeFile)}


def timed(action: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def once(way: type) -> tuple[float, float, float]:
    """Milliseconds of writing all records, of reading them, of compacting."""
    with measure.scratch() as folder:
        store = way(folder)
        wrote = timed(lambda: [store.put(number) for number in range(STEPS)])
        read = timed(store.load)
        compacted = timed(store.compact)
        store.close()
    return wrote, read, compacted


def lost_by_a_kill(way: type) -> int:
    """Records that were acknowledged and are not there after a SIGKILL."""
    with measure.scratch() as folder:
        command = [sys.executable, os.path.abspath(__file__), "--writer", way.__name__, folder]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        acknowledged = len(writer.stdout.read(KILLED_AFTER))
        writer.send_signal(signal.SIGKILL)
        acknowledged += len(writer.stdout.read())
        writer.wait()
        store = way(folder)
        found = store.load()
        store.close()
    return max(0, acknowledged - found)


def write_for_ever(way: type, folder: str) -> None:
    """Acknowledge each record with one byte, until killed."""
    store = way(folder)
    for number in range(1_000_000):
        store.put(number)
        os.write(1, b".")


def row(way: type, rounds: int) -> list[str]:
    """The way's line of the table."""
    measure.say(way.name)
    times = [statistics.median(column) for column in zip(*(once(way) for _ in range(rounds)), strict=True)]
    return [way.name, *(f"{value:.1f}" for value in times), str(lost_by_a_kill(way))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="the median of how many")
    parser.add_argument("--writer", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer:
        write_for_ever(WAYS[options.writer[0]], options.writer[1])
    head = [f"{STEPS:,} records", "write, ms", "read, ms", "compact, ms", "lost by SIGKILL"]
    print(measure.table(head, [row(way, options.rounds) for way in WAYS.values()]))


if __name__ == "__main__":
    main()
