"""Why what another machine or an earlier run has made would be made anew here: two fingerprints compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from build_tests.core.fingerprint import Fingerprint, Reason, differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One step: its ingredients there and here."""

    label: str
    there: bool
    """Whether the other side knows the step."""
    reasons: tuple[Reason, ...] = ()
    """What differs, in the order of `differences`; () = both would make the same."""
    whence: str = ""
    """Which of the other side's results it was compared with."""

    @property
    def same(self) -> bool:
        """Whether one's result is the other's."""
        return self.there and not self.reasons

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "label": self.label, "there": self.there, "same": self.same, "whence": self.whence,
            "reasons": [{**reason.to_json(), "text": str(reason)} for reason in self.reasons],
        }  # fmt: skip


def compare(
    ours: Mapping[str, list[Any] | None], theirs: Mapping[str, Iterable[tuple[str, list[Any]]]]
) -> tuple[Compared, ...]:
    """Each of our steps with the nearest of theirs.

    Args:
        ours: label → fingerprint as it travels; None = not known.
        theirs: label → (whence, fingerprint), newest first. What is no fingerprint is passed over.
    """
    return tuple(_compared(label, mine, theirs.get(label, ())) for label, mine in ours.items())


def _compared(label: str, mine: list[Any] | None, others: Iterable[tuple[str, list[Any]]]) -> Compared:
    nearest: Compared | None = None
    for whence, data in others if mine is not None else ():
        try:
            reasons = differences(Fingerprint.from_json(data), Fingerprint.from_json(mine or []))
        except (ValueError, TypeError, KeyError):
            continue
        if nearest is None or len(reasons) < len(nearest.reasons):
            nearest = Compared(label=label, there=True, reasons=reasons, whence=whence)
    return nearest or Compared(label=label, there=False)
