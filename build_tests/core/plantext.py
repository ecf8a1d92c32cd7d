"""The plan as lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from build_tests.core.plan import Expected, Plan, PlannedStep


def plan_lines(plan: Plan) -> Iterator[str]:
    """One line a step, then the totals and the predicted wall time."""
    width = max((len(step.label) for step in plan.steps), default=0)
    for step in plan.steps:
        yield f"  {step.label:{width}}  {step.expected.value:11}  {_why(step)}".rstrip()
    counts = [f"{n} {kind.value}" for kind in Expected if (n := sum(s.expected is kind for s in plan.steps))]
    yield f"plan: {', '.join(counts) or 'nothing to do'}{_time(plan)}"
    yield from (f"note: {note}" for note in plan.notes)


def _why(step: PlannedStep) -> str:
    if step.note:
        return step.note
    if step.tier:
        return f"from {step.tier}: {step.reasons[0]}"
    shown = "; ".join(str(reason) for reason in step.reasons[:3])
    more = f"; and {len(step.reasons) - 3} more" if len(step.reasons) > 3 else ""  # noqa: PLR2004
    return shown + more


def _time(plan: Plan) -> str:
    runs = any(step.expected in (Expected.BUILD, Expected.BEHIND) for step in plan.steps)
    if not runs:
        return ""
    if plan.seconds is None:
        return "; predicted time unknown: some of it was never measured"
    return f"; predicted {plan.seconds:.1f} s with {plan.workers} worker{'s' if plan.workers != 1 else ''}"
