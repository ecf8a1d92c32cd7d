"""Text to a tree of nodes, each with its place. Knows YAML; knows nothing of builds.

The tree is PyYAML's own (`composer` level), with one difference: scalars stay the text that was written, so `no`,
`1.10`, `1:30` and dates are not what YAML 1.1 makes of them. Composing is done by libyaml where PyYAML has it (ten
times faster). What a hostile or mistaken file could do to it is refused: deep nesting, alias and merge bombs, cycles,
unknown tags, duplicate keys, more than one document, other encodings than UTF-8.
"""

from __future__ import annotations

import io
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from build_tests.core.errors import ConfigError, Diagnostic, Place

if TYPE_CHECKING:
    from yaml import MarkedYAMLError


class Node(Protocol):
    """What we use of PyYAML's nodes."""

    id: str
    """"scalar", "sequence" or "mapping"."""
    tag: str
    """Empty unless one was written."""
    value: Any
    """Text; a list of nodes; a list of pairs of nodes."""
    style: Any
    """Of a scalar: empty for a plain one, else what it is quoted by."""
    start_mark: Any
    end_mark: Any


MAX_BYTES = 16 * 2**20
MAX_DEPTH = 64
"""The C composer recurses, and a nesting of some ten thousands ends the process."""
MAX_COPIES = 100_000
"""How many nodes aliases and merges may add to a file."""

_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_RARE_BREAK = re.compile("[\r\x85\u2028\u2029]")
_UNPRINTABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPED_NUL = re.compile(r"\\(?:0|x00|u0000|U00000000)")
_QUOTE_STAR = 'in YAML a leading * is an alias: put patterns in quotes, "*.py"'
_QUOTE_BANG = 'in YAML a leading ! is a tag: put patterns that take away in quotes, "!data/tmp/**"'
_HINTS = (
    ("scanning an alias", _QUOTE_STAR),
    ("undefined alias", _QUOTE_STAR),
    ("scanning a tag", _QUOTE_BANG),
    ("parsing a node did not find expected tag", _QUOTE_BANG),
    ("undefined tag handle", _QUOTE_BANG),
    ("mapping values are not allowed", "a value that holds a colon and a space needs quotes"),
    ("block sequence entries are not allowed", "a list begins on a line of its own"),
    ("expected ',' or ']'", "a [ that no ] closes, or a comma that is missing"),
    ("expected ',' or '}'", "a { that no } closes, or a comma that is missing"),
    ("quoted scalar found unexpected end", "a quote that is never closed"),
    ("unknown escape character", "in double quotes a backslash begins an escape: use single quotes"),
    ("expected key", "is the line indented like its neighbours?"),
    ("expected '-' indicator", "is the line indented like its neighbours?"),
    ("expected <block end>", "is the line indented like its neighbours?"),
    ("could not find expected ':'", "a key is followed by a colon and a space"),
    ("expected node content", "something is missing here"),
    ("duplicate anchor", "give each anchor its own name"),
    ("document", "a build file is one document: remove the lines of dashes or dots"),
)
"""Part of the parser's context and problem → what to do about it. The first that fits."""


