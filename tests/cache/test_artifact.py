"""Manifests and putting them back: what comes back, and that nothing is ever written anywhere else."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from contract import blob_of

from build_tests.cache.artifact import (
    Item,
    blobs_of,
    checked,
    decode,
    digest_of,
    discard,
    encode,
    listed,
    place,
    stage,
)
from build_tests.cache.local import LocalStore
from build_tests.cache.model import CorruptError

OUTPUTS = (("out", True), ("dist/app.js", False))


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    return folder


def fill(root):
    (root / "out/deep/er").mkdir(parents=True)
    (root / "out/empty/emptier").mkdir(parents=True)
    (root / "dist").mkdir()
    (root / "dist/app.js").write_text("app")
    (root / "dist/source.ts").write_text("not an output")
    (root / "out/tool").write_text("#!/bin/sh\n")
    (root / "out/tool").chmod(0o755)
    (root / "out/nothing").write_text("")
    (root / "out/deep/big").write_bytes(bytes(range(256)) * 8192)
    (root / "out/deep/er/same").write_text("app")
    (root / "out/relative").symlink_to("deep/er")
    (root / "out/dangling").symlink_to("/nowhere/at/all")
    (root / "out/odd \n-name\udcff".encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")).write_text(
        "?"
    )


def snapshot(folder):
    """Everything below a folder: kind, mode, content."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        else:
            found[name] = (path.stat().st_mode, path.read_bytes() if path.is_file() else "")
    return found


def keep_all(store, root, items):
    for item in items:
        if item.is_file:
            store.store(item.blob, str(root / item.path))


def restored(store, root, items, tmp_path):
    checked(items, OUTPUTS)
    assert stage(items, store.fetch, str(tmp_path / "staging")) is None
    place(str(root), items, str(tmp_path / "staging"))


# There and back


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_what_is_put_back_is_what_was_there(store, root, tmp_path, mask):
    before = os.umask(mask)
    try:
        fill(root)
        (root / "out/tool").chmod(0o777 & ~mask)
        was = snapshot(root)
        items = listed(str(root), OUTPUTS)
        keep_all(store, root, items)
        shutil.rmtree(root / "out")
        (root / "dist/app.js").unlink()
        restored(store, root, decode(json.loads(json.dumps(encode(items)))), tmp_path)
        assert snapshot(root) == was
        assert listed(str(root), OUTPUTS) == items
    finally:
        os.umask(before)
    assert not list(tmp_path.glob("staging*"))


def test_it_is_the_same_in_another_empty_checkout(store, root, tmp_path):
    fill(root)
    items = listed(str(root), OUTPUTS)
    keep_all(store, root, items)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    restored(store, elsewhere, items, tmp_path)
    (root / "dist/source.ts").unlink()
    assert snapshot(elsewhere) == snapshot(root)


def test_the_items_say_what_lies_there(root):
    fill(root)
    items = listed(str(root), OUTPUTS)
    assert items == sorted(items)
    rows = {item.path: item[1:] for item in items}
    assert rows["dist/app.js"] == ("f", blob_of(b"app").digest, 3)
    assert rows["out/tool"][0] == "x"
    assert rows["out/relative"] == ("l", "deep/er", 0)
    assert rows["out/empty/emptier"] == ("d", "", 0)
    assert "out/empty" not in rows  # it is made on the way
    assert len(blobs_of(items)) == 5  # two files hold the same
    assert {item.mode for item in items} == set("fxld")


def test_an_empty_folder_is_an_output(store, root, tmp_path):
    (root / "out").mkdir()
    items = listed(str(root), [("out", True)])
    assert items == [Item("out", "d", "", 0)]
    checked(items, [("out", True)])
    (root / "out").rmdir()
    assert stage(items, store.fetch, str(tmp_path / "staging")) is None
    place(str(root), items, str(tmp_path / "staging"))
    assert (root / "out").is_dir()


