"""What one run has to do with the artifact cache: find what a step left elsewhere or before, put it back, keep it.

Opens nothing until the first step must run. What can't be believed, read or completed is a miss, counted and at most
warned of; no fault of a store is ever an error of the build. Knows no order and no session.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from build_tests.cache import artifact, pointer
from build_tests.cache.artifact import Item
from build_tests.cache.background import DaemonPool
from build_tests.cache.guarded import Guarded
from build_tests.cache.model import Blob, StoreError
from build_tests.cache.opening import open_store
from build_tests.cache.permissions import permissions
from build_tests.cache.record import Record, blobs_in, body_of, record_of
from build_tests.cache.trust import Address, Trust, UntrustedError, exposures, trust_of
from build_tests.core.model import CacheSettings, Identity, Output
from build_tests.run.outputs import remove
from build_tests.run.places import in_use

if TYPE_CHECKING:
    from build_tests.cache.tiers import Tiers

FINISH_SECONDS = 30.0
"""How long the end of a run waits for uploads."""
SWEEP_SECONDS = 0.2
"""What eviction may take at the end of a run that kept something."""
LOOK_SECONDS, PAUSE_SECONDS, PATIENCE_SECONDS = 0.05, 0.04, 1.0
"""How often what waits to be kept is looked at; how long nothing must have ended before it is; how long it may wait."""
AT_ONCE = 16
"""Downloads at a time, of all steps."""
_STAGED = itertools.count()
"""Of all keepers of this process: two of them may restore at a time, in one checkout."""
_MARK = os.urandom(4).hex()
"""An earlier process may have had the number of this one."""
MOST_BAD = 64 << 20
"""Bytes of entries that could not be used, held until they are replaced; what is beyond that stays where it lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A record that was believed."""

    key: str
    record: Record
    tier: str
    address: Address
    envelope: bytes

    @property
    def bytes(self) -> int:
        """Of the outputs."""
        return sum(item.size for item in self.record.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leavings:
    """What a step of this run has left, to be kept."""

    label: str
    key: str
    items: tuple[Item, ...]
    seconds: float
    cases: str
    fingerprint: Any


@dataclass(slots=True)
class Tally:
    """What the cache did in this run."""

    looked: int = 0
    restored: dict[str, int] = field(default_factory=dict)
    """By tier."""
    bytes: int = 0
    seconds_saved: float = 0.0
    """What building would have taken, less what restoring took."""
    kept: int = 0
    refused: int = 0
    """Entries that were not believed."""
    suspicious: int = 0
    """Those of them that somebody may have meant."""
    incomplete: int = 0
    """Records whose blobs were gone."""


class Keeper:
    """The cache of one run.

    Args:
        root: absolute.
        settings: of the build file.
        environ: permissions, scope, key, credentials.
        option: `--build-cache`.
        folder: for files on their way, on the checkout's file system; made when needed.
        warn: takes one line.

    Raises (by `opened`, so at the first use):
        ConfigError: what the environment or the user's file says of the cache is wrong.
    """

    def __init__(  # noqa: PLR0913
        self, root: str, settings: CacheSettings, environ: Mapping[str, str], option: str | None, *, folder: str,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._root = root
        self._settings = settings
        self._environ = environ
        self._folder = folder
        self._warn = warn
        self._permissions = permissions(environ, option)
        self.on = settings.enabled and self._permissions.local
        """Whether anything is ever looked up or kept."""
        self.tally = Tally()
        self._tiers: Tiers | None = None
        self._trust = Trust()
        self._remote = self._shares = False
        self._believed_afar: frozenset[str] = frozenset()
        """The scopes whose entries are believed from remote tiers."""
        self._bad: dict[str, list[bytes]] = {}
        """Name → what lay there and could not be used: it counts as absent, so it may be replaced."""
        self._bad_size = 0
        self._counting = threading.Lock()
        self._downloads: DaemonPool | None = None
        self._made_way = False
        self._warned: set[str] = set()
        self._work: deque[Leavings] = deque()
        self._first = self._last = 0.0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def opened(self) -> Tiers:
        """The tiers, opened with the first call."""
        if self._tiers is None:
            granted = self._permissions
            self._trust = trust = trust_of(self._settings, granted, self._environ)
            for note in (*granted.notes, *trust.notes, *exposures(trust, self._environ)):
                self._warn(f"cache: {note}")
            self._remote = any(name != "local" for name in self._settings.storage)
            self._believed_afar = frozenset(trust.scopes(remote=True))
            if self._remote and not self._believed_afar:
                self._warn(f"cache: remote tiers are of no use: {_keyless(trust)}")
            wanted = granted.remote == "rw"
            why = trust.why_not(remote=True) if wanted and self._remote else ""
            if why:
                self._warn(f"cache: nothing is written to remote tiers: {why}")
            self._shares = self._remote and wanted and not why
            self._tiers = open_store(self._settings, self._environ, self._warn, writable=self._shares)
        return self._tiers

    @property
    def remote(self) -> bool:
        """Whether a tier lies behind a network. Raises ConfigError at first."""
        self.opened()
        return self._remote

    # Reading

    def find(self, key: str, outputs: Sequence[Output] | None = None) -> Found | None:
        """The record of a key that is believed and fits the declared outputs, if any; its blobs may be gone."""
        tiers = self.opened()
        with self._counting:
            self.tally.looked += 1
        for address in self._trust.actions(key, remote=False):
            afar = address.scope in self._believed_afar
            for tier, envelope in tiers.candidates(address.lookup, afar=afar):
                record = self._believed(address, envelope, outputs, remote=tier != "local")
                if record is not None:
                    return Found(key=key, record=record, tier=tier, address=address, envelope=envelope)
                self._note_bad(address, envelope)
        return None

    def last(self, label: str) -> Iterator[tuple[str, Any]]:
        """What the last results of a step were made from, as far as scopes tell that we read: (whence, fingerprint).

        Newest first within a scope. For explanations only. Raises ConfigError at first.
        """
        tiers = self.opened()
        for address in self._trust.pointers(label, remote=False):
            for tier, envelope in tiers.candidates(address.lookup, afar=address.scope in self._believed_afar):
                with contextlib.suppress(UntrustedError, ValueError):
                    keys = pointer.keys_of(self._trust.opened(address, envelope, remote=tier != "local"))
                    found = [self.find(key) for key in keys]
                    yield from (
                        (f"scope {address.scope}, {one.key[:12]} in {one.tier}", one.record.fingerprint)
                        for one in found
                        if one is not None and one.record.fingerprint is not None
                    )
                    break

    def _note_bad(self, address: Address, envelope: bytes) -> None:
        """It counts as absent: squatting on a name, or damage, must not keep what is good from lying there."""
        with self._counting:
            self._bad_size += len(envelope)
            if self._bad_size <= MOST_BAD:
                self._bad.setdefault(address.lookup, []).append(envelope)

    def _believed(
        self, address: Address, envelope: bytes, outputs: Sequence[Output] | None, *, remote: bool
    ) -> Record | None:
        try:
            record = record_of(self._trust.opened(address, envelope, remote=remote))
            own = [(item.path, item.mode == "d") for item in record.items]
            artifact.checked(record.items, own if outputs is None else declared(outputs))
        except UntrustedError as error:
            self._refuse(error)
            return None
        except ValueError:
            self._refuse(None)
            return None
        return record

    def _refuse(self, error: UntrustedError | None) -> None:
        suspicious = error is not None and error.refusal.suspicious
        with self._counting:
            self.tally.refused += 1
            self.tally.suspicious += suspicious
            first = suspicious and self.tally.suspicious == 1
        if first and error is not None:
            self._warn(f"cache, security: {error.reason}: it is not used; others like it are only counted")

    def complete(self, found: Found) -> bool:
        """Whether all its blobs are there now: for a plan."""
        return not self.opened().missing(artifact.blobs_of(found.record.items))

    def stage(self, found: Found) -> str | None:
        """How the names of its files begin, fetched and verified; to be placed or discarded. None: one is missing."""
        staging = os.path.join(self._folder, f"{_our_names()}{next(_STAGED)}")
        missing: object = True
        try:
            self._make_way()
            missing = artifact.stage(found.record.items, self.opened().fetch, staging, each=self._each())
        except StoreError:
            missing = True
        except OSError as error:
            # Not the file: a full disk would be told for each step.
            self._warn_once(f"cache: nothing can be restored: {self._folder}: {error.strerror}")
        if missing:
            with self._counting:
                self.tally.incomplete += 1
            if not self.complete(found):
                self._note_bad(found.address, found.envelope)
        return None if missing else staging

    def _make_way(self) -> None:
        """Before the first file is fetched: what a killed run has left is of no use.

        The Python API restores without the checkout's lock: others' files stay, and they may remove the folder.
        """
        with self._counting:
            if not self._made_way:
                self._made_way = True
                if os.path.islink(self._folder):
                    os.unlink(self._folder)
                os.makedirs(self._folder, exist_ok=True)
                for name in os.listdir(self._folder):
                    if not name.startswith(_our_names()) and not in_use(name, but=os.getpid()):
                        with contextlib.suppress(OSError):
                            remove(os.path.join(self._folder, name))
        os.makedirs(self._folder, exist_ok=True)

    def _each(self) -> Any:
        if not self._remote:
            return map
        with self._counting:
            pool = self._downloads = self._downloads or DaemonPool("cache-download", AT_ONCE)
        return lambda function, *columns: pool.map(lambda row: function(*row), zip(*columns, strict=True))

    def restored(self, found: Found, seconds: float) -> None:
        """Count it, and keep the record nearer where it came from afar."""
        tally = self.tally
        tally.restored[found.tier] = tally.restored.get(found.tier, 0) + 1
        tally.bytes += found.bytes
        tally.seconds_saved += max(0.0, found.record.seconds - seconds)
        if found.tier != "local":
            blobs = [*artifact.blobs_of(found.record.items)]
            for over in self._bad.pop(found.address.lookup, [None]):
                self.opened().fill(found.address.lookup, found.envelope, blobs, over=over)

    # Writing

    def keep(self, leavings: Leavings) -> None:
        """Keep what a step left, behind the build's back: when nothing has ended for a moment, or after a second."""
        now = time.monotonic()
        self._last = now
        if not self._work:
            self._first = now
        self._work.append(leavings)
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_in_pauses, name="build-keeper", daemon=True)
            self._thread.start()

    def _keep_in_pauses(self) -> None:
        # Of two threads that run Python code, each costs the other's short steps several milliseconds: in a volley of
        # them this one must wait.
        while not self._closing.wait(LOOK_SECONDS):
            now = time.monotonic()
            if self._work and (now - self._last > PAUSE_SECONDS or now - self._first > PATIENCE_SECONDS):
                self._keep_waiting()

    def _keep_waiting(self, *, to_the_end: bool = False) -> None:
        while self._work and (to_the_end or not self._closing.is_set()):
            self.keep_now(self._work.popleft())

    def keep_now(self, leavings: Leavings) -> None:
        """Keep what a step left; returns when the near tiers have it."""
        try:
            self._keep(leavings)
        except StoreError:
            return  # its tier has warned, or the outputs were edited since
        except (OSError, UntrustedError) as error:
            self._warn_once(f"cache: {leavings.label} was not kept: {error}")

    def _keep(self, leavings: Leavings) -> None:
        tiers = self.opened()
        address = Address("action", self._trust.scope, leavings.key)
        record = Record(
            label=leavings.label, items=leavings.items, seconds=leavings.seconds, cases=leavings.cases,
            fingerprint=leavings.fingerprint,
        )  # fmt: skip
        envelope = self._trust.sealed(address, body_of(record))
        blobs: dict[Blob, str] = {item.blob: item.path for item in leavings.items if item.is_file}
        for blob, path in blobs.items():
            tiers.store(blob, os.path.join(self._root, path))
        for bad in self._bad.pop(address.lookup, ()):
            tiers.write_record(address.lookup, envelope, [*blobs], over=bad)
        if not tiers.write_record(address.lookup, envelope, [*blobs]):
            self._replace_bad(tiers, address, envelope, [*blobs])
        if self._shares:
            self._point(tiers, leavings)
        self.tally.kept += 1

    def _replace_bad(self, tiers: Tiers, address: Address, envelope: bytes, blobs: Sequence[Blob]) -> None:
        """A record that is there stays, unless it can't be believed or has lost a blob: then it counts as absent."""
        there = next((text for _, text in tiers.candidates(address.lookup, afar=False)), None)
        if there is None or there == envelope:
            return
        try:
            record = record_of(self._trust.opened(address, there, remote=False))
            bad = bool(tiers.missing(artifact.blobs_of(record.items)))
        except (UntrustedError, ValueError):
            bad = True
        if bad:
            tiers.write_record(address.lookup, envelope, blobs, over=there)

    def _point(self, tiers: Tiers, leavings: Leavings) -> None:
        """Put the key first in the list of the step's last keys, so that a miss elsewhere can be explained."""
        address = Address("pointer", self._trust.scope, leavings.label)
        there = tiers.read_record(address.lookup)
        keys: tuple[str, ...] = ()
        if there is not None:
            with contextlib.suppress(UntrustedError, ValueError):
                keys = pointer.keys_of(self._trust.opened(address, there, remote=False))
        if keys[:1] != (leavings.key,):
            body = pointer.body_of(pointer.with_key(keys, leavings.key))
            tiers.write_record(address.lookup, self._trust.sealed(address, body), [], over=there)

    # The end

    def close(self) -> None:
        """Finish what is being kept, within limits; make room where it is time to."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(FINISH_SECONDS)
            self._thread = None
        self._keep_waiting(to_the_end=True)
        if self._tiers is None:
            return
        if left := self._tiers.finish(FINISH_SECONDS):
            self._warn(f"cache: {left} uploads were not finished within {FINISH_SECONDS:g} seconds and are given up")
        if self._downloads is not None:
            self._downloads.close()
        self._sweep(self._tiers)
        self._tiers.close()
        with contextlib.suppress(OSError):
            os.rmdir(self._folder)

    def _sweep(self, tiers: Tiers) -> None:
        if not self.tally.kept:
            return
        from build_tests.cache.evict import Evictor
        from build_tests.cache.local import LocalStore

        for tier in tiers.tiers:
            store = getattr(tier.store, "store_itself", tier.store)
            if isinstance(store, LocalStore):
                store.close()  # what was added is known from now on
                evictor = Evictor(store, ttl=self._settings.ttl, max_size=self._settings.max_size, blobs_of=blobs_in)
                with contextlib.suppress(StoreError):
                    evictor.run(budget_seconds=SWEEP_SECONDS)

    def summary(self) -> str:
        """What the cache did, in one line; "" where that is not worth one."""
        tally, parts = self.tally, []
        if count := sum(tally.restored.values()):
            where = ", ".join(f"{number} from {tier}" for tier, number in tally.restored.items())
            saved = f", {tally.seconds_saved:.1f} s saved" if tally.seconds_saved >= 0.05 else ""  # noqa: PLR2004
            parts = [f"{where} ({_size(tally.bytes)}{saved})", f"{tally.looked - count} missed"]
        parts += [f"{number} {what}" for number, what in self._troubles() if number]
        return f"cache: {', '.join(parts)}" if parts else ""

    def _troubles(self) -> list[tuple[int, str]]:
        stores = [tier.store for tier in self._tiers.tiers] if self._tiers else []
        errors = [(store.traffic.errors, f"errors of {store.name}") for store in stores if isinstance(store, Guarded)]
        return [(self.tally.refused, "not believed"), (self.tally.incomplete, "incomplete"), *errors]

    def _warn_once(self, line: str) -> None:
        if line not in self._warned:
            self._warned.add(line)
            self._warn(line)


def _our_names() -> str:
    """How what this process stages begins."""
    return f"restore-{os.getpid()}-{_MARK}-"


def declared(outputs: Sequence[Output]) -> list[tuple[str, bool]]:
    """As manifests take them."""
    return [(output.path, output.directory) for output in outputs if output.identity is Identity.CONTENT]


def storable(outputs: Sequence[Output]) -> bool:
    """Whether a step's outputs can be kept: all of them are files. A test that passed may have none at all."""
    return all(output.identity is Identity.CONTENT for output in outputs)


def _keyless(trust: Trust) -> str:
    scopes = ", ".join(dict.fromkeys((trust.scope, *trust.read_scopes)))
    return f"no public key in build_system.cache.keys for what this job reads ({scopes})"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":  # noqa: PLR2004
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
