"""Eviction: what goes and what stays, whatever the clock says and whoever else is at work."""

import fcntl
import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from contract import blob_of, keep, name_of

from build_tests.cache.evict import Evicted, Evictor, Usage, usage
from build_tests.cache.local import LocalStore, occupied
from build_tests.cache.model import Blob, StoreError
from build_tests.cache.sweepstate import DAY

YEAR = 365 * DAY
BLOCK = 4096


class Clock:
    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.time() + self.ahead


def blobs_of(record):
    """In these tests a record is a list of blobs as JSON. Raises ValueError."""
    return [Blob(*pair) for pair in json.loads(record)]


class Cache:
    """A store and its entries by short names."""

    def __init__(self, folder, tmp_path):
        self.clock = Clock()
        self.store = LocalStore(str(folder), clock=self.clock)
        self.tmp_path = tmp_path
        self.entries = {}

    def add(self, name, *contents, days=0.0):
        blobs = [keep(self.store, self.tmp_path, content) for content in contents]
        record = json.dumps([[blob.digest, blob.size] for blob in blobs]).encode()
        assert self.store.write_record(name_of(name), record, blobs)
        self.entries[name] = blobs
        self.age(name, days)

    def paths(self, name):
        return [self.record(name), *map(self.blob, self.entries[name])]

    def record(self, name):
        return Path(self.store.records, name_of(name)[:2], name_of(name)[2:])

    def blob(self, blob):
        return Path(self.store.blobs, blob.digest[:2], blob.digest[2:])

    def age(self, name, days):
        moment = self.clock() - days * DAY
        for path in self.paths(name):
            os.utime(path, (moment, moment))

    def evictor(self, *, ttl=7 * DAY, max_size=None, grace=600.0, blobs_of=blobs_of):
        return Evictor(self.store, ttl=ttl, max_size=max_size, blobs_of=blobs_of, grace=grace)

    def run(self, *, budget_seconds=None, full=True, **options):
        evictor = self.evictor(**options)
        if full and budget_seconds is None:
            planned = evictor.plan()
            assert planned == (done := evictor.run(full=True))
            assert self.whole()
        else:
            done = evictor.run(full=full, budget_seconds=budget_seconds)
        return done

    def left(self):
        """The names of the entries whose record is there."""
        return {name for name in self.entries if self.record(name).exists()}

    def whole(self):
        """Whether what is kept has all its blobs."""
        return all(path.exists() for name in self.left() for path in self.paths(name))


@pytest.fixture
def cache(tmp_path):
    (tmp_path / "sources").mkdir()
    return Cache(tmp_path / "cache", tmp_path / "sources")


# Time to live


def test_what_was_not_used_for_the_time_to_live_goes(cache):
    cache.add("old", b"old", b"old too", days=8)
    cache.add("new", b"new", days=6)
    assert cache.run() == Evicted(records=1, blobs=2, bytes=3 * BLOCK)
    assert cache.left() == {"new"}
    assert cache.whole()
    assert usage(cache.store) == Usage(records=1, blobs=1, bytes=2 * BLOCK)
    assert cache.run() == Evicted()


def test_without_a_time_to_live_nothing_is_too_old(cache):
    cache.add("old", b"old", days=800)
    assert cache.run(ttl=None) == Evicted()
    assert cache.left() == {"old"}


def test_a_restore_is_a_use(cache, tmp_path):
    cache.add("old", b"old", days=8)
    assert cache.store.read_record(name_of("old"))
    assert cache.store.fetch(blob_of(b"old"), str(tmp_path / "out"))
    assert cache.run() == Evicted()


def test_an_entry_stays_whole_when_another_with_the_same_blob_goes(cache):
    cache.add("old", b"shared", b"own", days=8)
    cache.add("new", b"shared", days=0)
    assert cache.run() == Evicted(records=1, blobs=1, bytes=2 * BLOCK)
    assert cache.left() == {"new"}
    assert cache.whole()


def test_a_record_that_was_used_but_lost_a_blob_goes(cache):
    cache.add("lacking", b"there", b"gone")
    cache.add("old", b"old", days=8)
    cache.blob(blob_of(b"gone")).unlink()
    cache.run()
    assert cache.left() == set()


def test_a_record_whose_blobs_are_in_use_by_others_still_grows_old(cache):
    """Or each old key of a step whose outputs never change would be kept for ever."""
    cache.add("old", b"same", days=8)
    cache.add("new", b"same", days=0)
    cache.run()
    assert cache.left() == {"new"}