def test_the_digest_of_an_output_changes_with_all_that_others_can_see(root):
    fill(root)

    def digests():
        items = listed(str(root), OUTPUTS)
        return digest_of(items, "out"), digest_of(items, "dist/app.js")

    seen = [digests()]
    for change in (
        lambda: (root / "out/tool").chmod(0o644),
        lambda: (root / "out/nothing").write_text("something"),
        lambda: (root / "out/nothing").rename(root / "out/something"),
        lambda: (root / "out/empty/emptier").rmdir(),
        lambda: ((root / "out/dangling").unlink(), (root / "out/dangling").symlink_to("/elsewhere")),
        lambda: ((root / "out/dangling").unlink(), (root / "out/dangling").write_text("/elsewhere")),
    ):
        change()
        seen.append(digests())
    assert len({out for out, _ in seen}) == len(seen)
    assert len({app for _, app in seen}) == 1
    os.utime(root / "out/tool", (1, 1))
    assert digests() == seen[-1]


def test_the_digest_of_an_output_does_not_depend_on_where_it_lies(root):
    for folder in ("a", "b/c"):
        (root / folder / "deep").mkdir(parents=True)
        (root / folder / "deep/file").write_text("content")
    items = listed(str(root), [("a", True), ("b/c", True)])
    assert digest_of(items, "a") == digest_of(items, "b/c")


@pytest.mark.parametrize(
    "what", ["absent", "a folder", "a link for a folder", "a file for a folder", "a fifo", "behind a link"]
)
def test_what_can_not_be_listed_is_named(root, what):
    fill(root)
    shutil.move(root / "out", root / "real")
    if what == "a folder":
        (root / "out").mkdir()
        (root / "dist/app.js").unlink()
        (root / "dist/app.js").mkdir()
    elif what == "a link for a folder":
        (root / "out").symlink_to("real")
    elif what == "a file for a folder":
        (root / "out").write_text("")
    elif what == "a fifo":
        (root / "out").mkdir()
        os.mkfifo(root / "out/fifo")
    elif what == "behind a link":
        shutil.move(root / "real", root / "out")
        shutil.move(root / "dist", root / "real")
        (root / "dist").symlink_to("real")
    with pytest.raises(OSError, match=str(root)):
        listed(str(root), OUTPUTS)


# As data


GOOD = ["out/a", "f", "0" * 64, 3]


@pytest.mark.parametrize(
    "data",
    [
        None, {}, "", 3, [None], [[]], [{}], ["out/a"], [GOOD[:3]], [[*GOOD, 1]], [tuple(GOOD)], [GOOD, GOOD],
        [["out/b", *GOOD[1:]], GOOD],
        *([[*GOOD[:at], value, *GOOD[at + 1 :]]] for at in range(4) for value in (None, 1.0, True, [], {}, b"f", "", "\0")),
        [["out/a", "f", "0" * 63, 3]], [["out/a", "f", "A" * 64, 3]], [["out/a", "f", "0" * 64 + "\n", 3]],
        [["out/a", "f", "0" * 64, -1]], [["out/a", "f", "0" * 64, 1 << 63]],
        [["out/a", "d", "x", 0]], [["out/a", "d", "", 1]], [["out/a", "l", "", 0]], [["out/a", "l", "to", 1]],
        [["out/a", "l", "to\0", 0]], [["out/a", "l", "\ud800", 0]], [["out/a", "ff", "0" * 64, 3]],
        *([[path, *GOOD[1:]]] for path in (
            "/etc/passwd", "out//a", "out/../a", "..", ".", "out/./a", "out/", "/", "out/\0", "./out/a", "out/\ud800",
        )),
    ],
)  # fmt: skip
def test_malformed_data_is_refused(data):
    with pytest.raises(ValueError, match=r"manifest|path|sorted"):
        decode(data)


def test_good_data_is_taken():
    assert decode([GOOD]) == (Item(*GOOD),)
    assert decode([]) == ()
    assert encode([Item(*GOOD), Item("a", "d", "", 0)]) == [["a", "d", "", 0], GOOD]


# What has no place in the outputs


def file(path, mode="f"):
    return Item(path, mode, "0" * 64, 3)


WHOLE = (file("out/a"), file("dist/app.js"))


