"""Nodes to instances of dataclasses, all faults at once. Knows types and nodes; no key of the build file by name.

A binder is made once a type from its annotations, so that the walk itself looks at no type:

    str bool int float, Enum, Literal     a scalar; `Annotated[…, Scalar]` says more exactly which
    tuple[T, ...]  list[T]                a list; with ONE_OR_MANY also a single value
    dict[K, T]  tuple[tuple[K, T], ...]   a mapping; the second keeps it hashable
    a dataclass                           a mapping with these keys; `shorthand` names the field that a scalar fills
    T | U                                 told apart by what is written: a scalar, a list or a mapping

In a dataclass a field marked REST takes the keys that no other field has, and one with the metadata OWN the node that
the instance was made from. A value that is wrong is reported and left out; its field keeps the default.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from build_tests.core import scalars
from build_tests.core.errors import Diagnostic
from build_tests.core.graph import did_you_mean
from build_tests.core.scalars import Scalar
from build_tests.core.yamltree import Node, Sources, entries, found, is_nothing, mapping


class Mark(Enum):
    """What an annotation says beside the type."""

    RAW = "the node itself"
    REST = "the keys that no other field has"
    ONE_OR_MANY = "a single value stands for a list of one"


RAW = Mark.RAW
REST = Mark.REST
ONE_OR_MANY = Mark.ONE_OR_MANY
OWN = {"own": "node"}
"""Metadata of a field that holds the node its instance was made from: places of single values are looked up in it."""
INVALID: Any = object()
"""What a binder returns where it has reported a fault."""

_SCALARS = {str: scalars.TEXT, bool: scalars.BOOL, int: scalars.INT, float: scalars.NUMBER}


class Report:
    """The faults found so far."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.diagnostics: list[Diagnostic] = []

    def add(self, node: Node, message: str, hint: str = "") -> None:
        """A fault at a node's place."""
        self.diagnostics.append(Diagnostic(place=self.sources.place(node), message=message, hint=hint))


Binder = Callable[[Node, Report], Any]


def bind(node: Node, type_: Any, report: Report) -> Any:
    """An instance of the type, or INVALID. Faults are added to the report."""
    return binder(type_)(node, report)


def bind_parts(node: Node, classes: tuple[type[Any], ...], report: Report) -> tuple[Any, ...]:
    """One mapping whose keys belong to several dataclasses: an instance (or INVALID) of each."""
    return _record(classes)(node, report)


# -- types ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One key of a record, for the binder and the schema."""

    key: str
    name: str
    type: Any
    required: bool


def keys_of(cls: type[Any]) -> tuple[Field, ...]:
    """The keys of a dataclass, without its REST."""
    return tuple(f for f in _fields(cls) if REST not in marks(f.type))


def rest_of(cls: type[Any]) -> Field | None:
    """The field that takes all other keys."""
    return next((f for f in _fields(cls) if REST in marks(f.type)), None)


def _fields(cls: type[Any]) -> Iterable[Field]:
    hints = typing.get_type_hints(cls, include_extras=True)
    for f in fields(cls):
        if f.init and not OWN.items() <= f.metadata.items():
            required = f.default is MISSING and f.default_factory is MISSING
            yield Field(key=f.metadata.get("key", f.name), name=f.name, type=hints[f.name], required=required)


def marks(type_: Any) -> tuple[Any, ...]:
    """What stands beside the type in its `Annotated`; get_type_hints may have put an Optional around it."""
    return tuple(mark for part in members(type_) if get_origin(part) is Annotated for mark in get_args(part)[1:])


def members(type_: Any) -> tuple[Any, ...]:
    """The types of a union without None; any other type alone."""
    if get_origin(type_) in {Union, types.UnionType}:
        return tuple(part for part in get_args(type_) if part is not type(None))
    return (type_,)


def pairs_of(type_: Any) -> tuple[Any, Any] | None:
    """Key and value type of `dict[K, V]` and `tuple[tuple[K, V], ...]`; None for anything else."""
    origin, args = get_origin(type_), get_args(type_)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return args[0], args[1]
    if origin is tuple and len(args) == 2 and args[1] is ... and get_origin(args[0]) is tuple:  # noqa: PLR2004
        inner = get_args(args[0])
        return (inner[0], inner[1]) if len(inner) == 2 and inner[1] is not ... else None  # noqa: PLR2004
    return None


