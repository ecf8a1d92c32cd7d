"""One image to build, whoever describes it: a component's own keys or a service of a Compose file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What `docker build` is told. Paths are from the root."""

    step: str
    references: tuple[str, ...]
    dockerfile: str
    context: str
    inline: str = ""
    """The Dockerfile itself, where it is no file; then `dockerfile` is for messages."""
    contexts: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, str | None] = field(default_factory=dict)
    """None: the value of the caller's variable of that name."""
    target: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Id → a variable, or a file."""
    platform: str = ""
    cache_from: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


def tagged(reference: str) -> str:
    """With the tag that docker puts where there is none."""
    if "@" in reference or ":" in reference.rpartition("/")[2]:
        return reference
    return f"{reference}:latest"
