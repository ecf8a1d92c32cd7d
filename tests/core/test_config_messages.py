"""Every message about a wrong build file, word for word, in golden_messages.txt: the snippet and what is said of it.

A new case is written there without its `says`; `UPDATE_GOLDEN=1 pytest tests/core/test_config_messages.py` fills in
all of them, and the diff is what a reviewer reads.
"""

import os
import re
from pathlib import Path

import pytest

from build_tests.core import assemble
from build_tests.core.errors import BuildError
from build_tests.registry import Registry

GOLDEN = Path(__file__).with_name("golden_messages.txt")
_CASE = re.compile(r"^=== (.*)\n", re.MULTILINE)
_PART = re.compile(r"^--- (.*)\n", re.MULTILINE)


def parts_of(text):
    """`--- NAME` and the text up to the next one."""
    found = _PART.split(text)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def cases():
    found = _CASE.split(GOLDEN.read_text(encoding="utf-8"))[1:]
    return {title: parts_of(body) for title, body in zip(found[::2], found[1::2], strict=True)}


def content(name, text):
    """The bytes of a snippet; in one that is named `… (escaped)`, backslashes mean what they do in Python."""
    if not name.endswith(" (escaped)"):
        return text.encode()
    return text.rstrip("\n").encode("latin-1").decode("unicode_escape").encode("latin-1")


def said_of(parts, root):
    environment = None
    for name, text in parts.items():
        if name.startswith("environment "):
            environment = name.removeprefix("environment ")
        elif name != "says":
            path = root / name.removesuffix(" (escaped)")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(name, text))
    file = next(name for name in ("build.yml", "config/build.yml") if (root / name).exists())
    try:
        assemble.read(str(root / file), registry=Registry(), environment=environment)
    except BuildError as error:
        return f"{error}\n"
    return "nothing\n"


def written(title, parts, said):
    parts = {name: text for name, text in parts.items() if name != "says"} | {"says": said.rstrip("\n") + "\n\n"}
    return f"=== {title}\n" + "".join(f"--- {name}\n{text}" for name, text in parts.items())


def updated(tmp_path):
    for number, (title, parts) in enumerate(cases().items()):
        root = tmp_path / str(number)
        root.mkdir()
        yield written(title, parts, said_of(parts, root))


@pytest.mark.skipif("UPDATE_GOLDEN" not in os.environ, reason="the golden file is only written on demand")
def test_update(tmp_path):
    head = _CASE.split(GOLDEN.read_text(encoding="utf-8"))[0]
    GOLDEN.write_text(head + "".join(updated(tmp_path)), encoding="utf-8")


@pytest.mark.skipif("UPDATE_GOLDEN" in os.environ, reason="being written")
@pytest.mark.parametrize("title", cases())
def test_message(title, tmp_path):
    parts = cases()[title]
    expected = parts["says"].rstrip("\n") + "\n"
    assert said_of(parts, tmp_path) == expected
    assert expected != "nothing\n"


def test_the_columns_count_what_an_editor_shows(tmp_path):
    said = said_of({"build.yml": 'components:\n  a: {kind: command, "ключ": 1}\n'}, tmp_path)
    assert said.startswith("build.yml:2:22: unknown key 'ключ'\n")
    line, caret = said.splitlines()[1:3]
    assert line[caret.index("^") :].startswith('"ключ"')
