"""Nodes → values of declared types, every mistake noted; and the JSON schema of the same types.

A type is a frozen dataclass, a tuple of one type, a Mapping from names, `X | None`, or `Annotated[T, Scalar]`. Knows no
build.
"""

from __future__ import annotations

import difflib
import functools
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from build_tests.core.yamltree import Node

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
RESERVED = frozenset({"and", "or", "not", "True", "False", "None"})


class Wrong:
    """What a binder returns for a node that it has complained about."""


WRONG = Wrong()


@dataclass(frozen=True, eq=False)
class Scalar:
    """How one kind of text is read. `parse` raises ValueError with what was expected."""

    parse: Callable[[str], Any]
    schema: tuple[tuple[str, Any], ...] = (("type", "string"),)


@dataclass(frozen=True, eq=False)
class Form:
    """A type with a binder of its own, for keys that may be written in more than one way."""

    bind: Callable[[Node], Any]
    schema: Callable[[], Mapping[str, Any]]


def name(text: str) -> str:
    """A name of ours."""
    if not NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no name: a letter, then letters, digits, `_`, `.`, `-`")
    if text in RESERVED:
        raise ValueError(f"{text!r} is a word of -k and -m expressions and can't be a name")
    return text


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "ms": 0.001}


def seconds(text: str) -> float:
    """`10m` → 600.0; a plain number is seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])?", text)
    if match is None:
        raise ValueError(f"{text!r} is no duration: a number with s, m, h, d or w, such as 90s or 10m")
    return float(match[1]) * _UNITS[match[2] or "s"]


_SIZES = {"": 1, "B": 1, "K": 1000, "KB": 1000, "M": 10**6, "MB": 10**6, "G": 10**9, "GB": 10**9, "T": 10**12,
          "TB": 10**12, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}  # fmt: skip


def size(text: str) -> int:
    """`10GB` → 10**10; `1GiB` → 2**30."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if match is None or match[2].upper() not in _SIZES:
        raise ValueError(f"{text!r} is no size: a number with KB, MB, GB or KiB, MiB, GiB")
    return int(float(match[1]) * _SIZES[match[2].upper()])


def boolean(text: str) -> bool:
    """true or false, and nothing else: `no` and `off` are words."""
    if text not in ("true", "false"):
        hint = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(text.lower())
        raise ValueError(f"{text!r} is neither true nor false" + (f"; write {hint}" if hint else ""))
    return text == "true"


def integer(text: str) -> int:
    """A whole number, not negative."""
    if not re.fullmatch(r"\d{1,15}", text):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def choice(*words: str) -> Scalar:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in words:
            close = difflib.get_close_matches(text, words, n=1)
            more = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{text!r} is none of {', '.join(words)}{more}")
        return text

    return Scalar(parse, (("enum", list(words)),))


Name = Annotated[str, Scalar(name, (("type", "string"), ("pattern", f"^{NAME.pattern}$")))]
Seconds = Annotated[float, Scalar(seconds, (("type", ["string", "number"]), ("examples", ["90s", "10m", "7d"])))]
Size = Annotated[int, Scalar(size, (("type", ["string", "integer"]), ("examples", ["512MB", "10GB"])))]

_PLAIN: dict[Any, Scalar] = {
    str: Scalar(str),
    bool: Scalar(boolean, (("type", "boolean"),)),
    int: Scalar(integer, (("type", "integer"), ("minimum", 0))),
    float: Scalar(seconds, (("type", "number"),)),
}


