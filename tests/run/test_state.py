"""The memory of a checkout: saved, journalled, and never believed when it is damaged."""

import json
import marshal

import pytest

from build_tests.run.state import Entry, StateStore, write_atomically


@pytest.fixture
def store(tmp_path):
    """Makes a store over the same files each time; `warnings` of all of them."""
    warnings = []

    def make():
        made = StateStore(str(tmp_path / "cache"), str(tmp_path / "journal"), warnings.append)
        made.load()
        return made

    make.warnings = warnings
    make.file = tmp_path / "cache" / "hashes"
    make.journal = tmp_path / "journal"
    return make


GOOD = Entry(
    key="k1",
    fingerprint=[1, "linux", [["command", "true"]]],
    outputs=[["a/o", "f", "d1"]],
    digests={"a/o": "d1"},
    seconds=2.5,
)


def test_nothing_there_is_an_empty_memory_without_a_warning(store):
    assert store().memory.entries == {}
    assert store.warnings == []


def test_what_ended_and_was_saved_comes_back_whole(store):
    first = store()
    first.started("a:x")
    first.ended("a:x", GOOD)
    first.memory.unfinished["a:y"] = "blocked"
    first.memory.files = [["a/in", 1, 2, 3, 4, 5, 1, "f", "d"]]
    first.memory.tools = {"cc": ["v1"]}
    first.save()
    again = store().memory
    assert again.entries == {"a:x": GOOD}
    assert (again.unfinished, again.tools) == ({"a:y": "blocked"}, {"cc": ["v1"]})
    assert again.files == [["a/in", 1, 2, 3, 4, 5, 1, "f", "d"]]
    assert not store.journal.exists()
    assert store.warnings == []


def test_names_that_are_not_utf8_come_back(store):
    first = store()
    name = b"caf\xe9\n".decode("utf-8", "surrogateescape")
    first.ended("a:x", Entry(key="k", outputs=[[name, "f", "d"]]))
    first.changed = True
    first.save()
    assert store().memory.entries["a:x"].outputs == [[name, "f", "d"]]


def test_a_cut_off_run_is_told_by_the_journal(store):
    first = store()
    first.ended("a:x", GOOD)
    first.ended("a:y", GOOD)
    first.changed = True
    first.save()
    second = store()
    second.started("a:x")
    second.ended("a:x", Entry(key="k2"))
    second.started("a:y")
    # Killed here: nothing is saved.
    third = store()
    assert third.memory.entries["a:x"] == Entry(key="k2")
    cut = third.memory.entries["a:y"]
    assert (cut.status, cut.key) == ("interrupted", "")
    # What it may remove, and how long it took, is still known.
    assert (cut.outputs, cut.seconds) == (GOOD.outputs, GOOD.seconds)
    third.save()
    assert not store.journal.exists()
    assert store().memory.entries == third.memory.entries


def test_the_journal_of_a_first_run_needs_no_file(store):
    store().ended("a:x", GOOD)
    assert not store.file.exists()
    assert store().memory.entries == {"a:x": GOOD}


def test_without_a_change_nothing_is_written(store):
    store().save()
    assert not store.file.exists()


def test_a_newer_state_is_left_alone(store):
    store.file.parent.mkdir()
    theirs = b'[99, "their own way"]\n{"anything": 1}'
    store.file.write_bytes(theirs)
    mine = store()
    assert mine.memory.entries == {}
    assert "newer release" in store.warnings[0]
    mine.started("a:x")
    mine.ended("a:x", GOOD)
    mine.save()
    assert store.file.read_bytes() == theirs


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"{}", b"[]\n{}", b"null\nnull", b"[1]\n", b'[1, "x"]\n{}', b'["1", "x"]\n{}', b"[1, null]\n{}", b'[0, "old"]\n{"entries": {}}',
     b"\xff\xfe\x00", b"[" * 100_000, b'[1e999, "x"]\n{}', b'[true, "x"]\n{}'],
)  # fmt: skip
def test_other_content_is_a_warning_and_replaced_at_the_next_save(store, content):
    store.file.parent.mkdir()
    store.file.write_bytes(content)
    mine = store()
    assert mine.memory.entries == {}
    assert len(store.warnings) == 1
    assert "everything counts as not built" in store.warnings[0]
    mine.ended("a:x", GOOD)
    mine.changed = True
    mine.save()
    if content[:6] != b"[1e999":  # a newer one, by its number
        assert store().memory.entries == {"a:x": GOOD}


def test_an_entry_of_another_form_under_a_right_checksum_is_a_warning(store):
    from xxhash import xxh3_128_hexdigest

    body = marshal.dumps({"entries": {"a:x": {"key": "k", "unheard_of": 1}}})
    store.file.parent.mkdir()
    store.file.write_bytes(json.dumps([1, xxh3_128_hexdigest(body)]).encode() + b"\n" + body)
    assert store().memory.entries == {}
    assert len(store.warnings) == 1


def test_cache_clear_forgets_what_was_built_and_the_journal(store):
    store().ended("a:x", GOOD)
    store().forget()
    assert store().memory.entries == {}


def test_a_file_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "file"
    write_atomically(str(target), b"one")
    write_atomically(str(target), b"two")
    assert target.read_bytes() == b"two"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):  # noqa: PT011
        write_atomically(str(tmp_path / "folder"), b"three")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "new"]
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_what_may_be_removed_as_ours_outlives_the_cache_folder(store):
    first = store()
    first.started("a:x")
    first.ended("a:x", GOOD)
    first.save()
    store.file.unlink()
    left = store().memory.entries["a:x"]
    assert left == Entry(outputs=GOOD.outputs)
    assert store.warnings == []
    store.file.write_bytes(b"damaged")
    assert store().memory.entries["a:x"].outputs == GOOD.outputs
    made = store.journal.with_name("made.json")
    whole = made.read_bytes()
    for damaged in (b"", whole[:-1], whole.replace(b"a/o", b"a/p"), b"[" * 100_000, b"\xff\n{}"):
        made.write_bytes(damaged)
        assert store().memory.entries == {}
