"""What a checkout need not keep: found first, as values, and then removed. Knows no pytest and prints nothing.

Nothing is removed that git tracks or that lies behind a link. A file of a step that no longer exists goes only if it is
still what that step made, and if no environment's build declares it or names it as an input. Whoever removes holds the
checkout's lock.
"""

from __future__ import annotations

import os
import stat as st
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from build_tests.core.digest import FileTable, stat_of
from build_tests.core.errors import BuildError, UnreadableError
from build_tests.core.globs import PathSet, is_literal
from build_tests.core.graph import Graph, parents
from build_tests.core.model import Config, Identity, Output
from build_tests.run import daemons
from build_tests.run.git import Git
from build_tests.run.outputs import read_stamp, remove
from build_tests.run.places import FOLDER, Places, in_use
from build_tests.run.record import KEPT, list_runs
from build_tests.run.state import NAME, Entry, StateStore

if TYPE_CHECKING:
    from build_tests.cache.evict import Evicted, Evictor
    from build_tests.run.images import Engine

STALE = "outputs of steps that no longer exist"
OUTPUTS = "outputs"
TEMPORARY = "leftovers of builds that were cut off"
RUNS = "records and logs of old runs"
IMAGES = "images that steps made and no name means any more"
STATE = "the state, records and reports of this checkout"

_KEPT_ALWAYS = frozenset({"lock", ".gitignore"})
"""Whoever waits for a lock waits for this very file."""
_HALF = frozenset({"interrupted", "failed", "raced"})
"""What a step in this state has left, listed or not, lies in its outputs because of us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubbish:
    """Something to be removed."""

    what: str
    path: str
    """From the root, or absolute where it lies elsewhere."""
    size: int = 0
    """Bytes of its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Something that looks like ours and stays."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is to be removed, and what was thought of and stays."""

    rubbish: tuple[Rubbish, ...] = ()
    left: tuple[Left, ...] = ()
    daemons: tuple[str, ...] = ()
    """Names of processes that would be ended."""
    evicted: Evicted | None = None
    """Of the local store; None = this build does not use it."""


@dataclass(slots=True, kw_only=True)
class Cleaned:
    """What was removed."""

    paths: int = 0
    bytes: int = 0
    daemons: tuple[str, ...] = ()
    evicted: Evicted | None = None
    failures: list[str] = field(default_factory=list)
    """What could not be removed, a line each."""


