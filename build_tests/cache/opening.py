"""The stores that a build file names, as tiers. Imports the module of a store only where it is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from build_tests.cache.guarded import Guarded
from build_tests.cache.model import Store, StoreError
from build_tests.cache.tiers import Tier, Tiers
from build_tests.core.model import CacheSettings

BUDGET_SECONDS = 4.5
"""What a tier beyond this machine may cost a run: 5 seconds, less what it takes to notice."""


def open_store(
    settings: CacheSettings, environ: Mapping[str, str], warn: Callable[[str], None], *, writable: bool
) -> Tiers:
    """The tiers of `settings.storage`, nearest first, each Guarded. Opens no connection and imports no big library.

    Args:
        settings: of the build file.
        environ: where the local store's folder and a remote one's credentials are named.
        warn: told one line for each tier that can't be used, when that shows.
        writable: whether tiers beyond this machine are written; the local one always is.
    """
    tiers = []
    for name in settings.storage:
        try:
            store = _MAKERS[name](settings, environ, writable)
        except StoreError as error:
            warn(f"cache {error}; it is not used for the rest of this run")
            continue
        local = name == "local"
        guarded = Guarded(store, warn=warn, budget_seconds=None if local else BUDGET_SECONDS)
        tiers.append(Tier(store=guarded, local=local, writable=local or writable))
    return Tiers(tiers)


_Maker = Callable[[CacheSettings, Mapping[str, str], bool], Store]


def _local(_: CacheSettings, environ: Mapping[str, str], __: bool) -> Store:
    from build_tests.cache.local import LocalStore, default_folder

    return LocalStore(default_folder(environ))


def _redis(settings: CacheSettings, _: Mapping[str, str], writable: bool) -> Store:
    from build_tests.cache.redis import RedisStore

    options = _needed("redis", dict(settings.redis), "url")
    return RedisStore(ttl=settings.ttl, writable=writable, **options)


def _s3(settings: CacheSettings, _: Mapping[str, str], writable: bool) -> Store:
    from build_tests.cache.s3 import S3Store

    return S3Store(writable=writable, **_needed("s3", dict(settings.s3), "bucket"))


def _reapi(settings: CacheSettings, environ: Mapping[str, str], _: bool) -> Store:
    from build_tests.cache.reapi import ReapiStore

    options = _needed("reapi", dict(settings.reapi), "url")
    headers = {}
    for header, variable in options.pop("headers_env", ()):
        if variable not in environ:
            raise StoreError(f"reapi: the variable {variable}, which holds the header {header}, is not set")
        headers[header] = environ[variable]
    return ReapiStore(headers=headers, **options)


def _needed(name: str, options: dict[str, Any], key: str) -> dict[str, Any]:
    if key not in options:
        raise StoreError(f"{name}: the build file does not say {name}: {{{key}: …}}")
    return options


_MAKERS: dict[str, _Maker] = {"local": _local, "redis": _redis, "s3": _s3, "reapi": _reapi}