class Sources:
    """The files read so far; makes places in them."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._lines: dict[str, list[str]] = {}

    def parse(self, name: str, data: bytes, wrong: list[Diagnostic]) -> Node | None:
        """Compose one file. What is wrong is added to `wrong`; None = there is no tree to go on with.

        Args:
            name: stands in places; relative to the root.
            data: the file's bytes.
            wrong: receives every fault found.
        """
        try:
            text = self._decode(name, data)
            root = self._compose(name, data)
            if "&" in text:
                self._refuse_bombs(root)
        except ConfigError as error:
            wrong.extend(error.diagnostics)
            return None
        checker = _Checker(self, shared="&" in text)
        wrong.extend(checker.check(root))
        if _ESCAPED_NUL.search(text):
            wrong.extend(checker.check_nul(root))
        return root

    def place(self, node: Node) -> Place:
        """Where a node begins."""
        mark = node.start_mark
        return self.at(mark.name, mark.line, mark.column)

    def at(self, name: str, line: int, column: int) -> Place:
        """A place from a line and a column that count from 0."""
        lines = self._lines.get(name)
        if lines is None:
            lines = self._lines[name] = _split(self._texts.get(name, ""))
        return Place(file=name, line=line + 1, column=column + 1, text=lines[line] if line < len(lines) else "")

    def _fault(self, place: Place, message: str, hint: str = "") -> ConfigError:
        return ConfigError([Diagnostic(place=place, message=message, hint=hint)])

    def _offset(self, name: str, offset: int) -> Place:
        before = _split(self._texts[name][:offset])
        return self.at(name, len(before) - 1, len(before[-1]))

    def _decode(self, name: str, data: bytes) -> str:
        first = Place(file=name, line=1, column=1)
        if len(data) > MAX_BYTES:
            raise self._fault(first, f"the file is too large: {len(data)} bytes, {MAX_BYTES} at most")
        if (
            data[:2] in {b"\xff\xfe", b"\xfe\xff"}
            or data[:4] == b"\0\0\xfe\xff"
            or data[:100].count(0) > len(data) // 4
        ):
            raise self._fault(first, "the file is UTF-16 or UTF-32", "save it as UTF-8")
        if data.startswith(b"\xef\xbb\xbf"):
            raise self._fault(first, "the file begins with a byte order mark", 'save it as UTF-8 "without BOM"')
        text = self._texts[name] = data.decode("utf-8", "replace")
        self._lines.pop(name, None)
        if "\ufffd" in text:
            try:
                data.decode("utf-8")
            except UnicodeDecodeError as error:
                at = len(data[: error.start].decode("utf-8"))
                byte = data[error.start]
                raise self._fault(
                    self._offset(name, at), f"not UTF-8: a byte 0x{byte:02x} can't stand here", "save the file as UTF-8"
                ) from None
        return text

    def _compose(self, name: str, data: bytes) -> Node:
        import yaml

        loader = _loader()(_Stream(name, data))
        try:
            root: Node | None = loader.get_single_node()
        except _TooDeepError as error:
            raise self._fault(self.place(error.node), f"nested more than {MAX_DEPTH} deep") from None
        except yaml.reader.ReaderError:
            raise self._unprintable(name) from None
        except yaml.MarkedYAMLError as error:
            if "maximum nesting" in str(error.problem) and error.problem_mark:  # libyaml's own limit, beyond ours
                at = self.at(name, error.problem_mark.line, error.problem_mark.column)
                raise self._fault(at, f"nested more than {MAX_DEPTH} deep") from None
            raise self._syntax(name, error) from None
        first = self.at(name, 0, 0)
        hint = "a build file is a mapping with components: at its top"
        if root is None or is_nothing(root):
            raise self._fault(first, "the file is empty", hint)
        if root.id != "mapping":
            raise self._fault(self.place(root), f"expected a mapping, found {found(root)}", hint)
        return root

    def _unprintable(self, name: str) -> ConfigError:
        bad = _UNPRINTABLE.search(self._texts[name])
        # The line is shown on a terminal, which would obey what stands in it.
        self._texts[name] = _UNPRINTABLE.sub("\ufffd", self._texts[name])
        if bad is None:
            return self._fault(self.at(name, 0, 0), "the file can't be read as text")
        what = "a NUL character" if bad[0] == "\0" else f"the control character U+{ord(bad[0]):04X}"
        hint = "" if bad[0] == "\0" else f'in double quotes it is written "\\x{ord(bad[0]):02x}"'
        return self._fault(self._offset(name, bad.start()), f"{what} can't stand in a build file", hint)

    def _syntax(self, name: str, error: MarkedYAMLError) -> ConfigError:
        mark = error.problem_mark or error.context_mark
        place = self.at(name, mark.line, mark.column) if mark else self.at(name, 0, 0)
        text = " ".join(part for part in (error.context, error.problem) if part)
        if "cannot start any token" in text:
            char = place.text[place.column - 1 : place.column]
            if char == "\t":
                return self._fault(place, "a tab can't indent", "YAML indents by spaces")
            return self._fault(place, f"a value can't begin with {char!r}", f'put it in quotes: "{char}…"')
        hint = next((hint for part, hint in _HINTS if part in text), "")
        return self._fault(place, f"not valid YAML: {text}", hint)

    def _refuse_bombs(self, root: Node) -> None:
        """Raise if an alias contains itself, or if aliases make the tree much larger than the file."""
        size: dict[int, int] = {}  # 0 = being counted
        stack = [(root, False)]
        while stack:
            node, counted = stack.pop()
            if counted:
                size[id(node)] = total = 1 + sum(size[id(child)] for child in _children(node))
                if total - len(size) > MAX_COPIES:
                    raise self._fault(
                        self.place(node), f"aliases make this more than {MAX_COPIES} values larger than the file"
                    )
            elif id(node) not in size:
                size[id(node)] = 0
                stack.append((node, True))
                stack.extend((child, False) for child in _children(node))
            elif not size[id(node)]:
                raise self._fault(self.place(node), "an alias in here means the very value that it stands in")


class _Checker:
    """One walk over a tree: tags and duplicate keys are reported, `<<` is replaced by what it merges."""

    def __init__(self, sources: Sources, *, shared: bool) -> None:
        self._sources = sources
        self._shared = shared
        self._wrong: list[Diagnostic] = []
        self._copies = 0

    def check(self, root: Node) -> list[Diagnostic]:
        stack = [root]
        seen: set[int] = set()
        while stack:
            node = stack.pop()
            if self._shared:
                if id(node) in seen:
                    continue
                seen.add(id(node))
            if node.tag:
                self._tag(node)
            if node.id == "mapping":
                self._mapping(node)
                stack.extend(v for _, v in reversed(node.value) if v.tag or v.id != "scalar")
            elif node.id == "sequence":
                stack.extend(v for v in reversed(node.value) if v.tag or v.id != "scalar")
        return self._wrong

    def check_nul(self, root: Node) -> list[Diagnostic]:
        """No command, path or variable can hold a NUL, however it is written."""
        self._wrong = []
        stack = [root]
        seen: set[int] = set()
        while stack:
            node = stack.pop()
            if id(node) not in seen:
                seen.add(id(node))
                stack.extend(_children(node))
                if node.id == "scalar" and "\0" in node.value:
                    self._add(node, "a NUL character can't stand in a value")
        return self._wrong

    def _add(self, node: Node, message: str, hint: str = "") -> None:
        self._wrong.append(Diagnostic(place=self._sources.place(node), message=message, hint=hint))

    def _tag(self, node: Node) -> None:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self._add(node, f"tags such as {tag} are not read", "" if tag.startswith("!!") else _QUOTE_BANG)

    def _mapping(self, node: Node) -> None:
        try:
            keys: dict[str, Node] = {key.value: key for key, _ in node.value if not key.tag}
        except TypeError:  # a key that is no text
            keys = {}
        if len(keys) < len(node.value):
            keys = self._bad_keys(node)
        if "<<" in keys and not keys["<<"].style:
            self._merge(node)

    def _bad_keys(self, node: Node) -> dict[str, Node]:
        """Report and drop keys that are no text or stand twice."""
        keys: dict[str, Node] = {}
        for key, _ in node.value:
            if key.id != "scalar" or key.tag:
                self._add(key, f"expected a text as key, found {found(key)}")
            elif key.value in keys:
                line = keys[key.value].start_mark.line + 1
                self._add(key, f"the key {key.value!r} stands here twice", f"it is first written in line {line}")
            else:
                keys[key.value] = key
        kept = {id(key) for key in keys.values()}
        node.value = [(key, value) for key, value in node.value if id(key) in kept]
        return keys

    def _merge(self, node: Node) -> None:
        """`<<: *base`: what is written beside it stays, of several bases the first wins."""
        own = [(key, value) for key, value in node.value if key.value != "<<"]
        (merge,) = (value for key, value in node.value if key.value == "<<")
        taken = {key.value for key, _ in own}
        node.value = own
        for base in merge.value if merge.id == "sequence" else [merge]:
            if base.id != "mapping":
                self._add(base, f"<< expects a mapping, found {found(base)}")
                continue
            self._mapping(base)
            self._copies += len(base.value)
            if self._copies > MAX_COPIES:
                self._add(base, f"merges copy more than {MAX_COPIES} values")
                return
            new = [(key, value) for key, value in base.value if key.value not in taken]
            taken.update(key.value for key, _ in new)
            own.extend(new)


def is_nothing(node: Node) -> bool:
    """Whether a key stands without a value (`steps:` and the end of the line)."""
    return node.id == "scalar" and not node.value and not node.style


def found(node: Node) -> str:
    """What a node is, for "expected …, found …"."""
    if node.id != "scalar":
        return "a list" if node.id == "sequence" else "a mapping"
    if is_nothing(node):
        return "nothing"
    text: str = node.value
    return repr(text if len(text) < 60 else text[:57] + "…")  # noqa: PLR2004


def entries(node: Node) -> dict[str, Node]:
    """A mapping's values by key; empty for any other node."""
    return {key.value: value for key, value in node.value} if node.id == "mapping" else {}


