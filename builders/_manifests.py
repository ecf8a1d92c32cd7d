"""What the language builders share: paths as a component writes them, and what a download can stumble over."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterable

from build_tests.core.builder import Component, ManifestError, Output, Retries, path_from_root, pattern_from_root

DOWNLOAD = Retries(
    count=2,
    backoff=2.0,
    when=(
        "Connection refused",
        "Connection reset",
        "Could not GET '",
        "Could not transfer artifact",
        "ECONNRESET",
        "ECONNREFUSED",
        "EAI_AGAIN",
        "ETIMEDOUT",
        "NewConnectionError",
        "Read timed out",
        "ReadTimeoutError",
        "Temporary failure in name resolution",
        "socket hang up",
    ),
)
"""For steps that fetch packages: again after a fault of the network, never after one of the build."""


def path_of(component: Component, text: str) -> str:
    """A path of the component from the root. Raises ManifestError."""
    try:
        return path_from_root(text, component.path)
    except ValueError as error:
        raise ManifestError(f"{text!r}: {error}") from None


def patterns_of(component: Component, texts: Iterable[str]) -> tuple[str, ...]:
    """Patterns of the component from the root. Raises ManifestError."""
    try:
        return tuple(pattern_from_root(text, component.path) for text in texts)
    except ValueError as error:
        raise ManifestError(str(error)) from None


def output_of(component: Component, text: str) -> Output:
    """An output as build.yml writes it: a trailing slash makes it a folder."""
    return Output(path=path_of(component, text), directory=text.endswith("/"))


def from_component(component: Component, path: str) -> str:
    """A path from the root as the component's steps, which run in its folder, must write it."""
    return posixpath.relpath(path or ".", component.path or ".")


def script(*commands: Iterable[str] | str) -> str:
    """Lines for `sh -e`: an argv is quoted, a text is taken as it is."""
    return "\n".join(line if isinstance(line, str) else shlex.join(line) for line in commands)
