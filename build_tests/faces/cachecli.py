"""The commands `pytest-build cache keygen`, `cache stats` and `cache verify`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from build_tests.core.errors import BuildError
from build_tests.faces.common import count_text, duration_text, named_or_found, plain, size_text

if TYPE_CHECKING:
    from build_tests.cache.keys import NewKey
    from build_tests.cache.permissions import Permissions
    from build_tests.cache.trust import Trust
    from build_tests.core.model import CacheSettings
    from build_tests.run.checking import Report
    from build_tests.run.tierstats import TierStats

VERSION = 1
"""Of the JSON documents."""
SHOWN = 10
"""Records that are not believed: how many are named."""
DRAW_SECONDS = 0.1


def declare(cache: argparse.ArgumentParser) -> None:
    """Add the commands to the parser's."""
    inner = cache.add_subparsers(required=True, metavar="keygen|stats|verify")
    keygen = inner.add_parser("keygen", help="make a key pair for a scope", description="Make a key pair for a scope.")
    keygen.add_argument("scope", nargs="?", default="main", metavar="SCOPE", help="default: main")
    keygen.add_argument("--key-id", metavar="ID", help="default: k1, or the one after the highest that is in use")
    keygen.add_argument("--hmac", action="store_true", help="a shared secret, the lesser option: see docs/trust.md")
    keygen.add_argument(
        "--file",
        metavar="PATH",
        help="a new file for the private key (default: in your settings' folder); - = print it",
    )
    keygen.set_defaults(run=_keygen)
    stats = inner.add_parser("stats", help="tiers, their contents, and what this environment may do")
    stats.set_defaults(run=_stats)
    verify = inner.add_parser("verify", help="check everything in the local store")
    verify.set_defaults(run=_verify)
    for command in (stats, verify):
        command.add_argument("--json", action="store_true", help="one JSON document, and nothing else")
    for command in (keygen, stats, verify):
        command.add_argument("--build-file", metavar="PATH", help="default: build.yml, or config/build.yml")


def _settings(options: argparse.Namespace, extra: Sequence[str]) -> CacheSettings:
    """Of the build file; the defaults where there is none. Raises BuildError."""
    from build_tests.core.model import CacheSettings
    from build_tests.project import load_project

    if extra:
        raise BuildError("cache takes nothing behind --")
    file = named_or_found(options.build_file)
    return load_project(file).config.cache if file is not None else CacheSettings()


# keygen


def _keygen(options: argparse.Namespace, extra: Sequence[str]) -> int:
    from build_tests.cache.keys import ED25519, HMAC, keygen, next_key_id
    from build_tests.cache.permissions import SCOPE

    scope = options.scope
    if SCOPE.fullmatch(scope) is None:
        raise BuildError(f"{scope!r} is no scope: letters, digits, _ . and -, beginning with a letter")
    used = dict(dict(_settings(options, extra).keys).get(scope, ()))
    key_id = next_key_id(used) if options.key_id is None else options.key_id
    if key_id in used:
        raise BuildError(f"scope {scope} has a key {key_id} already: an id is never used again")
    try:
        new = keygen(scope, key_id, HMAC if options.hmac else ED25519)
    except ImportError as error:
        raise BuildError("cryptography is not installed: pip install cryptography, or see --hmac") from error
    except ValueError as error:
        raise BuildError(str(error)) from error
    if options.file == "-":
        # Alone on standard output, for a pipe; the rest is for people.
        print(new.private, end="")
        _say_key(new, scope, used, "printed to standard output, once", sys.stderr)
    else:
        path = options.file or _default_file(scope, key_id)
        _write(path, new.private)
        _say_key(new, scope, used, f"{path} (nobody else can read it)", sys.stdout)
    return 0


def _default_file(scope: str, key_id: str) -> str:
    """Beside the user's own settings: what lies in a repository is committed one day."""
    from build_tests.cache.permissions import user_file

    folder = os.path.dirname(user_file(os.environ))
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
    except OSError as error:
        raise BuildError(f"{folder} can't be made: {error.strerror}") from error
    return os.path.join(folder, f"{scope}-{key_id}.key")


def _write(path: str, private: str) -> None:
    from build_tests.cache.keys import write_private

    try:
        write_private(path, private)
    except FileExistsError:
        raise BuildError(f"{path} is there already: a key is never written over another file") from None
    except OSError as error:
        raise BuildError(f"{path} can't be written: {error.strerror}") from error


def _say_key(new: NewKey, scope: str, used: dict[str, str], where: str, out: Any) -> None:
    beside = f"beside {', '.join(used)} of scope {scope}" if used else "below build_system.cache"
    line = f'{new.key_id}: "{new.public}"' if used else new.line
    print(f"private key of scope {scope}: {where}", file=out)
    print(f"public key, to paste into the build file {beside}:\n\n    {line}\n", file=out)
    if new.variable is not None:
        print(f"every job that reads needs the secret (the private key's last word) in {new.variable[0]}", file=out)
    print(
        f"next: paste the line and have it reviewed; then put the private key into the secrets of the jobs that write\n"
        f"      scope {scope}, and nowhere else. They set PYTEST_BUILD_CACHE=rw, PYTEST_BUILD_SCOPE={scope} and\n"
        f"      PYTEST_BUILD_SIGNING_KEY_FILE to a file that holds it",
        file=out,
    )


