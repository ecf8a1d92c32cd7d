"""The last keys of a step in a scope, so that a miss can be explained against another machine's run. Pure values.

A pointer is an entry like an action's record: signed, under a name of its own. It is a hint for people: nothing is ever
restored because of it, so one that is old or gone costs an explanation and no more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

KEPT = 8
LARGEST = 4096
"""Bytes of the largest body that is looked at."""

_KEY = re.compile(r"[0-9a-z][0-9a-z:_-]{0,127}")


def body_of(keys: Sequence[str]) -> bytes:
    """Keys, newest first → the body of a pointer. Those after the eighth are left out.

    Raises:
        ValueError: not a key.
    """
    return json.dumps({"keys": [_checked(key) for key in keys[:KEPT]], "version": 1}, separators=(",", ":")).encode()


def keys_of(body: bytes) -> tuple[str, ...]:
    """The body of a pointer → keys, newest first.

    Raises:
        ValueError: not a pointer of this version.
    """
    if len(body) > LARGEST:
        raise ValueError(f"a pointer of {len(body)} bytes")
    try:
        read: Any = json.loads(body)
    except RecursionError:
        raise ValueError("not a pointer") from None
    if not isinstance(read, dict) or read.keys() != {"keys", "version"} or read["version"] != 1:
        raise ValueError("not a pointer of version 1")
    keys = read["keys"]
    if not isinstance(keys, list) or len(keys) > KEPT or len({_checked(key) for key in keys}) != len(keys):
        raise ValueError(f"not {KEPT} different keys at most")
    return tuple(keys)


def with_key(keys: Sequence[str], key: str) -> tuple[str, ...]:
    """The keys with one put first: the newest eight."""
    return (key, *(old for old in keys if old != key))[:KEPT]


def _checked(key: Any) -> str:
    if not isinstance(key, str) or _KEY.fullmatch(key) is None:
        raise ValueError("not a key")
    return key