def scalar_of(type_: Any) -> Scalar | None:
    """How a type is read from a single value; None where it is none."""
    found_ = next((mark for mark in marks(type_) if isinstance(mark, Scalar)), None)
    if found_ is not None:
        return found_
    if get_origin(type_) is Literal:
        return scalars.words(get_args(type_))
    if isinstance(type_, type) and issubclass(type_, Enum):
        return scalars.choice({member.value: member for member in type_})
    return _SCALARS.get(type_)


# -- binders ----------------------------------------------------------------------------------------------------------


@cache
def binder(type_: Any) -> Binder:
    """The binder of a type. Raises TypeError for a type that no binder can be made of."""
    parts = members(type_)
    if len(parts) != 1:
        return _union(parts)
    (type_,) = parts
    if get_origin(type_) is Annotated:
        return _annotated(*get_args(type_))
    pairs = pairs_of(type_)
    if pairs is not None:
        return _mapping(*pairs, convert=tuple if get_origin(type_) is tuple else dict)
    if get_origin(type_) in {tuple, list} and get_args(type_):
        return _list(get_args(type_)[0], convert=get_origin(type_) or tuple)
    if is_dataclass(type_) and isinstance(type_, type):
        return _instance(type_)
    scalar = scalar_of(type_)
    if scalar is None:
        raise TypeError(f"no value of a build file can be read as {type_!r}")
    return _scalar(scalar)


def _annotated(type_: Any, *beside: Any) -> Binder:
    for mark in beside:
        if mark is RAW:
            return lambda node, _report: node
        if mark is ONE_OR_MANY:
            return _one_or_many(type_)
        if isinstance(mark, Scalar):
            return _scalar(mark)
    return binder(type_)


def mismatch(node: Node, expected: str, report: Report, hint: str = "") -> Any:
    """Report that something else was expected."""
    report.add(node, f"expected {expected}, found {found(node)}", hint)
    return INVALID


def _scalar(scalar: Scalar) -> Binder:
    parse, plain = scalar.parse, scalar.plain

    def read(node: Node, report: Report) -> Any:
        if node.id != "scalar":
            return mismatch(node, scalar.expected, report)
        if not node.style:
            if not node.value:
                return mismatch(node, scalar.expected, report, 'an empty text is written ""' if parse is str else "")
        elif plain:
            return mismatch(node, scalar.expected, report, "write it without quotes")
        try:
            return parse(node.value)
        except ValueError as error:
            return mismatch(node, scalar.expected, report, str(error))

    return read


def _list(item: Any, convert: Callable[[list[Any]], Any]) -> Binder:
    read = binder(item)
    scalar = scalar_of(item)
    verbatim = scalar is not None and scalar.verbatim

    def read_list(node: Node, report: Report) -> Any:
        if node.id != "sequence":
            hint = "a list of one is written [value]" if node.id == "scalar" and not is_nothing(node) else ""
            return mismatch(node, "a list", report, hint)
        if verbatim:
            texts = [child.value for child in node.value if child.id == "scalar" and child.value.strip()]
            if len(texts) == len(node.value):
                return convert(texts)
        return convert([value for child in node.value if (value := read(child, report)) is not INVALID])

    return read_list


def _one_or_many(type_: Any) -> Binder:
    many, one = binder(type_), binder(get_args(type_)[0])

    def read(node: Node, report: Report) -> Any:
        if node.id == "sequence":
            return many(node, report)
        value = one(node, report)
        return INVALID if value is INVALID else (value,)

    return read


def _mapping(key: Any, value: Any, convert: Callable[[list[tuple[Any, Any]]], Any]) -> Binder:
    read_key, read_value = binder(key), binder(value)

    def read(node: Node, report: Report) -> Any:
        if node.id != "mapping":
            return mismatch(node, "a mapping", report)
        pairs = [(read_key(k, report), read_value(v, report)) for k, v in node.value]
        return convert([pair for pair in pairs if pair[0] is not INVALID and pair[1] is not INVALID])

    return read