@pytest.mark.parametrize(
    "items",
    [
        (*WHOLE, file("/etc/passwd")),
        (*WHOLE, file("/out/b")),
        (*WHOLE, file("out/../b")),
        (*WHOLE, file("../out/b")),
        (*WHOLE, file("out/b/..")),
        (*WHOLE, file("out/./b")),
        (*WHOLE, file("out//b")),
        (*WHOLE, file("out/b/")),
        (*WHOLE, file("out/b\0")),
        (*WHOLE, file("")),
        (*WHOLE, file(".")),
        (*WHOLE, file("..")),
        (*WHOLE, file("b")),
        (*WHOLE, file("outer/b")),
        (*WHOLE, file("dist/b")),
        (*WHOLE, file(".git/hooks/post-checkout", "x")),
        (*WHOLE, file("dist/app.js/b")),
        (*WHOLE, file("out/a/b")),
        (*WHOLE, file("out/a")),
        (*WHOLE, Item("out/a", "l", "/etc", 0)),
        (*WHOLE, Item("out/b", "l", "/etc", 0), file("out/b/passwd")),
        (*WHOLE, file("out/b/c/d"), Item("out/b", "l", "/etc", 0)),
        (file("dist/app.js"), file("out")),
        (file("dist/app.js"), Item("out", "l", "/etc", 0)),
        (file("out/a"), Item("dist/app.js", "d", "", 0)),
        (file("out/a"),),
        (file("dist/app.js"),),
        (*WHOLE, Item("out/b", "f", "0" * 63, 3)),
        (*WHOLE, Item("out/b", "?", "", 0)),
    ],
    ids=lambda items: "-".join(item.path for item in items)[:60].encode("unicode_escape").decode(),
)
def test_what_has_no_place_in_the_outputs_is_refused(items):
    checked(WHOLE, OUTPUTS)
    with pytest.raises(ValueError, match=r"item|twice|below|declared|output"):
        checked(items, OUTPUTS)


def test_links_may_say_what_they_like():
    links = [
        Item(f"out/{number}", "l", text, 0) for number, text in enumerate(("/etc/passwd", "../../..", ".", "a b\n"))
    ]
    checked([*links, *WHOLE], OUTPUTS)


# Never through a link


@pytest.fixture
def treasure(tmp_path):
    """What lies outside, and must stay as it is."""
    folder = tmp_path / "treasure"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "a").write_text("mine")
    (folder / "deep/er/a").write_text("mine")
    return folder


def staged(items, tmp_path):
    def fetch(blob, path):
        Path(path).write_text("new")
        return True

    assert stage(items, fetch, str(tmp_path / "staging")) is None
    return str(tmp_path / "staging")


@pytest.mark.parametrize("planted", ["out", "out/deep", "out/deep/er"])
@pytest.mark.parametrize("item", [file("out/deep/er/a"), Item("out/deep/er/a", "l", "x", 0), Item("out/deep/er/b", "d", "", 0)],
                         ids=["file", "link", "folder"])  # fmt: skip
def test_a_link_on_the_way_is_never_followed(root, treasure, tmp_path, planted, item):
    before = snapshot(treasure)
    link = root / planted
    link.parent.mkdir(parents=True, exist_ok=True)
    for text in (str(treasure), os.path.relpath(treasure, link.parent), "nowhere"):
        link.symlink_to(text)
        with pytest.raises(NotADirectoryError, match=f"link.*{planted}'$"):
            place(str(root), [item], staged([item], tmp_path))
        assert snapshot(treasure) == before
        assert sorted(os.listdir(tmp_path)) == ["checkout", "treasure"]
        link.unlink()


@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_in_an_items_own_place_is_replaced_not_followed(root, treasure, tmp_path, dangling):
    before = snapshot(treasure)
    (root / "out").mkdir()
    (root / "out/a").symlink_to(treasure / ("new" if dangling else "a"))
    place(str(root), [file("out/a", "x")], staged([file("out/a", "x")], tmp_path))
    assert snapshot(treasure) == before
    assert not (root / "out/a").is_symlink()
    assert (root / "out/a").read_text() == "new"


def test_a_link_that_an_earlier_item_planted_is_not_followed(root, treasure, tmp_path):
    """Even if nobody had checked the items."""
    before = snapshot(treasure)
    items = [Item("out", "l", str(treasure), 0), file("out/a"), file("out/deep/er/a", "x")]
    with pytest.raises(NotADirectoryError):
        place(str(root), items, staged(items, tmp_path))
    assert snapshot(treasure) == before


