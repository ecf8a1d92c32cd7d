"""The nouns of a build, as frozen values. Knows no file, no process, no pytest.

What identifies a thing is compared; what only describes it (its place in build.yml, a description) is not.
Paths are POSIX text relative to the root (the folder that `//` means); the root itself is "". Without slots: a parsed
build file is kept pickled, and a frozen class with slots is unpickled by Python code (0.03 s more at 1,000 steps).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from build_tests.core.errors import Place

NOWHERE = Place(file="")


class Outcome(str, Enum):
    """How a step ended. A closed set: every face handles all of them."""

    FRESH = "fresh"
    """Up to date: the fingerprint is the last success's and the outputs on disk are intact. A success."""
    RESTORED = "restored"
    """Its outputs came from a cache. A success."""
    BUILT = "built"
    """Its command ran and every declared output is there. A success."""
    FAILED = "failed"
    """Its command failed, was killed, ran out of time, or left a declared output out."""
    BLOCKED = "blocked"
    """Not run, since a dependency failed; names the culprit."""
    UNAVAILABLE = "unavailable"
    """Not run, since a tool is missing, its own or a dependency's."""
    CANCELLED = "cancelled"
    """Not run or not finished, since the run ended early."""

    @property
    def ok(self) -> bool:
        """Whether dependents may go on."""
        return self in (Outcome.FRESH, Outcome.RESTORED, Outcome.BUILT)


class Identity(str, Enum):
    """What an output is to its dependents."""

    CONTENT = "content"
    """Its bytes."""
    INSTALLED = "installed"
    """node_modules, virtual environments: never stored, hashed or listed; the step's own key stands for it."""
    IMAGE = "image"
    """A container image in the engine; `path` is its reference (`shop/web:dev`)."""


class Strategy(str, Enum):
    """How far the caches are trusted."""

    AGGRESSIVE = "aggressive"
    """Trusts the stat short cut."""
    CONSERVATIVE = "conservative"
    """Reads every input again and verifies every output."""
    OFF = "off"
    """Ignores hashes and caches, but still writes hashes."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """A declared output. A folder output (`directory`) owns everything below it."""

    path: str
    directory: bool = False
    identity: Identity = Identity.CONTENT
    tracked: bool = False
    """Its files may be tracked by git."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program the step needs; its version text enters the key."""

    name: str
    version: str = ""
    """A requirement such as `>=20`, or "" for any."""
    version_command: tuple[str, ...] = ()
    """How to ask for the version; () = the built-in table's way."""
    home: str = ""
    """A variable of the caller whose `bin/` is looked at before PATH (JAVA_HOME)."""
    hint: str = ""
    """How to get it, shown when it is missing."""
    optional: bool = False
    """The step can do without it, in another way: that it is missing is part of the key, and no obstacle."""


@dataclass(frozen=True, kw_only=True)
class Retries:
    """Try again after a failure: `count` times at most, waiting `backoff` seconds, doubled each time.

    `when` narrows it: "timeout", or a text that must stand in the output; () = any failure.
    """

    count: int = 0
    backoff: float = 1.0
    when: tuple[str, ...] = ()


FLAKY = "flaky"
"""The tag of a step that is tried twice more after a failure, where its `retries` say nothing else."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a step takes from the run's capacities while it runs."""

    cpu: int = 1
    memory: int = 0
    """Bytes."""
    locks: tuple[str, ...] = ()
    """One step at a time holds each of these."""
    other: tuple[tuple[str, int], ...] = ()
    """Named capacities of `parallelism.resources` (docker: 1)."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One action of the graph; one pytest item. Its identity is its label."""

    component: str
    name: str
    kind: str
    path: str = ""
    """The folder it runs in."""
    command: tuple[str, ...] | str = ()
    """A tuple is argv; a string runs in `sh -e`."""
    inputs: tuple[str, ...] = ()
    """Patterns from the root; a leading `!` takes away; the last match decides. A trailing / = all below."""
    outputs: tuple[Output, ...] = ()
    takes_outputs: bool = False
    """Its inputs mean what others make, too: each output that they match is an edge (what a docker build copies)."""
    depends_on: tuple[str, ...] = ()
    """Labels of steps, or names of components (all their steps)."""
    after: tuple[str, ...] = ()
    """As `depends_on`, but their outputs are no part of the key: `facts` say what of them matters."""
    facts: tuple[tuple[str, str], ...] = ()
    """What a builder read out of a manifest and is part of the key, by the name that reasons call it: the lines of a
    lockfile that concern this step, say. A value's first word is shown (`19.3.1 DIGEST`); digests are SHA-256."""
    env: tuple[tuple[str, str], ...] = ()
    pass_env: tuple[str, ...] = ()
    """Read from the caller; the values are part of the key."""
    network_env: tuple[str, ...] = ()
    """Patterns (`PIP_*`) of variables passed but not part of the key: proxies, registries, caches of the tool."""
    secrets: tuple[str, ...] = ()
    """Passed, masked everywhere, not part of the key."""
    tools: tuple[Tool, ...] = ()
    timeout: float | None = None
    """Seconds."""
    retries: Retries = Retries()
    resources: Resources = Resources()
    cache: bool = True
    clean: bool = True
    state: tuple[str, ...] = ()
    """The tool's own incremental memory, files or folders: kept, never hashed or stored."""
    on_request: bool = False
    daemons: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    base_images: tuple[str, ...] = ()
    """References each `FROM` names; the identity each resolves to is part of the key."""
    junit: tuple[str, ...] = ()
    """Patterns from the root of JUnit XML files that the step's own tool writes; their cases join the report."""
    where: Place = field(default=NOWHERE, compare=False)

    @property
    def label(self) -> str:
        """`component:name`."""
        return f"{self.component}:{self.name}"


