"""Everything that can change a step's result, as data. Its key is a hash of it; "why" is a comparison of two of it.

The key and the explanation are made from the same value, so they can't drift apart. No absolute path, user name or
time is in it: two checkouts on two machines have the same key for the same work.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from build_tests.core.model import Step

SCHEMA = 2
"""Raise it when an ingredient is added or changes its form, and say so in CHANGELOG.md (`--build-accept` helps)."""


def platform_tag() -> str:
    """Operating system and processor: results of one are not taken for another's."""
    import os

    return f"{sys.platform}-{os.uname().machine}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The ingredients of a key. Every field says why it is one."""

    definition: tuple[tuple[str, Any], ...]
    """What is run and what it promises: another command makes another result."""
    env: tuple[tuple[str, str], ...] = ()
    """Declared variables and passed ones by value; nothing else reaches the step."""
    tools: tuple[tuple[str, str], ...] = ()
    """Version texts: another compiler makes another result."""
    inputs: tuple[tuple[str, str, str], ...] = ()
    """Path, mode (f, x, l), digest of the content."""
    dependencies: tuple[tuple[str, str], ...] = ()
    """`label output` and the digest of what lies there now: equal outputs stop a rebuild early."""
    images: tuple[tuple[str, str], ...] = ()
    """What each FROM reference resolves to."""
    platform: str = ""
    schema: int = SCHEMA

    def key(self) -> str:
        """xxh3_128, in hex, of the canonical JSON of every field."""
        import xxhash

        # surrogateescape: a file name need not be UTF-8, and two such names must not share a key.
        return xxhash.xxh3_128_hexdigest(json.dumps(self.to_json(), ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogateescape"
        ))

    def to_json(self) -> list[Any]:
        """A plain list for the state file."""
        return [
            self.schema, self.platform, self.definition, self.env, self.tools, self.inputs, self.dependencies,
            self.images,
        ]  # fmt: skip

    @staticmethod
    def from_json(data: list[Any]) -> Fingerprint:
        """The inverse of `to_json`. Raises ValueError or TypeError on anything else."""
        schema, platform, definition, env, tools, inputs, dependencies, images = data
        return Fingerprint(
            schema=schema,
            platform=platform,
            definition=_frozen(definition),
            env=_frozen(env),
            tools=_frozen(tools),
            inputs=_frozen(inputs),
            dependencies=_frozen(dependencies),
            images=_frozen(images),
        )


