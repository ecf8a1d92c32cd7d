"""Entries fetched for many steps: from afar several at a time, each ready before its turn comes. Knows no step.

A server's answer takes milliseconds on its way, whatever its size: a thousand steps that asked one after the other
would wait for a thousand answers.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from build_tests.cache import artifact
from build_tests.cache.background import DaemonPool

if TYPE_CHECKING:
    from build_tests.core.model import Output
    from build_tests.run.keeping import Found, Keeper

AT_ONCE = 8
"""Entries looked up and fetched at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a cache may have: a key, and the outputs that it must fit."""

    key: str
    outputs: Sequence[Output]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An entry with its files. Whoever gets it places or discards them."""

    found: Found
    staging: str | None
    """How the names of its files begin, which are verified; None where one could not be had."""
    seconds: float
    """What finding and fetching took."""


def fetched(keeper: Keeper, wanted: Sequence[Wanted]) -> Generator[Fetched | None, None, None]:
    """Each entry in its turn, or None where there is none.

    Raises:
        ConfigError: what the environment or the user's file says of the cache is wrong.
    """
    if len(wanted) > 1 and keeper.remote:
        yield from _ahead(keeper, wanted)
    else:
        for one in wanted:
            yield _fetch(keeper, one)


def _ahead(keeper: Keeper, wanted: Sequence[Wanted]) -> Generator[Fetched | None, None, None]:
    pool = DaemonPool("cache-restore", AT_ONCE)
    coming = [pool.submit(lambda one=one: _fetch(keeper, one)) for one in wanted]  # type: ignore[misc]
    coming.reverse()
    try:
        while coming:
            yield coming.pop().result()
    finally:
        for future in coming:
            if not future.cancel() and (left := future.result()) is not None and left.staging is not None:
                artifact.discard(left.found.record.items, left.staging)
        pool.close()


def _fetch(keeper: Keeper, one: Wanted) -> Fetched | None:
    began = time.monotonic()
    found = keeper.find(one.key, one.outputs)
    if found is None:
        return None
    staging = keeper.stage(found)
    return Fetched(found=found, staging=staging, seconds=time.monotonic() - began)