# stats


def _stats(options: argparse.Namespace, extra: Sequence[str]) -> int:
    from build_tests.run.tierstats import tier_stats

    settings = _settings(options, extra)
    granted, trust, warnings = _trust(settings)
    on = settings.enabled and granted.local
    tiers = tier_stats(settings, os.environ) if on else []
    if options.json:
        access = {
            "cache": granted.remote if settings.enabled else "off", "scope": trust.scope,
            "reads": list(trust.scopes(remote=False)), "key_id": trust.signer.key_id if trust.signer else None,
            "writes_remote": on and granted.remote == "rw" and not trust.why_not(remote=True),
        }  # fmt: skip
        limits = {"ttl": settings.ttl, "max_size": settings.max_size}
        _print_json({"permissions": access, **limits, "tiers": [asdict(tier) for tier in tiers], "warnings": warnings})
        return 0
    print(_access_text(settings, granted, trust))
    for tier in tiers:
        print(_tier_text(tier, settings))
    _warn(warnings)
    return 0


def _trust(settings: CacheSettings) -> tuple[Permissions, Trust, list[str]]:
    """What this environment may do, whom it believes, and what its user should know. Raises ConfigError."""
    from build_tests.cache.permissions import permissions
    from build_tests.cache.trust import exposures, trust_of

    granted = permissions(os.environ)
    trust = trust_of(settings, granted, os.environ)
    return granted, trust, [*granted.notes, *trust.notes, *exposures(trust, os.environ)]


def _access_text(settings: CacheSettings, granted: Permissions, trust: Trust) -> str:
    if not settings.enabled:
        return "cache: off (enabled: false in the build file)"
    if not granted.local:
        return "cache: off (PYTEST_BUILD_CACHE, or cache: in your own settings)"
    key = f"signs with {trust.signer.key_id}" if trust.signer else "has no private key"
    remote = {"ro": "remote tiers are read only", "rw": "remote tiers are written"}[granted.remote]
    if granted.remote == "rw" and any(name != "local" for name in settings.storage):
        why = trust.why_not(remote=True)
        remote = f"remote tiers are not written: {why}" if why else remote
    reads = ", ".join(trust.scopes(remote=False))
    return f"cache: scope {trust.scope}, {key}; reads {reads or 'nothing'}; {remote}"


def _tier_text(tier: TierStats, settings: CacheSettings) -> str:
    if tier.why_not:
        return f"{tier.name}: not usable: {tier.why_not}"
    held = tier.holds
    if held is None:
        return f"{tier.name}: reachable"
    swept = "never" if held.swept is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(held.swept))
    counts = f"{count_text(held.records, 'record')}, {count_text(held.blobs, 'file')}"
    lines = [
        f"{tier.name}: {held.folder}",
        f"{counts}, {size_text(held.bytes)} of {size_text(settings.max_size)}",
        f"kept for {duration_text(settings.ttl)} after the last use; last sweep: {swept}",
    ]
    if held.quarantined:
        lines.append(f"put aside as damaged: {held.quarantined:,}")
    return "\n    ".join(lines)


# verify


def _verify(options: argparse.Namespace, extra: Sequence[str]) -> int:
    from build_tests.cache.local import LocalStore, default_folder
    from build_tests.cache.model import StoreError
    from build_tests.run.checking import check

    settings = _settings(options, extra)
    _, trust, warnings = _trust(settings)
    store = LocalStore(default_folder(os.environ))
    progress = _Progress()
    try:
        report = check(store, trust, progress.show)
    except StoreError as error:
        raise BuildError(str(error)) from error
    except KeyboardInterrupt:
        return 2
    finally:
        progress.clear()
    if options.json:
        _print_json({"folder": store.folder, "ok": report.ok, **asdict(report), "warnings": warnings})
    else:
        _say_report(store.folder, report)
        _warn(warnings)
    return 0 if report.ok else 1


def _say_report(folder: str, report: Report) -> None:
    aside = " (put aside)"
    print(f"local store: {folder}")
    print(
        f"    {count_text(report.records, 'record')}: {report.good:,} good, "
        f"{report.damaged_records:,} damaged{aside * bool(report.damaged_records)}, {report.untrusted:,} not believed, "
        f"{report.unchecked:,} unchecked, {report.incomplete:,} lacking a file"
    )
    print(
        f"    {count_text(report.blobs, 'file')}, {size_text(report.blob_bytes)}: "
        f"{report.damaged_blobs:,} damaged{aside * bool(report.damaged_blobs)}"
    )
    for reason in report.reasons[:SHOWN]:
        print(f"not believed: {plain(reason)}")
    if len(report.reasons) > SHOWN:
        print(f"not believed: {len(report.reasons) - SHOWN:,} more")


class _Progress:
    """One line on a terminal, drawn over itself; nothing elsewhere."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._last = 0.0

    def show(self, done: int, total: int) -> None:
        """Draw, now and then."""
        now = time.monotonic()
        if self._on and now - self._last >= DRAW_SECONDS:
            self._last = now
            sys.stderr.write(f"\rchecked {done:,} of {total:,}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Leave the terminal as it was."""
        if self._on and self._last:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


# Both


def _print_json(data: dict[str, Any]) -> None:
    print(json.dumps({"version": VERSION, **data}, indent=1))


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"WARNING: {plain(warning)}", file=sys.stderr)
