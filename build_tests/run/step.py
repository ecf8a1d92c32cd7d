"""Runs one step from start to result: clean, run, verify, check the inputs again. Knows no other step and no pytest.

An `Order` is all that a worker needs and a `StepResult` all that it gives back; both are plain data, since they travel
to and from worker processes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from build_tests.core.digest import FileState, FileTable, UnreadableError
from build_tests.core.globs import PathSet, Tree, is_literal
from build_tests.core.model import Identity, Output
from build_tests.run import logs, outputs
from build_tests.run.git import Git
from build_tests.run.masking import Masker
from build_tests.run.pinpoint import pinpoint
from build_tests.run.process import Command, Completed, Guardian, describe


@dataclass(slots=True, kw_only=True)
class Order:
    """One step, ready to run. Every list is JSON."""

    label: str
    argv: list[str]
    folder: str
    """Where it runs, from the root."""
    environment: dict[str, str]
    """All of it; nothing else reaches the step."""
    secrets: list[str]
    """Names, in `environment`, of what must be masked."""
    key: str
    log: str
    outputs: list[list[Any]]
    """(path, directory, identity, tracked) of each."""
    patterns: list[str]
    inputs: list[list[str]]
    """(path, mode, digest) as the key saw them."""
    known: list[Any]
    """What the controller's file table knows of them: an unchanged file is not read again."""
    manifest: list[Any]
    """What the last run here left in the outputs."""
    interrupted: bool
    """Whatever lies in the outputs may be removed: a run that was cut off, or failed, left it."""
    clean: bool
    state: list[str]
    drop_state: bool
    """The tool's own memory does not belong to the outputs on disk: remove it first."""
    timeout: float | None
    retries: list[Any]
    """(count, backoff in seconds, when)."""
    daemons: list[str]
    junit: list[str]
    hints: dict[str, str]
    """Tool → how to get it."""
    share: bool = False
    """Name the outputs as other machines would, for the artifact cache and for the keys of dependents."""
    trace: dict[str, Any] | None = None
    """Trace the tool: `strace`, its path; `looks`, whether calls that open nothing are traced too; `readable`, the
    outputs of dependencies (folders with a trailing /). Or `why` that can't be."""

    def dump(self) -> str:
        """As one JSON text."""
        return json.dumps({f.name: getattr(self, f.name) for f in fields(self)})

    @staticmethod
    def load(text: str) -> Order:
        """The inverse of `dump`."""
        return Order(**json.loads(text))


