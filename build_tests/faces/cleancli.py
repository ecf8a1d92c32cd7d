"""The command `pytest-build clean`: says what is to be removed, removes it, says what was removed."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from build_tests.core.errors import BuildError
from build_tests.faces.common import build_file, count_text, duration_text, plain, size_text

if TYPE_CHECKING:
    from build_tests.cache.evict import Evicted, Evictor
    from build_tests.core.graph import Graph
    from build_tests.core.model import CacheSettings, Config
    from build_tests.run.cleaning import Cleaned, Rubbish, Survey

SHOWN = 10
"""Paths of one sort that are listed; of the rest, the number."""


def declare(clean: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    clean.description = (
        "Remove outputs of steps that no longer exist, leftovers of builds that were cut off, old logs, "
        "daemons that steps left, images that no name means any more, and what the local store need not keep."
    )
    clean.add_argument("--dry-run", action="store_true", help="say it, and change nothing")
    clean.add_argument("--all", action="store_true", help="also the outputs of all steps, and the state in .build")
    clean.add_argument("--build-file", metavar="PATH", help="default: build.yml, or config/build.yml")
    clean.add_argument("--no-wait", action="store_true", help="end with 4 while another build runs here")
    clean.set_defaults(run=_clean)


def _clean(options: argparse.Namespace, extra: Sequence[str]) -> int:
    from build_tests.cache.model import StoreError
    from build_tests.run.cleaning import Cleaner

    if extra:
        raise BuildError("clean takes nothing behind --")
    builds = _builds(build_file(options.build_file))
    config = builds[0][0]
    cleaner = Cleaner(
        root=config.root, builds=builds, evictor=_evictor(config.cache), everything=options.all, environ=os.environ,
        warn=_warn,
    )
    try:
        if options.dry_run:
            return _dry(cleaner.survey(), config.cache)
        with _alone(config.root, wait=not options.no_wait):
            survey = cleaner.survey()
            _say(survey, config.cache)
            return _done(cleaner.clean(survey), survey)
    except StoreError as error:
        raise BuildError(str(error)) from error


def _builds(file: str) -> list[tuple[Config, Graph]]:
    """The build without an environment, then that of each. Kept nowhere, so that a dry run changes nothing."""
    from build_tests.core.assemble import read
    from build_tests.core.config import environments
    from build_tests.core.locate import root_of
    from build_tests.registry import Registry

    return [read(file, registry=Registry(), environment=name) for name in (None, *environments(root_of(file)))]


def _evictor(settings: CacheSettings) -> Evictor | None:
    from build_tests.cache.evict import Evictor
    from build_tests.cache.local import LocalStore, default_folder
    from build_tests.cache.permissions import permissions
    from build_tests.cache.record import blobs_in

    if not settings.enabled or "local" not in settings.storage or not permissions(os.environ).local:
        return None
    store = LocalStore(default_folder(os.environ))
    return Evictor(store, ttl=settings.ttl, max_size=settings.max_size, blobs_of=blobs_in)


@contextlib.contextmanager
def _alone(root: str, *, wait: bool) -> Iterator[None]:
    """No build runs in this checkout meanwhile. Raises LockHeldError, BuildError."""
    from build_tests.run.locks import CheckoutLock
    from build_tests.run.places import prepare

    places = prepare(root)
    if places.warning:
        os.rmdir(places.folder)
        raise BuildError(f"{root} can't be written: nothing is removed")
    lock = CheckoutLock(places.lock)
    try:
        lock.acquire(wait=wait, say=lambda line: print(line, file=sys.stderr))
    except OSError as error:
        raise BuildError(f"{places.lock} can't be locked ({error.strerror}): nothing is removed") from error
    try:
        yield
    finally:
        lock.release()


# What is said


def _dry(survey: Survey, settings: CacheSettings) -> int:
    if _say(survey, settings):
        from build_tests.run.cleaning import total

        there = f"{size_text(total(survey.rubbish))} here ({count_text(len(survey.rubbish), 'path')})"
        print(f"would remove {there}{_store_text(survey.evicted)}; nothing was changed (--dry-run)")
    return 0


def _say(survey: Survey, settings: CacheSettings) -> bool:
    """What is to be removed, and what stays; whether anything is."""
    found = {one.what: [other for other in survey.rubbish if other.what == one.what] for one in survey.rubbish}
    for what, some in found.items():
        _say_some(what, some)
    if survey.daemons:
        print(f"{count_text(len(survey.daemons), 'daemon')} to be ended: {plain(', '.join(survey.daemons))}")
    evicted = survey.evicted
    if evicted and _evicts(evicted):
        print(
            f"local store: {count_text(evicted.records, 'record')} and {count_text(evicted.blobs, 'file')}, "
            f"{size_text(evicted.bytes)}, unused for {duration_text(settings.ttl)} or beyond "
            f"{size_text(settings.max_size)}; {count_text(evicted.temporary, 'leftover')}"
        )
    for left in survey.left[:SHOWN]:
        print(f"stays: {plain(left.path)}: {plain(left.reason)}")
    if len(survey.left) > SHOWN:
        print(f"stays: {len(survey.left) - SHOWN:,} more")
    anything = bool(found or survey.daemons or (evicted and _evicts(evicted)))
    if not anything:
        print("nothing to remove")
    return anything


def _say_some(what: str, some: Sequence[Rubbish]) -> None:
    from build_tests.run.cleaning import total

    print(f"{what}: {len(some):,}, {size_text(total(some))}")
    for one in some[:SHOWN]:
        print(f"    {plain(one.path)}")
    if len(some) > SHOWN:
        print(f"    and {len(some) - SHOWN:,} more")


def _done(done: Cleaned, survey: Survey) -> int:
    for failure in done.failures:
        print(f"ERROR: {plain(failure)}", file=sys.stderr)
    if survey.evicted and done.evicted and not done.evicted.finished:
        print("the local store is left alone: another process is making room in it")
    if survey.rubbish or done.daemons or (done.evicted and _evicts(done.evicted)):
        ended = f"; ended {', '.join(done.daemons)}" if done.daemons else ""
        there = f"{size_text(done.bytes)} here ({count_text(done.paths, 'path')})"
        print(f"removed {there}{_store_text(done.evicted)}{plain(ended)}")
    return 1 if done.failures else 0


def _store_text(evicted: Evicted | None) -> str:
    return f" and {size_text(evicted.bytes)} of the local store" if evicted and _evicts(evicted) else ""


def _evicts(evicted: Evicted) -> bool:
    return bool(evicted.records or evicted.blobs or evicted.temporary)


def _warn(line: str) -> None:
    print(f"WARNING: {plain(line)}", file=sys.stderr)
