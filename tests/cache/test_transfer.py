"""Files on their way: read as libraries read them, and never whole unless they are what they should be."""

import io
import os
import threading

import pytest
from contract import blob_of, entries

from build_tests.cache.background import DaemonPool, ahead
from build_tests.cache.model import Blob, CorruptError
from build_tests.cache.transfer import Source, receive

CONTENT = bytes(range(256)) * 9


def source_of(folder, held, content=CONTENT):
    (folder / "source").write_bytes(held)
    return Source(blob_of(content), str(folder / "source"))


@pytest.mark.parametrize("size", [1, 7, 256, 2303, 2304, 2305, -1, None])
def test_a_source_reads_like_a_file(tmp_path, size):
    with source_of(tmp_path, CONTENT) as source:
        assert (len(source), source.seek(0, os.SEEK_END), source.tell()) == (2304, 2304, 0)
        for _ in range(2):  # once to sign, once to send
            read = b""
            while piece := source.read(size):
                read += piece
                assert source.tell() == len(read)
            assert read == CONTENT
            assert source.seek(0) == 0


@pytest.mark.parametrize("size", [1, 7, 256, 2304, 9999])
@pytest.mark.parametrize("held", [CONTENT[:-1], CONTENT + b"!", CONTENT[:-1] + b"!", b"!" + CONTENT[1:], b""])
def test_the_last_piece_of_an_edited_file_is_never_given(tmp_path, size, held):
    with source_of(tmp_path, held) as source:
        read = []
        with pytest.raises(CorruptError):
            read.extend(iter(lambda: source.read(size), b""))
        assert source.changed
        assert sum(map(len, read)) < len(CONTENT)


def test_an_empty_file_is_judged_too(tmp_path):
    with source_of(tmp_path, b"", b"") as source:
        assert source.read(5) == b""
    with source_of(tmp_path, b"!", b"") as source, pytest.raises(CorruptError):
        source.verify()


def test_a_source_is_not_read_from_the_middle(tmp_path):
    with source_of(tmp_path, CONTENT) as source:
        source.read(100)
        assert source.seek(100) == 100
        for offset in (50, 101):
            with pytest.raises(OSError, match="start"):
                source.seek(offset)


@pytest.mark.parametrize(
    "pieces", [[CONTENT], [CONTENT[:9], b"", CONTENT[9:]], [CONTENT[n : n + 1] for n in range(2304)]]
)
def test_pieces_become_the_file(tmp_path, pieces):
    receive("test", blob_of(CONTENT), str(tmp_path / "out"), pieces)
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_too_much_is_noticed_before_it_is_written(tmp_path):
    def endless():
        while True:
            yield bytes(1000)

    with pytest.raises(CorruptError, match="more than 3000"):
        receive("test", Blob("0" * 64, 3000), str(tmp_path / "out"), endless())
    assert entries(tmp_path) == []


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt(), CorruptError("no")], ids=repr)
def test_an_error_in_the_middle_leaves_nothing(tmp_path, error):
    def pieces():
        yield CONTENT
        raise error

    with pytest.raises(type(error)):
        receive("test", Blob("0" * 64, 9999), str(tmp_path / "out"), pieces())
    assert entries(tmp_path) == []


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        receive("test", blob_of(CONTENT), str(tmp_path / "out"), [CONTENT])
    assert (tmp_path / "out").read_bytes() == b"mine"


# Threads


def test_a_pool_runs_everything_on_no_more_threads_than_allowed():
    pool, seen, most, running, lock = DaemonPool("test", 3), set(), [0], [0], threading.Lock()

    def work(number):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
            seen.add(threading.current_thread())
        io.BytesIO(bytes(100_000)).read()
        with lock:
            running[0] -= 1
        return number * 2

    for _ in range(3):
        assert pool.map(work, range(200)) == [number * 2 for number in range(200)]
    assert most[0] <= 3
    assert len(seen) <= 3
    assert all(thread.daemon for thread in seen)
    pool.close()
    for thread in seen:
        thread.join(60)
        assert not thread.is_alive()


def test_after_an_error_what_was_not_begun_is_dropped():
    pool, begun, go = DaemonPool("test", 1), [], threading.Event()

    def work(number):
        begun.append(number)
        if number == 0:
            raise ValueError(number)
        go.wait(60)

    with pytest.raises(ValueError, match="0"):
        pool.map(work, range(1000))
    go.set()
    assert len(begun) <= 2
    pool.close()


def test_a_pool_without_a_limit_waits_for_nobody():
    pool, gate = DaemonPool("test"), threading.Barrier(20)
    assert sorted(pool.map(lambda number: gate.wait(60) * 0 + number, range(20))) == list(range(20))
    pool.close()


def test_pieces_made_ahead_are_the_same_and_one_ahead_at_most():
    made = []

    def pieces():
        for number in range(50):
            made.append(number)
            yield bytes([number])

    for number, piece in enumerate(ahead(pieces())):
        assert piece == bytes([number])
        assert len(made) <= number + 2
    assert len(made) == 50


def test_an_error_ahead_comes_in_its_turn_and_whoever_stops_waits_for_what_is_made():
    def pieces():
        yield b"a"
        yield b"b"
        raise ValueError("c")

    generator = ahead(pieces())
    assert [next(generator), next(generator)] == [b"a", b"b"]
    with pytest.raises(ValueError, match="c"):
        next(generator)
    making, go, source = threading.Event(), threading.Event(), io.BytesIO(b"abc")

    def slow():
        yield source.read(1)
        making.set()
        go.wait(60)
        yield source.read(1)

    generator = ahead(slow())
    assert next(generator) == b"a"
    assert making.wait(60)
    stopping = threading.Thread(target=generator.close)
    stopping.start()
    assert stopping.is_alive()
    go.set()
    stopping.join(60)
    assert source.tell() == 2
