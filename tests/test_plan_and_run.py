"""Every outcome that a plan expects comes true in the run that follows, over random workspaces and edits.

The run is the engine's own, step by step in this process: what pytest adds to it can't change an outcome.
PYTEST_BUILD_EXAMPLES sets the number of examples.
"""

import json
import tempfile
from pathlib import Path

from hypothesis import given
from test_correctness import EXAMPLES, Editor, edits, fixed_world, settled, worlds

from build_tests.checkout import Checkout, Wishes
from build_tests.core.globs import PathSet
from build_tests.core.plan import Expected
from build_tests.project import load_project
from build_tests.run import overview
from build_tests.run.explaining import explain
from build_tests.run.step import Runner
from build_tests.testing import BuildWorkspace

COMES = {
    Expected.FRESH: {"fresh"},
    Expected.RESTORE: {"restored"},
    Expected.BUILD: {"built", "failed"},
    Expected.BEHIND: {"fresh", "restored", "built", "failed", "blocked"},
    Expected.UNAVAILABLE: {"unavailable"},
    Expected.FAIL: {"failed"},
}


def checkout(ws, *, dry):
    project = load_project(str(ws.root / "build.yml"))
    return Checkout(
        project=project, state_folder=str(ws.root / ".pytest_cache/d/build"), say=print, environ=ws.environ,
        wishes=Wishes(dry=dry, workers=2),
    )  # fmt: skip


def look(ws):
    """The plan over everything, and what status and explain say."""
    looking = checkout(ws, dry=True)
    graph = looking.project.graph
    plan = looking.plan(graph.order)
    build = looking.open()
    built = [label for label, entry in build.memory.entries.items() if entry.key]
    states = {one.label: one for one in overview.states(graph, plan, built, build.memory.unfinished)}
    return plan, states, explain(build, plan, fingerprints=True, context={})


def run(ws):
    """label → record."""
    running = checkout(ws, dry=False)
    build = running.begin(running.project.graph.order, {})
    runner = Runner(str(ws.root), PathSet.of(build.decider.excluded))
    try:
        running.note(build.advance())
        while (order := build.take()) is not None:
            build.finish(order.label, runner.run(order))
            build.advance()
    finally:
        runner.guardian.close()
        running.close(0, 0.0)
        running.release()
    assert not len(build.frontier)
    return build.records


def untrue(plan, records):
    """What the plan said that did not come."""
    told = []
    for planned in plan.steps:
        record = records[planned.label]
        if record.outcome.value not in COMES[planned.expected]:
            told.append(f"{planned.label}: {planned.expected.value} expected, {record.outcome.value} came")
        elif planned.expected in (Expected.BUILD, Expected.RESTORE):
            if record.reasons != [reason.to_json() for reason in planned.reasons]:
                told.append(f"{planned.label}: {planned.reasons} expected, {record.reasons} came")
            if record.key != planned.key or record.tier != planned.tier:
                told.append(f"{planned.label}: another key or tier")
    return told


STATES = {
    "fresh": {"fresh"}, "restorable": {"restored"}, "never built": {"built", "failed", "blocked", "restored"},
    "stale": {"fresh", "built", "failed", "blocked", "restored"},
    "failed last time": {"fresh", "built", "failed", "blocked", "restored"},
}  # fmt: skip


def play(world, several):
    with tempfile.TemporaryDirectory() as folder:
        ws = BuildWorkspace(Path(folder) / "ws")
        editor = Editor(ws, world)
        for kind, number, text in [("nothing", 0, ""), *several, ("nothing", 0, "")]:
            editor.edit(kind, number, text)
            plan, states, explanation = look(ws)
            records = run(ws)
            assert untrue(plan, records) == [], f"{kind} {number} {text!r}"
            for label, record in records.items():
                assert record.outcome.value in STATES[states[label].state.value], (label, states[label])
            json.dumps([plan.to_json(), explanation.to_json()])
            for step in explanation.steps:
                # What was exported beforehand is what the run was made from.
                if step.planned.expected is Expected.BUILD:
                    assert json.loads(json.dumps(step.fingerprint)) == json.loads(
                        json.dumps(records[step.planned.label].fingerprint)
                    )
        return ws


@settled(EXAMPLES or 25)
@given(world=worlds(), edits=edits)
def test_what_a_plan_expects_comes_true(world, edits):
    play(world, edits)


def test_for_each_kind_of_edit():
    kinds = ["write", "same-size", "add", "remove", "chmod", "touch", "output-edit", "output-remove", "command", "fail"]
    play(fixed_world(), [(kind, i, f"one\ntwo\n{i}\n") for i, kind in enumerate(kinds)])


def test_a_plan_of_yesterday_is_found_out(tmp_path):
    ws, world = BuildWorkspace(tmp_path / "ws"), fixed_world()
    editor = Editor(ws, world)
    run(ws)
    plan, _, _ = look(ws)
    assert {planned.expected for planned in plan.steps} == {Expected.FRESH}
    editor.edit("same-size", 0, "")
    assert untrue(plan, run(ws)) != []