def test_records_that_can_not_be_read_go(cache):
    cache.add("old", b"old", days=8)
    cache.add("new", b"new", days=1)
    assert cache.store.write_record(name_of("unreadable"), b"[[", [])
    assert cache.store.write_record(name_of("torn"), b"[]", [])
    torn = Path(cache.store.records, name_of("torn")[:2], name_of("torn")[2:])
    torn.chmod(0o600)
    torn.write_bytes(b"to")
    assert cache.run().records == 3
    assert cache.left() == {"new"}
    assert cache.store.read_record(name_of("unreadable")) is None


def test_a_record_without_blobs_goes_by_its_own_time(cache):
    cache.add("old", days=8)
    cache.add("new", days=6)
    cache.run()
    assert cache.left() == {"new"}


def test_blobs_that_no_record_names_go(cache):
    cache.add("old", b"orphan", days=8)
    cache.record("old").unlink()
    assert cache.run() == Evicted(blobs=1, bytes=BLOCK)


def test_what_was_stored_just_now_is_never_removed(cache):
    """Its record may be about to be written."""
    cache.add("old", b"old", days=8)
    blob = keep(cache.store, cache.tmp_path, b"x" * 5000)
    cache.run(ttl=0.0, max_size=0)
    assert cache.store.missing([blob]) == set()


def test_what_a_build_found_present_is_never_removed(cache):
    cache.add("old", b"old", days=8)
    assert cache.store.missing([blob_of(b"old")]) == set()
    cache.run()
    assert cache.store.missing([blob_of(b"old")]) == set()


# Size


def test_what_is_over_the_size_goes_oldest_use_first(cache):
    for number in range(20):
        cache.add(f"e{number}", b"%d" % number * 9000, days=20 - number)
    each = BLOCK + occupied(18000)
    removed = cache.run(ttl=None, max_size=10 * each)
    assert cache.left() == {f"e{number}" for number in range(12, 20)}
    assert removed == Evicted(records=12, blobs=12, bytes=usage_of(cache, range(12)))
    assert cache.whole()
    assert usage(cache.store).bytes <= 10 * each


def usage_of(cache, numbers):
    return sum(BLOCK + occupied(blob.size) for number in numbers for blob in cache.entries[f"e{number}"])


def test_below_the_size_nothing_goes(cache):
    for number in range(5):
        cache.add(f"e{number}", b"%d" % number, days=number)
    assert cache.run(max_size=11 * BLOCK) == Evicted()
    assert cache.run(max_size=10 * BLOCK).records == 1


def test_many_small_files_count_as_the_blocks_that_they_take(cache):
    cache.add("small", *(b"%d" % number for number in range(100)), days=2)
    cache.add("newer", b"newer", days=1)
    cache.run(max_size=50 * BLOCK)
    assert cache.left() == {"newer"}


@pytest.mark.parametrize("blobs", [[b"x" * 50 * BLOCK], [b"%d" % number * 2 * BLOCK for number in range(20)]],
                         ids=["one blob", "many blobs"])  # fmt: skip
def test_an_entry_larger_than_the_size_is_not_kept_and_costs_no_other(cache, blobs):
    for number in range(5):
        cache.add(f"e{number}", b"%d" % number, days=5)
    cache.add("huge", *blobs, days=0.5)
    assert cache.run(max_size=20 * BLOCK).records == 1
    assert cache.left() == {f"e{number}" for number in range(5)}
    assert cache.whole()
    assert usage(cache.store) == Usage(records=5, blobs=5, bytes=10 * BLOCK)


def test_the_size_is_looked_at_again_only_when_enough_was_added(cache):
    for number in range(5):
        cache.add(f"e{number}", b"%d" % number, days=1)
    assert cache.run(full=False, max_size=20 * BLOCK) == Evicted()
    scans = Scans()
    assert cache.run(full=False, max_size=20 * BLOCK) == Evicted()
    assert scans.stop() == 0
    for number in range(5, 15):
        cache.add(f"e{number}", b"%d" % number, days=0.5)
    cache.store.close()
    assert cache.run(full=False, max_size=20 * BLOCK).records > 0
    assert usage(cache.store).bytes <= 20 * BLOCK


