"""Lockfiles of five managers, as the real ones wrote them for one workspace: who reaches what."""

import json
from pathlib import Path

import pytest
from build_tests.builders import _lockfiles as lockfiles

DATA = Path(__file__).parent.parent / "data" / "lockfiles"
FILES = {
    "npm": ("package-lock.json", "package-lock.json"),
    "pnpm": ("pnpm-lock.yaml", "pnpm-lock.yaml"),
    "yarn": ("yarn.lock", "classic.lock"),
    "berry": ("yarn.lock", "berry.lock"),
    "bun": ("bun.lock", "bun.lock"),
}
EVERY = pytest.mark.parametrize("manager", FILES)
MEMBERS = {
    "": {"name": "shop-web", "devDependencies": {"ms": "2.1.3"}},
    "packages/core": {"name": "@shop/core", "dependencies": {"is-odd": "3.0.1"}},
    "packages/ui": {
        "name": "@shop/ui",
        "dependencies": {"@shop/core": "1.0.0", "is-even": "1.0.0"},
        "peerDependencies": {"ms": "*"},
    },
    "apps/site": {
        "name": "site",
        "dependencies": {"@shop/ui": "1.0.0", "wrappy": "1.0.2"},
        "devDependencies": {"is-number": "7.0.0"},
        "optionalDependencies": {"once": "1.4.0"},
    },
}
"""What the lockfiles were made of; pnpm, berry and bun ask for their own packages with workspace:."""


def text_of(manager):
    return (DATA / FILES[manager][1]).read_text(encoding="utf-8")


def members_for(manager):
    asked = {"berry": "workspace:^", "pnpm": "workspace:*", "bun": "workspace:*"}.get(manager, "1.0.0")
    return json.loads(json.dumps(MEMBERS).replace('"@shop/core": "1.0.0"', f'"@shop/core": "{asked}"'))


def facts(manager, text=None):
    members = members_for(manager)
    text = text_of(manager) if text is None else text
    lock = lockfiles.read(FILES[manager][0], text, members)
    return {folder: lock.facts(folder, wanted(manifest)) for folder, manifest in members.items()}


def wanted(manifest):
    return {name: text for kind in lockfiles.KINDS for name, text in manifest.get(kind, {}).items()}


@EVERY
def test_each_package_finds_its_own_versions(manager):
    versions = {
        folder: {name: value.partition(" ")[0] for name, value in found.items()}
        for folder, found in facts(manager).items()
    }
    assert versions == {
        "": {"ms": "2.1.3"},
        "packages/core": {"is-odd": "3.0.1"},
        "packages/ui": {"@shop/core": "workspace", "is-even": "1.0.0", "ms": "2.1.3"},
        "apps/site": {"@shop/ui": "workspace", "is-number": "7.0.0", "once": "1.4.0", "wrappy": "1.0.2"},
    }


CHANGES = {
    # what another resolution of it would touch: an own dependency, one behind others, one two packages share
    "is-even": {"packages/ui", "apps/site"},
    "is-buffer": {"packages/ui", "apps/site"},
    "is-odd@3": {"packages/core", "packages/ui", "apps/site"},
    "once": {"apps/site"},
    "ms": {"", "packages/ui", "apps/site"},
}
MARKS = {
    "is-even": ("LEhnkAdJqic4Dbqn58A0y52IXoHWlsueqQkKfMfdEnIYG8A1sm", "2728cc2f390d07c6a44a054aa53ae6ce57c3"),
    "is-buffer": ("NcdALwpXkTm5Zvvbk7owOUSvVvBKDgKP5", "ae18aa0b6e113d6c490ad1db5e8df9bdb57758"),
    "is-odd@3": ("CQpnWPrDwmP1", "89ee2e353c5a3f3bd400c79db1c307a5b3506198ee"),
    "once": ("lNaJgI", "5d48aca287dfefabd756621c5dfce5c91a549a93e9fdb7b8246"),
    "ms": ("6FlzubTLZG3J2a", "d924b57e7312b3b63ad21fc5b3dc0af5e78d61a1fc7cfb5457edaf26326b"),
}


