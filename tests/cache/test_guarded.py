"""What a tier may cost: calls that reach it, warnings, and (in generous bounds) seconds."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from contract import blob_of, entries, fetched, keep, name_of
from memory import MemoryStore
from proxy import Proxy
from servers import BUCKET

from build_tests.cache import guarded as module
from build_tests.cache.guarded import Guarded, Traffic
from build_tests.cache.model import CorruptError, RefusedError, StoreError
from build_tests.cache.redis import RedisStore
from build_tests.cache.s3 import S3Store

PROMISED = 5.0
"""Seconds that a dead tier may cost a build of any number of steps."""


@pytest.fixture
def warnings():
    return []


def steps(store, folder, count=1000):
    """What a build of so many steps asks, a few at a time; whether anything came of it."""

    def step(number):
        blob = blob_of(str(number).encode())
        return (
            store.read_record(name_of(str(number))) is not None
            or not store.missing([blob])
            or store.fetch(blob, str(folder / f"out-{number}"))
            or store.write_record(name_of(str(number)), b"record", [blob])
        )

    with ThreadPoolExecutor(8) as pool:
        return any(pool.map(step, range(count)))


def raising(error):
    def on_call(_):
        raise error

    return on_call


# Counting


def test_what_goes_through_is_counted(warnings, tmp_path):
    store = Guarded(MemoryStore(), warn=warnings.append)
    blob = keep(store, tmp_path, b"content")
    assert store.write_record(name_of("a"), b"record", [blob])
    assert not store.write_record(name_of("a"), b"other", [blob])
    assert store.read_record(name_of("a")) == b"record"
    assert store.read_record(name_of("b")) is None
    assert fetched(store, blob, tmp_path) == b"content"
    assert fetched(store, blob_of(b"absent"), tmp_path) is None
    assert store.missing([blob, blob_of(b"absent")]) == {blob_of(b"absent")}
    seen = store.traffic
    assert seen.seconds > 0
    assert seen == Traffic(hits=2, misses=2, bytes_in=13, written=2, bytes_out=13, seconds=seen.seconds)
    assert warnings == []
    assert entries(tmp_path) == []


def test_many_threads_are_counted_right(warnings):
    store = Guarded(MemoryStore(), warn=warnings.append)
    store.write_record(name_of("a"), b"record", [])
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: store.read_record(name_of("a")), range(2000))) == {b"record"}
    assert (store.traffic.hits, store.traffic.bytes_in) == (2000, 12000)


def test_an_edited_file_is_told_and_is_not_the_stores_fault(warnings, tmp_path):
    store = Guarded(MemoryStore(), warn=warnings.append)
    source = tmp_path / "source"
    source.write_bytes(b"edited")
    for _ in range(20):
        with pytest.raises(CorruptError):
            store.store(blob_of(b"content"), str(source))
    assert (store.traffic.changed, store.traffic.errors, store.off, warnings) == (20, 0, None, [])


def test_the_callers_files_are_the_callers(warnings, tmp_path):
    store = Guarded(MemoryStore(), warn=warnings.append)
    blob = keep(store, tmp_path, b"content")
    with pytest.raises(OSError, match="nowhere"):
        store.store(blob, str(tmp_path / "nowhere"))
    with pytest.raises(OSError, match="nowhere"):
        store.fetch(blob, str(tmp_path / "nowhere" / "out"))
    assert (store.off, warnings) == (None, [])


# The breaker


def test_a_store_that_can_not_be_reached_is_asked_once(warnings, tmp_path):
    inner = MemoryStore(on_call=raising(StoreError("memory: refused")))
    store = Guarded(inner, warn=warnings.append)
    assert store.read_record(name_of("a")) is None
    assert not steps(store, tmp_path)
    assert inner.calls.total() == 1
    assert warnings == ["cache memory: refused; it is not used for the rest of this run"]
    assert store.off == "memory: refused"
    source = tmp_path / "source"
    source.write_bytes(b"content")
    with pytest.raises(StoreError, match="refused"):
        store.store(blob_of(b"content"), str(source))
    assert entries(tmp_path) == ["source"]
    assert store.traffic.errors == 1


@pytest.mark.parametrize("error", [ValueError("odd"), ConnectionResetError(104, "reset"), MemoryError()], ids=repr)
def test_a_mistake_of_a_store_is_warned_of_and_ends_nothing(warnings, tmp_path, error):
    inner = MemoryStore(on_call=raising(error))
    store = Guarded(inner, warn=warnings.append)
    assert store.read_record(name_of("a")) is None
    assert not steps(store, tmp_path)
    assert inner.calls.total() == 1
    assert len(warnings) == 1
    assert type(error).__name__ in warnings[0]


def test_wrong_content_is_absent_and_the_fifth_time_enough(warnings, tmp_path):
    inner = MemoryStore(on_call=lambda call: raising(CorruptError("memory: wrong"))(call) if call == "fetch" else None)
    store = Guarded(inner, warn=warnings.append)
    for number in range(4):
        assert fetched(store, blob_of(str(number).encode()), tmp_path) is None
    assert (store.off, store.traffic.corrupt, warnings) == (None, 4, [])
    assert not steps(store, tmp_path, 0)
    for number in range(9):
        assert fetched(store, blob_of(str(number).encode()), tmp_path) is None
    assert (inner.calls["fetch"], store.traffic.corrupt, len(warnings)) == (5, 5, 1)
    assert entries(tmp_path) == []


def test_refused_writes_turn_off_writing_only(warnings, tmp_path):
    full = raising(RefusedError("memory: full"))
    inner = MemoryStore(on_call=lambda call: full(call) if call in ("store", "write_record") else None)
    inner.records[name_of("a")] = b"record"
    store = Guarded(inner, warn=warnings.append)
    assert not any(store.write_record(name_of("b"), b"record", []) for _ in range(1000))
    with pytest.raises(StoreError, match="full"):
        keep(store, tmp_path, b"content")
    assert inner.calls["write_record"] + inner.calls["store"] == 5
    assert warnings == ["cache memory: full; nothing is written to it for the rest of this run"]
    assert store.read_record(name_of("a")) == b"record"


def test_refused_reads_turn_all_off(warnings):
    inner = MemoryStore(on_call=raising(RefusedError("memory: busy")))
    store = Guarded(inner, warn=warnings.append)
    assert [store.read_record(name_of("a")) for _ in range(1000)] == [None] * 1000
    assert (inner.calls.total(), len(warnings)) == (5, 1)


def test_a_store_in_this_machine_goes_on_reading_when_it_can_not_write(warnings, tmp_path):
    full = raising(StoreError("memory: no space left"))
    inner = MemoryStore(on_call=lambda call: full(call) if call in ("store", "write_record") else None)
    inner.records[name_of("a")] = b"record"
    store = Guarded(inner, warn=warnings.append, budget_seconds=None)
    for _ in range(100):
        with pytest.raises(StoreError, match="no space"):
            keep(store, tmp_path, b"content")
    assert (inner.calls["store"], len(warnings)) == (1, 1)
    assert store.read_record(name_of("a")) == b"record"


def test_a_store_in_this_machine_is_called_in_the_callers_thread(warnings):
    threads = set()
    inner = MemoryStore(on_call=lambda _: threads.add(threading.get_ident()))
    Guarded(inner, warn=warnings.append, budget_seconds=None).read_record(name_of("a"))
    assert threads == {threading.get_ident()}


# Time


def test_a_call_that_never_ends_lets_everyone_go(warnings, tmp_path):
    never = threading.Event()
    inner = MemoryStore(on_call=lambda _: never.wait(60))
    store = Guarded(inner, warn=warnings.append, budget_seconds=0.5)
    start = time.monotonic()
    assert not steps(store, tmp_path)
    assert time.monotonic() - start < PROMISED
    assert inner.calls.total() <= 8  # those on their way when it was given up
    assert len(warnings) == 1
    assert "too slow" in warnings[0]
    assert store.traffic.errors == inner.calls.total()
    never.set()
    store.close()
    assert inner.closed.wait(60)
    assert entries(tmp_path) == []


def test_what_an_abandoned_fetch_writes_later_is_not_there(warnings, tmp_path):
    release, ended = threading.Event(), threading.Event()

    def on_call(call):
        if call == "fetch":
            release.wait(60)

    inner = MemoryStore(on_call=on_call)
    blob = keep(inner, tmp_path, b"content")
    real = inner.fetch

    def fetch(*arguments):
        try:
            return real(*arguments)
        finally:
            ended.set()

    inner.fetch = fetch
    store = Guarded(inner, warn=warnings.append, budget_seconds=0.4)
    assert store.fetch(blob, str(tmp_path / "out")) is False
    release.set()
    assert ended.wait(60)
    assert entries(tmp_path) == []


def test_what_is_on_its_way_is_called_as_it_will_be(warnings, tmp_path):
    inner = MemoryStore()
    blob = keep(inner, tmp_path, b"content")
    real, seen = inner.fetch, []

    def fetch(blob, destination):
        seen.extend(path.name for path in tmp_path.iterdir())
        return real(blob, destination)

    inner.fetch = fetch
    assert Guarded(inner, warn=warnings.append).fetch(blob, str(tmp_path / "restore-1-0.0"))
    assert any(name.startswith("restore-1-0.0-") for name in seen), seen


class Clock:
    """Seconds that pass when told."""

    now = 100.0

    def __call__(self):
        return self.now


def test_slow_answers_add_up_to_the_budget(warnings):
    clock = Clock()

    def slow(_):
        clock.now += 1.0

    inner = MemoryStore(on_call=slow)
    store = Guarded(inner, warn=warnings.append, budget_seconds=5.0, clock=clock)
    for number in range(1000):
        store.read_record(name_of(str(number)))
    assert inner.calls.total() == 5
    assert store.traffic.lost_seconds == pytest.approx(5.0)
    assert len(warnings) == 1


def test_answers_that_are_not_slow_cost_nothing(warnings):
    clock = Clock()

    def quick(_):
        clock.now += 0.2

    store = Guarded(MemoryStore(on_call=quick), warn=warnings.append, clock=clock)
    for number in range(1000):
        store.read_record(name_of(str(number)))
    assert (store.traffic.lost_seconds, store.off) == (0.0, None)
    assert store.traffic.seconds == pytest.approx(200.0)


def test_a_large_transfer_may_take_its_time(warnings, tmp_path):
    clock = Clock()

    class Slow(MemoryStore):
        # The time passes when the bytes are there: nobody may look in between.
        def store(self, blob, source):
            super().store(blob, source)
            clock.now += 8.0

        def fetch(self, blob, destination):
            found = super().fetch(blob, destination)
            clock.now += 8.0
            return found

    store = Guarded(Slow(), warn=warnings.append, clock=clock)
    content = bytes(10 * module.FLOOR)
    blob = keep(store, tmp_path, content)
    assert fetched(store, blob, tmp_path) == content
    assert (store.off, warnings) == (None, [])


def test_the_time_of_many_who_wait_for_one_silence_counts_once(warnings):
    clock = Clock()
    gate = threading.Barrier(8)

    def hang(_):
        if gate.wait(60) == 0:
            clock.now += 2.0
        gate.wait(60)

    store = Guarded(MemoryStore(on_call=hang), warn=warnings.append, clock=clock, budget_seconds=5.0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.read_record(name_of(str(number))), range(8)))
    assert store.traffic.lost_seconds == pytest.approx(2.0)
    assert (store.off, warnings) == (None, [])


def test_getting_ready_is_not_the_servers_time(warnings):
    clock = Clock()
    inner = MemoryStore()
    prepared = []

    def prepare():
        clock.now += 60.0
        prepared.append(1)

    inner.prepare = prepare
    store = Guarded(inner, warn=warnings.append, clock=clock)
    for number in range(10):
        assert store.read_record(name_of(str(number))) is None
    assert (prepared, store.off, store.traffic.lost_seconds) == ([1], None, 0.0)


# Real clients against a server behind a proxy that misbehaves


def redis_through(port, _):
    return RedisStore(f"redis://127.0.0.1:{port}/0")


def s3_through(port, prefix):
    return S3Store(BUCKET, prefix, "us-east-1", f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
@pytest.mark.parametrize("how", ["refused", "black-hole", "silent", "trickle", "reset", "cut"])
@pytest.mark.parametrize("client", [redis_through, s3_through])
def test_a_dead_tier_costs_a_build_of_a_thousand_steps_next_to_nothing(  # noqa: PLR0917
    redis_server, s3_server, aws, prefix, tmp_path, warnings, how, client
):
    upstream = redis_server if client is redis_through else s3_server
    with Proxy(upstream.port, how, 3) as proxy:
        store = Guarded(client(proxy.port, prefix), warn=warnings.append)
        store.store_itself.prepare()
        start = time.monotonic()
        assert not steps(store, tmp_path)
        assert time.monotonic() - start < PROMISED + 1.5  # the machine may be busy
        assert proxy.connections <= 24  # eight at a time, each with what it had begun
        assert len(warnings) == 1
        assert warnings[0].startswith(f"cache {store.name}: ")
        store.close()
    assert entries(tmp_path) == []


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
@pytest.mark.parametrize("client", [redis_through, s3_through])
def test_a_trickle_in_the_middle_of_a_blob_is_given_up(  # noqa: PLR0917
    redis_server, s3_server, aws, prefix, tmp_path, warnings, client
):
    upstream = redis_server if client is redis_through else s3_server
    direct = client(upstream.port, prefix)
    blob = keep(direct, tmp_path, bytes(2_000_000))
    with Proxy(upstream.port, "trickle") as proxy:
        store = Guarded(client(proxy.port, prefix), warn=warnings.append, budget_seconds=1.0)
        store.store_itself.prepare()
        start = time.monotonic()
        assert [store.fetch(blob, str(tmp_path / "out")) for _ in range(100)] == [False] * 100
        assert time.monotonic() - start < PROMISED
        assert len(warnings) == 1
        store.close()
    direct.close()
    assert entries(tmp_path) == []
