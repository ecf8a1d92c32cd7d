"""What every store must do, as tests. Each store's test module imports them: `from contract import *`.

The module gives the fixtures `store`, `other` (a second client of the same storage) and `damage` (a function of a blob
and bytes: puts those bytes where the blob's are kept, behind the store's back). A store without one of them imports
the tests that it can run by name. The folder's conftest.py calls `pytest.register_assert_rewrite("contract")`.
"""

import hashlib
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from build_tests.cache.model import Blob, CorruptError, pointer_name, record_name

CONTENTS = {"empty": b"", "small": b"hello\0\xff\r\n", "3 MB": random.Random(3).randbytes(3_000_001)}
RECORDS = {"text": b'{"version": 1}', "binary": bytes(range(256)), "one byte": b"\0", "200 kB": b"0123456789" * 20_000}
NAMES = [
    "0" * 64,
    "f" * 64,
    "0123456789" * 6 + "abcd",
    "dead" + "00" * 30,
    record_name("main", "k"),
    pointer_name("", "é"),
]


def blob_of(content):
    return Blob(hashlib.sha256(content).hexdigest(), len(content))


def name_of(text):
    return hashlib.sha256(text.encode()).hexdigest()


def keep(store, folder, content):
    """Store bytes through a file; the blob."""
    source = folder / f"source-{name_of(repr(content[:99]))[:16]}-{threading.get_ident()}"
    source.write_bytes(content)
    store.store(blob_of(content), str(source))
    source.unlink()
    return blob_of(content)


def fetched(store, blob, folder):
    """The bytes of a blob, or None."""
    path = folder / f"fetched-{blob.digest[:16]}-{threading.get_ident()}"
    there = store.fetch(blob, str(path))
    assert there == path.exists()
    if not there:
        return None
    content = path.read_bytes()
    path.unlink()
    return content


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


# Records


def test_an_absent_record_is_none(store):
    assert store.read_record(name_of("absent")) is None


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_comes_back(store, other, record):
    assert store.write_record(name_of("a"), record, [])
    assert store.read_record(name_of("a")) == record
    assert other.read_record(name_of("a")) == record
    assert store.read_record(name_of("b")) is None


def test_a_record_comes_back_with_its_blobs(store, other, tmp_path):
    blobs = [keep(store, tmp_path, content) for content in CONTENTS.values()]
    assert store.write_record(name_of("a"), b"record", blobs)
    assert other.read_record(name_of("a")) == b"record"
    assert other.missing(blobs) == set()


@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(store, name):
    assert store.read_record(name) is None
    assert store.write_record(name, name.encode(), [])
    assert store.read_record(name) == name.encode()


def test_records_and_blobs_do_not_share_names(store, tmp_path):
    blob = keep(store, tmp_path, b"content")
    assert store.read_record(blob.digest) is None
    assert store.write_record(blob.digest, b"record", [])
    assert fetched(store, blob, tmp_path) == b"content"
    content = b"another record"
    assert store.write_record(blob_of(content).digest, content, [])
    assert store.missing([blob_of(content)]) == {blob_of(content)}


def test_a_record_is_written_once(store, other):
    assert store.write_record(name_of("a"), b"first", [])
    assert not store.write_record(name_of("a"), b"second", [])
    assert not other.write_record(name_of("a"), b"third", [])
    assert store.read_record(name_of("a")) == b"first"


def test_the_same_record_again_changes_nothing(store):
    store.write_record(name_of("a"), b"first", [])
    store.write_record(name_of("a"), b"first", [])
    assert store.read_record(name_of("a")) == b"first"


def test_over_replaces_exactly_what_was_read(store, other):
    store.write_record(name_of("a"), b"bad", [])
    for close in (b"ba", b"bad ", b"Bad", b"\0"):
        assert not other.write_record(name_of("a"), b"good", [], over=close)
    assert other.read_record(name_of("a")) == b"bad"
    assert other.write_record(name_of("a"), b"good", [], over=b"bad")
    assert store.read_record(name_of("a")) == b"good"
    assert not store.write_record(name_of("a"), b"late", [], over=b"bad")
    assert other.read_record(name_of("a")) == b"good"


def test_over_something_that_is_gone_says_what_it_did(store, other):
    written = store.write_record(name_of("a"), b"good", [], over=b"bad")
    assert other.read_record(name_of("a")) == (b"good" if written else None)


def at_once(actions):
    """Run functions in threads that start together; what they returned."""
    gate = threading.Barrier(len(actions))

    def run(action):
        gate.wait(60)
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return [future.result() for future in [pool.submit(run, action) for action in actions]]


def test_one_of_many_writers_wins(store, other):
    for turn in range(10):
        name = name_of(f"turn {turn}")
        records = [f"{turn} by {number}".encode() for number in range(8)]

        def writer(number, name=name, records=records):
            return lambda: (store, other)[number % 2].write_record(name, records[number], [])

        won = at_once([writer(number) for number in range(8)])
        assert sum(won) == 1
        assert store.read_record(name) == records[won.index(True)]


def test_one_of_many_replacers_wins(store, other):
    for turn in range(10):
        name = name_of(f"turn {turn}")
        store.write_record(name, b"bad", [])
        records = [f"{turn} by {number}".encode() for number in range(8)]

        def writer(number, name=name, records=records):
            return lambda: (store, other)[number % 2].write_record(name, records[number], [], over=b"bad")

        won = at_once([writer(number) for number in range(8)])
        assert sum(won) == 1
        assert other.read_record(name) == records[won.index(True)]