@EVERY
@pytest.mark.parametrize("changed", CHANGES)
def test_another_resolution_is_seen_by_those_who_reach_it_and_by_nobody_else(manager, changed):
    mark = MARKS[changed][manager == "berry"]
    text = text_of(manager)
    assert mark in text
    before, after = facts(manager), facts(manager, text.replace(mark, mark[::-1]))
    assert {folder for folder in before if before[folder] != after[folder]} == CHANGES[changed]


@EVERY
def test_a_dependency_that_is_not_in_the_lockfile_is_none_of_its_entries(manager):
    lock = lockfiles.read(FILES[manager][0], text_of(manager), members_for(manager))
    assert lock.facts("packages/ui", {"left-pad": "^1.0.0"}) == {"left-pad": lockfiles.UNLOCKED}


def test_npms_first_format_is_the_same_tree():
    old = {
        "lockfileVersion": 1,
        "requires": True,
        "dependencies": {
            "a": {"version": "1.0.0", "integrity": "A", "requires": {"b": "^1.0.0"},
                  "dependencies": {"b": {"version": "1.1.0", "integrity": "B1"}}},
            "b": {"version": "2.0.0", "integrity": "B2"},
        },
    }  # fmt: skip

    def read(data):
        return lockfiles.read("package-lock.json", json.dumps(data), {}).facts("", {"a": "1", "b": "2"})

    before = read(old)
    assert [text.partition(" ")[0] for text in before.values()] == ["1.0.0", "2.0.0"]
    old["dependencies"]["b"]["integrity"] = "B3"
    after = read(old)
    assert after["a"] == before["a"]  # it has a b of its own
    assert after["b"] != before["b"]


def test_pnpm_8_wrote_slashes_and_a_package_alone_has_no_importers():
    text = """
lockfileVersion: '6.0'

dependencies:
  react-dom:
    specifier: ^18.2.0
    version: 18.2.0(react@18.2.0)

packages:

  /react-dom@18.2.0(react@18.2.0):
    resolution: {integrity: sha512-dom}
    peerDependencies:
      react: ^18.2.0
    dependencies:
      react: 18.2.0
    dev: false

  /react@18.2.0:
    resolution: {integrity: sha512-REACT}
    dev: false
"""

    def read(text):
        return lockfiles.read("pnpm-lock.yaml", text, {}).facts("", {"react-dom": "^18.2.0"})["react-dom"]

    assert read(text).startswith("18.2.0 ")
    assert read(text) != read(text.replace("REACT", "OTHER"))
    assert read(text) == read(text.replace("dev: false", "dev: true"))  # who else needs it is no matter


def test_a_cycle_of_packages_ends():
    text = '"a@1":\n  version "1.0.0"\n  integrity A\n  dependencies:\n    b "1"\n\nb@1:\n  version "1.0.0"\n  integrity B\n  dependencies:\n    a "1"\n'
    found = lockfiles.read("yarn.lock", text, {}).facts("", {"a": "1", "b": "1"})
    assert all(value.startswith("1.0.0 ") for value in found.values())


@pytest.mark.parametrize(("file", "text"), [("package-lock.json", "{"), ("package-lock.json", "[]"), ("bun.lock", "{}")])
def test_what_is_no_lockfile_says_so(file, text):
    with pytest.raises(ValueError, match="can't be read as a lockfile"):
        lockfiles.read(file, text, {})


def test_long_keys_stand_behind_a_question_mark():
    assert lockfiles.indented('? "a@1, b@2"\n:\n  version: 1\nc: d\n') == {"a@1, b@2": {"version": "1"}, "c": "d"}


def test_json_with_comments():
    text = '{ // one\n "a": "x // no, \\"], }", /* two */ "b": [1, 2,], }'
    assert lockfiles.without_comments(text) == {"a": 'x // no, "], }', "b": [1, 2]}
