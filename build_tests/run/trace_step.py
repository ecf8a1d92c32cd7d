"""One attempt of a step, traced. Knows the order, the guardian and the tracer; judges nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from build_tests.core.globs import PathSet
from build_tests.run.trace import Declared, Traced
from build_tests.run.trace_strace import Strace, Trace

if TYPE_CHECKING:
    from build_tests.run.process import Command, Completed, Guardian
    from build_tests.run.step import Order


def run_traced(
    guardian: Guardian, command: Command, order: Order, root: str, outputs: PathSet
) -> tuple[Completed, Traced]:
    """Run the command as `Guardian.run` does, and say what it used that the step does not declare.

    A tool that failed and that may have failed because it was traced (it needs rights that a trace takes away) runs
    again without: what a step does must not depend on being watched.
    """
    asked: dict[str, Any] = order.trace or {}
    try:
        trace = Trace(
            Strace(path=asked["strace"]), root, command.cwd, declared(order, outputs), command.env,
            looks=asked["looks"],
        )  # fmt: skip
    except OSError as error:
        return guardian.run(command), Traced(status="unverified", why=[f"it can't be traced: {error.strerror}"])
    try:
        completed = guardian.run(replace(command, tracer=tuple(trace.prefix)))
    finally:
        traced = trace.finish()
    if trace.hindered and not completed.ok and not (completed.cancelled or completed.timed_out or completed.error):
        why = [*traced.why, "it failed while it was traced, and ran again without"]
        return guardian.run(command), replace(traced, status="unverified", why=why, reads=[], writes=[])
    return completed, traced


def declared(order: Order, outputs: PathSet) -> Declared:
    """What the step may use, as its order says it."""
    own = [f"{path}/" if directory else path for path, directory, identity, _ in order.outputs if identity != "image"]
    state = [entry for path in order.state for entry in (path.rstrip("/"), f"{path.rstrip('/')}/")]
    return Declared(
        inputs=frozenset(path for path, _, _ in order.inputs),
        patterns=tuple(order.patterns),
        readable=PathSet.of((order.trace or {}).get("readable", ())),
        writable=PathSet.of([*own, *state, *_folders_themselves(own)]),
        outputs=outputs,
    )


def _folders_themselves(paths: list[str]) -> list[str]:
    return [path.rstrip("/") for path in paths if path.endswith("/")]


__all__ = ["declared", "run_traced"]
