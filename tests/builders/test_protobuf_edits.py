"""Kind protobuf: which edits rebuild which steps, on the steps as they are derived."""

import os

import pytest
from build_tests.builders.protobuf import LanguageOptions, ProtobufBuilder
from derived import Derived, changed

FILES = {
    "app/shop.proto": 'import "parts/part.proto";\nimport "money/money.proto";\nmessage Shop {}\n',
    "app/parts/part.proto": "message Part {}\n",
    "app/buf.yaml": "version: v2\n",
    "common/money/money.proto": 'import "base/unit.proto";\n',
    "common/base/unit.proto": "enum Unit { NONE = 0; }\n",
    "common/other.proto": "message Other {}\n",
    "tools/protoc-gen-own": "#!/bin/sh\n",
    ".git/refs/heads/main": "1" * 40 + "\n",
}
LANGUAGES = {
    "python": LanguageOptions(out="gen/python"),
    "go": LanguageOptions(out="gen/go", grpc=True),
    "own": LanguageOptions(out="gen/own", plugin="//tools/protoc-gen-own"),
}
CODE = set(LANGUAGES)
CHECKS = {"lint", "breaking"}


@pytest.fixture
def derived(tmp_path):
    return Derived(tmp_path, ProtobufBuilder, FILES, languages=LANGUAGES, imports=("//common",), breaking="main")


def replace_language(derived, name, **options):
    derived.options["languages"] = {**LANGUAGES, name: LanguageOptions(**options)}


REBUILD = {
    "a source": (lambda d: d.append("app/shop.proto", "message New {}\n"), CODE | CHECKS),
    "a comment": (lambda d: d.append("app/shop.proto", "// said\n"), CODE | CHECKS),
    "a new source": (lambda d: d.write("app/new.proto", ""), CODE | CHECKS),
    "a deleted source": (lambda d: (d.root / "app/parts/part.proto").unlink(), CODE | CHECKS),
    "a renamed source": (
        lambda d: (d.root / "app/shop.proto").rename(d.root / "app/store.proto"),
        CODE | CHECKS,
    ),
    "a mode bit": (lambda d: (d.root / "app/shop.proto").chmod(0o755), CODE | CHECKS),
    "an imported file": (lambda d: d.append("common/money/money.proto", "\n"), CODE),
    "a file that an imported one imports": (lambda d: d.append("common/base/unit.proto", "\n"), CODE),
    "an import that is new": (
        lambda d: d.append("common/base/unit.proto", 'import public "other.proto";\n'),
        CODE,
    ),
    "a plugin of the repository": (lambda d: d.append("tools/protoc-gen-own", "exit 1\n"), {"own"}),
    "a generator's options": (
        lambda d: replace_language(d, "python", out="gen/python", options=()),
        {"python"},
    ),
    "the folder of the code": (lambda d: replace_language(d, "python", out="gen/py"), {"python", "generate"}),
    "buf's configuration": (lambda d: d.append("app/buf.yaml", "# strict\n"), CHECKS),
    "buf's lockfile": (lambda d: d.write("app/buf.lock", ""), CHECKS),
    "the branch that it must be compatible with": (
        lambda d: d.write(".git/refs/heads/main", "2" * 40),
        {"breaking"},
    ),
}


@pytest.mark.parametrize("edit", REBUILD)
def test_what_must_rebuild(derived, edit):
    change, expected = REBUILD[edit]
    assert derived.rebuilt_by(change) == expected


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("protoc", CODE),
        ("protoc_gen_go", {"go"}),
        ("protoc_gen_go_grpc", {"go"}),
        ("buf", CHECKS),
        ("git", {"breaking"}),
    ],
)
def test_another_version_of_a_tool_rebuilds_what_uses_it(derived, tool, expected):
    assert changed(derived.keys(), derived.keys(**{tool: "2"})) == expected


KEEP = {
    "a README": lambda d: d.write("app/README.md", "# Shop\n"),
    "an editor's backup": lambda d: d.write("app/shop.proto~", "message Old {}\n"),
    "an editor's swap file": lambda d: d.write("app/.shop.proto.swp", ""),
    "another kind of source": lambda d: d.write("app/shop.go", "package shop\n"),
    "a file beside the imported ones": lambda d: d.append("common/other.proto", "\n"),
    "a new file beside the imported ones": lambda d: d.write("common/money/more.proto", ""),
    "another component's schema": lambda d: d.write("elsewhere/x.proto", ""),
    "what a step made": lambda d: d.write("app/gen/python/copied.proto", "message Copy {}\n"),
    "the time of a source": lambda d: os.utime(d.root / "app/shop.proto", (1, 1)),
    "another branch": lambda d: d.write(".git/refs/heads/topic", "3" * 40),
    "what is no plugin": lambda d: d.write("tools/README", ""),
    "buf's template, where languages are named": lambda d: d.write("app/buf.gen.yaml", "version: v2\n"),
}


@pytest.mark.parametrize("edit", KEEP)
def test_what_must_not_rebuild(derived, edit):
    assert derived.rebuilt_by(KEEP[edit]) == set()
