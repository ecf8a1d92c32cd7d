"""What a single value of the build file may be: names, durations, sizes, numbers. Knows text, not YAML.

A `Scalar` stands as `Annotated[type, SCALAR]` on a field. It parses the text that was written, says what it expected,
and says the same to the JSON schema, so the three can't disagree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, NamedTuple

from build_tests.core.graph import did_you_mean
from build_tests.core.model import Strategy

NAME = r"[A-Za-z][A-Za-z0-9_.-]*"
RESERVED = frozenset({"and", "or", "not", "True", "False", "None"})
"""Words that mean something in `-k` and `-m`."""
_NAME_HINT = "a name begins with a letter and goes on with letters, digits, _ . -"
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(B|[kKMGT]B|[KMGT]iB)")
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40
}  # fmt: skip
_VARIABLE_HINT = "letters, digits and _, no digit first"
_COUNT = r"\d{1,12}"
_ANY_TEXT: Mapping[str, Any] = {"type": ["string", "number", "boolean"]}
"""An editor reads 1.10 and on as YAML 1.1 would; we read them as text, so it must let them pass."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scalar:
    """How one value is read. `parse` raises ValueError, whose text, if any, is the hint."""

    expected: str
    """With its article: "a duration such as 10m"."""
    parse: Callable[[str], Any]
    schema: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = False
    """Numbers and truth values: not the same in quotes."""
    verbatim: bool = False
    """Every text that is not blank is taken as it is: long lists of them are read in one go."""


class Share(NamedTuple):
    """A part of what the machine has; 1.0 is all of it."""

    part: float


def is_name(text: str) -> bool:
    """Whether a text may name a component, step, target or tag."""
    return re.fullmatch(NAME, text) is not None and text not in RESERVED


def duration(text: str) -> float:
    """`10m` → 600.0 seconds. Raises ValueError."""
    found = _match(_DURATION, text, "a number with one of the units ms s m h d w")
    return float(found[1]) * _SECONDS[found[2]]


def size(text: str) -> int:
    """`10GB` → bytes. Raises ValueError."""
    found = _match(_SIZE, text, "a number with one of the units B kB MB GB TB KiB MiB GiB TiB")
    return round(float(found[1]) * _BYTES[found[2]])


def choice(values: Mapping[str, Any]) -> Scalar:
    """One of a few words; each stands for a value."""

    def parse(text: str) -> Any:
        if text not in values:
            raise ValueError(did_you_mean(text, values))
        return values[text]

    return Scalar(expected=" or ".join(values), parse=parse, schema={"enum": list(values)})


def _match(pattern: re.Pattern[str], text: str, hint: str) -> re.Match[str]:
    found = pattern.fullmatch(text)
    if found is None:
        raise ValueError(hint)
    return found


def _matching(pattern: str, expected: str, convert: Callable[[str], Any], hint: str = "", **schema: Any) -> Scalar:
    compiled = re.compile(pattern)

    def parse(text: str) -> Any:
        _match(compiled, text, hint)
        return convert(text)

    return Scalar(expected=expected, parse=parse, schema=schema or {"type": "string", "pattern": f"^(?:{pattern})$"})


def _number(expected: str, convert: Callable[[str], Any], pattern: str, **schema: Any) -> Scalar:
    parse = _matching(pattern, expected, convert).parse
    return Scalar(expected=expected, parse=parse, schema=schema, plain=True)


def _name(text: str) -> str:
    if text in RESERVED:
        raise ValueError(f"{text} has a meaning of its own in -k and -m expressions")
    if re.fullmatch(NAME, text) is None:
        raise ValueError(_NAME_HINT)
    return text


def _positive(text: str, parse: Callable[[str], float]) -> float:
    value = parse(text)
    if value <= 0:
        raise ValueError("more than zero")
    return value


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    if re.fullmatch(r"[1-9]\d{0,3}", text) is None:
        raise ValueError("auto is one for each processor")
    return int(text)


def _capacity(text: str) -> float | Share:
    if found := re.fullmatch(r"(\d{1,3})%", text):
        return Share(int(found[1]) / 100)
    return float(text) if re.fullmatch(_COUNT, text) else float(size(text))


