"""The watching process: waits for files, keys, signals and the builds' ends, and lets `Loop` decide.

It reads no build file and imports no builder: both are done by the warm process, anew each time. So it stays right
whatever is edited.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from build_tests.core.errors import BuildError
from build_tests.core.locate import root_of
from build_tests.core.model import Outcome
from build_tests.faces.buildcli import pytest_arguments
from build_tests.faces.common import plain
from build_tests.faces.watchinterest import Interest
from build_tests.faces.watchloop import Cancel, LeaveAlone, Loop, Start
from build_tests.faces.watchrun import Companion
from build_tests.faces.watchwarm import Warm
from build_tests.run import record
from build_tests.run.places import prepare

if TYPE_CHECKING:
    import argparse

STEP_MS, GROUP_MS = 20, 60
"""How long the notifier waits for more, at the least and at the most. The quiet that is asked for is counted here."""
STOP = 20.0
"""Seconds that a build gets to end when the watching ends."""
PATIENCE = 30.0
"""Seconds in which the notifier must have seen something: that many for the largest of trees."""
PROBE = "watch-probe"
"""A file in .build; when its changes are seen, so are others'."""


class Watching:
    """See the module's text.

    Args:
        options: of the command.
        extra: for pytest.
        file: the build file, absolute.
        keys: whether standard input is a terminal with somebody at it.
    """

    def __init__(self, options: argparse.Namespace, extra: list[str], file: str, *, keys: bool) -> None:
        self._options = options
        self._extra = extra
        self._file = file
        self._root = os.path.realpath(root_of(file))
        self._keys = keys
        self._loop = Loop(debounce=options.debounce / 1000, restart=options.on_edit == "restart")
        self._places = prepare(root_of(file))
        self._interest: Interest | None = None
        self._universe: set[str] | None = None
        """The steps that the selection means, once a whole build has shown them."""
        self._failing: dict[str, None] = {}
        self._build: int | None = None
        self._build_pid: int | None = None
        self._whole = False
        self._cancelled = False
        self._looking: int | None = None
        self._look_again = False
        self._unusable = False
        """The build file is wrong."""
        self._since_look: set[str] = set()
        """What changed since the look began and did not matter as things were."""
        self._answer = ""
        self._face: int | None = None
        self._quit = False
        self._leaving = 0.0
        self._woken, self._wake = os.pipe()
        self._changes: list[str] = []
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._broken: BaseException | None = None
        self._began = 0.0

    # The whole

    def run(self) -> int:
        """Until somebody says stop; 0. Raises BuildError: files can't be watched."""
        with tempfile.TemporaryDirectory(prefix="pytest-build-watch-") as folder, self._signals():
            self._answer = os.path.join(folder, "look.json")
            watcher = threading.Thread(target=self._watch_files, name="watch-files", daemon=True)
            watcher.start()
            self._warm = Warm()
            self._companion = self._make_companion()
            try:
                self._wait_for_watcher()
                self._look()
                self._loop.ask(time.time())
                with self._terminal():
                    self._serve()
            finally:
                self._stop.set()
                self._warm.close()
                watcher.join(timeout=1)
        return 0

    def _serve(self) -> None:
        sources: list[Any] = [self._warm, self._woken, *([0] if self._keys else [])]
        while not (self._quit and self._build is None):
            self._act()
            if self._quit and time.monotonic() > self._leaving + STOP:
                self._leave()
            ready, _, _ = select.select(sources, [], [], self._timeout())
            if self._woken in ready:
                os.read(self._woken, 4096)
            if self._warm in ready:
                for said in self._warm.news():
                    self._hear(said)
            if 0 in ready and not self._key(os.read(0, 1)):
                sources.remove(0)
            self._take_changes()
            if self._companion is not None:
                self._companion.tick()

    def _timeout(self) -> float | None:
        waits: list[float | None] = [1.0]
        if not self._quit:
            waits = [None if self._unusable else self._loop.next(time.time())]
        if self._companion is not None:
            waits.append(self._companion.wait())
        known = [wait for wait in waits if wait is not None]
        return min(known) if known else None

    def _say(self, line: str) -> None:
        print(f"watch: {plain(line)}", flush=True)

    # Files

    def _watch_files(self) -> None:
        """The notifier's thread: hands paths over, and wakes the other one."""
        import watchfiles

        probe = os.path.join(self._places.folder, PROBE)
        try:
            for changes in watchfiles.watch(
                self._root, watch_filter=None, step=STEP_MS, debounce=GROUP_MS, stop_event=self._stop,
                raise_interrupt=False, rust_timeout=0,
            ):  # fmt: skip
                paths = [path for _, path in changes]
                if probe in paths or os.path.realpath(probe) in paths:
                    self._ready.set()
                with self._lock:
                    self._changes += paths
                os.write(self._wake, b"f")
        except BaseException as error:  # noqa: BLE001 - told by the other thread
            self._broken = error
            self._ready.set()
            os.write(self._wake, b"x")

    def _wait_for_watcher(self) -> None:
        """Until changes are seen: what is edited from now on is not lost."""
        probe = os.path.join(self._places.folder, PROBE)
        end = time.monotonic() + PATIENCE
        while not self._ready.is_set():
            if time.monotonic() > end:
                raise BuildError(
                    f"changes in {self._places.folder} are not seen: its file system does not tell of them "
                    "(WATCHFILES_FORCE_POLLING=1 asks for each file instead)"
                )
            with open(probe, "w", encoding="utf-8") as file:
                file.write(str(time.time()))
            self._ready.wait(0.05)
        with contextlib.suppress(OSError):
            os.unlink(probe)
        self._check_watcher()

    def _check_watcher(self) -> None:
        if self._broken is not None:
            raise BuildError(
                f"{self._root} can't be watched: {self._broken} (on Linux: sysctl fs.inotify.max_user_watches)"
            )

    def _take_changes(self) -> None:
        self._check_watcher()
        with self._lock:
            changes, self._changes = self._changes, []
        front = self._root + "/"
        paths = {path[len(front) :] for path in changes if path.startswith(front)}
        if paths:
            self._judge(paths)

    def _judge(self, paths: Collection[str]) -> None:
        if self._interest is None:
            # The first look is on its way, or has found a build file that is wrong.
            self._since_look.update(paths)
            if self._looking is None:
                self._look()
            return
        folders = {path for path in paths if _may_be_folder(os.path.join(self._root, path))}
        found = self._interest.affected(paths, folders)
        if self._looking is not None:
            self._since_look.update(set(paths).difference(found.paths))
        if found.labels is None:
            self._look()
        if found.paths:
            changed = {path: self._when(path) for path in found.paths}
            self._loop.changed(changed, found.labels, _latest(changed.values()))

    def _when(self, path: str) -> float | None:
        try:
            return os.lstat(os.path.join(self._root, path)).st_ctime
        except OSError:
            return None

    # The build file

    def _look(self) -> None:
        if self._looking is not None:
            self._look_again = True
            return
        self._look_again = False
        self._looking = self._warm.ask(
            "look", file=self._file, target=self._options.target, environment=self._options.build_env,
            into=self._answer,
        )  # fmt: skip

    def _looked(self) -> None:
        self._looking = None
        try:
            with open(self._answer, encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError) as error:
            found = {"error": str(error)}
        if self._look_again:
            self._look()
        elif "error" in found:
            self._can_not_use(found["error"])
        else:
            self._use(Interest(found))

    def _can_not_use(self, error: str) -> None:
        if not self._unusable:
            for line in error.splitlines():
                self._say(line)
            name = os.path.relpath(self._file, self._root)
            self._say(f"{name} can't be used as it is now; it is read again when something that it is made of changes")
        self._unusable = True

    def _use(self, interest: Interest) -> None:
        before, self._interest = self._interest, interest
        if before is not None and before.steps.keys() != interest.steps.keys():
            self._universe = None
        since, self._since_look = self._since_look, set()
        if self._unusable:
            self._unusable = False
            self._loop.ask(time.time())
        if since:
            self._judge(since)

    # Builds

    def _act(self) -> None:
        if self._quit or self._unusable:
            return
        match self._loop.due(time.time()):
            case Start(labels=labels, paths=paths):
                self._start(labels, paths)
            case Cancel():
                self._cancelled = True
                self._end_build()
            case LeaveAlone(paths=paths):
                self._say(
                    f"{', '.join(paths)}: written by every build that it causes, it seems. Declare it as an output of "
                    "the step that writes it; until then it is built again when it is edited while nothing runs (or: r)"
                )
            case None:
                pass

    def _start(self, labels: frozenset[str] | None, paths: tuple[str, ...]) -> None:
        wanted = self._wanted(labels)
        if wanted is not None and not wanted:
            self._loop.ended(time.time(), finished=True)
            return
        if paths:
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""  # noqa: PLR2004
            self._say(f"{time.strftime('%H:%M:%S')} {', '.join(paths[:3])}{more} changed")
        options = self._options
        if wanted is not None:
            options = _copy(options, selectors=sorted(wanted))
        self._whole, self._cancelled = wanted is None, False
        self._began = time.time()
        # Never in workers: they would take half a second to start.
        argv = [*pytest_arguments(options, self._file), "--no-header", "--build-lanes", *self._extra]
        self._build = self._warm.ask("build", argv=argv)

    def _wanted(self, labels: frozenset[str] | None) -> set[str] | None:
        """The steps to ask for; None = the whole selection."""
        if labels is None or self._universe is None or self._interest is None:
            return None
        wanted = self._interest.behind(labels) & self._universe
        return None if wanted == self._universe else wanted

    def _end_build(self) -> None:
        if self._build_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._build_pid, signal.SIGTERM)

    def _hear(self, said: dict[str, Any]) -> None:
        if said.get("gone"):
            raise BuildError("the process that starts the builds has ended")
        if self._companion is not None:
            self._companion.news(said)
        if said["id"] == self._looking:
            if "status" in said:
                self._looked()
        elif said["id"] == self._face and "status" in said:
            self._face = None
        elif said["id"] == self._build:
            if "pid" in said:
                self._build_pid = said["pid"]
                self._began = time.time()
                if self._cancelled or self._quit:
                    self._end_build()
            else:
                self._ended(said["status"])

    def _ended(self, status: int) -> None:
        pid, self._build, self._build_pid = self._build_pid, None, None
        steps = self._steps_of(pid)
        done = status in (0, 1, 5) and not any(step.outcome is Outcome.CANCELLED for step in steps)
        self._loop.ended(time.time(), finished=done, possible=self._cancelled)
        if self._cancelled and not done:
            return
        if done and self._whole:
            self._universe = {step.label for step in steps} or None
        for step in steps:
            if step.outcome in (Outcome.FAILED, Outcome.BLOCKED):
                self._failing[step.label] = None
            else:
                self._failing.pop(step.label, None)
        self._tell(status, steps)
        changed = any(step.outcome in (Outcome.BUILT, Outcome.RESTORED) for step in steps)
        companion = self._companion
        if companion is not None and status == 0 and not self._failing and (changed or not companion.running):
            companion.restart()

    def _steps_of(self, pid: int | None) -> tuple[record.StepRecord, ...]:
        """The steps of the build that ran in this process."""
        for run in reversed(record.list_runs(self._places.runs)[-5:]):
            if run.endswith(f"-{pid}"):
                with contextlib.suppress(OSError):
                    return record.read(self._places.runs, run).steps
        return ()

    def _tell(self, status: int, steps: tuple[record.StepRecord, ...]) -> None:
        failed = [label for label in self._failing if not any(s.label == label and s.culprit for s in steps)]
        count = f"{len(steps)} step{'' if len(steps) == 1 else 's'}"
        keys = " (r rebuilds, e explains, q quits)" if self._keys else ""
        if status in (0, 5) and not failed:
            self._say(f"{count} well after {time.time() - self._began:.1f} s; waiting for edits{keys}")
        elif failed:
            self._say(f"failing: {', '.join(failed[:5])}{' …' if len(failed) > 5 else ''}; waiting for edits{keys}")  # noqa: PLR2004
        else:
            self._say(f"the build ended with {status}; waiting for edits{keys}")

    def _make_companion(self) -> Companion | None:
        options = self._options
        if options.program:
            argv, stays = ["sh", "-c", f"exec {options.program}"], True
        elif options.compose:
            argv = ["docker", "compose", "up", "--detach", "--no-deps", "--force-recreate", options.compose]
            stays = False
        else:
            return None
        return Companion(argv, stays=stays, start=lambda argv: self._warm.ask("command", argv=argv), say=self._say)

    # Keys and signals

    def _key(self, key: bytes) -> bool:
        """A key was pressed; False at the end of the input."""
        match key:
            case b"r" | b"\n" | b"\r":
                self._loop.ask(time.time())
            case b"e" if self._build is None and self._face is None:
                self._face = self._warm.ask("face", argv=self._explanation())
            case b"q" | b"\x04":
                self._leave()
        return bool(key)

    def _explanation(self) -> list[str]:
        """The command that says what the last build did, and why."""
        options = self._options
        argv = ["explain", "--last", "--build-file", self._file]
        for option, value in (("-t", options.target), ("--build-env", options.build_env)):
            argv += [option, value] if value else []
        return argv

    def _leave(self) -> None:
        """Stop; asked again, or after a while, without waiting for the build's own end."""
        if self._quit and self._build_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._build_pid, signal.SIGKILL)
            return
        self._quit, self._leaving = True, time.monotonic()
        self._end_build()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, lambda *_: self._leave())
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        os.set_blocking(self._wake, False)
        woken = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def _terminal(self) -> Iterator[None]:
        """Keys come as they are pressed; Ctrl-C stays what it is."""
        if not self._keys:
            yield
            return
        import termios
        import tty

        before = termios.tcgetattr(0)
        tty.setcbreak(0)
        try:
            yield
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def _latest(times: Collection[float | None]) -> float:
    """When the last of these changes was: the notifier has waited a little already. Now, where nobody knows."""
    now = time.time()
    return now if None in times else min(now, max((at for at in times if at is not None), default=now))


def _may_be_folder(path: str) -> bool:
    """A folder, or something that is gone and may have been one."""
    return os.path.isdir(path) or not os.path.lexists(path)


def _copy(options: argparse.Namespace, **changes: Any) -> argparse.Namespace:
    import argparse

    return argparse.Namespace(**{**vars(options), **changes})