@dataclass(frozen=True, kw_only=True)
class StepOverride:
    """A step as build.yml writes it: overrides one that the builder made, field by field, or adds one.

    `fields` holds exactly the `Step` fields that were written down, already parsed and root-relative; `extra_inputs`
    and `extra_outputs` add to what is there.
    """

    name: str
    fields: tuple[tuple[str, Any], ...]
    where: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, kw_only=True)
class Component:
    """One entry under `components:`."""

    name: str
    kind: str
    path: str
    tags: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    """Every step of the component depends on these."""
    steps: tuple[StepOverride, ...] = ()
    options: Any = None
    """An instance of the builder's own `options` dataclass."""
    found: str = ""
    """The entry under `components:` whose `kind: auto` or pattern found it; "" = it is an entry itself."""
    where: Place = field(default=NOWHERE, compare=False)


def by_entry(components: Iterable[Component]) -> dict[str, tuple[str, ...]]:
    """What a name means: a component, or all those that an entry of this name found."""
    names: dict[str, tuple[str, ...]] = {}
    entries: dict[str, tuple[str, ...]] = {}
    for component in components:
        names[component.name] = (component.name,)
        if component.found:
            entries[component.found] = (*entries.get(component.found, ()), component.name)
    return entries | names


@dataclass(frozen=True, kw_only=True)
class Target:
    """A named way to build: what, and with which policy."""

    name: str
    description: str = ""
    components: tuple[str, ...] | None = None
    """None = all."""
    tags: tuple[str, ...] | None = None
    cache_strategy: Strategy = Strategy.AGGRESSIVE
    parallel: bool = True
    incremental: bool = True
    strict: bool = False
    artifacts: bool = False
    environment: str | None = None
    where: Place = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """`build_system.cache`."""

    enabled: bool = True
    storage: tuple[str, ...] = ("local",)
    ttl: float = 7 * 86400.0
    """Seconds."""
    max_size: int = 10 * 10**9
    """Bytes."""
    redis: tuple[tuple[str, Any], ...] = ()
    s3: tuple[tuple[str, Any], ...] = ()
    reapi: tuple[tuple[str, Any], ...] = ()
    keys: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    read_scopes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Parallelism:
    """`build_system.parallelism`."""

    max_workers: int | None = None
    """None = auto: one per processor this process may use."""
    dependency_aware: bool = True
    """False: level by level, with a barrier between levels."""
    resources: tuple[tuple[str, float], ...] = ()
    """Capacities. `memory` in bytes (a percentage is of this machine's); others are counts."""


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """`build_system.monitoring`. Read here; notifications come with a later release."""

    metrics_enabled: bool = True
    performance_tracking: bool = True
    build_notifications: bool = False


@dataclass(frozen=True, kw_only=True)
class Config:
    """A build file with its overlays, checked. `file` is relative to `root`, which is absolute."""

    root: str
    file: str
    cache: CacheSettings = CacheSettings()
    parallelism: Parallelism = Parallelism()
    monitoring: Monitoring = Monitoring()
    builders: tuple[tuple[str, str], ...] = ()
    """Builders private to this repository: kind, `module:Class`."""
    components: tuple[Component, ...] = ()
    targets: tuple[Target, ...] = ()
    default_target: str | None = None
    environment: str | None = None
    unused: tuple[str, ...] = ()
    """Notes on keys that are accepted but that nothing reads yet, `file:line:col: …`."""