def test_a_folder_for_a_link_in_the_place_of_an_empty_folder(root, treasure, tmp_path):
    (root / "out").symlink_to(treasure)
    with pytest.raises(NotADirectoryError):
        place(str(root), [Item("out", "d", "", 0)], staged([], tmp_path))


@pytest.mark.parametrize("item", [file("out/a"), Item("out/a", "l", "x", 0)], ids=["file", "link"])
def test_a_folder_in_the_way_is_an_error_and_stays(root, tmp_path, item):
    (root / "out/a").mkdir(parents=True)
    (root / "out/a/mine").write_text("mine")
    with pytest.raises(OSError, match="out/a"):
        place(str(root), [item], staged([item], tmp_path))
    assert (root / "out/a/mine").read_text() == "mine"


def test_a_file_where_a_folder_should_be_is_an_error_and_stays(root, tmp_path):
    (root / "out").write_text("mine")
    for item in (file("out/a"), Item("out/a", "d", "", 0)):
        with pytest.raises(NotADirectoryError, match=r"out'$"):
            place(str(root), [item], staged([item], tmp_path))
    assert (root / "out").read_text() == "mine"


# Staging


def test_a_blob_that_is_missing_leaves_the_outputs_alone(store, root, tmp_path):
    fill(root)
    items = listed(str(root), OUTPUTS)
    keep_all(store, root, [item for item in items if item.path != "out/tool"])
    lacking = next(item.blob for item in items if item.path == "out/tool")
    before = snapshot(root)
    assert stage(items, store.fetch, str(tmp_path / "staging")) == lacking
    assert snapshot(root) == before
    assert not list(tmp_path.glob("staging*"))


@pytest.mark.parametrize("error", [CorruptError("damaged"), OSError("full"), KeyboardInterrupt()])
def test_an_error_while_fetching_leaves_nothing(store, root, tmp_path, error):
    fill(root)
    items = listed(str(root), OUTPUTS)
    keep_all(store, root, items)
    calls = []

    def fetch(blob, path):
        calls.append(blob)
        if len(calls) == 3:
            raise error
        return store.fetch(blob, path)

    with pytest.raises(type(error)):
        stage(items, fetch, str(tmp_path / "staging"))
    assert not list(tmp_path.glob("staging*"))
    assert len(calls) == 3


@pytest.mark.parametrize("bad", [None, "missing", "corrupt"])
def test_many_are_fetched_at_once(store, root, tmp_path, bad):
    (root / "out").mkdir()
    for number in range(200):
        (root / f"out/{number}").write_text(str(number % 150))
    items = listed(str(root), [("out", True)])
    keep_all(store, root, items)
    victim = Path(store.blobs, items[77].content[:2], items[77].content[2:])
    victim.chmod(0o600)
    if bad == "missing":
        victim.unlink()
    elif bad == "corrupt":
        victim.write_bytes(b"?" * items[77].size)
    before = snapshot(root)
    shutil.rmtree(root / "out")
    with ThreadPoolExecutor(8) as pool:
        if bad == "corrupt":
            with pytest.raises(CorruptError):
                stage(items, store.fetch, str(tmp_path / "staging"), each=pool.map)
        else:
            assert stage(items, store.fetch, str(tmp_path / "staging"), each=pool.map) == (
                items[77].blob if bad else None
            )
    assert len(list(tmp_path.glob("staging*"))) == (200 if bad is None else 0)
    if bad is None:
        place(str(root), items, str(tmp_path / "staging"))
        assert snapshot(root) == before


def test_what_is_not_placed_is_discarded_and_nothing_else(store, root, tmp_path):
    fill(root)
    items = listed(str(root), OUTPUTS)
    keep_all(store, root, items)
    (tmp_path / "staging.").write_text("another's")
    assert stage(items, store.fetch, str(tmp_path / "staging")) is None
    (tmp_path / "staging.0").unlink()
    discard(items, str(tmp_path / "staging"))
    assert [path.name for path in tmp_path.glob("staging*")] == ["staging."]
    discard(items, str(tmp_path / "staging"))