@dataclass(slots=True, kw_only=True)
class StepResult:
    """How a step's run ended; plain data."""

    ok: bool
    message: str = ""
    """For a failure: what happened, in one line."""
    first_error: str = ""
    place: str = ""
    """The file of the repository that the first error names, `path:line:column` from the root."""
    tail: str = ""
    started: float = 0.0
    """Seconds since the epoch."""
    ended: float = 0.0
    seconds: float = 0.0
    """Of the whole step, all attempts, by a clock that does not jump."""
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    exit: int | None = None
    signal: int | None = None
    attempts: int = 1
    flaky: str = ""
    """The failure of the last attempt before the one that passed."""
    manifest: list[Any] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    raced: list[str] = field(default_factory=list)
    """Inputs that changed while the step ran."""
    cases: str = ""
    warnings: list[str] = field(default_factory=list)
    daemons: list[list[Any]] = field(default_factory=list)
    items: list[list[Any]] | None = None
    """The content outputs as `cache.artifact` encodes them; None where they can't be shared."""
    trace: dict[str, Any] | None = None
    """What `run.trace` found, where the step was traced."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(slots=True)
class Runner:
    """Runs the steps of one process, one at a time.

    Args:
        root: absolute.
        excluded: what is no input: the outputs of all steps, and their tools' memory (folders with a trailing /).
    """

    root: str
    excluded: PathSet
    guardian: Guardian = field(default_factory=Guardian)

    def run(self, order: Order) -> StepResult:
        """Run the step. Never raises for what a step, a tool or a disk can do; KeyboardInterrupt passes through."""
        started, clock = time.time(), time.monotonic()
        try:
            result = self._run(order)
        except (OSError, UnreadableError) as error:
            result = StepResult(ok=False, message=_os_message(error))
        result.started, result.ended = started, max(started, time.time())
        result.seconds = time.monotonic() - clock
        return _masked(result, order)

    def _run(self, order: Order) -> StepResult:
        declared = [Output(path=p, directory=d, identity=Identity(i), tracked=t) for p, d, i, t in order.outputs]
        if problem := _clear_the_way(self.root, order, declared):
            return StepResult(ok=False, message=problem)
        began = time.time()
        result = _attempts(self.root, order, declared, self.guardian, self.excluded)
        table = FileTable(self.root, shared=order.share)
        if result.ok:
            _take_in(self.root, order, declared, result, table)
        if result.ok:
            result.raced = self._changed_inputs(order)
        if result.ok and order.share and not result.raced:
            _name_for_others(self.root, order, result, table)
        # A step that failed has test results to show as well.
        result.cases = _read_cases(self.root, order, began)
        return result

    def _changed_inputs(self, order: Order) -> list[str]:
        """The inputs that are no longer what the key saw, with those that came or went."""
        table = FileTable(self.root, order.known)
        changed = [path for path, mode, digest in order.inputs if not _same(table.lookup(path), (mode, digest))]
        if all(is_literal(pattern) and not pattern.endswith("/") for pattern in order.patterns):
            return changed
        now = Tree(self.root).select(order.patterns, exclude=self.excluded.contains)
        return changed + sorted(set(now) - {path for path, _, _ in order.inputs})


def _clear_the_way(root: str, order: Order, declared: list[Output]) -> str:
    """Remove what a former run left; "" or what stands in the way."""
    if order.drop_state:
        for path in order.state:
            _remove(os.path.join(root, path))
    if order.clean:
        error = outputs.clean(
            root, declared, manifest_paths=[entry[0] for entry in order.manifest],
            interrupted=order.interrupted, git=Git(root),
        )  # fmt: skip
        if error is not None:
            return str(error)
    outputs.prepare(root, declared)
    return ""


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _begin_again(root: str, order: Order, declared: list[Output]) -> None:
    """The next attempt finds what the first one found: no half of an output, no report of a test that failed then."""
    if order.clean:
        for path in order.state:
            _remove(os.path.join(root, path))
        outputs.clean(root, declared, manifest_paths=(), interrupted=True, git=Git(root))
    outputs.prepare(root, declared)


def _attempts(
    root: str, order: Order, declared: list[Output], guardian: Guardian, excluded: PathSet
) -> StepResult:
    count, backoff, when = order.retries
    command = Command(
        argv=tuple(order.argv), cwd=os.path.join(root, order.folder), env=order.environment, log=order.log,
        timeout=order.timeout, secrets=_secret_values(order), daemons=tuple(order.daemons),
    )  # fmt: skip
    flaky, attempt = "", 0
    os.makedirs(os.path.dirname(order.log), exist_ok=True)
    while True:
        attempt += 1
        since = os.path.getsize(order.log) if attempt > 1 else 0
        completed, trace = _once(root, order, guardian, command, excluded)
        result = _judged(root, order, command, completed, since)
        result.trace = trace
        result.attempts, result.flaky = attempt, flaky if result.ok else ""
        if result.ok or attempt > count or not _worth_a_retry(completed, when, order.log, since):
            return result
        flaky = result.message
        _say_in_log(order.log, f"attempt {attempt} failed ({result.message}); the next follows")
        time.sleep(backoff * 2 ** (attempt - 1))
        _begin_again(root, order, declared)


def _once(
    root: str, order: Order, guardian: Guardian, command: Command, excluded: PathSet
) -> tuple[Completed, dict[str, Any] | None]:
    if order.trace is None:
        return guardian.run(command), None
    if "why" in order.trace:
        return guardian.run(command), {"status": "unverified", "why": [order.trace["why"]]}
    from build_tests.run.trace_step import run_traced

    completed, traced = run_traced(guardian, command, order, root, excluded)
    return completed, traced.to_json()


def _judged(root: str, order: Order, command: Command, completed: Completed, since: int) -> StepResult:
    ok = completed.ok
    result = StepResult(
        ok=ok, exit=completed.exit, signal=completed.signal, cpu_seconds=completed.cpu_seconds,
        max_rss_bytes=completed.max_rss_bytes, daemons=[list(daemon) for daemon in completed.daemons],
    )  # fmt: skip
    if not ok:
        result.message = describe(completed, command)
        missing = os.path.basename(order.argv[0])
        if completed.error is not None and missing in order.hints:
            result.message += f" (hint: {order.hints[missing]})"
        result.tail = logs.tail(order.log)
        result.first_error = logs.first_error(order.log, since=since)
        result.place = pinpoint(result.first_error, root, order.folder)
    if completed.leftovers:
        result.warnings.append(f"left processes running, which were ended: {', '.join(completed.leftovers)}")
    return result


def _worth_a_retry(completed: Completed, when: list[str], log: str, since: int) -> bool:
    if completed.error is not None:
        return False
    if not when:
        return True
    if completed.timed_out and "timeout" in when:
        return True
    tail = logs.tail(log, limit=1 << 20, since=since)
    return any(text in tail for text in when if text != "timeout")


def _say_in_log(path: str, text: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"\n--- pytest-build: {text} ---\n")


def _take_in(root: str, order: Order, declared: list[Output], result: StepResult, table: FileTable) -> None:
    """Verify and digest what the step made; a missing output is a failure."""
    captured = outputs.capture(root, declared, table, Tree(root))
    missing = list(captured.missing)
    result.manifest = captured.manifest
    result.digests = dict(captured.digests)
    for output in declared:
        absolute = os.path.join(root, output.path)
        if output.identity is Identity.INSTALLED:
            if os.path.isdir(absolute):
                outputs.write_stamp(absolute, order.key)
                result.digests[output.path] = order.key
            else:
                missing.append(output.path)
    images = [output.path for output in declared if output.identity is Identity.IMAGE]
    if images:
        missing += _take_in_images(images, order.environment, result)
    if missing:
        result.ok = False
        result.message = f"declared output not produced: {', '.join(missing)}"
        result.tail = logs.tail(order.log)
        result.digests = {}


def _name_for_others(root: str, order: Order, result: StepResult, table: FileTable) -> None:
    """Make the outputs' manifest for the cache. What is edited just now, or holds a secret, is not shared."""
    from build_tests.cache.artifact import encode
    from build_tests.run.sharing import ChangedError, shared_items

    secrets = _secret_values(order)
    if secrets and (path := _with_a_secret(root, result.manifest, secrets)):
        result.warnings.append(f"{path} holds a secret: the outputs are not kept in a cache")
        return
    try:
        result.items = encode(shared_items(root, result.manifest, table))
    except (ChangedError, OSError) as error:
        result.warnings.append(f"{error} changed while it was read: the outputs are not kept in a cache")