def _union(parts: tuple[Any, ...]) -> Binder:
    by_shape: dict[str, Binder] = {}
    for part in parts:
        by_shape.setdefault(shape(part), binder(part))
    expected = " or ".join(_NAMES[each] for each in by_shape)

    def read(node: Node, report: Report) -> Any:
        found_ = None if is_nothing(node) else by_shape.get(node.id)
        return mismatch(node, expected, report) if found_ is None else found_(node, report)

    return read


_NAMES = {"scalar": "text", "sequence": "a list", "mapping": "a mapping"}


def shape(type_: Any) -> str:
    """What a type is written as: "scalar", "sequence" or "mapping"."""
    if scalar_of(type_) is not None:
        return "scalar"
    if get_origin(type_) is Annotated:
        return shape(get_args(type_)[0])
    if pairs_of(type_) is None and get_origin(type_) in {tuple, list}:
        return "sequence"
    return "mapping"


def _instance(cls: type[Any]) -> Binder:
    read = _record((cls,))
    shorthand: str | None = getattr(cls, "shorthand", None)
    if shorthand is None:
        return lambda node, report: read(node, report)[0]
    field_ = next(f for f in keys_of(cls) if f.name == shorthand)
    read_short = binder(field_.type)
    scalar = scalar_of(members(field_.type)[0])
    expected = f"{scalar.expected if scalar else field_.key} or a mapping"

    def read_either(node: Node, report: Report) -> Any:
        if node.id == "mapping":
            return read(node, report)[0]
        if node.id == "sequence" or is_nothing(node):
            return mismatch(node, expected, report)
        value = read_short(node, report)
        return INVALID if value is INVALID else cls(**{shorthand: value})

    return read_either


@cache
def _record(classes: tuple[type[Any], ...]) -> Callable[[Node, Report], tuple[Any, ...]]:
    return _Record(classes).read


class _Record:
    """The binder of one mapping for one dataclass or several."""

    def __init__(self, classes: tuple[type[Any], ...]) -> None:
        self._classes = classes
        self._known = {f.key: (i, f.name, binder(f.type)) for i, cls in enumerate(classes) for f in keys_of(cls)}
        self._required = [(i, f) for i, cls in enumerate(classes) for f in keys_of(cls) if f.required]
        self._own = [
            (i, f.name) for i, cls in enumerate(classes) for f in fields(cls) if OWN.items() <= f.metadata.items()
        ]
        rests = [(i, rest) for i, cls in enumerate(classes) if (rest := rest_of(cls))]
        self._rest = [(i, rest.name, binder(rest.type)) for i, rest in rests]
        self._extensible = any(getattr(cls, "extensible", False) for cls in classes)

    def read(self, node: Node, report: Report) -> tuple[Any, ...]:
        """An instance of each class, INVALID for those that can't be made."""
        if node.id != "mapping":
            mismatch(node, "a mapping", report)
            return (INVALID,) * len(self._classes)
        values: list[dict[str, Any]] = [{} for _ in self._classes]
        other: list[tuple[Node, Node]] = []
        for key_node, value_node in node.value:
            entry = self._known.get(key_node.value)
            if entry is None:
                other.append((key_node, value_node))
                continue
            i, name, read_value = entry
            value = read_value(value_node, report)
            if value is not INVALID:
                values[i][name] = value
        if other:
            self._others(mapping(other, node), values, report)
        for i, name in self._own:
            values[i][name] = node
        missing = self._missing(node, values, report) if self._required else ()
        return tuple([INVALID if i in missing else cls(**values[i]) for i, cls in enumerate(self._classes)])

    def _others(self, part: Node, values: list[dict[str, Any]], report: Report) -> None:
        """Keys that no field has by name."""
        for i, name, read in self._rest[:1]:
            values[i][name] = read(part, report)
        for key, _ in part.value if not self._rest else ():
            if not (self._extensible and key.value.startswith("x-")):
                hint = did_you_mean(key.value, self._known) or f"known here: {', '.join(self._known)}"
                report.add(key, f"unknown key {key.value!r}", hint)

    def _missing(self, node: Node, values: list[dict[str, Any]], report: Report) -> set[int]:
        """The classes that can't be made; a key that is there but wrong has been reported already."""
        absent = [(i, f) for i, f in self._required if f.name not in values[i]]
        if absent:
            written = entries(node)
            for _, f in absent:
                if f.key not in written:
                    report.add(node, f"the key {f.key!r} is missing")
        return {i for i, _ in absent}
