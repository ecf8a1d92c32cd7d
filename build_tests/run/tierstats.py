"""The state of each tier: whether it answers, and what the local one holds. Changes nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

from build_tests.cache.evict import usage
from build_tests.cache.guarded import Prepares
from build_tests.cache.local import LocalStore
from build_tests.cache.model import Store, StoreError
from build_tests.cache.opening import BUDGET_SECONDS, open_store
from build_tests.cache.sweepstate import Memory
from build_tests.core.model import CacheSettings

_NO_RECORD = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What a local store holds. Bytes in whole blocks of 4 KiB."""

    folder: str
    records: int
    blobs: int
    bytes: int
    quarantined: int
    """Damaged entries that were put aside; they go after a day."""
    swept: float | None
    """When eviction last went through all of it, in seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierStats:
    """One tier. `why_not` is "" where it answers; `holds` only of the local one."""

    name: str
    why_not: str = ""
    holds: Holdings | None = None


def tier_stats(settings: CacheSettings, environ: Mapping[str, str]) -> list[TierStats]:
    """The tiers that a build file names, nearest first. A remote one that is silent costs 4.5 seconds."""
    return [_of(settings, name, environ) for name in settings.storage]


def _of(settings: CacheSettings, name: str, environ: Mapping[str, str]) -> TierStats:
    warnings: list[str] = []
    tiers = open_store(replace(settings, storage=(name,)), environ, warnings.append, writable=False)
    if not tiers.tiers:
        return TierStats(name=name, why_not=_reason(name, warnings[0].removeprefix("cache ").partition(";")[0]))
    store = getattr(tiers.tiers[0].store, "store_itself", tiers.tiers[0].store)
    try:
        if isinstance(store, LocalStore):
            return TierStats(name=name, holds=_holdings(store))
        return TierStats(name=name, why_not=_reason(name, _asked(store)))
    except StoreError as error:
        return TierStats(name=name, why_not=_reason(name, str(error)))
    finally:
        tiers.close()


def _holdings(store: LocalStore) -> Holdings:
    used = usage(store)
    try:
        aside = len(os.listdir(store.quarantine))
    except FileNotFoundError:
        aside = 0
    memory = Memory.load(os.path.join(store.base, "sweep"))
    return Holdings(
        folder=store.folder, records=used.records, blobs=used.blobs, bytes=used.bytes, quarantined=aside,
        swept=memory.counted_at,
    )  # fmt: skip


def _asked(store: Store) -> str:
    """Why a store does not answer, or ""; in a thread of its own, since a silent server is not to be waited for."""
    answers: list[str] = []

    def ask() -> None:
        try:
            if isinstance(store, Prepares):
                store.prepare()
            store.read_record(_NO_RECORD)
            answers.append("")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is why the tier can't be used
            answers.append(str(error) or type(error).__name__)

    thread = threading.Thread(target=ask, name=f"ask-{store.name}", daemon=True)
    thread.start()
    thread.join(BUDGET_SECONDS)
    return answers[0] if answers else f"no answer within {BUDGET_SECONDS:g} s"


def _reason(name: str, text: str) -> str:
    """Without the tier's name in front, which stands there already, and in one line."""
    return " ".join(text.split()).removeprefix(f"{name}: ")