def _demand(text: str) -> int:
    return int(text) if re.fullmatch(_COUNT, text) else size(text)


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("it may not be blank")
    return text


def _version(text: str) -> str:
    if text != "2.0":
        raise ValueError("this release reads version 2.0 of the build file")
    return text


def _truth(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError("only true and false are read as truth values")
    return text == "true"


def words(values: Iterable[str]) -> Scalar:
    """One of a few words, which stands for itself."""
    return choice({value: value for value in values})


TEXT = Scalar(expected="text", parse=str, schema=_ANY_TEXT, verbatim=True)
BOOL = Scalar(expected="true or false", parse=_truth, schema={"type": "boolean"}, plain=True)
INT = _number("a whole number", int, r"-?" + _COUNT, type="integer")
COUNT = _number("a whole number, 0 or more", int, _COUNT, type="integer", minimum=0)
NUMBER = _number("a number", float, r"-?\d{1,12}(?:\.\d{1,12})?", type="number")

_FILLED: Mapping[str, Any] = {"type": "string", "minLength": 1}
_CAPACITY_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}

Name = Annotated[
    str, Scalar(expected="a name", parse=_name, schema={"type": "string", "pattern": f"^{NAME}$",
                                                        "not": {"enum": sorted(RESERVED)}})
]  # fmt: skip
Reference = Annotated[
    str, _matching(f"{NAME}(?::{NAME})?", "a component or a step (component:step)", str, "write web, or web:bundle")
]
Variable = Annotated[
    str,
    _matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable", str, _VARIABLE_HINT),
]
Text = Annotated[str, Scalar(expected="text", parse=_filled, schema=_ANY_TEXT, verbatim=True)]
"""Not blank."""
Path = Annotated[str, Scalar(expected="a path", parse=_filled, schema=_FILLED, verbatim=True)]
Pattern = Annotated[str, Scalar(expected="a pattern", parse=_filled, schema=_FILLED, verbatim=True)]
Script = Annotated[str, Scalar(expected="a command", parse=_filled, schema=_FILLED)]
Count = Annotated[int, COUNT]
AtLeastOne = Annotated[int, _number("a whole number, 1 or more", int, r"0*[1-9]\d{0,11}", type="integer", minimum=1)]
Seconds = Annotated[
    float,
    Scalar(expected="a duration such as 10m", parse=duration,
           schema={"type": "string", "pattern": f"^{_DURATION.pattern}$"}),
]  # fmt: skip
PositiveSeconds = Annotated[
    float,
    Scalar(expected="a duration such as 10m", parse=partial(_positive, parse=duration),
           schema={"type": "string", "pattern": f"^{_DURATION.pattern}$"}),
]  # fmt: skip
Bytes = Annotated[
    int,
    Scalar(expected="a size such as 512MB", parse=size, schema={"type": "string", "pattern": f"^{_SIZE.pattern}$"}),
]
Demand = Annotated[int, Scalar(expected="a number or a size", parse=_demand, schema=_CAPACITY_SCHEMA)]
Capacity = Annotated[
    float | Share, Scalar(expected="a number, a size or a percentage", parse=_capacity, schema=_CAPACITY_SCHEMA)
]
Workers = Annotated[
    int | None,
    Scalar(expected="auto or a whole number, 1 or more", parse=_workers,
           schema={"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}),
]  # fmt: skip
Version = Annotated[str, Scalar(expected='"2.0"', parse=_version, schema={"enum": ["2.0", 2.0]})]
StrategyName = Annotated[Strategy, choice({strategy.value: strategy for strategy in Strategy})]
Validation = Annotated[bool, choice({"normal": False, "strict": True})]
"""True = strict."""
IdentityName = Annotated[str, words(("content", "installed", "image"))]
Storage = Annotated[str, words(("local", "redis", "s3", "reapi"))]
PublicKey = Annotated[
    str,
    _matching(
        r"ed25519:[A-Za-z0-9+/]{43}=|hmac:PYTEST_BUILD_HMAC_[A-Z0-9_]+",
        "a public key such as ed25519:BASE64",
        str,
        "32 bytes in base64",
    ),
]
ClassPath = Annotated[
    str, _matching(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", "a class such as builders.zig:ZigBuilder", str, "module:Class")
]
