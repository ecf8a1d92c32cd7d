"""What earlier runs took, read back from records as builds write them."""

import json

import pytest

from build_tests.core.model import Outcome
from build_tests.run import history, record
from build_tests.run.record import RecordWriter, StepRecord

NEEDS = {"a:one": (), "a:two": ("a:one",), "a:new": ()}


def write(folder, number, **steps):
    """A record; `two=(outcome, seconds)`."""
    writer = RecordWriter(str(folder), {"id": f"2026010{number}"})
    writer.steps(
        StepRecord(label=f"a:{name}", kind="command", outcome=outcome, seconds=seconds)
        for name, (outcome, seconds) in steps.items()
    )
    writer.end()


def past(folder):
    return history.read(str(folder), NEEDS, NEEDS)


def test_medians_by_step_and_outcome(tmp_path):
    for number, seconds in enumerate((1.0, 9.0, 2.0), start=1):
        write(tmp_path, number, one=(Outcome.BUILT, seconds), two=(Outcome.BUILT, 4.0))
    found = past(tmp_path)
    assert found["a:one"].built == [2.0, 9.0, 1.0]
    assert found["a:one"].expected(must_run=True) == 2.0
    assert found["a:new"].expected(must_run=True) is None


def test_a_step_that_mostly_stays_as_it_is_is_expected_to(tmp_path):
    write(tmp_path, 1, one=(Outcome.BUILT, 1.0), two=(Outcome.BUILT, 8.0))
    for number in (2, 3):
        write(tmp_path, number, one=(Outcome.BUILT, 1.0), two=(Outcome.FRESH, 0.0))
    write(tmp_path, 4, one=(Outcome.RESTORED, 0.5), two=(Outcome.RESTORED, 0.4))
    # Nothing it needs was built: this says nothing about what happens when something is.
    write(tmp_path, 5, one=(Outcome.FRESH, 0.0), two=(Outcome.FRESH, 0.0))
    two = past(tmp_path)["a:two"]
    assert (two.built, two.restored, two.fresh) == ([8.0], [0.4], 2)
    assert two.expected(must_run=False) == pytest.approx((8.0 + 0.4) / 4)
    assert two.expected(must_run=True) == 8.0


def test_failures_and_damage_are_passed_over(tmp_path):
    write(tmp_path, 1, one=(Outcome.BUILT, 3.0))
    write(tmp_path, 2, one=(Outcome.FAILED, 0.1))
    (tmp_path / "20260103.jsonl").write_bytes(b'{"type":"step","label":"a:one","outcome":"built"\n\xff\n{"type":"st')
    (tmp_path / "20260104.jsonl").mkdir()
    (tmp_path / "20260105.jsonl").write_text(
        '{"type":"step","label":"a:one","kind":"k","outcome":"built","seconds":"x"}\n'
    )
    assert past(tmp_path)["a:one"].built == [3.0]


def test_only_so_much_is_read(tmp_path, monkeypatch):
    for number in range(1, 10):
        write(tmp_path, number, **{name: (Outcome.BUILT, float(number)) for name in ("one", "two", "new")})
    assert past(tmp_path)["a:one"].built == [9.0, 8.0, 7.0, 6.0, 5.0]
    monkeypatch.setattr(history, "RUNS", 2)
    assert past(tmp_path)["a:one"].built == [9.0, 8.0]
    monkeypatch.setattr(history, "BYTES", 10)
    assert past(tmp_path)["a:one"].built == []


def test_no_folder_is_no_past(tmp_path):
    assert past(tmp_path / "none")["a:one"].built == []


def test_damaged_lines_of_a_record_are_passed_over(tmp_path):
    good = {"type": "step", "label": "a:b", "kind": "command", "outcome": "built"}
    lines = [b"\xff\xfe\x00", b"[1]", b"[" * 100_000, b'{"type": "step", "label": "a:c", "kind": "command", "outcome": "new"}']
    data = b"\n".join([*lines, json.dumps(good).encode(), b'{"type": "step"}', b'{"type": "en'])
    (tmp_path / "1.jsonl").write_bytes(data)
    run = record.read(str(tmp_path), "1")
    assert [step.label for step in run.steps] == ["a:b"]
    assert (run.run, run.end) == ({}, {})
