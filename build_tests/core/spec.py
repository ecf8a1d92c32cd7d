"""The build file as it is written, one dataclass a mapping. Knows neither YAML nor what the values are used for.

`binding` fills these, `schema` describes them, `config` turns them into the model. The text below a field is its
description in the schema, so that editors show it. None = not written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from build_tests.core.binding import ONE_OR_MANY, OWN, RAW, REST
from build_tests.core.scalars import (
    AtLeastOne,
    Bytes,
    Capacity,
    ClassPath,
    Count,
    Demand,
    IdentityName,
    Name,
    Path,
    Pattern,
    PositiveSeconds,
    PublicKey,
    Reference,
    Script,
    Seconds,
    Storage,
    StrategyName,
    Text,
    Validation,
    Variable,
    Version,
    Workers,
)

Raw = Annotated[Any, RAW]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """A declared output, or just its path."""

    shorthand: ClassVar[str] = "path"

    path: Path
    """A file, or a folder with a trailing /; for an image its reference."""
    identity: IdentityName | None = None
    """What it is to dependents: its content, installed (node_modules, venvs), or an image of the container engine."""
    tracked: bool = False
    """Git may track files in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A program that the step needs, or just its name."""

    shorthand: ClassVar[str] = "name"

    name: Text
    """As it is called, looked up on PATH."""
    version: Text | None = None
    """A requirement such as ">=20" or ">=3.10,<4"."""
    version_command: tuple[str, ...] = ()
    """How it is asked for its version, where the built-in table does not know it."""
    hint: str = ""
    """How to get it, shown where it is missing."""
    optional: bool = False
    """The step can do without it; whether it is there is part of the fingerprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetriesSpec:
    """When to try again, or just how often."""

    shorthand: ClassVar[str] = "count"

    count: Count = 1
    """How often at most."""
    backoff: Seconds | None = None
    """The wait before the first retry; doubled each time."""
    when: tuple[Text, ...] = ()
    """Only after a timeout ("timeout") or when the output holds one of these texts; left out: after any failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcesSpec:
    """What the step takes from the run's capacities; any name under parallelism.resources may stand here."""

    cpu: AtLeastOne = 1
    """Processors."""
    memory: Bytes = 0
    """Memory, such as 512MB."""
    locks: tuple[Name, ...] = ()
    """One step at a time holds each of these."""
    other: Annotated[tuple[tuple[Name, Demand], ...], REST] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """A step: overrides one that the builder makes, field by field, or adds one."""

    command: tuple[str, ...] | Script | None = None
    """A list is run as it is; a text runs in sh -e."""
    inputs: tuple[Pattern, ...] | None = None
    """Files and patterns relative to the component; // is the repository's root, a leading ! takes away."""
    outputs: tuple[OutputSpec, ...] | None = None
    """What the command makes, relative to the component; a trailing / is the whole folder."""
    extra_inputs: tuple[Pattern, ...] | None = None
    """Inputs beside those that the builder found, or that stand under inputs."""
    extra_outputs: tuple[OutputSpec, ...] | None = None
    """Outputs beside those that the builder found, or that stand under outputs."""
    depends_on: tuple[Reference, ...] | None = None
    """Steps (component:step) or components that must be built first."""
    env: tuple[tuple[Variable, str], ...] | None = None
    """Environment variables; their values are part of the fingerprint."""
    pass_env: tuple[Variable, ...] | None = None
    """Variables taken from the caller; their values are part of the fingerprint."""
    secrets: tuple[Variable, ...] | None = None
    """Variables taken from the caller, masked everywhere and not part of the fingerprint."""
    tools: tuple[ToolSpec, ...] | None = None
    """Programs that the step needs; their versions are part of the fingerprint. argv's first word is one, and so is a
    well-known one that a shell line starts (gcc, node …; the step may do without those)."""
    timeout: PositiveSeconds | None = None
    """After this time the step is ended and has failed."""
    retries: RetriesSpec | None = None
    """Whether a failure is tried again."""
    resources: ResourcesSpec | None = None
    """What the step takes from the run's capacities."""
    cache: bool | None = None
    """False: always run, never stored."""
    clean: bool | None = None
    """False: outputs stay where they are before a run; needs state."""
    state: tuple[Path, ...] | None = None
    """A tool's own incremental memory: kept between runs, never hashed or stored."""
    on_request: bool | None = None
    """Runs only when named or needed."""
    daemons: tuple[Name, ...] | None = None
    """Processes that may outlive the step."""
    tags: tuple[Name, ...] | None = None
    """Words to select by, markers in pytest."""
    junit: tuple[Pattern, ...] | None = None
    """JUnit XML files that the command writes; their cases join the report."""
    node: Any = field(default=None, compare=False, repr=False, metadata=OWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSpec:
    """A folder of one kind, whose builder makes its steps."""

    kind: Name
    """Which builder makes its steps; command has none but those under steps; auto: each one that knows the folder."""
    path: Path | None = None
    """Its folder from the root; left out: the component's name. A pattern (services/*): a component for each folder."""
    tags: tuple[Name, ...] = ()
    """Tags of all its steps."""
    depends_on: tuple[Reference, ...] = ()
    """What all its steps need."""
    steps: dict[Name, StepSpec] = field(default_factory=dict)
    """Steps by name: overrides what the builder makes, or adds to it."""
    node: Any = field(default=None, compare=False, repr=False, metadata=OWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """A named way to build."""

    description: str = ""
    """Shown in lists of targets."""
    components: tuple[Name, ...] | None = None
    """What is built; left out: all."""
    tags: tuple[Name, ...] | None = None
    """Narrows to steps that have one of these."""
    cache_strategy: StrategyName | None = None
    """How far caches are trusted."""
    parallel: bool = True
    """False: one step at a time."""
    incremental: bool = True
    """False: run everything, store the results."""
    validation: Validation = False
    """Strict: undeclared writes, missing tools and warnings are failures."""
    artifacts: bool = False
    """Outputs are collected under .build/artifacts/ with their manifest."""
    environment: Name | None = None
    """Which overlay of config/environments/ is used."""
    node: Any = field(default=None, compare=False, repr=False, metadata=OWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSpec:
    """A Redis server as a cache."""

    url: Text | None = None
    """Such as redis://host:6379/0."""
    prefix: Text | None = None
    """In front of every key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Spec:
    """A bucket as a cache."""

    bucket: Text | None = None
    """Its name."""
    prefix: Text | None = None
    """In front of every key."""
    region: Text | None = None
    """Where it lies."""
    endpoint_url: Text | None = None
    """Another server than AWS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReapiSpec:
    """A server of the Remote Execution API as a cache."""

    url: Text | None = None
    """Such as grpcs://host:8980."""
    instance: Text | None = None
    """The instance's name."""
    headers_env: tuple[tuple[Text, Variable], ...] | None = None
    """Headers, each with the environment variable that holds its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpec:
    """Where results are kept. config/cache.yml merges over this."""

    enabled: bool = True
    """False: results are not kept beyond this checkout."""
    storage: Annotated[tuple[Storage, ...], ONE_OR_MANY] = ("local",)
    """Where, nearest first."""
    ttl: PositiveSeconds | None = None
    """How long an entry is kept after its last use."""
    max_size: Bytes | None = None
    """The local store's cap."""
    redis: RedisSpec | None = None
    """For storage: redis."""
    s3: S3Spec | None = None
    """For storage: s3."""
    reapi: ReapiSpec | None = None
    """For storage: reapi."""
    keys: tuple[tuple[Name, tuple[tuple[Name, PublicKey], ...]], ...] = ()
    """Public keys by scope and key id."""
    read_scopes: tuple[Name, ...] = ()
    """Whose entries are read."""
    node: Any = field(default=None, compare=False, repr=False, metadata=OWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacitiesSpec:
    """What the steps' demands share: memory as a size or a percentage, any other name as a number."""

    other: Annotated[tuple[tuple[Name, Capacity], ...], REST] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelismSpec:
    """How much runs at a time."""

    max_workers: Workers = None
    """Auto, or how many workers at most."""
    dependency_aware: bool = True
    """False: level by level, with a barrier between levels."""
    resources: CapacitiesSpec = CapacitiesSpec()
    """Capacities of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringSpec:
    """What is recorded and told."""

    metrics_enabled: bool = True
    """Times and sizes in the record of the run."""
    performance_tracking: bool = True
    """History of durations, used for the order."""
    build_notifications: bool = False
    """Messages when a build ends."""
    node: Any = field(default=None, compare=False, repr=False, metadata=OWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSystemSpec:
    """Settings of the build itself."""

    cache: CacheSpec = CacheSpec()
    """Where results are kept."""
    parallelism: ParallelismSpec = ParallelismSpec()
    """How much runs at a time."""
    monitoring: MonitoringSpec = MonitoringSpec()
    """What is recorded and told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpec:
    """A build file."""

    extensible: ClassVar[bool] = True

    version: Version | None = None
    """The version of this format."""
    build_system: BuildSystemSpec = BuildSystemSpec()
    """Settings of the build itself."""
    builders: tuple[tuple[Name, ClassPath], ...] = ()
    """Builders private to this repository: kind, module:Class."""
    components: dict[Name, Raw] = field(default_factory=dict)
    """Folders with their kinds."""
    targets: dict[Name, TargetSpec] = field(default_factory=dict)
    """Named ways to build."""
    default_target: Name | None = None
    """The target of a build that names none."""
    node: Any = field(default=None, compare=False, repr=False, metadata=OWN)