class Scans:
    """How many folders are listed."""

    def __init__(self):
        self.count, self.scandir = 0, os.scandir
        os.scandir = self

    def __call__(self, *arguments):
        self.count += 1
        return self.scandir(*arguments)

    def stop(self):
        os.scandir = self.scandir
        return self.count


def test_a_sweep_with_nothing_to_remove_opens_no_record(cache):
    cache.add("new", b"new", days=1)

    def refuse(record):
        raise AssertionError

    assert cache.run(blobs_of=refuse) == Evicted()


# A step at a time


@pytest.mark.parametrize("writing", [False, True])
def test_a_sweep_goes_on_where_it_stopped(cache, writing):
    for number in range(30):
        cache.add(f"e{number}", b"%d" % number, days=number % 15)
    runs, removed, finished = 0, 0, False
    while not finished:
        runs += 1
        if writing and runs % 50 == 0:
            cache.add(f"new{runs}", b"new %d" % runs)
        done = cache.run(full=False, budget_seconds=0.0)
        removed += done.records
        finished = done.finished
        assert runs % 16 or cache.whole()  # at every moment
    assert runs == 3 * 256  # a shard at least in each: nobody's budget is too small to get through
    assert removed == 16
    assert cache.left() == {name for name in cache.entries if name.startswith("new") or int(name[1:]) % 15 < 7}
    assert cache.whole()


def test_used_between_two_parts_of_a_sweep(cache, tmp_path):
    """A record that a slow sweep has passed, and whose blobs it has not yet reached."""
    dice = random.Random(5)
    for number in range(40):
        cache.add(f"e{number}", *(b"%d %d" % (number, part) for part in range(3)), days=8)
    while not cache.run(full=False, budget_seconds=0.0).finished:
        name = f"e{dice.randrange(40)}"
        if cache.store.read_record(name_of(name)):
            for at, blob in enumerate(cache.entries[name]):
                cache.store.fetch(blob, str(tmp_path / f"out{at}"))
                (tmp_path / f"out{at}").unlink(missing_ok=True)
    left = cache.run(full=True)
    assert left.finished
    assert cache.whole()


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"seen": "x"}', "[" * 100_000, '{"seen": 1e999}', "folder"])
def test_a_lost_memory_costs_a_sweep(cache, damage):
    cache.add("old", b"old", days=8)
    cache.add("new", b"new", days=1)
    assert cache.run(full=False).records == 1
    memory = Path(cache.store.base, "sweep")
    memory.unlink()
    if damage == "folder":
        memory.mkdir()
    else:
        memory.write_text(damage)
    cache.age("new", 9)
    assert cache.run(full=False).records == 1


def test_every_cut_of_the_memory_is_survived(cache):
    for number in range(30):
        cache.add(f"e{number}", b"%d" % number, days=number % 15)
    memory = Path(cache.store.base, "sweep")
    assert not cache.run(full=False, budget_seconds=0.0).finished
    content = memory.read_bytes()
    for length in range(len(content)):
        memory.write_bytes(content[:length])
        assert not cache.run(full=False, budget_seconds=0.0).finished
    assert cache.run(full=False).finished
    assert cache.whole()
    assert usage(cache.store).records == 14


