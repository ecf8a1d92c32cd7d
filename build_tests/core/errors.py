"""Every exception of ours, in one tree.

A build that fails is no exception: it is an `Outcome`. Exceptions are for what stops us from building at all.

    BuildError
    ├── ConfigError       the build file is wrong: all its diagnostics at once
    ├── SelectionError    a selector, target or environment that does not exist
    ├── BuilderError      a builder that can't be loaded, or that breaks the builders' contract
    ├── LockHeldError     another build runs in this checkout, and we were told not to wait
    ├── UnreadableError   a file or folder that we must read can't be read
    └── InternalError     a promise of ours was broken (a step was lost …)
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """A position in a file, as an editor counts: line and column start at 1. `text` is that line."""

    file: str
    line: int = 0
    column: int = 0
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One thing that is wrong with the configuration: where, what, and what to do about it."""

    place: Place
    message: str
    hint: str = ""

    def __str__(self) -> str:
        lines = [f"{self.place}: {self.message}"]
        if self.place.text.strip():
            # Tabs count one column, so the caret stands under its character only when they are spaces here as well.
            lines += [f"  {self.place.text.replace(chr(9), ' ')}", f"  {' ' * (self.place.column - 1)}^"]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class BuildError(Exception):
    """The root of our exceptions; its text is fit for a user's eyes."""


class ConfigError(BuildError):
    """The configuration is wrong. Carries every diagnostic found, in order of place."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        self.diagnostics = tuple(sorted(diagnostics, key=lambda d: (d.place, d.message)))
        super().__init__("\n\n".join(str(d) for d in self.diagnostics))


class SelectionError(BuildError):
    """A selector, target or environment names nothing."""


class BuilderError(BuildError):
    """A builder can't be loaded or breaks the contract; becomes a diagnostic where its kind is used."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class LockHeldError(BuildError):
    """Another build holds this checkout."""


class UnreadableError(BuildError):
    """A file or folder can't be read, for this reason. `path` is as it was asked for: relative to the root."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"can't read {path or '.'!r}: {reason}")


class InternalError(BuildError):
    """We broke a promise of our own; never the user's fault."""