def travelling(fingerprint: Fingerprint) -> list[Any]:
    """As `to_json`, for other eyes and machines: values of variables are digests."""
    import hashlib

    whole = fingerprint.to_json()
    hidden = [[name, hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()] for name, value in whole[3]]
    return [*whole[:3], hidden, *whole[4:]]


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def definition_of(step: Step) -> tuple[tuple[str, Any], ...]:
    """The part of a step's declaration that can change its result; timeouts, retries, tags and resources can't."""
    return (
        ("command", step.command),
        ("path", step.path),
        ("outputs", tuple((o.path, o.directory, o.identity.value) for o in step.outputs)),
        ("state", step.state),
        ("clean", step.clean),
        ("facts", step.facts),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a step runs: one difference. `kind` is one of `REASONS`; `subject` names the file, variable or tool."""

    kind: str
    subject: str = ""
    detail: str = ""

    def __str__(self) -> str:
        text = REASONS[self.kind].format(subject=self.subject)
        return f"{text} ({self.detail})" if self.detail else text

    def to_json(self) -> dict[str, str]:
        """For the record of the run."""
        return {"kind": self.kind, "subject": self.subject, "detail": self.detail}


REASONS: Mapping[str, str] = {
    "never": "never built here",
    "input-changed": "{subject} changed",
    "input-added": "{subject} is new",
    "input-removed": "{subject} was removed",
    "input-mode": "{subject}: its mode changed",
    "command": "the command changed",
    "declaration": "its {subject} changed in the build file",
    "fact": "{subject} changed",
    "env": "variable {subject} changed",
    "tool": "tool {subject} changed",
    "dependency": "the outputs of {subject} changed",
    "dependencies": "its dependencies are others: {subject}",
    "image": "base image {subject} changed",
    "platform": "built on another platform",
    "schema": "fingerprints are made in a new way",
    "output-missing": "output {subject} is missing",
    "output-changed": "output {subject} was changed by hand",
    "output-moved": "{subject} was made in another place, whose path is written in it",
    "output-broken": "{subject}: its interpreter is gone",
    "image-missing": "image {subject} is not in the engine",
    "image-other": "image {subject} in the engine is another one, made elsewhere under the same tag",
    "output-extra": "{subject} lies in an output and is not of it",
    "forced": "forced",
    "off": "cache_strategy is off",
    "not-incremental": "the target is not incremental",
    "uncached": "cache: false, it always runs",
    "failed": "it failed last time",
    "interrupted": "its last run was cut off",
    "input-raced": "an input changed while it was last built",
    "behind": "depends on the result of {subject}",
}
"""Every kind of reason with its sentence."""


def differences(old: Fingerprint, new: Fingerprint) -> tuple[Reason, ...]:
    """What makes the keys differ, nearest to the user's own edit first. Empty only when the two are equal."""
    return tuple(_differences(old, new))


def _differences(old: Fingerprint, new: Fingerprint) -> Iterator[Reason]:
    yield from _input_differences(old, new)
    yield from _definition_differences(dict(old.definition), dict(new.definition))
    # Values of variables stay out: a record may be shown to others.
    yield from (Reason(kind="env", subject=name) for name, _, _ in _changed(old.env, new.env))
    for name, was, now in _changed(old.tools, new.tools):
        yield Reason(kind="tool", subject=name, detail=f"{was or 'none'} → {now or 'none'}")
    labels = dict.fromkeys(name.partition(" ")[0] for name, _, _ in _changed(old.dependencies, new.dependencies))
    for label in labels:
        yield Reason(kind="dependency", subject=label)
    yield from (Reason(kind="image", subject=name) for name, _, _ in _changed(old.images, new.images))
    if old.platform != new.platform:
        yield Reason(kind="platform", detail=f"{old.platform} → {new.platform}")
    if old.schema != new.schema:
        yield Reason(kind="schema", detail=f"{old.schema} → {new.schema}")


def _input_differences(old: Fingerprint, new: Fingerprint) -> Iterator[Reason]:
    was = {path: (mode, digest) for path, mode, digest in old.inputs}
    now = {path: (mode, digest) for path, mode, digest in new.inputs}
    for path in sorted(was.keys() | now.keys()):
        if path not in was:
            yield Reason(kind="input-added", subject=path)
        elif path not in now:
            yield Reason(kind="input-removed", subject=path)
        elif was[path] != now[path]:
            yield Reason(kind="input-mode" if was[path][1] == now[path][1] else "input-changed", subject=path)


def _definition_differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Reason]:
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) == now.get(name):
            continue
        if name == "facts" and name in was and name in now:
            for fact, old, new in _changed(was[name], now[name]):
                yield Reason(kind="fact", subject=fact, detail=_moved(old, new))
        else:
            yield Reason(kind="command") if name == "command" else Reason(kind="declaration", subject=name)


def _moved(was: str | None, now: str | None) -> str:
    """`19.3.0 → 19.3.1`, or "" where only what is behind the first word differs."""
    old, new = ((text or "none").partition(" ")[0] for text in (was, now))
    return f"{old} → {new}" if old != new else ""


def _changed(
    old: tuple[tuple[str, str], ...], new: tuple[tuple[str, str], ...]
) -> Iterator[tuple[str, str | None, str | None]]:
    was, now = dict(old), dict(new)
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            yield name, was.get(name), now.get(name)
