"""The local store: the contract, damage of every kind, folders that fail or vanish."""

import contextlib
import errno
import os
import random
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest
from contract import *  # noqa: F403
from contract import CONTENTS, blob_of, entries, fetched, keep, name_of

from build_tests.cache.local import LocalStore, default_folder, occupied
from build_tests.cache.model import CHUNK, Blob, CorruptError, StoreError

BIG = CONTENTS["3 MB"]
NOBODY = 65534


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache") / "deep" / "pytest-build"


@pytest.fixture
def store(folder):
    return LocalStore(str(folder))


@pytest.fixture
def other(folder):
    return LocalStore(str(folder))


def path_of(store, kind, name):
    return Path(store.base, kind, name[:2], name[2:])


def rewrite(path, content):
    path.chmod(0o600)
    path.write_bytes(content)


@pytest.fixture
def damage(store):
    return lambda blob, content: rewrite(path_of(store, "blobs", blob.digest), content)


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if not path.is_dir())


# Damage


def test_a_blob_cut_at_any_length_is_never_taken(store, damage, tmp_path):
    content = b"all of these forty-three bytes or nothing.\n"
    blob = keep(store, tmp_path, content)
    for length in range(len(content)):
        damage(blob, content[:length])
        assert store.missing([blob]) == {blob}  # the size alone tells
        with pytest.raises(CorruptError, match="damaged"):
            store.fetch(blob, str(tmp_path / "out"))
        assert entries(tmp_path) == []
        assert not store.fetch(blob, str(tmp_path / "out"))
        keep(store, tmp_path, content)
    assert store.quarantined == len(content)
    assert len(os.listdir(store.quarantine)) == len(content)
    assert fetched(store, blob, tmp_path) == content


def test_a_blob_that_was_cut_short_is_stored_again_without_being_read(store, damage, tmp_path):
    blob = keep(store, tmp_path, b"content")
    damage(blob, b"cont")
    keep(store, tmp_path, b"content")
    assert fetched(store, blob, tmp_path) == b"content"
    assert store.quarantined == 0


def test_any_flipped_bit_of_a_blob_is_found(store, damage, tmp_path):
    content = bytes(range(32))
    for bit in range(len(content) * 8):
        blob = keep(store, tmp_path, content)
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        damage(blob, bytes(flipped))
        with pytest.raises(CorruptError):
            store.fetch(blob, str(tmp_path / "out"))
    assert entries(tmp_path) == []


def test_flipped_bits_of_a_big_blob_are_found(store, damage, tmp_path):
    dice = random.Random(1)
    for at in (0, len(BIG) - 1, *(dice.randrange(len(BIG)) for _ in range(8))):
        blob = keep(store, tmp_path, BIG)
        damage(blob, BIG[:at] + bytes([BIG[at] ^ 1 << dice.randrange(8)]) + BIG[at + 1 :])
        with pytest.raises(CorruptError):
            store.fetch(blob, str(tmp_path / "out"))
    assert entries(tmp_path) == []


def damaged_records(framed):
    yield from (framed[:length] for length in range(len(framed)))
    for bit in range(len(framed) * 8):
        flipped = bytearray(framed)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)
    yield framed + b"\n"


def test_a_record_cut_or_flipped_anywhere_counts_as_absent(store, other):
    name = name_of("a")
    assert store.write_record(name, b'{"version": 1}', [])
    path = path_of(store, "records", name)
    framed, found = path.read_bytes(), 0
    for found, damaged in enumerate(damaged_records(framed), 1):  # noqa: B007
        rewrite(path, damaged)
        assert store.read_record(name) is None
        assert not path.exists()
        assert other.write_record(name, b'{"version": 1}', [])
    assert store.quarantined == found > len(framed) * 9
    assert store.read_record(name) == b'{"version": 1}'


def test_a_writer_takes_a_damaged_record_for_none(store):
    name = name_of("a")
    assert store.write_record(name, b"first", [])
    rewrite(path_of(store, "records", name), b"torn")
    assert store.write_record(name, b"second", [])
    assert store.read_record(name) == b"second"


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_something_else_in_an_entrys_place_counts_as_damaged(store, tmp_path, kind):
    blob = keep(store, tmp_path, b"content")
    assert store.write_record(name_of("a"), b"record", [])
    make = {"folder": Path.mkdir, "link": lambda path: path.symlink_to(__file__), "fifo": os.mkfifo}[kind]
    for path in (path_of(store, "blobs", blob.digest), path_of(store, "records", name_of("a"))):
        path.unlink()
        make(path)
    assert store.read_record(name_of("a")) is None
    with contextlib.suppress(CorruptError):
        assert not store.fetch(blob, str(tmp_path / "out"))
    assert entries(tmp_path) == []
    keep(store, tmp_path, b"content")
    assert store.write_record(name_of("a"), b"record", [])
    assert store.read_record(name_of("a")) == b"record"
    assert fetched(store, blob, tmp_path) == b"content"


