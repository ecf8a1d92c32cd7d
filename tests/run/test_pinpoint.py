import pytest

from build_tests.run.pinpoint import pinpoint

SAID = {
    "e: file://{root}/web/src/Main.kt:3:5 Unresolved reference": "web/src/Main.kt:3:5",
    "[ERROR] file://{root}/web/src/Main.kt:[7,9] Unresolved reference": "web/src/Main.kt:7:9",
    "[ERROR] {root}/web/src/Main.kt:[7,9] ';' expected": "web/src/Main.kt:7:9",
    "src/App.tsx(10,5): error TS2322: Type": "web/src/App.tsx:10:5",
    "src/App.tsx:10:5 - error TS2322: Type": "web/src/App.tsx:10:5",
    "ERROR in ./src/App.tsx 3:0-20\nModule not found": "web/src/App.tsx:3:0",
    "NameError: x\nFile \"src/tool.py\", line 7, in f": "web/src/tool.py:7",
    "E   assert 1 == 2\nsrc/tool.py:2: AssertionError": "web/src/tool.py:2",
    "error[E0425]: cannot find value\n --> src/main.rs:2:5": "web/src/main.rs:2:5",
    "shop.proto:3:5: Expected \";\".": "web/shop.proto:3:5",
    "Dockerfile:12\n>>> RUN false": "web/Dockerfile:12",
    "lib/deep.py:1: from the root": "lib/deep.py:1",
    "../lib/deep.py:1: from the folder": "lib/deep.py:1",
    "at 10:05:33 src/App.tsx:1:1 was wrong": "web/src/App.tsx:1:1",
    # Nothing of the repository
    "/usr/include/stdio.h:3:5: error": "",
    "src/gone.c:3:5: error": "",
    "../../outside.py:3: error": "",
    "exit status 1": "",
    "": "",
}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "repo"
    for name in ("src/Main.kt", "src/App.tsx", "src/tool.py", "src/main.rs", "shop.proto", "Dockerfile"):
        (root / "web" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "web" / name).write_text("x")
    (root / "lib").mkdir()
    (root / "lib/deep.py").write_text("x")
    (tmp_path / "outside.py").write_text("x")
    return str(root)


@pytest.mark.parametrize(("said", "place"), SAID.items())
def test_the_place_is_a_file_of_the_repository(root, said, place):
    assert pinpoint(said.replace("{root}", root), root, "web") == place


def test_a_text_of_thousands_of_places_is_no_long_search(root):
    assert pinpoint("a.c:1:1 " * 100_000 + "src/App.tsx:1:1", root, "web") == ""