@functools.cache
def binder(declared: Any) -> Callable[[Node], Any]:
    """The function that reads a node as this type: the value, or WRONG with the mistakes noted on the node's source."""
    if declared in _PLAIN:
        return _scalar_binder(_PLAIN[declared])
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Annotated:
        how = next((a for a in arguments[1:] if isinstance(a, Scalar | Form)), None)
        if isinstance(how, Form):
            return how.bind
        return _scalar_binder(how) if how is not None else binder(arguments[0])
    if origin in (Union, types.UnionType):
        inner = binder(next(a for a in arguments if a is not type(None)))
        return lambda node: None if node.empty else inner(node)
    if origin is tuple:
        return _list_binder(binder(arguments[0]))
    if origin in (dict, Mapping):
        return _mapping_binder(binder(arguments[0]), binder(arguments[1]))
    if is_dataclass(declared):
        return _record_binder(declared)
    raise TypeError(f"no binder for {declared}")


def _scalar_binder(how: Scalar) -> Callable[[Node], Any]:
    parse = how.parse

    def bind(node: Node) -> Any:
        if node.kind != "scalar":
            node.say(f"expected a single value, found a {node.kind}")
            return WRONG
        try:
            return parse(node.value)
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            node.say(message, hint)
            return WRONG

    return bind


def _list_binder(inner: Callable[[Node], Any]) -> Callable[[Node], Any]:
    def bind(node: Node) -> Any:
        if node.kind != "list":
            node.say(f"expected a list, found a {'single value' if node.kind == 'scalar' else node.kind}", "write [a, b]")
            return WRONG
        values = [inner(child) for child in node.value]
        return WRONG if WRONG in values else tuple(values)

    return bind


def _mapping_binder(key: Callable[[Node], Any], inner: Callable[[Node], Any]) -> Callable[[Node], Any]:
    def bind(node: Node) -> Any:
        if node.kind != "mapping":
            node.say(f"expected a mapping, found a {'single value' if node.kind == 'scalar' else node.kind}")
            return WRONG
        pairs = [(key(k), inner(v)) for k, v in node.value.values()]
        return WRONG if any(k is WRONG or v is WRONG for k, v in pairs) else dict(pairs)

    return bind


def _record_binder(declared: Any) -> Callable[[Node], Any]:
    hints = get_type_hints(declared, include_extras=True)
    binders = {f.name: binder(hints[f.name]) for f in fields(declared)}
    needed = [f.name for f in fields(declared) if f.default is MISSING and f.default_factory is MISSING]

    def bind(node: Node) -> Any:
        if node.kind != "mapping":
            node.say(f"expected a mapping, found a {'single value' if node.kind == 'scalar' else node.kind}")
            return WRONG
        values: dict[str, Any] = {}
        for text, (key, value) in node.value.items():
            how = binders.get(text)
            if how is None:
                unknown_key(key, binders)
                values["?"] = WRONG
            else:
                values[text] = how(value)
        for missing in needed:
            if missing not in values:
                node.say(f"{missing!r} is missing")
                values["?"] = WRONG
        return WRONG if WRONG in values.values() else declared(**values)

    return bind


def unknown_key(key: Node, known: Mapping[str, Any]) -> None:
    """Complain about a key that nothing reads."""
    close = difflib.get_close_matches(key.value, list(known), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(sorted(known))}"
    key.say(f"unknown key {key.value!r}", hint if known else "")


def schema_of(declared: Any) -> dict[str, Any]:
    """The JSON schema of a type."""
    if declared in _PLAIN:
        return dict(_PLAIN[declared].schema)
    origin, arguments = get_origin(declared), get_args(declared)
    if origin is Annotated:
        how = next((a for a in arguments[1:] if isinstance(a, Scalar | Form)), None)
        if isinstance(how, Form):
            return dict(how.schema())
        return dict(how.schema) if how is not None else schema_of(arguments[0])
    if origin in (Union, types.UnionType):
        return schema_of(next(a for a in arguments if a is not type(None)))
    if origin is tuple:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    hints = get_type_hints(declared, include_extras=True)
    properties = {}
    for found in fields(declared):
        properties[found.name] = schema_of(hints[found.name])
        if text := found.metadata.get("doc"):
            properties[found.name]["description"] = text
    made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    needed = [f.name for f in fields(declared) if f.default is MISSING and f.default_factory is MISSING]
    return {**made, "required": needed} if needed else made
