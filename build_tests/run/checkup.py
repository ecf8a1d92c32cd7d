"""What a build needs of this machine, and whether it is there: as values. Builds nothing and changes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from build_tests.core.graph import Graph
from build_tests.core.model import CacheSettings, Config, Identity, Step, Tool
from build_tests.run.toolchain import Found, Missing, Toolchain

if TYPE_CHECKING:
    from build_tests.run.images import Engine
    from build_tests.run.tierstats import TierStats

LEAST_FREE = 1_000_000_000
"""Bytes of disk below which a build is likely to end in "no space left"."""


class Health(str, Enum):
    """How a thing is. A closed set."""

    GOOD = "good"
    NOTE = "note"
    """Worth knowing; nothing is the worse for it now."""
    BAD = "bad"
    """Steps will not run, or worse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    """What it is about: tools, engine, git, cache, disk, pytest."""
    name: str
    health: Health
    found: str
    """The version, or what is the matter."""
    hint: str = ""
    needed_by: tuple[str, ...] = ()
    """Labels, of a tool or engine."""


def checkup(config: Config, graph: Graph, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Everything but pytest itself, which only a caller that may import it can ask. Silent servers cost seconds."""
    yield from _tools(config, graph, environ)
    yield from _engine(graph, environ)
    yield _git(config.root)
    yield from _cache(config.cache, environ)
    yield from _disks(config, environ)


# Tools


def _tools(config: Config, graph: Graph, environ: Mapping[str, str]) -> Iterator[Finding]:
    toolchain = Toolchain(config.root, {}, environ)
    users: dict[tuple[str, str], list[tuple[Tool, Step]]] = {}
    for step in graph.steps.values():
        for tool in step.tools:
            users.setdefault((tool.name, tool.version), []).append((tool, step))
    for (name, wanted), uses in sorted(users.items()):
        tool, step = min(uses, key=lambda use: use[0].optional)
        # A tool that another step makes (a plugin below node_modules) is there when its turn comes.
        if "/" not in name:
            labels = tuple(sorted(user.label for _, user in uses))
            optional = all(one.optional for one, _ in uses)
            yield _tool(name, wanted, toolchain.find(tool, step.path), labels, optional=optional)


def _tool(name: str, wanted: str, answer: Found | Missing, labels: tuple[str, ...], *, optional: bool) -> Finding:
    title = f"{name} {wanted}".strip()
    if isinstance(answer, Found):
        version = "its content is its version" if answer.version.startswith("xxh3:") else answer.version
        return Finding(
            subject="tools", name=title, health=Health.GOOD, found=f"{version} ({answer.path})", needed_by=labels
        )
    health = Health.NOTE if optional else Health.BAD
    why = f"{answer.why}; it is done without" if optional else answer.why
    return Finding(subject="tools", name=title, health=health, found=why, hint=answer.hint, needed_by=labels)


def _engine(graph: Graph, environ: Mapping[str, str]) -> Iterator[Finding]:
    def has_images(step: Step) -> bool:
        return bool(step.base_images) or any(output.identity is Identity.IMAGE for output in step.outputs)

    labels = tuple(sorted(label for label, step in graph.steps.items() if has_images(step)))
    if not labels:
        return
    from build_tests.run.images import Engine, Unavailable

    engine = Engine.connect(environ)
    if isinstance(engine, Unavailable):
        yield Finding(
            subject="engine", name="container engine", health=Health.BAD, found=engine.reason, hint=engine.hint,
            needed_by=labels,
        )  # fmt: skip
    else:
        found = f"answers at {engine.address}"
        yield Finding(subject="engine", name="container engine", health=Health.GOOD, found=found, needed_by=labels)
        yield from _base_images(graph, engine)


def _base_images(graph: Graph, engine: Engine) -> Iterator[Finding]:
    """Those that neither a step makes nor the engine has: where no registry has them either, the build fails."""
    made = {out.path for step in graph.steps.values() for out in step.outputs if out.identity is Identity.IMAGE}
    users: dict[str, list[str]] = {}
    for label, step in sorted(graph.steps.items()):
        for name in step.base_images:
            users.setdefault(name, []).append(label)
    for name, identity in engine.identities(sorted(set(users) - made)).items():
        if identity is None:
            yield Finding(
                subject="engine", name=name, health=Health.NOTE, found="is not here, and no step makes it",
                hint="docker asks its registry for it while it builds", needed_by=tuple(users[name]),
            )  # fmt: skip


def _git(root: str) -> Finding:
    if shutil.which("git") is None:
        found = "is not installed: nothing is known to be tracked, so cleaning removes less"
        return _noted("git", "git", found, "apt-get install git")
    folder = root
    while not os.path.exists(os.path.join(folder, ".git")):
        if folder == os.path.dirname(folder):
            return _noted("git", "git", "this is no repository", "git init")
        folder = os.path.dirname(folder)
    return Finding(subject="git", name="git", health=Health.GOOD, found=f"repository at {folder}")


def _noted(subject: str, name: str, found: str, hint: str = "") -> Finding:
    return Finding(subject=subject, name=name, health=Health.NOTE, found=found, hint=hint)


# Cache and disk


def _cache(settings: CacheSettings, environ: Mapping[str, str]) -> Iterator[Finding]:
    from build_tests.cache.permissions import permissions
    from build_tests.cache.trust import exposures, trust_of
    from build_tests.run.tierstats import tier_stats

    granted = permissions(environ)
    if not settings.enabled or not granted.local:
        yield _noted("cache", "cache", "is off")
        return
    trust = trust_of(settings, granted, environ)
    for exposure in exposures(trust, environ):
        yield Finding(subject="cache", name="trust", health=Health.BAD, found=exposure, hint="docs/trust.md")
    for note in (*granted.notes, *trust.notes):
        yield _noted("cache", "trust", note)
    yield from map(_tier, tier_stats(settings, environ))


def _tier(tier: TierStats) -> Finding:
    if tier.why_not:
        return _noted("cache", tier.name, tier.why_not, "builds go on without it")
    if tier.holds is None:
        return Finding(subject="cache", name=tier.name, health=Health.GOOD, found="answers")
    if aside := tier.holds.quarantined:
        found = f"{tier.holds.folder}: {aside} damaged entries were put aside"
        return _noted("cache", tier.name, found, "pytest-build cache verify")
    return Finding(subject="cache", name=tier.name, health=Health.GOOD, found=tier.holds.folder)


def _disks(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    from build_tests.cache.local import default_folder

    for name, folder in (("checkout", config.root), ("artifacts", default_folder(environ))):
        there = folder
        while not os.path.isdir(there):
            there = os.path.dirname(there)
        free = shutil.disk_usage(there).free
        writable = os.access(there, os.W_OK)
        found = f"{free / 1e9:.1f} GB free at {folder}" if writable else f"{folder} can't be written"
        bad = free < LEAST_FREE or not writable
        yield Finding(subject="disk", name=name, health=Health.BAD if bad else Health.GOOD, found=found)
