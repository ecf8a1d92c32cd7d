"""The pages hang together: the reference is current, each page is on the map, each link leads somewhere."""

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml
from faces.commands import run
from pages import PAGES, ROOT

from build_tests import plugin
from build_tests.faces import cli

CALL = re.compile(r"^(?:\w+=\S+ )*(pytest|pytest-build)( .*)?$")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def test_the_reference_is_current():
    done = subprocess.run([sys.executable, ROOT / "docs" / "make_reference.py", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0, "python docs/make_reference.py"


def test_each_page_is_on_the_map():
    named = {name for name, _ in LINK.findall((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - named == {"index.md"}


def anchors(page):
    """As the usual renderers make them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_link_leads_somewhere():
    lost = []
    for page in PAGES:
        for name, anchor in LINK.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / name) if name else page
            if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
                lost.append(f"{page.name}: {name}#{anchor}")
    assert not lost


def named_commands():
    """Each call of ours that stands in a sentence or a table: where, the program, what is behind it. Blocks are run."""
    for page in PAGES:
        text = re.sub(
            r"^```.*?^```$|^<!--.*?-->$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
        )
        for span in re.findall(r"`([^`\n]+)`", text):
            if (found := CALL.match(span)) and "COMMAND" not in span:
                one_of = [word.partition("|")[0] for word in shlex.split(found[2] or "")]
                yield f"{page.name}: {span}", found[1], one_of


class Options(set):
    """The names that our plugin declares."""

    def getgroup(self, *_):
        return self

    def addoption(self, name, **_):
        self.add(name)


OPTIONS = Options()
plugin.pytest_addoption(OPTIONS)


def is_known(program, words):
    if program == "pytest":
        return {word.partition("=")[0] for word in words if word.startswith("--build")} <= OPTIONS
    if not words or words[0] not in cli.COMMANDS:
        return False
    module = importlib.import_module(f"build_tests.faces.{cli.COMMANDS[words[0]][0]}")
    ours, _ = cli.split_at_dashes(words[1:])
    try:
        return not cli.parser_of(words[0], module).parse_known_args(ours)[1]
    except SystemExit:
        return False


def test_each_named_command_exists():
    named = list(named_commands())
    assert len(named) > 30
    assert [where for where, program, words in named if not is_known(program, words)] == []


@pytest.mark.parametrize(
    ("program", "words"), [("pytest", ["--build-no"]), ("pytest-build", ["bild"]), ("pytest-build", ["log", "--no"])]
)
def test_a_command_that_is_not_there_is_found_out(program, words):
    assert not is_known(program, words)


PROFILE = ROOT / "docs" / "profile.md"
DOCUMENT = re.compile(r"^\| `(?P<command>[^`]+)` \| (?P<version>\d+) \| (?P<fields>.*) \|$", re.MULTILINE)


def test_each_document_of_json_is_as_its_page_says(build_workspace):
    ws = build_workspace
    ws.components(text={"steps": {"shout": {"command": "tr a-z A-Z <in.txt >out.txt", "inputs": ["in.txt"], "outputs": ["out.txt"]}}})
    for text in ("one", "two"):
        ws.write("text/in.txt", text)
        assert ws.build().status == 0
    rows = list(DOCUMENT.finditer((ROOT / "docs" / "json.md").read_text(encoding="utf-8")))
    assert len(rows) >= 13
    for row in rows:
        command = row["command"].replace("[ran\\|failed]", "ran").replace("LABEL", "text:shout").replace(" X ", " last~1 ")
        done = run(ws, *command.replace("RUN RUN", "last~1 last").split())
        document = json.loads(done.stdout)
        assert document.pop("version") == int(row["version"]), command
        text = row["fields"] if "profile.md" not in row["fields"] else PROFILE.read_text(encoding="utf-8")
        assert {name for name in document if f"`{name}`" not in text} == set(), command
        for step in document.get("steps", ()) if "`steps`: `label`" in text else ():
            assert {name for name in step if f"`{name}`" not in text} == set(), command


STRICT = {"validation": "strict"}


@pytest.mark.real("mkdocs")
def test_our_own_build_makes_the_site(build_workspace):
    ws = build_workspace
    ours = yaml.safe_load((ROOT / "config" / "build.yml").read_text(encoding="utf-8"))["components"]["docs"]
    ws.write("build.yml", json.dumps({"version": "2.0", "components": {"docs": ours}, "targets": {"all": STRICT}}))
    shutil.copytree(ROOT / "docs", ws.root / "docs")
    for name in (
        "mkdocs.yml",
        "benchmarks/results.md",
        "benchmarks/cache.md",
        "benchmarks/fast.md",
        *(page.name for page in ROOT.glob("*.md")),
    ):
        ws.write(name, (ROOT / name).read_text(encoding="utf-8"))
    done = ws.build("--build-target", "all", "--build-select", "docs", "--build-trace")
    assert done.outcomes() == {"docs:site": "built"}, done.output  # strict: nothing undeclared is read or written
    assert "What it promises" in ws.read("build/docs/index.html")
    assert 'href="docs/tutorial.html"' in ws.read("build/docs/index.html")
    first = ws.read("build/docs/sitemap.xml")
    shutil.rmtree(ws.root / "build")
    assert ws.build("--build-select", "docs", "--build-cache", "off").outcomes() == {"docs:site": "built"}
    assert ws.read("build/docs/sitemap.xml") == first
