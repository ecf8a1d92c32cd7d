"""Which .proto files a component compiles, and which others they import. Reads `import` lines; knows no language."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

from build_tests.core.builder import Workspace

_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?(?:\*/|\Z))|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?P<word>\w+)|(?P<mark>[;{}=])""",
    re.DOTALL,
)
BUILT_IN = "google/protobuf/"
"""What protoc itself brings, so that its version stands for it."""


def imports_of(text: str) -> Iterator[str]:
    """What a .proto file imports, as it is written: `import "a/b.proto";`, also public, weak and option."""
    statement: list[str] = []
    for token in _TOKEN.finditer(text):
        match token.lastgroup:
            case "comment":
                continue
            case "mark":
                statement = []
            case _:
                statement.append(token[0])
        if len(statement) > 1 and statement[0] == "import" and token.lastgroup == "text":
            yield token[0][1:-1]


def reachable(
    files: Iterable[str], folders: Mapping[str, frozenset[str]], workspace: Workspace
) -> tuple[list[str], list[str]]:
    """The files with all that they import, and the imports that no folder has.

    Args:
        files: from the root.
        folders: where protoc looks, in its order, with the .proto files below each; all from the root.
        workspace: the repository.

    Raises:
        ManifestError: a file can't be read.
    """
    found = dict.fromkeys(files)
    missing: dict[str, None] = {}
    waiting = list(found)
    while waiting:
        for name in imports_of(workspace.read_text(waiting.pop())):
            candidates = ((posixpath.join(folder, name), there) for folder, there in folders.items())
            path = next((path for path, there in candidates if path in there), "")
            if not path:
                missing[name] = None
            elif path not in found:
                found[path] = None
                waiting.append(path)
    return sorted(found), [name for name in missing if not name.startswith(BUILT_IN)]
