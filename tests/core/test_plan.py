"""Weights and predicted wall time, and the plan as data and as text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_tests.core.fingerprint import Reason
from build_tests.core.graph import build_graph
from build_tests.core.model import Step
from build_tests.core.plan import Expected, Plan, PlannedStep, remaining, wall_time
from build_tests.core.plantext import plan_lines


def graph_of(needs):
    return build_graph(
        Step(component="c", name=name, kind="command", depends_on=tuple(f"c:{need}" for need in wanted))
        for name, wanted in needs.items()
    )


DIAMOND = graph_of({"top": [], "left": ["top"], "right": ["top"], "bottom": ["left", "right"]})
SECONDS = {"c:top": 1.0, "c:left": 5.0, "c:right": 2.0, "c:bottom": 1.0}


def test_remaining_is_the_longest_path_to_the_end():
    assert remaining(DIAMOND, SECONDS, SECONDS) == {"c:bottom": 1.0, "c:right": 3.0, "c:left": 6.0, "c:top": 7.0}


def test_what_was_never_measured_counts_as_the_mean_or_a_second():
    assert remaining(DIAMOND, ["c:left", "c:right", "c:bottom"], {"c:left": 5.0, "c:right": 3.0})["c:bottom"] == 4.0
    assert remaining(DIAMOND, ["c:top", "c:left"], {})["c:top"] == 2.0


def test_steps_outside_the_selection_weigh_nothing():
    assert remaining(DIAMOND, ["c:top"], SECONDS) == {"c:top": 1.0}


@pytest.mark.parametrize(("workers", "seconds"), [(1, 9.0), (2, 7.0), (8, 7.0)])
def test_wall_time_of_a_diamond(workers, seconds):
    assert wall_time(DIAMOND, SECONDS, workers) == seconds


def test_wall_time_takes_the_longest_first():
    graph = graph_of({"a": [], "b": [], "c": []})
    assert wall_time(graph, {"c:a": 1.0, "c:b": 1.0, "c:c": 2.0}, 2) == 2.0
    assert wall_time(graph, {}, 2) == 0.0


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.data())
def test_wall_time_lies_between_its_bounds(data):
    size = data.draw(st.integers(1, 10))
    needs = {str(i): [str(j) for j in range(i) if data.draw(st.booleans())] for i in range(size)}
    graph = graph_of(needs)
    seconds = {label: float(data.draw(st.integers(1, 9))) for label in graph.steps}
    workers = data.draw(st.integers(1, 4))
    wall, longest, total = (
        wall_time(graph, seconds, workers),
        max(remaining(graph, seconds, seconds).values()),
        sum(seconds.values()),
    )
    assert max(longest, total / workers) <= wall <= total
    # Graham's bound for list scheduling.
    assert wall <= total / workers + longest * (1 - 1 / workers) + 1e-9


def test_sizes_that_would_break_recursion():
    chain = graph_of({str(i): [str(i - 1)] if i else [] for i in range(3000)})
    seconds = dict.fromkeys(chain.steps, 1.0)
    assert remaining(chain, seconds, seconds)["c:0"] == wall_time(chain, seconds, 4) == 3000.0


PLAN = Plan(
    steps=(
        PlannedStep(
            label="lib:make",
            expected=Expected.BUILD,
            reasons=(Reason(kind="input-changed", subject="lib/in.txt"),),
            key="k",
            seconds=2.0,
        ),
        PlannedStep(label="app:use", expected=Expected.BEHIND, reasons=(Reason(kind="behind", subject="lib:make"),)),
        PlannedStep(label="app:alone", expected=Expected.FRESH, key="f"),
        PlannedStep(label="app:ship", expected=Expected.UNAVAILABLE, note="helm (get it from your package manager)"),
    ),
    workers=2,
)


def test_the_plan_as_data():
    data = PLAN.to_json()
    assert (data["version"], data["workers"], data["seconds"]) == (1, 2, None)
    assert [(s["label"], s["expected"]) for s in data["steps"]] == [
        ("lib:make", "build"),
        ("app:use", "depends"),
        ("app:alone", "up to date"),
        ("app:ship", "unavailable"),
    ]
    assert data["steps"][0]["reasons"] == [{"kind": "input-changed", "subject": "lib/in.txt", "detail": ""}]


def test_the_plan_as_text_says_what_and_why():
    text = "\n".join(plan_lines(PLAN))
    for words in ("lib/in.txt changed", "depends on the result of lib:make", "up to date", "helm (get it"):
        assert words in text
