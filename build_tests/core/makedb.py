"""GNU make's own database, as `make -p` prints it: targets with what they need and their recipes. Runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_RECURSION = re.compile(r"\$[({]MAKE[)}]|(?:^|[;&|]\s*|^[@+-]+)g?make\b")
_RULE = re.compile(r"^(?P<target>[^\s:#][^:#]*?)\s*(?P<colons>::?)(?!=)\s*(?P<needs>.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One target. Lines of the recipe are as they are written, prefixes (`@`, `-`, `+`) included."""

    target: str
    needs: tuple[str, ...] = ()
    order_only: tuple[str, ...] = ()
    recipe: tuple[str, ...] = ()
    phony: bool = False
    double: bool = False
    """A `::` rule: it may have several recipes."""

    @property
    def recursive(self) -> bool:
        """Whether the recipe calls make again."""
        return any(_RECURSION.search(line) for line in self.recipe)

    @property
    def only_makes_folder(self) -> bool:
        """Whether all that it does is to make a folder for others."""
        return bool(self.recipe) and all(re.match(r"^[@-]*\s*mkdir\b[^;&|]*$", line) for line in self.recipe)


def rules_in(database: str) -> dict[str, Rule]:
    """The targets of the Makefile, in the database's order; neither built-in suffixes nor plain sources."""
    # A make that a recipe calls prints its own before.
    start = database.rfind("\n# Files\n")
    end = database.find("\n# files hash-table stats:", start)
    found: dict[str, Rule] = {}
    for block in database[start + 9 : end if end > start else None].split("\n\n"):
        rule = _rule(block)
        if rule is not None:
            found[rule.target] = rule
    return found


def _rule(block: str) -> Rule | None:
    lines = block.strip("\n").split("\n")
    if not lines or lines[0].startswith("# Not a target"):
        return None
    match = _RULE.match(lines[0])
    if match is None or match["target"].startswith("."):
        return None
    needs, _, order_only = match["needs"].partition("|")
    facts = {line for line in lines if line.startswith("#  ")}
    return Rule(
        target=match["target"],
        needs=tuple(needs.split()),
        order_only=tuple(order_only.split()),
        recipe=tuple(logical_lines("\n".join(line[1:] for line in lines if line.startswith("\t")))),
        phony=any(fact.startswith("#  Phony target") for fact in facts),
        double=match["colons"] == "::",
    )


def logical_lines(text: str) -> Iterator[str]:
    """Lines of a recipe; one that ends in a backslash goes on."""
    begun = ""
    for line in text.split("\n"):
        begun += line
        if line.endswith("\\") and not line.endswith("\\\\"):
            begun += "\n"
        else:
            if begun.strip():
                yield begun
            begun = ""
    if begun.strip():
        yield begun


def variables_in(database: str) -> Mapping[str, str]:
    """The Makefile's own simple variables, as far as the database has their values."""
    found = re.findall(r"(?m)^# makefile[^\n]*\n(?:export )?([A-Za-z_]\w*|\.SHELLFLAGS) :?:?= ?(.*)$", database)
    return dict(found)
