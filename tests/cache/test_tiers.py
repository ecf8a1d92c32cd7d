"""Several stores as one: the contract over a near and a far one, filling, uploads behind, single flight."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from contract import (  # noqa: F401
    CONTENTS,
    blob_of,
    entries,
    fetched,
    keep,
    name_of,
    test_a_blob_comes_back,
    test_a_blob_stored_twice_is_there_once_more,
    test_a_destination_that_can_not_be_written_is_an_os_error,
    test_a_fetched_file_is_a_plain_new_one,
    test_a_file_that_does_not_hold_its_digest_is_not_kept,
    test_a_record_comes_back,
    test_a_record_comes_back_with_its_blobs,
    test_a_record_is_written_once,
    test_a_source_that_can_not_be_read_is_an_os_error,
    test_an_absent_blob_is_not_there,
    test_an_absent_record_is_none,
    test_any_name_will_do,
    test_editing_what_was_fetched_or_stored_does_not_change_the_store,
    test_missing_tells_what_is_not_there,
    test_one_of_many_replacers_wins,
    test_one_of_many_writers_wins,
    test_over_replaces_exactly_what_was_read,
    test_records_and_blobs_do_not_share_names,
    test_the_same_record_again_changes_nothing,
    test_threads_share_a_store,
)
from memory import MemoryStore
from proxy import Proxy
from servers import BUCKET

from build_tests.cache.guarded import Guarded
from build_tests.cache.local import LocalStore
from build_tests.cache.model import CorruptError, RefusedError, StoreError
from build_tests.cache.redis import RedisStore
from build_tests.cache.s3 import S3Store
from build_tests.cache.tiers import Tier, Tiers

PATIENCE = 60


@pytest.fixture
def make(redis_server, prefix, tmp_path_factory):
    """Tiers over one local folder and one server; a new folder for another machine."""
    made = []
    warnings = []
    shared = tmp_path_factory.mktemp("shared")

    def make(folder=shared, port=redis_server.port, *, writable=True):
        near = Guarded(LocalStore(str(folder)), warn=warnings.append, budget_seconds=None)
        far = Guarded(RedisStore(f"redis://127.0.0.1:{port}/0", prefix), warn=warnings.append)
        made.append(Tiers([Tier(store=near, local=True), Tier(store=far, writable=writable)]))
        return made[-1]

    yield make
    for each in made:
        assert each.finish(PATIENCE) == 0
        each.close()
    assert warnings == []


@pytest.fixture
def store(make):
    return make()


@pytest.fixture
def other(make):
    return make()


def two(near=None, far=None, **more):
    near, far = near or MemoryStore("near"), far or MemoryStore("far")
    return near, far, Tiers([Tier(store=near, local=True), Tier(store=far, **more)])


# Two machines


def test_what_one_machine_built_another_one_has(make, tmp_path, tmp_path_factory):
    here, there = make(), make(tmp_path_factory.mktemp("there"))
    blobs = [keep(here, tmp_path, content) for content in CONTENTS.values()]
    assert here.write_record(name_of("a"), b"record", blobs)
    assert here.finish(PATIENCE) == 0
    assert there.read_record(name_of("a")) == b"record"
    assert there.missing(blobs) == set()
    assert [fetched(there, blob, tmp_path) for blob in blobs] == list(CONTENTS.values())


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_the_second_read_needs_no_network(s3_server, aws, prefix, tmp_path):
    def machine(folder, port):
        warnings = []
        near = Guarded(LocalStore(str(tmp_path / folder)), warn=warnings.append, budget_seconds=None)
        far = Guarded(S3Store(BUCKET, prefix, "us-east-1", f"http://127.0.0.1:{port}"), warn=warnings.append)
        return Tiers([Tier(store=near, local=True), Tier(store=far)]), warnings

    def read(store):
        record = store.read_record(name_of("a"))
        assert record == b"record"
        for blob, content in blobs.items():
            assert fetched(store, blob, out) == content
        store.fill(name_of("a"), record, list(blobs))

    out = tmp_path / "out"
    out.mkdir()
    first, _ = machine("first", s3_server.port)
    blobs = {keep(first, out, content): content for content in CONTENTS.values()}
    first.write_record(name_of("a"), b"record", list(blobs))
    assert first.finish(PATIENCE) == 0
    first.close()
    with Proxy(s3_server.port) as proxy:
        second, warnings = machine("second", proxy.port)
        read(second)
        before = proxy.connections, proxy.to_server
        assert before[1] > 0
        read(second)
        assert (proxy.connections, proxy.to_server) == before
        second.close()
    with Proxy(s3_server.port, "refused") as proxy:
        third, warnings = machine("second", proxy.port)
        read(third)
        assert warnings == []
        third.close()


# Filling


def test_a_blob_from_afar_is_kept_near(tmp_path):
    near, far, tiers = two()
    blob = keep(far, tmp_path, b"content")
    for _ in range(3):
        assert fetched(tiers, blob, tmp_path) == b"content"
    assert far.calls["fetch"] == 1
    assert near.blobs == far.blobs


def test_a_record_from_afar_is_kept_near_only_when_its_reader_says_so(tmp_path):
    near, far, tiers = two(writable=False)
    far.records[name_of("a")] = b"record"
    assert tiers.read_record(name_of("a")) == b"record"
    assert near.records == {}
    tiers.fill(name_of("a"), b"record", [])
    assert near.records == far.records
    assert tiers.read_record(name_of("a")) == b"record"
    assert (far.calls["read_record"], far.calls["write_record"]) == (1, 0)


def test_a_bad_record_near_does_not_hide_a_good_one_afar():
    near, far, tiers = two()
    near.records[name_of("a")] = b"bad"
    far.records[name_of("a")] = b"good"
    found = tiers.candidates(name_of("a"))
    assert next(found) == ("near", b"bad")
    assert far.calls.total() == 0
    assert list(found) == [("far", b"good")]
    tiers.fill(name_of("a"), b"good", [], over=b"bad")
    assert near.records[name_of("a")] == b"good"


def test_a_read_only_tier_is_never_written_and_a_local_one_is_still_filled(tmp_path):
    near, far = MemoryStore("near"), MemoryStore("far")
    tiers = Tiers([Tier(store=near, local=True, writable=False), Tier(store=far, writable=False)])
    blob = keep(far, tmp_path, b"content")
    before = far.calls.copy()
    assert fetched(tiers, blob, tmp_path) == b"content"
    assert near.blobs == far.blobs
    with pytest.raises(StoreError, match="none may be written"):
        keep(tiers, tmp_path, b"new")
    assert not tiers.write_record(name_of("a"), b"record", [])
    assert tiers.finish(PATIENCE) == 0
    assert (far.calls - before).keys() == {"fetch"}
    assert blob_of(b"new").digest not in near.blobs
    tiers.close()


# Errors of one tier


def failing(error):
    def on_call(_):
        raise error

    return on_call


@pytest.mark.parametrize("error", [StoreError("far: gone"), CorruptError("far: wrong"), RefusedError("far: full")])
def test_a_tier_that_fails_hides_nothing(tmp_path, error):
    near, far, tiers = two(far=MemoryStore("far", failing(error)))
    blob = keep(tiers, tmp_path, b"content")
    assert tiers.write_record(name_of("a"), b"record", [blob])
    assert tiers.finish(PATIENCE) == 0
    assert tiers.read_record(name_of("a")) == b"record"
    assert tiers.read_record(name_of("b")) is None
    assert fetched(tiers, blob, tmp_path) == b"content"
    assert fetched(tiers, blob_of(b"absent"), tmp_path) is None
    assert tiers.missing([blob, blob_of(b"absent")]) == {blob_of(b"absent")}
    near.on_call = failing(error)
    far.on_call = lambda _: None
    far.records[name_of("c")] = b"record"
    far.blobs = dict(near.blobs)
    assert tiers.read_record(name_of("c")) == b"record"
    assert fetched(tiers, blob, tmp_path) == b"content"


def test_a_file_that_was_edited_is_told_by_the_local_tier(tmp_path):
    _, far, tiers = two()
    source = tmp_path / "source"
    source.write_bytes(b"edited")
    with pytest.raises(CorruptError):
        tiers.store(blob_of(b"content"), str(source))
    assert tiers.finish(PATIENCE) == 0
    assert far.calls.total() == 0


# Uploads


def test_uploads_are_not_waited_for_and_come_in_order(tmp_path):
    go = threading.Event()
    far = MemoryStore("far", lambda _: go.wait(PATIENCE))
    near, _, tiers = two(far=far)
    for number in range(20):
        blobs = [keep(tiers, tmp_path, f"{number} {part}".encode()) for part in "ab"]
        assert tiers.write_record(name_of(str(number)), b"record", blobs)
    assert (len(near.records), len(near.blobs), far.records, far.blobs) == (20, 40, {}, {})
    go.set()
    # The sources are gone, and this store near keeps no files; so nothing came, and no record without its blobs.
    assert tiers.finish(PATIENCE) == 0
    assert (far.records, far.blobs) == ({}, {})
    tiers.close()


def entry(tiers, folder, number, parts="ab"):
    blobs = []
    for part in parts:
        content = f"{number} {part}".encode()
        (folder / f"{number}{part}").write_bytes(content)
        blobs.append(blob_of(content))
        tiers.store(blobs[-1], str(folder / f"{number}{part}"))
    assert tiers.write_record(name_of(str(number)), f"record {number}".encode(), blobs)
    return blobs


def test_of_an_entry_the_blobs_are_there_before_the_record(tmp_path):
    far = MemoryStore("far")
    _, _, tiers = two(far=far)
    needed = {name_of(str(number)): entry(tiers, tmp_path, number) for number in range(300)}
    assert tiers.finish(PATIENCE) == 0
    assert len(far.records) == 300
    there = set()
    for call, detail in far.order:
        if call == "store":
            there.add(detail)
        elif call == "write_record":
            assert {blob.digest for blob in needed[detail]} <= there
    assert far.calls["missing"] <= 300  # asked for many at once, as they come
    tiers.close()


def test_existence_is_asked_for_many_at_once_and_what_is_there_is_not_sent(tmp_path):
    first = threading.Event()
    far = MemoryStore("far", lambda _: first.wait(PATIENCE))
    _, _, tiers = two(far=far)
    for number in range(100):
        far.blobs[blob_of(f"{number} a".encode()).digest] = f"{number} a".encode()
    for number in range(100):
        entry(tiers, tmp_path, number)
    first.set()
    assert tiers.finish(PATIENCE) == 0
    assert (far.calls["store"], len(far.records)) == (100, 100)
    assert far.calls["missing"] <= 4
    tiers.close()


def test_a_blob_that_was_edited_before_its_upload_is_not_sent_nor_its_record(tmp_path):
    go = threading.Event()
    far = MemoryStore("far", lambda _: go.wait(PATIENCE))
    _, _, tiers = two(far=far)
    for number in range(3):
        entry(tiers, tmp_path, number)
    (tmp_path / "1b").write_bytes(b"edited")
    go.set()
    assert tiers.finish(PATIENCE) == 0
    assert set(far.records) == {name_of("0"), name_of("2")}
    assert blob_of(b"1 b").digest not in far.blobs
    tiers.close()


class KeepingFiles(MemoryStore):
    """Has a file for each blob, as a local store has."""

    def __init__(self, folder):
        super().__init__("near")
        self.folder = folder

    def store(self, blob, source):
        super().store(blob, source)
        (self.folder / blob.digest).write_bytes(self.blobs[blob.digest])

    def path_of(self, blob):
        path = self.folder / blob.digest
        return str(path) if path.exists() else None


@pytest.mark.parametrize("guarded", [False, True])
def test_uploads_read_what_the_local_tier_keeps_and_not_the_outputs(tmp_path, guarded):
    go = threading.Event()
    far = MemoryStore("far", lambda _: go.wait(PATIENCE))
    kept, outputs = tmp_path / "kept", tmp_path / "outputs"
    kept.mkdir()
    outputs.mkdir()
    near = KeepingFiles(kept)
    _, _, tiers = two(near=Guarded(near, warn=print, budget_seconds=None) if guarded else near, far=far)
    for number in range(3):
        entry(tiers, outputs, number)
    (outputs / "0a").write_bytes(b"edited")
    (outputs / "1a").unlink()
    (kept / blob_of(b"2 a").digest).unlink()  # evicted: then the output will do
    go.set()
    assert tiers.finish(PATIENCE) == 0
    assert len(far.records) == 3
    assert len(far.blobs) == 6
    tiers.close()


def test_without_a_local_tier_uploads_are_behind_too(tmp_path):
    far = MemoryStore("far")
    tiers = Tiers([Tier(store=far)])
    entry(tiers, tmp_path, 0)
    assert tiers.finish(PATIENCE) == 0
    assert tiers.read_record(name_of("0")) == b"record 0"
    assert fetched(tiers, blob_of(b"0 a"), tmp_path) == b"0 a"
    tiers.close()


def test_the_end_is_bounded_and_says_what_was_left(tmp_path):
    never = threading.Event()
    far = MemoryStore("far", lambda _: never.wait(PATIENCE))
    _, _, tiers = two(far=far)
    for number in range(10):
        entry(tiers, tmp_path, number)
    start = time.monotonic()
    assert tiers.finish(0.2) == 30
    assert time.monotonic() - start < 5
    entry(tiers, tmp_path, 11)  # too late for the far one
    never.set()
    tiers.close()
    assert far.records == {}


def test_a_tier_that_is_off_does_not_hold_up_the_end(tmp_path):
    warnings = []
    far = MemoryStore("far", failing(StoreError("far: refused")))
    _, _, tiers = two(far=Guarded(far, warn=warnings.append))
    for number in range(300):
        entry(tiers, tmp_path, number)
    assert tiers.finish(PATIENCE) == 0
    assert (far.calls.total(), len(warnings)) == (1, 1)
    tiers.close()


def test_the_records_of_one_name_go_up_in_order(tmp_path):
    go = threading.Event()
    far = MemoryStore("far", lambda _: go.wait(PATIENCE))
    _, _, tiers = two(far=far)
    name, before = name_of("pointer"), None
    for number in range(50):
        tiers.write_record(name, str(number).encode(), [], over=before)
        before = str(number).encode()
    go.set()
    assert tiers.finish(PATIENCE) == 0
    assert far.records[name] == b"49"
    tiers.close()


# Single flight


def test_many_who_want_one_blob_cost_one_download(tmp_path):
    arrived = threading.Barrier(8)
    far = MemoryStore("far")
    near = MemoryStore("near", lambda call: arrived.wait(PATIENCE) if call == "fetch" and not near.blobs else None)
    _, _, tiers = two(near=near, far=far)
    blob = keep(far, tmp_path, b"content")
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda number: tiers.fetch(blob, str(tmp_path / f"out-{number}")), range(8)))
    assert far.calls["fetch"] == 1
    assert {(tmp_path / f"out-{number}").read_bytes() for number in range(8)} == {b"content"}
    assert tiers._flights._running == {}


def test_many_who_want_a_blob_that_nobody_has(tmp_path):
    _, _, tiers = two()
    with ThreadPoolExecutor(8) as pool:
        got = pool.map(lambda number: tiers.fetch(blob_of(b"absent"), str(tmp_path / f"out-{number}")), range(8))
        assert not any(got)
    assert entries(tmp_path) == []
    assert tiers._flights._running == {}
