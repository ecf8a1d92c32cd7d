"""YAML text → a tree of nodes that know their place. Every scalar stays the text that was written.

PyYAML composes (with its C loader where there is one); nothing is ever constructed, so `no`, `1.10` and `1:30` are what
they look like, and no tag can make an object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from build_tests.core.errors import ConfigError, Diagnostic, Place

MAX_BYTES = 16 << 20
MAX_DEPTH = 64
MAX_NODES = 2_000_000


@dataclass(slots=True, eq=False)
class Node:
    """A scalar (`value` is text), a list (of nodes) or a mapping (of (key node, node) by name)."""

    kind: str
    """scalar, list or mapping."""
    value: Any
    line: int
    column: int
    source: Source
    quoted: bool = False

    def say(self, message: str, hint: str = "") -> None:
        """Note what is wrong with this node."""
        self.source.wrong.append(Diagnostic(place=self.place, message=message, hint=hint))

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.source.place(self.line, self.column)

    @property
    def empty(self) -> bool:
        """Nothing was written, or `null`."""
        return self.kind == "scalar" and not self.quoted and self.value in ("", "~", "null")


class Source:
    """One file: its text, its tree, and the diagnostics about it."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._lines = text.split("\n")
        self.wrong: list[Diagnostic] = []

    def place(self, line: int, column: int) -> Place:
        """A place with its line's text."""
        text = self._lines[line - 1] if 0 < line <= len(self._lines) else ""
        return Place(file=self.name, line=line, column=column, text=text[:200])


def read(name: str, data: bytes) -> Node:
    """Parse a file's bytes; the tree's top is a mapping.

    Raises:
        ConfigError: not UTF-8, not YAML, too deep, no mapping, duplicate keys …; with the place.
    """
    text = _decoded(name, data)
    source = Source(name, text)
    _check_depth(source, text)
    top = _compose(source, text)
    node = _Reader(source).convert(top)
    if node.kind != "mapping":
        node.say("a build file is a mapping (`version: …`, `components: …`), this is a " + node.kind)
    if source.wrong:
        raise ConfigError(source.wrong)
    return node


def _decoded(name: str, data: bytes) -> str:
    def refuse(message: str, hint: str, line: int = 1, column: int = 1) -> ConfigError:
        return ConfigError([Diagnostic(place=Place(file=name, line=line, column=column), message=message, hint=hint)])

    if len(data) > MAX_BYTES:
        raise refuse(f"the file is larger than {MAX_BYTES >> 20} MiB", "is this the right file?")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refuse("the file is UTF-16", "save it as UTF-8")
    if data.startswith(b"\xef\xbb\xbf"):
        raise refuse("the file begins with a byte order mark", "save it as UTF-8 without BOM")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise refuse("the file is not UTF-8", "save it as UTF-8", line, column) from None
    if not text.strip():
        raise refuse("the file is empty", 'it begins with `version: "2.0"` and has `components:`')
    return text


def _check_depth(source: Source, text: str) -> None:
    """Deep nesting crashes the C composer, so it is refused before."""
    depth = 0
    for match in re.finditer(r"[\[{\]}]|\n", text) if text.count("[") + text.count("{") > MAX_DEPTH else ():
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            line = text.count("\n", 0, match.start()) + 1
            column = match.start() - text.rfind("\n", 0, match.start())
            place = source.place(line, column)
            raise ConfigError([Diagnostic(place=place, message=f"nested deeper than {MAX_DEPTH} levels")])
    for number, line in enumerate(text.split("\n"), 1):
        lead = re.match(r"(?:[ ]|- |\? )*", line)
        if lead and (lead[0].count("-") > MAX_DEPTH or len(lead[0]) > 8 * MAX_DEPTH):
            place = source.place(number, 1)
            raise ConfigError([Diagnostic(place=place, message=f"nested deeper than {MAX_DEPTH} levels")])


def _compose(source: Source, text: str) -> Any:
    import yaml

    loader_class: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader = None
    try:
        loader = loader_class(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = error.problem or "can't be read"
        context = f" ({error.context})" if error.context else ""
        raise ConfigError(
            [
                Diagnostic(
                    place=source.place(line, column), message=f"not valid YAML: {problem}{context}",
                    hint=_yaml_hint(source.place(line, column).text, problem),
                )
            ]
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        at = text.find("\0")
        line = text.count("\n", 0, max(at, 0)) + 1
        first = str(error).split("\n", maxsplit=1)[0]
        raise ConfigError([Diagnostic(place=source.place(line, 1), message=f"not valid YAML: {first}")]) from None
    finally:
        if loader is not None:
            loader.dispose()
    if node is None:
        raise ConfigError([Diagnostic(place=source.place(1, 1), message="the file is empty")])
    return node


def _yaml_hint(line: str, problem: str) -> str:
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in problem:
        return "indent with spaces, not tabs"
    if "document" in problem:
        return "one document a file: take out the `---` between them"
    if "alias" in problem:
        return "a value that begins with * must be quoted"
    return "look at the indentation and the quotes of this line and the one above"


class _Reader:
    """PyYAML's nodes → ours, iterative enough for the depth that is allowed."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._count = 0
        self._open: set[int] = set()

    def convert(self, node: Any) -> Node:
        self._count += 1
        mark = node.start_mark
        if self._count > MAX_NODES:
            place = self._source.place(mark.line + 1, mark.column + 1)
            raise ConfigError([Diagnostic(place=place, message="too many values: do aliases multiply here?")])
        tag = node.tag
        if not tag.startswith("tag:yaml.org,2002:") or tag.rpartition(":")[2] in ("binary", "python"):
            place = self._source.place(mark.line + 1, mark.column + 1)
            self._source.wrong.append(
                Diagnostic(place=place, message=f"unknown tag {tag}", hint="plain text, lists and mappings only")
            )
        line, column = mark.line + 1, mark.column + 1
        if node.id == "scalar":
            return Node("scalar", node.value, line, column, self._source, node.style is not None)
        if id(node) in self._open:
            place = self._source.place(line, column)
            raise ConfigError([Diagnostic(place=place, message="an alias stands inside its own anchor")])
        self._open.add(id(node))
        if node.id == "sequence":
            made = Node("list", [self.convert(child) for child in node.value], line, column, self._source)
        else:
            made = Node("mapping", self._mapping(node), line, column, self._source)
        self._open.discard(id(node))
        return made

    def _mapping(self, node: Any) -> dict[str, tuple[Node, Node]]:
        found: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            if key.id != "scalar":
                self.convert(key).say("a key is a word, not a list or a mapping")
                continue
            name = self.convert(key)
            if name.value == "<<" and not name.quoted:
                name.say("merge keys (<<) are not read", "write the values out, or use an environment overlay")
            elif name.value in found:
                first = found[name.value][0]
                name.say(f"duplicate key {name.value!r}", f"it stands in line {first.line} already")
            else:
                found[name.value] = (name, self.convert(value))
        return found


def merged(base: Node, over: Node) -> Node:
    """`over` laid over `base`: mappings merge deeply, everything else is replaced."""
    if base.kind != "mapping" or over.kind != "mapping":
        return over
    out = dict(base.value)
    for name, (key, value) in over.value.items():
        out[name] = (key, merged(out[name][1], value)) if name in out else (key, value)
    return Node("mapping", out, base.line, base.column, base.source)
