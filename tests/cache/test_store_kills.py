"""Many processes in one local store, with eviction at work, and death at any moment.

STORE_SECONDS: how long the crowd works (3 otherwise). KILLS: how many processes are killed (50 otherwise).
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest

from build_tests.cache.artifact import blobs_of, decode
from build_tests.cache.evict import Evictor, usage
from build_tests.cache.local import LocalStore, _unframed

SECONDS = float(os.environ.get("STORE_SECONDS", "3"))
KILLS = int(os.environ.get("KILLS", "50"))
CROWD = 20
CAP = 5 << 20
"""Bytes; a fraction of what the crowd would store."""

STEPS = '''
"""A build of steps with known results: each is restored if its entry is there, else made and stored."""

import json, os, random, shutil, sys, time
from build_tests.cache.artifact import blobs_of, checked, decode, encode, listed, place, stage
from build_tests.cache.evict import Evictor
from build_tests.cache.local import LocalStore
from build_tests.cache.model import record_name

OUTPUTS = [("out", True)]


def expected(key):
    """File name → content of a step's output."""
    dice = random.Random(key)
    sizes = [dice.choice((0, 10, 3000, 20_000)) for _ in range(dice.randrange(1, 4))]
    if dice.random() < BIG:
        sizes.append(1_500_000)
    files = {f"deep/{at}": dice.randbytes(size) for at, size in enumerate(sizes)}
    files["shared"] = b"%d" % dice.randrange(50)
    return files


def made(checkout, key):
    for name, content in expected(key).items():
        path = f"{checkout}/out/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


def there(checkout):
    found = {}
    for folder, _, names in os.walk(f"{checkout}/out"):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, f"{checkout}/out")] = file.read()
    return found


def step(store, checkout, key):
    """Bring a step's output about; whether it was restored."""
    shutil.rmtree(f"{checkout}/out", ignore_errors=True)
    name = record_name("crowd", key)
    record = store.read_record(name)
    if record is not None:
        items = decode(json.loads(record))
        checked(items, OUTPUTS)
        if stage(items, store.fetch, f"{checkout}/staging/1") is None:
            place(checkout, items, f"{checkout}/staging/1")
            assert there(checkout) == expected(key), f"wrong bytes restored for {key}"
            return True
    made(checkout, key)
    items = listed(checkout, OUTPUTS)
    blobs = blobs_of(items)
    lacking = store.missing(blobs)
    for item in items:
        if item.is_file and item.blob in lacking:
            store.store(item.blob, f"{checkout}/{item.path}")
    store.write_record(name, json.dumps(encode(items)).encode(), sorted(blobs, key=str), over=record)
    return False
'''

CROWD_MEMBER = (
    "BIG = 0.0\n"
    + STEPS
    + """
cache, checkout, seed, seconds, cap = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
os.makedirs(f"{checkout}/staging")
store = LocalStore(cache)
evictor = Evictor(store, ttl=3600, max_size=cap, grace=0.5, blobs_of=lambda record: blobs_of(decode(json.loads(record))))
dice = random.Random(seed)
done = hits = evicted = 0
end = time.monotonic() + seconds
while time.monotonic() < end:
    # Some steps are asked for again and again, most hardly ever.
    hits += step(store, checkout, str(int(3000 * dice.random() ** 3)))
    done += 1
    store.close()
    evicted += evictor.run().records
    time.sleep(dice.random() * 0.2)  # what a step itself takes
print(done, hits, evicted, store.quarantined)
"""
)

VICTIM = (
    "BIG = 0.2\n"
    + STEPS
    + """
cache, checkout, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.makedirs(checkout, exist_ok=True)
shutil.rmtree(f"{checkout}/staging", ignore_errors=True)
os.mkdir(f"{checkout}/staging")
store = LocalStore(cache)
dice = random.Random(seed)
print("ready", flush=True)
while True:
    step(store, checkout, f"{seed - dice.randrange(2)} {dice.randrange(30)}")
"""
)


def entry_blobs(record):
    return blobs_of(decode(json.loads(record)))


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.slow
def test_a_crowd_in_one_store_with_eviction_running(tmp_path):
    cache = str(tmp_path / "cache")
    crowd = [start(CROWD_MEMBER, cache, tmp_path / f"checkout{at}", at, SECONDS, CAP) for at in range(CROWD)]
    largest, over = 0, threading.Event()

    def watch():
        nonlocal largest
        store = LocalStore(cache)
        while not over.wait(0.1):
            largest = max(largest, usage(store).bytes)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        ended = [(member.communicate(timeout=SECONDS * 5 + 120), member.returncode) for member in crowd]
    finally:
        over.set()
        watcher.join()
        for member in crowd:
            member.kill()
    assert [said for (_, said), status in ended if status or said] == []
    done, hits, evicted, quarantined = (
        sum(column) for column in zip(*(map(int, out.split()) for (out, _), _ in ended), strict=True)
    )
    print(f"{done} steps, {hits} restored, {evicted} evicted; {largest / CAP:.0%} of the limit at most")
    assert quarantined == 0
    assert 0 < hits < done
    assert largest <= CAP * 1.1
    assert evicted > 0


def half_entries(store):
    """What would count, and is not whole."""
    blobs = Path(store.blobs).glob("*/*")
    found = [f"blob {path}" for path in blobs if sha256(path.read_bytes()).hexdigest() != path.parent.name + path.name]
    for path in Path(store.records).glob("*/*"):
        record = _unframed(path.read_bytes())
        if record is None:
            found.append(f"torn record {path}")
        elif lacking := store.missing(entry_blobs(record)):
            found.append(f"record {path} lacks {lacking}")
    return found


@pytest.mark.slow
def test_killed_at_any_moment_while_storing_and_restoring(tmp_path):
    dice = random.Random(20)
    store = LocalStore(str(tmp_path / "cache"))
    left_over = 0
    for number in range(KILLS):
        victim = start(VICTIM, store.folder, tmp_path / "checkout", number)
        assert victim.stdout.readline() == "ready\n", victim.communicate()[1]
        time.sleep(dice.random() * 0.06)
        victim.send_signal(signal.SIGKILL)
        _, said = victim.communicate(timeout=60)
        # An assertion of the victim: it took up what the one before it had left, and it was wrong.
        assert (victim.returncode, said) == (-signal.SIGKILL, "")
        assert half_entries(store) == []
        assert not os.path.exists(store.quarantine)
        if number % 10 == 9:
            left_over += clear(store)
    print(f"{KILLS} kills, {left_over} temporary files left over and removed")


def clear(store):
    """Remove everything, temporary files the way that eviction does it; how many those were."""
    later = LocalStore(store.folder, clock=lambda: time.time() + 7200)
    removed = Evictor(later, ttl=None, max_size=None, blobs_of=entry_blobs).run(full=True)
    assert os.listdir(store.temporary) == []
    assert (removed.records, removed.blobs) == (0, 0)
    shutil.rmtree(store.folder)
    return removed.temporary