# Blobs


def test_an_absent_blob_is_not_there(store, tmp_path):
    assert store.fetch(blob_of(b"absent"), str(tmp_path / "out")) is False
    assert entries(tmp_path) == []


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_blob_comes_back(store, other, tmp_path, content):
    blob = keep(store, tmp_path, content)
    assert store.missing([blob]) == set()
    for client in (store, other):
        assert fetched(client, blob, tmp_path) == content
    assert entries(tmp_path) == []


def test_a_blob_stored_twice_is_there_once_more(store, other, tmp_path):
    assert keep(store, tmp_path, b"same") == keep(other, tmp_path, b"same")
    assert fetched(store, blob_of(b"same"), tmp_path) == b"same"


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_missing_tells_what_is_not_there(store, other, tmp_path, count):
    absent = {blob_of(f"absent {number}".encode()) for number in range(count)}
    there = [keep(store, tmp_path, f"there {number}".encode()) for number in range(min(count, 20))]
    assert store.missing([*absent, *there]) == absent
    assert other.missing(set(there)) == set()


@pytest.mark.parametrize(
    "held",
    [b"content!", b"content", b"", b"Xontent.", b"content.content."],
    ids=["edited", "cut", "empty", "flipped", "longer"],
)
def test_a_file_that_does_not_hold_its_digest_is_not_kept(store, tmp_path, held):
    source = tmp_path / "source"
    source.write_bytes(held)
    with pytest.raises(CorruptError):
        store.store(blob_of(b"content."), str(source))
    assert store.missing([blob_of(b"content.")]) == {blob_of(b"content.")}
    assert fetched(store, blob_of(b"content."), tmp_path) is None
    assert entries(tmp_path) == ["source"]
    assert source.read_bytes() == held


def test_a_source_that_can_not_be_read_is_an_os_error(store, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        store.store(blob_of(b"content"), str(tmp_path / "nowhere"))
    assert store.missing([blob_of(b"content")]) == {blob_of(b"content")}


def test_a_destination_that_can_not_be_written_is_an_os_error(store, tmp_path):
    blob = keep(store, tmp_path, b"content")
    with pytest.raises(OSError, match="nowhere"):
        store.fetch(blob, str(tmp_path / "nowhere" / "out"))
    assert entries(tmp_path) == []
    assert fetched(store, blob, tmp_path) == b"content"


def test_a_blob_of_another_size_is_not_taken(store, tmp_path):
    blob = keep(store, tmp_path, b"content")
    for size in (0, blob.size - 1, blob.size + 1):
        try:
            there = store.fetch(Blob(blob.digest, size), str(tmp_path / "out"))
        except CorruptError:
            there = False
        assert not there
        assert entries(tmp_path) == []
        keep(store, tmp_path, b"content")


def test_a_fetched_file_is_a_plain_new_one(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"content")
    source.chmod(0o700)
    store.store(blob_of(b"content"), str(source))
    for mask in (0o022, 0o077):
        before = os.umask(mask)
        try:
            path = tmp_path / f"out-{mask}"
            assert store.fetch(blob_of(b"content"), str(path))
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask
        assert path.stat().st_nlink == 1


def test_editing_what_was_fetched_or_stored_does_not_change_the_store(store, other, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    content = CONTENTS["3 MB"]
    source.write_bytes(content)
    store.store(blob_of(content), str(source))
    assert store.fetch(blob_of(content), str(out))
    for path in (source, out):
        with path.open("r+b") as file:
            file.write(b"edited")
        path.chmod(0o600)
    assert fetched(other, blob_of(content), tmp_path) == content


def test_threads_share_a_store(store, other, tmp_path):
    contents = [random.Random(number).randbytes(number * 700) for number in range(12)]

    def worker(number):
        def work():
            folder = tmp_path / str(number)
            folder.mkdir()
            client = (store, other)[number % 2]
            for turn in range(len(contents)):
                content = contents[(turn + number) % len(contents)]
                keep(client, folder, content)
                assert fetched(client, blob_of(content), folder) == content
            return True

        return work

    assert all(at_once([worker(number) for number in range(8)]))
    assert store.missing([blob_of(content) for content in contents]) == set()


# Damage


def damaged(content):
    """Ways in which bytes under a digest go wrong."""
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    return {
        "flipped": bytes(flipped),
        "cut": content[:-1],
        "empty": b"",
        "longer": content + b"\0",
        "other": b"evil" * 9,
    }


@pytest.mark.parametrize("how", damaged(b"content"))
def test_a_damaged_blob_is_never_taken_and_then_absent(store, other, damage, tmp_path, how):
    for content in (CONTENTS["small"], CONTENTS["3 MB"]):
        blob = keep(store, tmp_path, content)
        damage(blob, damaged(content)[how])
        with pytest.raises(CorruptError):
            store.fetch(blob, str(tmp_path / "out"))
        assert entries(tmp_path) == []
        assert fetched(other, blob, tmp_path) is None
        assert other.missing([blob]) == {blob}
        keep(store, tmp_path, content)
        assert fetched(other, blob, tmp_path) == content
