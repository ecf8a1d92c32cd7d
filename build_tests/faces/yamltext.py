"""Lines of a build file that people will read and edit. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any


def key_lines(key: str, value: Any, margin: str) -> Iterator[str]:
    """One key with its value, as short as stays readable. A text of several lines is a block."""
    if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
        yield f"{margin}{key}:"
        for name, inner in value.items():
            yield from key_lines(name, inner, margin + "  ")
    elif isinstance(value, dict):
        yield f"{margin}{key}: {{{', '.join(f'{name}: {scalar(inner)}' for name, inner in value.items())}}}"
    elif isinstance(value, str) and "\n" in value and not value.startswith((" ", "\n")):
        yield f"{margin}{key}: |-"
        yield from (f"{margin}  {line}" if line else "" for line in value.split("\n"))
    elif isinstance(value, list):
        yield f"{margin}{key}: [{', '.join(map(scalar, value))}]"
    else:
        yield f"{margin}{key}: {scalar(value)}"


def scalar(value: Any) -> str:
    """YAML that is read as what it is: JSON's quotes wherever a plain word would not do."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z_/][\w./-]*(?::[\w.-]+)*", value) is not None
    return str(value) if plain else json.dumps(value)
