"""A file is read when it may have changed, and only then."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc

import pytest
import xxhash

from build_tests.core import digest
from build_tests.core.digest import SLACK_NS, FileState, FileTable, Memo, Stat, UnreadableError, settled, stat_of


def write(path, text="", mode=None):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    if mode is not None:
        os.chmod(path, mode)


def wait_until_settled(*paths):
    """Until no edit could hide behind the time stamps of what is there now."""
    newest = max(os.lstat(p).st_ctime_ns for p in paths)
    while time.time_ns() <= newest + SLACK_NS:
        pass


def state(text, mode="f"):
    return FileState(mode, xxhash.xxh3_128_hexdigest(text.encode()))


def known_after(root, *paths):
    """What a run remembers that has looked up these paths, as it comes back from the state file."""
    table = FileTable(str(root))
    for path in paths:
        table.lookup(path)
    return json.loads(json.dumps(table.export()))


def test_states(tmp_path):
    write(tmp_path / "plain", "hello")
    write(tmp_path / "run.sh", "hello", 0o755)
    write(tmp_path / "group", "hello", 0o654)
    write(tmp_path / "empty")
    os.mkdir(tmp_path / "folder")
    os.symlink("plain", tmp_path / "link")
    os.symlink("/nowhere/at/all", tmp_path / "dangling")
    os.symlink("self", tmp_path / "self")
    table = FileTable(str(tmp_path))
    assert table.lookup("plain") == state("hello")
    assert table.lookup("run.sh") == state("hello", "x")
    assert table.lookup("group") == state("hello", "x")
    assert table.lookup("empty") == state("")
    assert table.lookup("folder") == FileState("d", "")
    assert table.lookup("link") == state("plain", "l")
    assert table.lookup("dangling") == state("/nowhere/at/all", "l")
    assert table.lookup("self") == state("self", "l")
    for absent in ("gone", "plain/below", "gone/below", "self/below"):
        assert table.lookup(absent) is None
        with pytest.raises(UnreadableError, match="a moment ago"):
            table.require(absent)


def test_a_run_in_which_nothing_changed_reads_nothing(tmp_path, monkeypatch):
    names = [f"f{i}" for i in range(100)]
    for name in names:
        write(tmp_path / name, name)
    os.symlink("f0", tmp_path / "link")
    names.append("link")
    wait_until_settled(*(tmp_path / name for name in names))
    known = known_after(tmp_path, *names)
    monkeypatch.setattr(os, "open", None)
    monkeypatch.setattr(os, "readlink", None)
    table = FileTable(str(tmp_path), known)
    for _ in range(3):
        assert [table.lookup(name) for name in names[:-1]] == [state(name) for name in names[:-1]]
        assert table.lookup("link") == state("f0", "l")
    assert (table.stats, table.hashes, table.bytes_hashed, table.dirty) == (101, 0, 0, False)
    assert table.export() == known


def test_conservative_reads_once_a_run_whatever_is_known(tmp_path):
    write(tmp_path / "f", "text")
    wait_until_settled(tmp_path / "f")
    table = FileTable(str(tmp_path), known_after(tmp_path, "f"), trust=False)
    assert table.lookup("f") == table.lookup("f") == state("text")
    assert table.hashes == 1
    assert table.recheck("f", state("text"))
    assert table.hashes == 1


class TestEdits:
    @pytest.fixture
    def known(self, tmp_path):
        write(tmp_path / "f", "before")
        wait_until_settled(tmp_path / "f")
        return known_after(tmp_path, "f")

    def test_same_size_with_the_mtime_put_back(self, tmp_path, known):
        was = os.stat(tmp_path / "f")
        write(tmp_path / "f", "AFTER!")
        os.utime(tmp_path / "f", ns=(was.st_atime_ns, was.st_mtime_ns))
        table = FileTable(str(tmp_path), known)
        assert table.lookup("f") == state("AFTER!")
        assert table.dirty

    def test_touch_reads_and_finds_the_same(self, tmp_path, known):
        os.utime(tmp_path / "f")
        table = FileTable(str(tmp_path), known)
        assert table.lookup("f") == state("before")
        assert table.hashes == 1

    def test_a_rename_over_it(self, tmp_path, known):
        was = os.stat(tmp_path / "f")
        write(tmp_path / "g", "AFTER!")
        os.utime(tmp_path / "g", ns=(was.st_atime_ns, was.st_mtime_ns))
        os.rename(tmp_path / "g", tmp_path / "f")
        assert FileTable(str(tmp_path), known).lookup("f") == state("AFTER!")

    def test_the_executable_bit(self, tmp_path, known):
        os.chmod(tmp_path / "f", 0o755)
        assert FileTable(str(tmp_path), known).lookup("f") == state("before", "x")

    def test_a_link_in_its_place(self, tmp_path, known):
        os.unlink(tmp_path / "f")
        os.symlink("before", tmp_path / "f")
        assert FileTable(str(tmp_path), known).lookup("f") == state("before", "l")

    def test_removed(self, tmp_path, known):
        os.unlink(tmp_path / "f")
        table = FileTable(str(tmp_path), known)
        assert table.lookup("f") is None
        assert table.dirty
        assert table.export() == []

    def test_not_noticed_within_a_run_until_forgotten(self, tmp_path, known):
        os.mkdir(tmp_path / "d")
        table = FileTable(str(tmp_path), known)
        assert (table.lookup("f"), table.lookup("d/g")) == (state("before"), None)
        write(tmp_path / "f", "AFTER!")
        write(tmp_path / "d/g", "new")
        assert (table.lookup("f"), table.lookup("d/g")) == (state("before"), None)
        table.forget(["f"])
        table.forget_under("d/")
        assert (table.lookup("f"), table.lookup("d/g")) == (state("AFTER!"), state("new"))


def test_an_edit_within_the_tick_of_its_reading_is_noticed(tmp_path):
    write(tmp_path / "f", "before")
    # Read right after it was written, then written again before the clock of the file system moved on: the second
    # edit leaves the very stat of the first. Its row is made to say so, since the kernel can't be told to.
    known = known_after(tmp_path, "f")
    write(tmp_path / "f", "AFTER!")
    known[0][1:6] = stat_of(str(tmp_path / "f"))
    table = FileTable(str(tmp_path), known)
    assert table.lookup("f") == state("AFTER!")


def test_a_young_file_is_read_again_once_and_then_trusted(tmp_path):
    write(tmp_path / "f", "text")
    known = known_after(tmp_path, "f")
    assert known[0][6] == 0
    wait_until_settled(tmp_path / "f")
    second = FileTable(str(tmp_path), known)
    assert second.lookup("f") == state("text")
    assert (second.hashes, second.dirty) == (1, True)
    third = FileTable(str(tmp_path), second.export())
    assert third.lookup("f") == state("text")
    assert (third.hashes, third.dirty) == (0, False)


@pytest.mark.parametrize("year", [1971, 2100])
def test_times_far_from_now(tmp_path, year):
    seconds = (year - 1970) * 365 * 86400
    write(tmp_path / "f", "before")
    os.utime(tmp_path / "f", (seconds, seconds))
    wait_until_settled(tmp_path / "f")
    known = known_after(tmp_path, "f")
    # One from the future can't be told from one that is being written: read every time.
    table = FileTable(str(tmp_path), known)
    assert table.lookup("f") == state("before")
    assert table.hashes == (1 if year > 2026 else 0)
    write(tmp_path / "f", "AFTER!")
    os.utime(tmp_path / "f", (seconds, seconds))
    assert FileTable(str(tmp_path), known).lookup("f") == state("AFTER!")


def test_a_clock_that_was_ahead_when_the_file_was_read(tmp_path, monkeypatch):
    write(tmp_path / "f", "before")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 366 * 86400 * 10**9)  # the file is a year younger than now
    known = known_after(tmp_path, "f")
    assert known[0][6] == 0
    monkeypatch.undo()
    write(tmp_path / "f", "AFTER!")
    known[0][1:6] = stat_of(str(tmp_path / "f"))
    assert FileTable(str(tmp_path), known).lookup("f") == state("AFTER!")


def test_settled():
    stat = Stat(1, 10**18, 10**18 + 5, 1, 0o100644)
    assert not settled(stat, 10**18 + 5 + SLACK_NS)
    assert settled(stat, 10**18 + 6 + SLACK_NS)
    assert not settled(stat, 10**18 - 10**12)


class TestWhileItIsRead:
    def edit_during_reads(self, monkeypatch, path, texts):
        """Each of the first reads is followed by an edit."""
        real, left = os.close, list(texts)

        def close(handle):
            real(handle)
            if left:
                write(path, left.pop(0))

        monkeypatch.setattr(digest.os, "close", close)
        return left

    def test_read_again_until_it_holds_still(self, tmp_path, monkeypatch):
        write(tmp_path / "f", "1")
        self.edit_during_reads(monkeypatch, tmp_path / "f", ["two"])
        table = FileTable(str(tmp_path))
        assert table.lookup("f") == state("two")
        assert table.hashes == 2

    def test_never_trusted_when_it_does_not(self, tmp_path, monkeypatch):
        write(tmp_path / "f", "1")
        wait_until_settled(tmp_path / "f")
        left = self.edit_during_reads(monkeypatch, tmp_path / "f", [str(10**i) for i in range(1, 50)])
        table = FileTable(str(tmp_path))
        table.lookup("f")
        assert table.hashes == digest.ATTEMPTS
        assert len(left) == 49 - digest.ATTEMPTS
        assert not table.settled("f")

    def test_removed_meanwhile(self, tmp_path, monkeypatch):
        write(tmp_path / "f", "1")
        table = FileTable(str(tmp_path))
        assert table.stat("f") is not None
        os.unlink(tmp_path / "f")
        assert table.lookup("f") is None

    def test_a_fifo_takes_its_place(self, tmp_path):
        write(tmp_path / "f", "1")
        table = FileTable(str(tmp_path))
        assert table.stat("f") is not None
        os.unlink(tmp_path / "f")
        os.mkfifo(tmp_path / "f")
        with pytest.raises(UnreadableError, match="can't read 'f': it is a fifo"):
            table.lookup("f")


class TestRecheck:
    def test_without_reading_where_the_stat_tells(self, tmp_path):
        write(tmp_path / "f", "text")
        wait_until_settled(tmp_path / "f")
        table = FileTable(str(tmp_path))
        before = table.lookup("f")
        stats = table.stats
        assert table.recheck("f", before)
        assert (table.stats, table.hashes) == (stats + 1, 1)

    def test_finds_what_changed(self, tmp_path):
        table = FileTable(str(tmp_path))
        write(tmp_path / "f", "text")
        states = {name: table.lookup(name) for name in ("f", "g")}
        assert table.recheck("g", states["g"])
        write(tmp_path / "f", "TEXT")
        write(tmp_path / "g", "new")
        assert not table.recheck("f", states["f"])
        assert not table.recheck("g", states["g"])
        os.unlink(tmp_path / "f")
        assert not table.recheck("f", states["f"])
        os.mkfifo(tmp_path / "f")
        assert not table.recheck("f", states["f"])

    def test_a_touched_file_is_unchanged(self, tmp_path):
        write(tmp_path / "f", "text")
        table = FileTable(str(tmp_path))
        before = table.lookup("f")
        os.utime(tmp_path / "f")
        assert table.recheck("f", before)


def test_specials_are_refused_and_never_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
        table = FileTable(str(tmp_path))
        for name, kind in (("pipe", "a fifo"), ("sock", "a socket")):
            with pytest.raises(UnreadableError, match=f"can't read '{name}': it is {kind}"):
                table.lookup(name)
    with pytest.raises(UnreadableError, match="it is a device"):
        FileTable("/dev").lookup("null")


def test_unreadable_files_and_folders_are_named():
    # Root reads everything: ask as somebody else. Not in tmp_path: pytest closes the folders above it to other users.
    program = (
        "import os, sys, xxhash\n"
        "from build_tests.core.digest import FileTable, UnreadableError\n"
        "if os.geteuid() == 0:\n    os.setegid(65534); os.seteuid(65534)\n"
        "for path in ('open', 'secret', 'closed/in'):\n"
        "    try:\n        print(FileTable(sys.argv[1]).lookup(path).mode)\n"
        "    except UnreadableError as error:\n        print(error)\n"
    )
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        os.mkdir(os.path.join(root, "closed"))
        write(os.path.join(root, "closed/in"), "x")
        write(os.path.join(root, "open"), "x", 0o644)
        write(os.path.join(root, "secret"), "x", 0o000)
        os.chmod(os.path.join(root, "closed"), 0o000)
        said = subprocess.run(
            [sys.executable, "-c", program, root], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        os.chmod(os.path.join(root, "closed"), 0o755)
    refused = [f"can't read '{path}': Permission denied" for path in ("secret", "closed/in")]
    assert said.splitlines() == ["f", *refused]


@pytest.mark.parametrize("name", ["new\nline", "-rf", "quo'te\"", "[x]", "a::b", "\udcff\udc80", "ü", " "])
def test_odd_names_go_through_the_state_file(tmp_path, name):
    write(tmp_path / name, "text")
    wait_until_settled(tmp_path / name)
    table = FileTable(str(tmp_path), known_after(tmp_path, name))
    assert table.lookup(name) == state("text")
    assert table.hashes == 0


def test_a_big_file_in_bounded_memory(tmp_path):
    size = (4 << 30) + 5 if os.environ.get("CI") else 1 << 28  # in CI more than 32 bits can count
    with open(tmp_path / "big", "wb") as file:
        file.write(b"start")
        file.truncate(size)  # holes: they take no room on the disk
    write(tmp_path / "f", "x")
    table = FileTable(str(tmp_path))
    table.lookup("f")  # imports what hashing needs
    tracemalloc.start()
    try:
        assert table.lookup("big").mode == "f"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert table.bytes_hashed == size + 1


@pytest.mark.parametrize(
    "known", [[None], [[]], [["f"]], [{}], ["text"], [["f", *range(8)]], [["f", 1, 2, 3, 4, 5, 0, 0, 0]]]
)
def test_rows_that_are_no_rows_do_no_harm(tmp_path, known):
    write(tmp_path / "f", "text")
    assert FileTable(str(tmp_path), known).lookup("f") == state("text")


def test_rows_of_files_that_are_gone_are_dropped_on_request(tmp_path):
    write(tmp_path / "f", "text")
    write(tmp_path / "g", "text")
    known = known_after(tmp_path, "f", "g")
    os.unlink(tmp_path / "f")
    assert len(FileTable(str(tmp_path), known).export()) == 2
    assert [row[0] for row in FileTable(str(tmp_path), known).export(prune=True)] == ["g"]


def test_memo_forgets_folders():
    memo = Memo()
    for path in ("", "a", "a/b", "a/b/c", "ab", "x/y"):
        memo.put(path, path)
    memo.forget_under("a")
    assert [path for path in ("", "a", "a/b", "a/b/c", "ab", "x/y") if memo.get(path)] == ["", "ab", "x/y"]
    memo.put("a/b", "again")
    assert memo.get("a/b")[0] == "again"
    assert memo.get("a") is None
    memo.forget_under("a/b/c")
    assert memo.get("a/b")[0] == "again"
    memo.forget_under("")
    assert memo.get("x/y") is None
