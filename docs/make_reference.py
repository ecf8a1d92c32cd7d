"""Writes docs/reference.md: keys of build.yml, options of pytest, commands; from what the program itself says.

With --check it writes nothing, and ends with 1 if the page is not current.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build_tests import plugin
from build_tests.core.schema import schema_for
from build_tests.faces import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).with_name("reference.md")
HEAD = """\
# Reference

Made by `python docs/make_reference.py` from the types that read the build file and the options as they are declared.
For an editor, `pytest-build schema` gives the same as a JSON schema. What the kinds do with their keys is told on their
pages: [index](index.md).
"""
NAMED = {
    r"^(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d|w)$": "duration (`90s`, `7d`)",
    r"^(\d{1,12}(?:\.\d{1,6})?)(B|[kKMGT]B|[KMGT]iB)$": "size (`10GB`)",
}


class OurBuilders:
    """The builders that this repository declares, whatever else is installed here."""

    def __init__(self) -> None:
        declared = (PAGE.parent.parent / "pyproject.toml").read_text(encoding="utf-8")
        self._places = dict(re.findall(r'^(\w+) = "(build_tests\.builders\.\w+:\w+)"$', declared, re.MULTILINE))

    def kinds(self) -> list[str]:
        """Their names."""
        return sorted(self._places)

    def get(self, kind: str) -> Any:
        """One of them."""
        module, _, name = self._places[kind].partition(":")
        return getattr(importlib.import_module(module), name)


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_build_file(), *_options(), *_commands()]).rstrip() + "\n"


def _build_file() -> Iterator[str]:
    schema = schema_for(OurBuilders())  # type: ignore[arg-type]
    yield "## build.yml\n"
    yield "A key that begins with `x-` at the top is left alone: a place for anchors.\n"
    top = {name: node for name, node in schema["properties"].items() if name != "components"}
    yield from _table(rows(top, ""))
    component = schema["$defs"]["component"]
    common = component["properties"]
    yield "### components.NAME, every kind\n"
    yield from _table(rows(common, "", required=component["required"]))
    for case in component["allOf"]:
        kind = case["if"]["properties"]["kind"]["const"]
        own = {name: node for name, node in case["then"]["properties"].items() if name not in common}
        yield f"### kind: {kind}\n"
        yield from _table(rows(own, "")) if own else ["No keys of its own.\n"]


def rows(
    properties: dict[str, Any], prefix: str, required: tuple[str, ...] = ()
) -> Iterator[tuple[str, str, str, str]]:
    """Key, what it may be, default, meaning; of all keys and what lies below them."""
    for name, node in properties.items():
        key = f"{prefix}{name}"
        default = "required" if name in required else _default(node)
        yield key, _kind(node), default, node.get("description", "")
        for suffix, below in _below(node):
            yield from rows(below["properties"], f"{key}{suffix}.", tuple(below.get("required", ())))


def _default(node: dict[str, Any]) -> str:
    match node.get("default"):
        case None:
            return ""
        case bool(value) if "enum" in node:  # read as a truth value from two words, the plain one first
            return f"`{node['enum'][value]}`"
        case bool(value):
            return "yes" if value else "no"
        case value:
            return f"`{value}`"


def _below(node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects with named keys that a key holds: itself, one a name, or one an item."""
    if "properties" in node:
        yield "", node
    for choice in node.get("anyOf", ()):
        yield from _below(choice)
    more = node.get("additionalProperties")
    if isinstance(more, dict):
        yield from ((f".NAME{suffix}", below) for suffix, below in _below(more))
    if isinstance(node.get("items"), dict):
        yield from ((f"[]{suffix}", below) for suffix, below in _below(node["items"]))


def _kind(node: dict[str, Any]) -> str:  # noqa: PLR0911 - a table of cases
    if "anyOf" in node:
        return ", or ".join(dict.fromkeys(map(_kind, node["anyOf"])))
    if "enum" in node:
        return ", ".join(dict.fromkeys(f"`{value}`" for value in node["enum"]))
    if "const" in node:
        return f"`{node['const']}`"
    types = node.get("type", "anything")
    one = types if isinstance(types, str) else "text" if "string" in types else ", ".join(types)
    match one:
        case "array":
            return f"list of {_kind(node['items'])}"
        case "object":
            more = node.get("additionalProperties")
            return f"name → {_kind(more)}" if isinstance(more, dict) and "properties" not in node else "keys below"
        case "string":
            return NAMED.get(node.get("pattern", ""), "text")
        case "boolean":
            return "yes or no"
        case _:
            return one


def _options() -> Iterator[str]:
    class Parser:
        """Stands in for pytest's: keeps what is declared."""

        def __init__(self) -> None:
            self.found: list[tuple[str, dict[str, Any]]] = []

        def getgroup(self, *_: str) -> Parser:
            return self

        def addoption(self, name: str, **more: Any) -> None:
            self.found.append((name, more))

    parser = Parser()
    plugin.pytest_addoption(parser)  # type: ignore[arg-type]
    yield "## Options of pytest\n"
    yield "Under *builds as tests* in `pytest --help`. The build file itself is an argument: `pytest build.yml`.\n"
    table = [(_usage(name, more), _cell(more.get("help", ""))) for name, more in parser.found]
    yield from _lines(("option", "what"), table)
    yield 'Marker: `@pytest.mark.build_step("component:step", …)`. Fixture: `build_outputs(label)`.\n'


def _usage(name: str, more: dict[str, Any]) -> str:
    value = more.get("metavar") or "|".join(more.get("choices", ()))
    given = f"{name}[={value}]" if more.get("nargs") == "?" else f"{name} {value}".strip()
    return f"`{_cell(given)}`"


def _commands() -> Iterator[str]:
    yield "## pytest-build\n"
    yield "What they show, with examples: [commands](commands.md). `pytest-build COMMAND --help` says the rest.\n"
    for name, (module, about) in cli.COMMANDS.items():
        loaded = importlib.import_module(f"build_tests.faces.{module}")
        yield f"### {name}\n\n{about[0].upper()}{about[1:]}.\n"
        yield from _lines(("argument", "what"), list(_arguments(cli.parser_of(name, loaded))))


def _arguments(parser: argparse.ArgumentParser, prefix: str = "") -> Iterator[tuple[str, str]]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to list them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            for name, below in action.choices.items():
                yield f"`{prefix}{name}`", _cell(helps.get(name, ""))
                yield from _arguments(below, f"{prefix}{name} ")
        elif action.dest != "help" and action.help != argparse.SUPPRESS:
            named = ", ".join(action.option_strings)
            value = "" if action.nargs == 0 else _value(action)
            yield f"`{_cell(f'{prefix}{named} {value}'.strip())}`", _cell((action.help or "") % vars(action))


def _value(action: argparse.Action) -> str:
    if action.metavar:
        return str(action.metavar)
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def _table(found: Iterator[tuple[str, str, str, str]]) -> Iterator[str]:
    lines = [(f"`{key}`", _cell(kind), _cell(default), _cell(text)) for key, kind, default, text in found]
    yield from _lines(("key", "value", "default", "meaning"), lines)


def _lines(head: tuple[str, ...], table: list[tuple[str, ...]]) -> Iterator[str]:
    if table:
        yield "\n".join(f"| {' | '.join(row)} |" for row in [head, ("---",) * len(head), *table]) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(page() != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page(), encoding="utf-8")