def _with_a_secret(root: str, manifest: list[Any], secrets: tuple[str, ...]) -> str:
    """The first file that holds one of them, in any of the forms that are masked, or ""."""
    for path, mode, *_ in manifest:
        if mode in ("f", "x"):
            masker = Masker(secrets)
            with open(os.path.join(root, path), "rb") as file:
                data = file.read()
            if masker.feed(data) + masker.finish() != data:
                return str(path)
    return ""


def _take_in_images(references: list[str], environment: Mapping[str, str], result: StepResult) -> list[str]:
    from build_tests.run.images import Engine, Unavailable

    engine = Engine.connect(environment)
    if isinstance(engine, Unavailable):
        result.warnings.append(f"the container engine went away: {engine.reason}")
        return references
    found = engine.identities(references)
    result.digests.update({name: digest for name, digest in found.items() if digest is not None})
    return [name for name in references if found[name] is None]


def _same(state: FileState | None, seen: tuple[str, str]) -> bool:
    return state is not None and (state.mode, state.digest) == seen


def _read_cases(root: str, order: Order, began: float) -> str:
    if not order.junit:
        return ""
    from build_tests.run.cases import collect

    owned = [f"{path}/" if directory else path for path, directory, *_ in order.outputs] if order.clean else []
    return collect(root, order.junit, since=began, ours=PathSet.of(owned).contains)


def _secret_values(order: Order) -> tuple[str, ...]:
    return tuple(order.environment[name] for name in order.secrets if order.environment.get(name))


def _masked(result: StepResult, order: Order) -> StepResult:
    values = _secret_values(order)
    if values:
        masker = Masker(values)
        for name in ("message", "first_error", "place", "tail", "flaky", "cases"):
            setattr(result, name, masker.mask_text(getattr(result, name)))
    return result


def _os_message(error: OSError | UnreadableError) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'the disk'}: {error.strerror or error}"
    return str(error)