@dataclass(slots=True, kw_only=True)
class Cleaner:
    """For one checkout.

    Args:
        root: absolute.
        builds: what the build file says, once for each environment.
        evictor: of the local store, None where this build does not use it.
        everything: also the outputs of steps that exist, and all of `.build`.
        warn: takes one line about a state that can't be read.
    """

    root: str
    builds: Sequence[tuple[Config, Graph]]
    evictor: Evictor | None
    everything: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)
    """For the way to the container engine."""
    warn: Callable[[str], None]
    _left: list[Left] = field(default_factory=list)

    @property
    def _places(self) -> Places:
        return Places(folder=os.path.join(self.root, FOLDER))

    # Finding

    def survey(self) -> Survey:
        """What would be removed now; changes nothing.

        Raises:
            BuildError: git can't say what it tracks.
            StoreError: the local store can't be read.
        """
        self._left = []
        entries = self._state().memory.entries
        rubbish = [*self._stale(entries), *self._temporary(), *self._images()]
        if self.everything:
            rubbish += [*self._outputs(entries), *self._own_state()]
        else:
            rubbish += self._old_runs()
        return Survey(
            rubbish=tuple({one.path: one for one in rubbish}.values()),
            left=tuple(self._left),
            daemons=tuple(name for _, name in daemons.running(self._places.daemons)),
            evicted=self.evictor.plan() if self.evictor else None,
        )

    def _state(self) -> StateStore:
        folders = self._state_folders()
        found = next((folder for folder in folders if os.path.lexists(os.path.join(folder, NAME))), folders[-1])
        store = StateStore(found, self._places.journal, self.warn)
        store.load()
        return store

    def _state_folders(self) -> list[str]:
        """Where hashes may lie: pytest's cache folder, beside the root's settings or the build file, or our own."""
        files = {os.path.dirname(os.path.join(self.root, config.file)) for config, _ in self.builds}
        bases = [self.root, *sorted(files - {self.root})]
        return [*(os.path.join(base, ".pytest_cache", "d", "build") for base in bases), f"{self._places.folder}/state"]

    def _images(self) -> Iterator[Rubbish]:
        engine = self._engine()
        if engine is not None:
            yield from (Rubbish(what=IMAGES, path=image, size=size) for image, size in engine.dangling())

    def _engine(self) -> Engine | None:
        """The container engine; None where no step makes images, or it can't be reached."""
        outputs = (o for _, graph in self.builds for step in graph.steps.values() for o in step.outputs)
        if all(output.identity is not Identity.IMAGE for output in outputs):
            return None
        from build_tests.run.images import Engine

        engine = Engine.connect(self.environ)
        return engine if isinstance(engine, Engine) else None

    # Outputs of steps that are gone

    def _stale(self, entries: Mapping[str, Entry]) -> Iterator[Rubbish]:
        used = self._used()
        listed = {row[0]: row for entry in entries.values() for row in entry.outputs if not used.contains(row[0])}
        there = [path for path in sorted(listed) if _is_below(path) and os.path.lexists(self._at(path))]
        installed = [path for path in self._installed(entries) if _is_below(path) and not used.contains(path)]
        tracked = self._tracked([*there, *installed])
        table = FileTable(self.root, trust=False)
        for path in there:
            yield from self._take(STALE, path, self._why_kept(path, tracked) or self._why_not_ours(listed[path], table))
        for path in installed:
            yield from self._take(STALE, path, self._why_kept(path, tracked))
        yield from self._stale_artifacts()

    def _why_not_ours(self, row: Sequence[Any], table: FileTable) -> str:
        """Why what lies at a manifest's path is not what was made there; "" = it is."""
        path, mode, digest = row[:3]
        if mode == "d":
            return "" if _is_folder(self._at(path)) and not _inside(self._at(path)) else "not empty any more"
        try:
            state = table.lookup(path)
        except UnreadableError as error:
            return error.reason
        return "" if state is not None and (state.mode, state.digest) == (mode, digest) else "changed since it was made"

    def _used(self) -> PathSet:
        """What steps declare, or name among their inputs."""
        steps = [step for _, graph in self.builds for step in graph.steps.values()]
        paths = [output.path for step in steps for output in step.outputs if output.identity is not Identity.IMAGE]
        named = [pattern.rstrip("/") for step in steps for pattern in step.inputs]
        paths += [pattern for pattern in named if is_literal(pattern) and not pattern.startswith("!")]
        return PathSet(paths, paths)

    def _installed(self, entries: Mapping[str, Entry]) -> list[str]:
        """Installed folders of any step that was ever built here: they are listed nowhere, but carry our stamp."""
        paths = {path for entry in entries.values() for path in entry.digests}
        return sorted(path for path in paths if _is_folder(self._at(path)) and read_stamp(self._at(path)))

    def _stale_artifacts(self) -> Iterator[Rubbish]:
        """What was collected for a target that is gone."""
        collects = any(target.artifacts for config, _ in self.builds for target in config.targets)
        if not collects and _is_folder(self._places.artifacts):
            yield self._found(STALE, self._places.artifacts)

    # Outputs of steps that are there

    def _outputs(self, entries: Mapping[str, Entry]) -> Iterator[Rubbish]:
        present = [(label, output) for label, output in self._declared() if os.path.lexists(self._at(output.path))]
        tracked = self._tracked([output.path for _, output in present])
        strange: list[str] = []
        for label, output in present:
            entry = entries.get(label, Entry())
            if entry.status in _HALF or not output.directory or read_stamp(self._at(output.path)):
                yield from self._whole(output.path, tracked)
                continue
            ours = {row[0] for row in entry.outputs}
            for path in self._files(output.path):
                if (reason := self._why_kept(path, tracked)) or path in ours:
                    yield from self._take(OUTPUTS, path, reason)
                else:
                    strange.append(path)
        yield from self._ignored(strange)

    def _whole(self, path: str, tracked: Mapping[str, str]) -> Iterator[Rubbish]:
        """A file, or a folder in which everything is ours but what git tracks."""
        if path in tracked and _is_folder(self._at(path)):
            for file in self._files(path):
                yield from self._take(OUTPUTS, file, self._why_kept(file, tracked))
        else:
            yield from self._take(OUTPUTS, path, self._why_kept(path, tracked))

    def _declared(self) -> list[tuple[str, Output]]:
        declared = {
            (label, output.path): output
            for _, graph in self.builds
            for label, step in graph.steps.items()
            for output in step.outputs
            if output.identity is not Identity.IMAGE
        }
        return [(label, output) for (label, _), output in sorted(declared.items())]

    def _ignored(self, strange: list[str]) -> Iterator[Rubbish]:
        git = Git(self.root)
        ignored = git.ignored(strange)
        _answered(git)
        for path in strange:
            yield from self._take(OUTPUTS, path, "" if path in ignored else "not made by this build")

    def _files(self, path: str) -> Iterator[str]:
        """Everything at or below a path but folders that hold something."""
        stack = [path]
        while stack:
            current = stack.pop()
            if not _is_folder(self._at(current)):
                yield current
                continue
            try:
                names = os.listdir(self._at(current))
            except OSError as error:
                self._left.append(Left(path=current, reason=f"can't be listed ({error.strerror})"))
                continue
            if not names:
                yield current
            stack += [f"{current}/{name}" for name in sorted(names, reverse=True)]

    # Our own files

    def _temporary(self) -> Iterator[Rubbish]:
        places = self._places
        for path in [*_inside(places.folder), *_inside(places.reports), *_inside(places.artifacts)]:
            if path.endswith(".tmp") or self._is_forgotten_environment(path):
                yield self._found(TEMPORARY, path)
        for path in _inside(places.staging):
            if not in_use(os.path.basename(path)):
                yield self._found(TEMPORARY, path)
        for folder in self._state_folders():
            if os.path.lexists(path := os.path.join(folder, f"{NAME}.tmp")):
                yield self._found(TEMPORARY, path)

    def _is_forgotten_environment(self, path: str) -> bool:
        name = os.path.basename(path)
        known = {config.environment or "" for config, _ in self.builds}
        return name.startswith("parsed-") and name.endswith(".pickle") and name[7:-7] not in known

    def _old_runs(self) -> Iterator[Rubbish]:
        places = self._places
        runs = list_runs(places.runs)
        for run in runs[:-KEPT]:
            yield self._found(RUNS, f"{places.runs}/{run}.jsonl")
        for path in _inside(places.logs):
            if os.path.basename(path) not in runs[-KEPT:]:
                yield self._found(RUNS, path)

    def _own_state(self) -> Iterator[Rubbish]:
        for path in _inside(self._places.folder):
            if os.path.basename(path) not in _KEPT_ALWAYS and not self._restoring(path):
                yield self._found(STATE, path)
        for folder in self._state_folders()[:-1]:
            if os.path.lexists(path := os.path.join(folder, NAME)):
                yield self._found(STATE, path)

    def _restoring(self, path: str) -> bool:
        """The Python API restores without the checkout's lock."""
        return path == self._places.staging and any(in_use(os.path.basename(one)) for one in _inside(path))

    # What all of them need

    def _at(self, path: str) -> str:
        return os.path.join(self.root, path)

    def _tracked(self, paths: list[str]) -> dict[str, str]:
        """What of these paths stays because of git, and why."""
        git = Git(self.root)
        tracked = git.tracked(paths)
        _answered(git)
        folders = {folder: "holds files that git tracks" for path in tracked for folder in parents(path)}
        return {**folders, **dict.fromkeys(tracked, "tracked by git")}

    def _why_kept(self, path: str, tracked: Mapping[str, str]) -> str:
        if path in tracked:
            return tracked[path]
        if folder := next((above for above in parents(path) if os.path.islink(self._at(above))), ""):
            return f"lies behind the link {folder}"
        return ""

    def _take(self, what: str, path: str, reason: str) -> Iterator[Rubbish]:
        if reason:
            self._left.append(Left(path=path, reason=reason))
        else:
            yield self._found(what, path)

    def _found(self, what: str, path: str) -> Rubbish:
        absolute = self._at(path)
        inside = os.path.relpath(absolute, self.root)
        return Rubbish(what=what, path=inside, size=_size(absolute))

    # Removing

    def clean(self, survey: Survey) -> Cleaned:
        """Remove what a survey has found. What can't be removed is told, and the rest goes on.

        Raises:
            StoreError: the local store can't be changed.
        """
        done = Cleaned(daemons=tuple(daemons.stop(self._places.daemons)))
        engine = self._engine() if any(one.what == IMAGES for one in survey.rubbish) else None
        for one in survey.rubbish:
            if why := self._remove(one, engine):
                done.failures.append(f"{one.path} can't be removed: {why}")
                continue
            done.paths, done.bytes = done.paths + 1, done.bytes + one.size
            if one.what in (STALE, OUTPUTS):
                self._remove_empty_above(one.path)
        if not self.everything:
            self._forget_gone()
        done.evicted = self.evictor.run(full=True) if self.evictor else None
        return done

    def _remove(self, one: Rubbish, engine: Engine | None) -> str:
        """Why it could not be removed, or ""."""
        if one.what == IMAGES:
            return engine.discard(one.path) if engine is not None else "the container engine is gone"
        try:
            remove(self._at(one.path))
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _remove_empty_above(self, path: str) -> None:
        """Folders that held nothing else, up to those that steps and components live in."""
        homes = {step.path for _, graph in self.builds for step in graph.steps.values()}
        homes |= {component.path for config, _ in self.builds for component in config.components}
        homes |= {above for home in homes for above in parents(home)}
        for folder in parents(path):
            if folder in homes or os.path.islink(self._at(folder)):
                return
            try:
                os.rmdir(self._at(folder))
            except OSError:
                return  # it holds something

    def _forget_gone(self) -> None:
        """Take steps that no longer exist, and have nothing here any more, out of the state.

        What somebody puts in the old place later must not count as theirs.
        """
        store = self._state()
        present = {label for _, graph in self.builds for label in graph.steps}
        entries = store.memory.entries
        gone = [label for label in entries.keys() - present if not self._has_any(entries[label])]
        for label in gone:
            del entries[label]
            store.memory.unfinished.pop(label, None)
            store.memory.checked.pop(label, None)
        if gone and any(os.path.lexists(os.path.join(folder, NAME)) for folder in self._state_folders()):
            store.changed = True
            store.save()

    def _has_any(self, entry: Entry) -> bool:
        paths = [*(row[0] for row in entry.outputs), *entry.digests]
        return any(os.path.lexists(self._at(path)) for path in paths)


def _is_below(path: str) -> bool:
    """Whether a path of a manifest leads nowhere but below the root."""
    return not os.path.isabs(path) and ".." not in path.split("/")


def _answered(git: Git) -> None:
    if git.problem:
        raise BuildError(f"nothing is removed, since git can't say what it tracks: {git.problem}")


def _is_folder(path: str) -> bool:
    found = stat_of(path)
    return found is not None and st.S_ISDIR(found.mode)


def _inside(folder: str) -> list[str]:
    """What lies in a folder of ours, as absolute paths; nothing where there is none."""
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    except OSError:
        return []


def _size(path: str) -> int:
    """Bytes of a file, or of all files below a folder; what can't be seen counts nothing."""
    stack, total_size = [path], 0
    while stack:
        found = stat_of(current := stack.pop())
        if found is not None and st.S_ISDIR(found.mode):
            stack += _inside(current)
        elif found is not None and st.S_ISREG(found.mode):
            total_size += found.size
    return total_size


def total(rubbish: Iterable[Rubbish]) -> int:
    """Bytes."""
    return sum(one.size for one in rubbish)
