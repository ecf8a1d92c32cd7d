"""What storing and fetching one big blob, and many small ones, costs beside `cp`: medians of interleaved rounds.

A blob is verified by SHA-256 whenever it enters or leaves the store, on one core; the copy runs beside it. So the row
`sha256 alone` is the floor of both, whatever else is done. Run: `python benchmarks/blob_copy.py [--mb 1024]`.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import measure

from build_tests.cache.local import LocalStore
from build_tests.cache.model import Blob

SMALL = 1000
SMALL_BYTES = 2000

MEMORY = """
import resource, sys
from build_tests.cache.local import LocalStore
from build_tests.cache.model import Blob
def peak():
    if sys.platform == "linux":  # ru_maxrss there counts what the parent had, too
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1.024e-3 for line in status if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
folder, source, out, digest, size = sys.argv[1:]
store, blob, idle = LocalStore(folder), Blob(digest, int(size)), peak()
store.store(blob, source)
assert store.fetch(blob, out)
print(peak() - idle)
"""


class Bench:
    """Files to copy, and a place for the copies."""

    def __init__(self, folder: str, megabytes: int) -> None:
        self.folder = folder
        self.source = os.path.join(folder, "source")
        self.out = os.path.join(folder, "out")
        sha = hashlib.sha256()
        with open(self.source, "wb") as file:
            for _ in range(megabytes):
                sha.update(piece := os.urandom(1_000_000))
                file.write(piece)
        self.blob = Blob(sha.hexdigest(), megabytes * 1_000_000)
        self.store = LocalStore(os.path.join(folder, "cache"))

    def forget(self) -> None:
        """The copies of the last round; and let the disk have its peace."""
        shutil.rmtree(self.store.folder, ignore_errors=True)
        if os.path.exists(self.out):
            os.unlink(self.out)
        os.sync()

    def warm(self) -> None:
        """Have pages at hand: a virtual machine gets those that it has not used for a while slowly from its host."""
        subprocess.run([sys.executable, "-c", f"b'x' * {2 * self.blob.size}"], check=True)

    def cp(self) -> None:
        """The plain client."""
        subprocess.run(["cp", self.source, self.out], check=True)

    def hash(self) -> None:
        """The floor of all that verifies."""
        sha, room = hashlib.sha256(), memoryview(bytearray(1 << 18))
        with open(self.source, "rb", buffering=0) as file:
            while count := file.readinto(room):
                sha.update(room[:count])

    def serial(self) -> None:
        """What one writes first: read, hash, write, in one thread."""
        sha, room = hashlib.sha256(), memoryview(bytearray(1 << 18))
        with open(self.source, "rb", buffering=0) as file, open(self.out, "wb", buffering=0) as copy:
            while count := file.readinto(room):
                sha.update(room[:count])
                copy.write(room[:count])

    def keep(self) -> None:
        """Into the store."""
        self.store.store(self.blob, self.source)

    def fetch(self) -> None:
        """Out of it."""
        if not self.store.fetch(self.blob, self.out):
            raise RuntimeError("the blob is not there")

    def rows(self, rounds: int) -> list[list[str]]:
        """The table of the big blob."""
        ways: dict[str, tuple[Callable[[], None], Callable[[], None] | None]] = {
            "cp": (self.cp, None),
            "cp, and wait for the disk": (self.cp, os.sync),
            "sha256 alone": (self.hash, None),
            "read, hash, write in one thread": (self.serial, None),
            "store": (self.keep, None),
            "store, and wait for the disk": (self.keep, os.sync),
            "fetch": (self.fetch, None),
            "fetch, and wait for the disk": (self.fetch, os.sync),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, (way, after) in ways.items():
                self.forget()
                if way == self.fetch:
                    self.keep()
                    os.sync()
                self.warm()
                began = time.perf_counter()
                way()
                if after is not None:
                    after()
                taken[name].append(time.perf_counter() - began)
        seconds = {name: statistics.median(values) for name, values in taken.items()}
        return [self._row(name, value, seconds) for name, value in seconds.items()]

    def _row(self, name: str, value: float, seconds: dict[str, float]) -> list[str]:
        rival = "cp, and wait for the disk" if "wait" in name else "cp"
        return [
            name,
            f"{value:.2f} s",
            f"{self.blob.size / value / 1e9:.2f} GB/s",
            f"{seconds[rival] / value:.0%}",
            f"{seconds['sha256 alone'] / value:.0%}",
        ]

    def memory(self) -> float:
        """MB that storing and fetching add to an idle process."""
        self.forget()
        arguments = [self.store.folder, self.source, self.out, self.blob.digest, str(self.blob.size)]
        done = subprocess.run([sys.executable, "-c", MEMORY, *arguments], check=True, capture_output=True, text=True)
        return float(done.stdout)


def small_rows(folder: str, rounds: int) -> list[list[str]]:
    """The table of the small ones: milliseconds of CPU a file."""
    taken: dict[str, list[float]] = {}
    for at in range(rounds):
        below = os.path.join(folder, f"small{at}")
        store, files = LocalStore(os.path.join(below, "cache")), []
        os.makedirs(os.path.join(below, "out"))
        for number in range(SMALL):
            content, path = os.urandom(SMALL_BYTES), os.path.join(below, str(number))
            with open(path, "wb") as file:
                file.write(content)
            files.append((Blob(hashlib.sha256(content).hexdigest(), SMALL_BYTES), path, f"{below}/out/{number}"))
        blobs = [blob for blob, _, _ in files]
        ways: dict[str, Callable[[], object]] = {
            "shutil.copyfile": lambda files=files: [shutil.copyfile(path, f"{out}.copy") for _, path, out in files],
            "store": lambda store=store, files=files: [store.store(blob, path) for blob, path, _ in files],
            "store what is there": lambda store=store, files=files: [
                store.store(blob, path) for blob, path, _ in files
            ],
            "missing": lambda store=store, blobs=blobs: store.missing(blobs),
            "fetch": lambda store=store, files=files: [store.fetch(blob, out) for blob, _, out in files],
        }
        for name, way in ways.items():
            began = time.process_time()
            way()
            taken.setdefault(name, []).append((time.process_time() - began) / SMALL)
        shutil.rmtree(below)
    return [[name, f"{statistics.median(values) * 1000:.3f} ms"] for name, values in taken.items()]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=1024, help="size of the big blob, in units of 1,000,000 bytes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where to copy; a temporary folder otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        bench = Bench(folder, options.mb)
        print(f"One blob of {options.mb} MB, medians of {options.rounds}:\n")
        print(measure.table(["", "time", "throughput", "of cp's", "of sha256's"], bench.rows(options.rounds)))
        print(f"Memory above idle: {bench.memory():.0f} MB.\n")
        print(f"{SMALL} blobs of {SMALL_BYTES} bytes, CPU each:\n")
        print(measure.table(["", "CPU"], small_rows(folder, options.rounds)))


if __name__ == "__main__":
    main()