def test_one_sweeps_at_a_time(cache):
    cache.add("old", b"old", days=8)
    with open(os.path.join(cache.store.base, "sweep.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert cache.run(full=False) == Evicted(finished=False)
    assert cache.left() == {"old"}
    assert cache.run(full=False).records == 1


def test_nothing_there_is_nothing_to_do(cache):
    assert cache.run() == Evicted()
    assert usage(cache.store) == Usage()
    assert not os.path.exists(cache.store.folder)


def test_a_plan_changes_nothing(cache):
    cache.add("old", b"old", days=8)
    cache.add("huge", b"x" * 99 * BLOCK, days=1)
    before = sorted((str(path), path.stat().st_mtime) for path in Path(cache.store.folder).rglob("*"))
    planned = cache.evictor(max_size=20 * BLOCK).plan()
    assert planned == Evicted(records=2, blobs=2, bytes=(2 + 100) * BLOCK)
    assert sorted((str(path), path.stat().st_mtime) for path in Path(cache.store.folder).rglob("*")) == before
    assert cache.evictor(max_size=20 * BLOCK).run(full=True) == planned


def test_a_folder_that_vanishes_during_a_sweep(cache):
    for number in range(30):
        cache.add(f"e{number}", b"%d" % number, days=8)
    for _ in range(600):
        assert not cache.run(full=False, budget_seconds=0.0).finished
    shutil.rmtree(cache.store.folder)
    assert cache.run(full=False) == Evicted()


def test_what_can_not_be_removed_is_said(cache, monkeypatch):
    cache.add("old", b"old", days=8)

    def unlink(path, **options):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(StoreError, match=f"{cache.store.folder}: Permission denied"):
        cache.evictor().run(full=True)


# What others have left


def test_dead_temporary_files_and_old_quarantine_go(cache):
    cache.add("new", b"new")
    now = cache.clock()
    os.mkdir(cache.store.quarantine)
    for folder, name, age in (
        (cache.store.temporary, "dead", 2 * 3600), (cache.store.temporary, "future", -YEAR), (cache.store.temporary, "alive", 5),
        (cache.store.quarantine, "old", 2 * DAY), (cache.store.quarantine, "recent", 3600),
    ):  # fmt: skip
        path = Path(folder, name)
        path.write_text("")
        os.utime(path, (now - age, now - age))
    Path(cache.store.quarantine, "folder").mkdir()
    os.utime(Path(cache.store.quarantine, "folder"), (1, 1))
    assert cache.run() == Evicted(temporary=4)
    assert os.listdir(cache.store.temporary) == ["alive"]
    assert os.listdir(cache.store.quarantine) == ["recent"]


# Clocks


@pytest.mark.parametrize("ahead", [YEAR, -YEAR, 3 * YEAR])
def test_a_clock_that_jumps_evicts_nothing_that_was_not_old(cache, ahead):
    cache.add("old", b"old", days=8)
    cache.add("new", b"new", days=6)
    cache.run()
    assert cache.left() == {"new"}
    cache.clock.ahead = ahead
    for _ in range(3):
        assert cache.run() == Evicted()
    cache.clock.ahead = 0
    for _ in range(3):
        assert cache.run() == Evicted()
    assert cache.left() == {"new"}
    cache.clock.ahead = 8 * DAY
    assert cache.run().records == 1


def test_time_goes_on_after_a_jump(cache):
    cache.add("entry", b"entry", days=0)
    cache.run()
    cache.clock.ahead = YEAR
    cache.run()
    cache.clock.ahead = YEAR + 6 * DAY
    assert cache.run() == Evicted()
    cache.clock.ahead = YEAR + 8 * DAY
    assert cache.run().records == 1


def test_a_week_and_a_day_is_no_jump(cache):
    cache.add("entry", b"entry")
    cache.run()
    cache.clock.ahead = 8 * DAY
    assert cache.run().records == 1


def test_used_in_a_future_that_never_came(cache, tmp_path):
    """What was used while the clock was ahead is not kept for a year more, nor before what is used now."""
    cache.clock.ahead = YEAR
    cache.add("future", b"future")
    cache.run()
    cache.clock.ahead = 0
    cache.run()
    cache.run()
    cache.clock.ahead = 6 * DAY
    assert cache.run() == Evicted()
    cache.clock.ahead = 8 * DAY
    cache.run()
    assert cache.left() == set()


@pytest.mark.parametrize("ahead", [YEAR, -YEAR])
def test_the_size_is_held_whatever_the_clock_says(cache, ahead):
    for number in range(20):
        cache.add(f"e{number}", b"%d" % number, days=20 - number)
    cache.run(ttl=None)
    cache.clock.ahead = ahead
    for _ in range(3):
        cache.run(ttl=None, max_size=20 * BLOCK)
        cache.clock.ahead += 3600
    assert usage(cache.store).bytes <= 20 * BLOCK
    assert cache.whole()


def test_a_jump_in_the_middle_of_a_sweep(cache):
    for number in range(30):
        cache.add(f"e{number}", b"%d" % number, days=number % 15)
    for _ in range(600):
        assert not cache.run(full=False, budget_seconds=0.0).finished
    usage_before = usage(cache.store).records
    for ahead in (YEAR, -YEAR, 0):
        cache.clock.ahead = ahead
        cache.run(full=False, budget_seconds=0.0)
    cache.clock.ahead = 0
    cache.run(full=False)
    assert cache.run(full=True) == Evicted()  # rather too late than too early
    assert cache.whole()
    cache.clock.ahead = 8 * DAY
    assert cache.run(full=True).records == usage_before
    assert usage(cache.store) == Usage()
