"""What may be written in a build file, as types: the loader binds to them and the JSON schema is made from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from build_tests.core.binding import (
    WRONG,
    Form,
    Name,
    Scalar,
    Seconds,
    Size,
    binder,
    choice,
    integer,
    schema_of,
    size,
)
from build_tests.core.model import Retries, Tool
from build_tests.core.yamltree import Node

_text = binder(str)
_texts = binder(tuple[str, ...])
_ARGV = {"type": "array", "items": {"type": "string"}, "minItems": 1}


def _command(node: Node) -> Any:
    value = _texts(node) if node.kind == "list" else _text(node)
    if value is not WRONG and not value:
        node.say("the command is empty")
        return WRONG
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """The long form of an output."""

    path: str
    identity: Annotated[str, choice("content", "installed", "image")] = "content"
    tracked: bool = False


def _output(node: Node) -> Any:
    return binder(OutputSpec)(node) if node.kind == "mapping" else _or_wrong(_text(node), lambda t: OutputSpec(path=t))


def _or_wrong(value: Any, make: Any) -> Any:
    return WRONG if value is WRONG else make(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ToolSpec:
    name: str
    version: str = ""
    version_command: tuple[str, ...] = ()
    hint: str = ""


def _tool(node: Node) -> Any:
    if node.kind != "mapping":
        return _or_wrong(_text(node), lambda text: Tool(name=text))
    return _or_wrong(
        binder(_ToolSpec)(node),
        lambda s: Tool(name=s.name, version=s.version, version_command=s.version_command, hint=s.hint),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _RetriesSpec:
    count: int
    backoff: Seconds = 1.0
    when: tuple[str, ...] = ()


def _retries(node: Node) -> Any:
    if node.kind == "mapping":
        return _or_wrong(
            binder(_RetriesSpec)(node), lambda s: Retries(count=s.count, backoff=s.backoff, when=s.when)
        )
    return _or_wrong(binder(int)(node), lambda count: Retries(count=count))


def _demands(node: Node) -> Any:
    """`resources:` of a step: cpu, memory, locks, and any named capacity."""
    if node.kind != "mapping":
        node.say("expected a mapping such as {cpu: 1, memory: 512MB, locks: [gradle-home]}")
        return WRONG
    out: dict[str, Any] = {}
    for name, (_, value) in node.value.items():
        how = {"memory": Size, "locks": tuple[str, ...]}.get(name, int)
        out[name] = binder(how)(value)
    return WRONG if WRONG in out.values() else out


def _memory(text: str) -> Any:
    if match := re.fullmatch(r"(\d{1,3})\s*%", text):
        return f"{match[1]}%"
    return size(text)


def _capacities(node: Node) -> Any:
    if node.kind != "mapping":
        node.say("expected a mapping such as {memory: 80%, docker: 2}")
        return WRONG
    memory = binder(Annotated[Any, Scalar(_memory)])
    out = {name: (memory if name == "memory" else binder(int))(value) for name, (_, value) in node.value.items()}
    return WRONG if WRONG in out.values() else out


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    count = integer(text)
    if not count:
        raise ValueError("0 workers build nothing; at least 1, or auto")
    return count


def _storage(node: Node) -> Any:
    one = binder(Annotated[str, choice("local", "redis", "s3", "reapi")])
    if node.kind == "list":
        values = [one(child) for child in node.value]
        return WRONG if WRONG in values else tuple(values)
    return _or_wrong(one(node), lambda value: (value,))


def _free(node: Node) -> Any:
    """A mapping that a later release reads: kept as text, lists and mappings."""
    if node.kind == "mapping":
        return {name: _free(value) for name, (_, value) in node.value.items()}
    return [_free(child) for child in node.value] if node.kind == "list" else node.value


def _form(bind: Any, schema: Any) -> Form:
    return Form(bind, lambda: schema() if callable(schema) else schema)


Command = Annotated[Any, _form(_command, {"oneOf": [{"type": "string", "minLength": 1}, _ARGV]})]
OutputForm = Annotated[Any, _form(_output, lambda: {"oneOf": [{"type": "string"}, schema_of(OutputSpec)]})]
ToolForm = Annotated[Any, _form(_tool, lambda: {"oneOf": [{"type": "string"}, schema_of(_ToolSpec)]})]
RetriesForm = Annotated[Any, _form(_retries, lambda: {"oneOf": [{"type": "integer"}, schema_of(_RetriesSpec)]})]
Demands = Annotated[
    Any,
    _form(
        _demands,
        {
            "type": "object",
            "properties": {
                "cpu": {"type": "integer"},
                "memory": {"type": ["string", "integer"]},
                "locks": {"type": "array", "items": {"type": "string"}},
            },
            "additionalProperties": {"type": "integer"},
        },
    ),
]
Capacities = Annotated[
    Any,
    _form(
        _capacities,
        {
            "type": "object",
            "properties": {"memory": {"type": ["string", "integer"], "examples": ["80%", "8GB"]}},
            "additionalProperties": {"type": "integer"},
        },
    ),
]
Workers = Annotated[Any, Scalar(_workers, (("oneOf", [{"const": "auto"}, {"type": "integer", "minimum": 1}]),))]
_STORES = {"enum": ["local", "redis", "s3", "reapi"]}
Storage = Annotated[Any, _form(_storage, {"oneOf": [_STORES, {"type": "array", "items": _STORES}]})]
Free = Annotated[Any, _form(_free, {"type": "object"})]


def doc(text: str, default: Any = None) -> Any:
    """A field with the description that editors show."""
    return field(default=default, metadata={"doc": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One entry of `steps:`. None = not written."""

    command: Command | None = doc("A list is argv; a string runs in sh -e.")
    inputs: tuple[str, ...] | None = doc("Patterns from the component's path; // from the root; ! takes away.")
    outputs: tuple[OutputForm, ...] | None = doc("Files, folders (with a trailing /), images.")
    depends_on: tuple[str, ...] | None = doc("Steps (component:step) or components.")
    env: Mapping[str, str] | None = doc("Variables, part of the fingerprint.")
    pass_env: tuple[str, ...] | None = doc("Variables of the caller, part of the fingerprint.")
    secrets: tuple[str, ...] | None = doc("Variables of the caller, masked everywhere, not part of the fingerprint.")
    tools: tuple[ToolForm, ...] | None = doc("Programs that the step needs; their versions are part of the fingerprint.")
    timeout: Seconds | None = doc("Ends the step's whole process tree.")
    retries: RetriesForm | None = doc("Try again after a failure.")
    resources: Demands | None = doc("What the step takes of the run's capacities.")
    cache: bool | None = doc("false: always run, never stored.")
    clean: bool | None = doc("false: outputs are not removed before a run; needs state.")
    state: tuple[str, ...] | None = doc("A tool's own incremental memory: kept, never hashed or stored.")
    on_request: bool | None = doc("Runs only when named or needed.")
    daemons: tuple[str, ...] | None = doc("Processes that may outlive the step.")
    junit: tuple[str, ...] | None = doc("JUnit XML files that the step's tool writes; their cases join the report.")
    tags: tuple[Name, ...] | None = doc("Words for -m and -k.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSpec:
    """The keys that every component has; the others are its builder's."""

    kind: str
    path: str | None = doc("Its folder from the root; left out: its name.")
    tags: tuple[Name, ...] = doc("Words for -m and -k, on all its steps.", ())
    depends_on: tuple[str, ...] = doc("All its steps need these.", ())
    steps: Mapping[Name, StepSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """One entry of `targets:`."""

    description: str = ""
    components: tuple[str, ...] | None = doc("Left out: all.")
    tags: tuple[str, ...] | None = doc("Narrows to steps with one of these.")
    cache_strategy: Annotated[str, choice("aggressive", "conservative", "off")] = "aggressive"
    parallel: bool = True
    incremental: bool = doc("false: run everything, store the results.", True)
    validation: Annotated[str, choice("normal", "strict")] = "normal"
    artifacts: bool = doc("Collect the outputs under .build/artifacts/.", False)
    environment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpec:
    """`build_system.cache`."""

    enabled: bool = True
    storage: Storage = ("local",)
    ttl: Seconds = 7 * 86400.0
    max_size: Size = 10**10
    redis: Free = None
    s3: Free = None
    reapi: Free = None
    keys: Free = None
    read_scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelismSpec:
    """`build_system.parallelism`."""

    max_workers: Workers = doc("A number, or auto.")
    dependency_aware: bool = doc("false: level by level.", True)
    resources: Capacities = doc("Capacities that the steps' demands share.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringSpec:
    """`build_system.monitoring`."""

    metrics_enabled: bool = True
    performance_tracking: bool = True
    build_notifications: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSpec:
    """`build_system`."""

    cache: CacheSpec = CacheSpec()
    parallelism: ParallelismSpec = ParallelismSpec()
    monitoring: MonitoringSpec = MonitoringSpec()


COMPONENT_KEYS = ("kind", "path", "tags", "depends_on", "steps")
TOP_KEYS = ("version", "build_system", "components", "targets", "default_target", "builders")
