"""How well the whole-build estimate does, by simulation: the script that draws docs/eta.svg has the numbers."""

import statistics
import sys
from collections import Counter
from pathlib import Path

import pytest

from build_tests.core.eta import Eta
from build_tests.core.model import Resources
from build_tests.core.plan import wall_time
from build_tests.run.resources import Capacity

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from eta import Edges, builds


def chain(*labels):
    needs = {label: labels[max(0, i - 1) : i] for i, label in enumerate(labels)}
    users = {label: labels[i + 1 : i + 2] for i, label in enumerate(labels)}
    return Edges(needs=needs, needed_by=users, order=labels)


@pytest.fixture(scope="module")
def ten():
    return [builds(seed) for seed in range(2)]


def test_a_first_build_has_none(ten):
    for first, *_ in ten:
        assert all(left is None for _, left in first.samples)


def test_half_way_it_is_right_within_fifteen_percent(ten):
    errors = [build.error_at(0.5) for _, *later in ten for build in later]
    assert len(errors) == 18
    assert statistics.median(errors) <= 0.15
    assert max(errors) < 1.0


def test_never_negative_and_never_up_by_more_than_half_within_a_second(ten):
    for _, *later in ten:
        for build in later:
            shown = build.samples
            assert min(left for _, left in shown) >= 0
            for i, (at, left) in enumerate(shown):
                within = [more for later_at, more in shown[i + 1 : i + 3] if later_at - at <= 1.0]
                assert max(within, default=0.0) <= left * 1.5 + 1e-9


def test_the_limit_is_what_keeps_it_from_jumping():
    eta = Eta(chain("a", "b"), {"a": 1.0, "b": 1.0}, ["a", "b"], 1)
    eta.started("a", 0.0)
    assert eta.show(0.0) == 2.0
    eta.settled("a", 1000.0)  # a thousand times as slow as ever: the estimate itself jumps
    assert eta.estimate(1.0) > 500
    assert eta.show(1.0) == 3.0


def test_a_late_step_goes_on_for_a_while():
    eta = Eta(chain("a"), {"a": 10.0}, ["a"], 1)
    eta.started("a", 0.0)
    assert eta.estimate(4.0) == 6.0
    assert eta.estimate(100.0) == pytest.approx(15.0)


def test_with_most_of_it_unknown_there_is_no_estimate():
    labels = ["a", "b", "c"]
    assert Eta(chain(*labels), {"a": 1.0}, labels, 1).show(0.0) is None
    assert Eta(chain(*labels), {"a": 1.0, "b": 3.0}, labels, 1).show(0.0) == pytest.approx(7.0)


def test_what_steps_share_is_part_of_the_schedule():
    labels = ("a", "b", "c", "d")
    edges = Edges(needs=dict.fromkeys(labels, ()), needed_by=dict.fromkeys(labels, ()), order=labels)
    demands = {
        "a": Resources(other=(("docker", 1),)), "b": Resources(other=(("docker", 2),)), "c": Resources(locks=("gradle",)),
        "d": Resources(locks=("gradle",)),
    }  # fmt: skip
    seconds = dict.fromkeys(labels, 5.0)

    def room(some):
        return Capacity([("docker", 1)], 4).empty({label: demands[label] for label in some})

    assert wall_time(edges, seconds, 4) == 5.0
    assert wall_time(edges, seconds, 4, room=room(labels)) == 10.0
    assert wall_time(edges, {"b": 5.0}, 4, {"a": 2.0}, room("ab")) == 7.0
    eta = Eta(edges, seconds, labels, 4, lambda: room(labels))
    assert eta.estimate(0.0) == 10.0
    eta.started("c", 0.0)
    assert eta.estimate(3.0) == 10.0  # a beside c, then b beside d
    assert Capacity([("docker", 1)], 4).empty({"a": Resources()}) is None


def test_with_many_that_wait_for_one_lock_it_is_still_quick():
    labels = [f"s{i}" for i in range(500)]
    edges = Edges(needs=dict.fromkeys(labels, ()), needed_by=dict.fromkeys(labels, ()), order=labels)
    tried = Counter()

    class Tried:
        held = None

        def take(self, label):
            tried[label] += 1
            if self.held is None:
                self.held = label
            return self.held == label

        def give_back(self, label):
            self.held = None

    assert wall_time(edges, dict.fromkeys(labels, 1.0), 8, room=Tried()) == 500.0
    assert tried.total() < 500 * 25


def test_what_runs_is_scheduled_with_what_waits():
    edges = Edges(
        needs={"a": (), "b": (), "c": ("a",)}, needed_by={"a": ("c",), "b": (), "c": ()}, order=("a", "b", "c")
    )
    assert wall_time(edges, {"c": 5.0}, 2, {"a": 1.0, "b": 2.0}) == 6.0
    assert wall_time(edges, {"b": 2.0, "c": 5.0}, 1, {"a": 1.0}) == 8.0
