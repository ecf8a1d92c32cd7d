import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from build_tests.cache.artifact import Item
from build_tests.run.fetching import AT_ONCE, Wanted, fetched


class Keeper:
    """Has what it is told, each with one file."""

    def __init__(self, folder, has, *, remote=True, find=lambda key: None):
        self.folder, self.has, self.remote, self._find = folder, has, remote, find

    def find(self, key, _outputs):
        self._find(key)
        items = (Item(key, "f", "0" * 64, 0),)
        return SimpleNamespace(key=key, record=SimpleNamespace(items=items)) if key in self.has else None

    def stage(self, found):
        staging = os.path.join(self.folder, found.key)
        Path(f"{staging}.0").touch()
        return staging


def wanted(*keys):
    return [Wanted(key=key, outputs=()) for key in keys]


@pytest.mark.parametrize("remote", [False, True])
def test_each_comes_in_its_turn_and_none_where_there_is_none(tmp_path, remote):
    keeper = Keeper(tmp_path, {"a", "c"}, remote=remote)
    found = list(fetched(keeper, wanted("a", "b", "c")))
    assert [one and (one.found.key, one.staging) for one in found] == [
        ("a", str(tmp_path / "a")), None, ("c", str(tmp_path / "c"))
    ]  # fmt: skip


def test_from_afar_several_are_asked_for_at_a_time(tmp_path):
    meeting = threading.Barrier(AT_ONCE)
    keeper = Keeper(tmp_path, (), find=lambda _key: meeting.wait(60))
    assert list(fetched(keeper, wanted(*map(str, range(AT_ONCE))))) == [None] * AT_ONCE


def test_at_hand_they_are_asked_for_one_after_the_other(tmp_path):
    asked = []
    keeper = Keeper(tmp_path, (), remote=False, find=asked.append)
    coming = fetched(keeper, wanted("a", "b"))
    next(coming)
    assert asked == ["a"]


def test_who_stops_early_leaves_nothing_lying_about(tmp_path):
    keeper = Keeper(tmp_path, {"a", "b", "c"})
    coming = fetched(keeper, wanted("a", "b", "c"))
    next(coming)
    coming.close()
    assert os.listdir(tmp_path) == ["a.0"]
