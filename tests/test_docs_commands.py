"""Each command block of each page is run, word for word, in a fresh folder a page; see pages.py for what a page may say."""

import ast
import shutil
import textwrap

import pytest
import yaml
from pages import PAGES, ROOT, Command, Shell, blocks, follow, read

from build_tests.core import config
from build_tests.registry import Registry

NEEDS = {
    "CONTRIBUTING.md": ["make"],
    "README.md": ["git", "make"],
    "docs/commands.md": ["git"],
    "docs/go-and-rust.md": ["go"],
    "docs/migration.md": ["make"],
    "docs/trace.md": ["strace"],
}
"""Pages that a tool of others must be there for."""
LANGUAGES = {"", "console", "json", "makefile", "python", "text", "toml", "yaml"}
"""Of blocks. Commands stand in `console` alone, so none is left out."""


def name_of(page):
    return str(page.relative_to(ROOT))


TEXTS = {name_of(page): page.read_text(encoding="utf-8") for page in PAGES}
FOLLOWED = [name for name, text in TEXTS.items() if any(isinstance(one, Command) for one in read(text))]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.real(*NEEDS.get(name, []))) for name in FOLLOWED]
)
def test_the_page_is_true_word_for_word(name, build_workspace):
    wrong = follow(Shell(build_workspace), list(read(TEXTS[name])))
    assert wrong is None, wrong


def hidden(text):
    """The lines of a page that no test would run, or that it shows without saying which command prints them."""
    for language, body in blocks(text):
        if language not in LANGUAGES:
            yield f"```{language}"
        elif language == "console":
            yield from body.splitlines()[:1] if not body.startswith("$ ") else []
        elif language != "python":
            yield from (line for line in body.splitlines() if line.startswith("$ "))


def test_no_command_block_is_left_out():
    assert {name: found for name, text in TEXTS.items() if (found := list(hidden(text)))} == {}
    for name, text in TEXTS.items():
        shown = [body for language, body in blocks(text) if language == "console"]
        assert sum(body.count("\n$ ") + body.startswith("$ ") for body in shown) == sum(
            isinstance(one, Command) for one in read(text)
        ), name
        assert text.count("\n```") == 2 * len(blocks(text)), f"{name}: a block that is not understood"


@pytest.mark.parametrize(
    "block", ["```bash\nls\n```\n", "```console\nls\n```\n", "```text\n$ ls\n```\n", "```\n$ ls\n```\n"]
)
def test_a_command_that_nobody_would_run_is_found_out(block):
    assert list(hidden(f"words\n\n{block}"))


def test_each_python_block_is_python():
    for name, text in TEXTS.items():
        for language, body in blocks(text):
            if language == "python":
                ast.parse(textwrap.dedent(body), name)


BUILD_FILES = [
    pytest.param(body, id=f"{name}-{number}")
    for name, text in TEXTS.items()
    for number, (language, body) in enumerate(blocks(text))
    if language == "yaml" and {"components", "build_system"} & yaml.safe_load(body).keys()
]


def faults(text, folder):
    """What the reader of build files says of it, where the folders that it names are there."""
    content = yaml.safe_load(text.replace("ed25519:…", f"ed25519:{'A' * 43}="))
    components = content.setdefault("components", {})
    for name, entry in components.items():
        path = folder / entry.get("path", name).replace("*", f"{name}-1").lstrip("/")
        path.mkdir(parents=True, exist_ok=True)
        for manifest in ("Dockerfile", "package.json", "package-lock.json"):
            (path / manifest).write_text("{}")
    registry = Registry()
    (folder / "tools").mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests/data/zig_builder/pytest_build_zig.py", folder / "tools/zig.py")
    registry.add_private("zig", "tools.zig:ZigBuilder", str(folder))
    file = folder / "build.yml"
    file.write_text(yaml.safe_dump(content))
    return [one.message for one in config.check(str(file), registry=registry).diagnostics]


@pytest.mark.parametrize("text", BUILD_FILES)
def test_each_build_file_of_a_page_is_understood(text, tmp_path):
    assert faults(text, tmp_path) == []


def test_a_build_file_that_is_wrong_is_found_out(tmp_path):
    assert faults("components: {a: {kind: python, instaler: uv}}", tmp_path)


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("$ echo one in 0.10 s\none in 7.35 s\n", None),
        ("$ echo one\ntwo\n", "does not show: two"),
        ("$ printf 'one\\ntwo\\n'\ntwo\none\n", "does not show: one"),
        ("$ printf 'one\\ntwo\\n'\n  …\ntwo\n", None),
        ("$ false\n", "ended with 1"),
        ("$ false\n$ echo $?\n1\n", None),
        ("$ echo 1 failed; false\n1 failed\n", None),
        ("$ true\n$ echo $?\n1\n", "does not show: 1"),
        ("$ mkdir sub && cd sub\n$ basename $PWD\nsub\n", None),
        ("```\n\n<!-- setup\nmkdir sub\ncd sub\n-->\n\n```console\n$ basename $PWD\nsub\n", None),
        ("```\n\n<!-- setup\nfalse\ntrue\n-->\n\n```console\n$ true\n", "ended with 1"),
    ],
)
def test_a_page_that_is_wrong_is_found_out(body, wrong, build_workspace):
    found = follow(Shell(build_workspace), list(read(f"\n```console\n{body}```\n")))
    assert (found is None) if wrong is None else found.endswith(wrong)