def test_a_size_that_the_caller_has_wrong_harms_nothing(store, tmp_path):
    blob = keep(store, tmp_path, b"content")
    with pytest.raises(CorruptError, match="7 bytes, and 9 were asked for"):
        store.fetch(Blob(blob.digest, 9), str(tmp_path / "out"))
    assert store.quarantined == 0
    assert fetched(store, blob, tmp_path) == b"content"


@pytest.mark.parametrize("name", ["", "../" * 20 + "etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "é" * 64])
def test_no_name_leads_out_of_the_folder(store, tmp_path, name):
    for use in (
        lambda: store.read_record(name),
        lambda: store.write_record(name, b"record", []),
        lambda: store.fetch(Blob(name, 1), str(tmp_path / "out")),
        lambda: store.store(Blob(name, 1), __file__),
        lambda: store.missing([Blob(name, 1)]),
    ):
        with pytest.raises(ValueError, match="no SHA-256"):
            use()


@pytest.mark.parametrize("size", [7, CHUNK + 1])
def test_a_source_that_is_no_plain_file_is_refused(store, tmp_path, size):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "content").write_bytes(b"x" * size)
    (tmp_path / "link").symlink_to("content")
    blob = blob_of(b"x" * size)
    for name in ("fifo", ""):
        with pytest.raises(CorruptError):
            store.store(blob, str(tmp_path / name))
    with pytest.raises(OSError, match="link"):
        store.store(blob, str(tmp_path / "link"))
    assert store.missing([blob]) == {blob}
    assert files_below(store.temporary) == []


def test_what_lies_at_the_destination_stays(store, tmp_path):
    blob, big = keep(store, tmp_path, b"content"), keep(store, tmp_path, BIG)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        for one in (blob, big):
            with pytest.raises(FileExistsError):
                store.fetch(one, str(tmp_path / name))
    assert (tmp_path / "file").read_text() == "mine"


# Folders that fail


def test_a_store_that_was_never_written_to_makes_no_folder(store, folder, tmp_path):
    assert store.read_record(name_of("a")) is None
    assert store.missing([blob_of(b"x")]) == {blob_of(b"x")}
    assert not store.fetch(blob_of(b"x"), str(tmp_path / "out"))
    store.close()
    assert not folder.exists()


def test_the_folder_is_private_and_marked_as_a_cache(store, folder, tmp_path):
    keep(store, tmp_path, b"content")
    assert (folder / "v1").stat().st_mode & 0o777 == 0o700
    assert (folder / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886806bc55")


def test_a_folder_that_vanished_between_two_uses_is_made_again(store, folder, tmp_path):
    for content in (b"content", BIG):
        for _ in range(2):
            blob = keep(store, tmp_path, content)
            assert store.write_record(name_of("a"), b"record", [blob])
            shutil.rmtree(folder)
            assert store.read_record(name_of("a")) is None
            assert store.missing([blob]) == {blob}
            assert fetched(store, blob, tmp_path) is None
            assert store.write_record(name_of("a"), b"good", [], over=b"bad")
            shutil.rmtree(folder)


@pytest.mark.parametrize("content", [b"content", BIG], ids=["small", "big"])
def test_a_folder_that_vanishes_while_it_is_written_to_is_made_again(store, folder, tmp_path, monkeypatch, content):
    rename, link, gone = os.rename, os.link, []

    def after_removal(action):
        def act(*arguments, **options):
            if len(gone) < 1:
                gone.append(shutil.rmtree(folder))
            return action(*arguments, **options)

        return act

    monkeypatch.setattr(os, "rename", after_removal(rename))
    blob = keep(store, tmp_path, content)
    assert gone
    assert fetched(store, blob, tmp_path) == content
    gone.clear()
    monkeypatch.setattr(os, "link", after_removal(link))
    assert store.write_record(name_of("a"), b"record", [])
    assert gone
    assert store.read_record(name_of("a")) == b"record"


def test_a_folder_that_vanishes_each_time_is_a_store_error(store, folder, tmp_path, monkeypatch):
    def rename(*arguments, **options):
        shutil.rmtree(folder)
        raise FileNotFoundError(errno.ENOENT, "gone")

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(StoreError, match="pytest-build"):
        keep(store, tmp_path, b"content")


def test_a_folder_that_someone_keeps_removing(store, other, folder, tmp_path):
    """Whatever the moment, what is said to be fetched is right, and the only exception is a StoreError."""
    done = threading.Event()

    def remove():
        while not done.is_set():
            shutil.rmtree(folder, ignore_errors=True)

    thread = threading.Thread(target=remove)
    thread.start()
    came_back = 0
    try:
        for number in range(150):
            content = b"%d" % number if number % 10 else BIG
            with contextlib.suppress(StoreError):
                blob = keep(store, tmp_path, content)
                came_back += fetched(other, blob, tmp_path) == content
            with contextlib.suppress(StoreError):
                store.write_record(name_of(str(number)), content, [])
                assert other.read_record(name_of(str(number))) in (content, None)
            for left in tmp_path.glob("source-*"):
                left.unlink()
    finally:
        done.set()
        thread.join()
    assert entries(tmp_path) == []


@pytest.fixture
def as_a_user():
    """As one who can't write everywhere, and a folder that is theirs."""
    folder = tempfile.mkdtemp()
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield Path(folder)
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_a_read_only_folder_can_be_read_and_says_that_it_can_not_be_written(as_a_user):
    store = LocalStore(str(as_a_user / "cache"))
    out = as_a_user / "out"
    out.mkdir()
    blob = keep(store, out, b"content")
    bad = keep(store, out, b"damaged")
    assert store.write_record(name_of("a"), b"record", [blob])
    assert store.write_record(name_of("b"), b"record", [blob])
    rewrite(path_of(store, "blobs", bad.digest), b"DAMAGED")
    rewrite(path_of(store, "records", name_of("b")), b"DAMAGED")
    for path in Path(store.base).rglob("*"):
        os.utime(path, (1, 1))
    folders = [Path(store.folder), *(path for path in Path(store.folder).rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o500)
    try:
        assert store.read_record(name_of("a")) == b"record"
        assert store.read_record(name_of("b")) is None
        assert store.missing([blob]) == set()
        store.store(blob, __file__)
        assert fetched(store, blob, out) == b"content"
        with pytest.raises(CorruptError):
            store.fetch(bad, str(out / "out"))
        for write in (
            lambda: keep(store, out, b"another"),
            lambda: keep(store, out, BIG),
            lambda: store.write_record(name_of("c"), b"record", []),
            lambda: store.write_record(name_of("a"), b"other", [], over=b"record"),
        ):
            with pytest.raises(StoreError, match=f"{store.folder}: Permission denied"):
                write()
        store.close()
    finally:
        for path in folders:
            path.chmod(0o700)


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    store = LocalStore(str(tmp_path / "file" / "cache"))
    assert store.read_record(name_of("a")) is None
    assert store.missing([blob_of(b"x")]) == {blob_of(b"x")}
    with pytest.raises(StoreError, match="file/cache: Not a directory"):
        keep(store, tmp_path, b"x")


class Failing:
    """os functions of which the n-th call fails."""

    def __init__(self, monkeypatch, number, *names):
        self.calls = 0
        for function in names:
            monkeypatch.setattr(os, function, self.wrapped(getattr(os, function), number))

    def wrapped(self, function, number):
        def call(*arguments, **options):
            self.calls += 1
            if self.calls >= number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **options)

        return call


@pytest.mark.parametrize("content", [b"content", BIG, BIG * 4], ids=["small", "big", "several strides"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_disk_that_is_full_while_storing(store, tmp_path, content, number):
    keep(store, tmp_path, b"before")
    with pytest.MonkeyPatch.context() as patch:
        Failing(patch, number, "write", "copy_file_range")
        said = ""
        try:
            keep(store, tmp_path, content)
        except StoreError as error:
            said = str(error)
        assert said == (
            "" if store.missing([blob_of(content)]) == set() else f"{store.folder}: No space left on device"
        )
        assert said or number > 1
    assert files_below(store.temporary) == []
    for left in tmp_path.iterdir():
        left.unlink()
    keep(store, tmp_path, content)
    assert fetched(store, blob_of(content), tmp_path) == content


def test_a_disk_that_is_full_while_a_record_is_written(store):
    store.write_record(name_of("before"), b"before", [])
    with pytest.MonkeyPatch.context() as patch:
        Failing(patch, 1, "write")
        for over in (None, b"before"):
            with pytest.raises(StoreError, match="No space left"):
                store.write_record(name_of("a"), b"record", [], over=over)
    assert files_below(store.temporary) == []
    assert store.read_record(name_of("a")) is None


@pytest.mark.parametrize("content", [b"content", BIG], ids=["small", "big"])
def test_a_disk_that_is_full_while_fetching_is_the_callers(store, tmp_path, content):
    blob = keep(store, tmp_path, content)
    with pytest.MonkeyPatch.context() as patch:
        Failing(patch, 1, "write", "copy_file_range")
        with pytest.raises(OSError, match=r"No space left on device.*out"):
            store.fetch(blob, str(tmp_path / "out"))
    assert entries(tmp_path) == []
    assert fetched(store, blob, tmp_path) == content


def test_a_write_that_takes_a_part_only(store, tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:100]))
    content = BIG[:1001]
    assert fetched(store, keep(store, tmp_path, content), tmp_path) == content


def test_a_file_system_that_can_not_copy_by_itself(store, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    assert fetched(store, keep(store, tmp_path, BIG), tmp_path) == BIG


def test_a_file_system_without_hard_links(store, other, monkeypatch):
    def link(*arguments, **options):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    test_a_record_is_written_once(store, other)  # noqa: F405
    store.write_record(name_of("over"), b"bad", [])
    assert not other.write_record(name_of("over"), b"good", [], over=b"worse")
    assert other.write_record(name_of("over"), b"good", [], over=b"bad")
    assert store.read_record(name_of("over")) == b"good"
    test_one_of_many_writers_wins(store, other)  # noqa: F405
    assert files_below(store.temporary) == []


def test_who_keeps_the_lock_is_not_waited_for_without_end(store, other, monkeypatch):
    monkeypatch.setattr("build_tests.cache.local.LOCK_SECONDS", 0.0)
    store.write_record(name_of("a"), b"bad", [])
    with store._locked(), pytest.raises(StoreError, match="lock"):
        other.write_record(name_of("a"), b"good", [], over=b"bad")
    assert other.write_record(name_of("a"), b"good", [], over=b"bad")


# Use


def age(path, seconds):
    moment = time.time() - seconds
    os.utime(path, (moment, moment))
    return os.stat(path).st_mtime


@pytest.mark.parametrize("years", [0, 1, -1], ids=["now", "a year ahead", "a year back"])
def test_use_gives_a_new_time(folder, tmp_path, years):
    now = time.time() + years * 365 * 86400
    store = LocalStore(str(folder), clock=lambda: now)
    blob = keep(store, tmp_path, b"content")
    assert store.write_record(name_of("a"), b"record", [blob])
    record, file = path_of(store, "records", name_of("a")), path_of(store, "blobs", blob.digest)
    for path, use in (
        (record, lambda: store.read_record(name_of("a"))),
        (file, lambda: fetched(store, blob, tmp_path)),
        (file, lambda: store.missing([blob])),
        (file, lambda: keep(store, tmp_path, b"content")),
    ):
        old = age(path, 7200)
        use()
        assert path.stat().st_mtime == pytest.approx(now, abs=1) != old


def test_use_is_noted_now_and_then_only(store, tmp_path):
    blob = keep(store, tmp_path, b"content")
    path = path_of(store, "blobs", blob.digest)
    old = age(path, 1800)
    assert fetched(store, blob, tmp_path) == b"content"
    assert path.stat().st_mtime == old
    store.missing([blob])  # whoever asks may be about to write a record
    assert path.stat().st_mtime > old
    old = age(path, 30)
    store.missing([blob])
    assert path.stat().st_mtime == old


def test_what_is_added_is_told_to_eviction(store, other, tmp_path):
    keep(store, tmp_path, b"content")
    keep(store, tmp_path, b"content")
    other.write_record(name_of("a"), b"record", [])
    assert not os.path.exists(store.added)
    store.close()
    other.close()
    other.close()
    assert Path(store.added).read_text() == "4096\n4096\n"
    assert [occupied(size) for size in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/home/u"}, "/x/pytest-build"),
        ({"HOME": "/home/u"}, "/home/u/.cache/pytest-build"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/u"}, "/home/u/.cache/pytest-build"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/u"}, "/home/u/.cache/pytest-build"),
        ({}, os.path.expanduser("~/.cache/pytest-build")),
    ],
)
def test_the_default_folder(environ, folder):
    assert default_folder(environ) == folder