def key_nodes(node: Node) -> dict[str, Node]:
    """A mapping's key nodes by key: where each is written; empty for any other node."""
    return {key.value: key for key, _ in node.value} if node.id == "mapping" else {}


def merged(base: Node, over: Node) -> Node:
    """Mappings merge deeply, with the place of what is laid over; all else is replaced. Neither is changed."""
    if base.id != "mapping" or over.id != "mapping":
        return over
    pairs: dict[str, tuple[Node, Node]] = {key.value: (key, value) for key, value in base.value}
    for key, value in over.value:
        old = pairs.get(key.value)
        pairs[key.value] = (key, value) if old is None else (old[0], merged(old[1], value))
    return mapping(list(pairs.values()), base)


def wrapped(keys: tuple[str, ...], node: Node) -> Node:
    """The node as the value of nested mappings: `wrapped(("a", "b"), x)` is `{a: {b: x}}`, all at x's place."""
    import yaml

    for key in reversed(keys):
        name: Any = yaml.ScalarNode("", key, node.start_mark, node.end_mark)
        node = mapping([(name, node)], node)
    return node


def mapping(pairs: list[tuple[Node, Node]], at: Node) -> Node:
    """A mapping of these pairs, in the place of another node."""
    import yaml

    return cast("Node", yaml.MappingNode("", pairs, at.start_mark, at.end_mark))


def _children(node: Node) -> list[Node]:
    if node.id == "scalar":
        return []
    return [child for pair in node.value for child in pair] if node.id == "mapping" else list(node.value)


def _split(text: str) -> list[str]:
    """Lines as libyaml counts them."""
    return _BREAK.split(text) if _RARE_BREAK.search(text) else text.split("\n")


class _TooDeepError(Exception):
    def __init__(self, node: Node) -> None:
        super().__init__()
        self.node = node


class _Stream(io.BytesIO):
    """A file whose marks say its name."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(data)
        self.name = name


class _TextOnly:
    """The hooks of PyYAML's composer: no tag is guessed from a value, and depth is watched before it is walked."""

    depth = 0

    def resolve(self, _kind: Any, _value: Any, _implicit: Any) -> str:
        return ""

    def descend_resolver(self, parent: Any, _index: Any) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _TooDeepError(parent)

    def ascend_resolver(self) -> None:
        self.depth -= 1


@cache
def _loader() -> Any:
    import yaml

    return type("_Loader", (_TextOnly, getattr(yaml, "CSafeLoader", yaml.SafeLoader)), {})
