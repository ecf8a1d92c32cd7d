"""What a report takes from a log: its end and its first error, whatever bytes the log holds."""

import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_tests.run import logs
from build_tests.run.logs import first_error, tail
from build_tests.run.text import scrub

XML_LEGAL = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")


@pytest.fixture
def log(tmp_path):
    def write(data):
        path = tmp_path / "log"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return str(path)

    return write


def test_tail_is_the_end_from_a_line_start(log):
    path = log("".join(f"line {i}\n" for i in range(10_000)))
    assert tail(path, limit=30) == "line 9997\nline 9998\nline 9999\n"


def test_tail_of_a_short_log_is_all_of_it(log):
    assert tail(log("one\ntwo")) == "one\ntwo"


def test_tail_without_a_log_is_empty(tmp_path):
    assert tail(str(tmp_path / "none")) == ""
    assert first_error(str(tmp_path / "none")) == ""


def test_tail_of_one_endless_line_is_bounded(log):
    assert tail(log(b"x" * 3_000_000), limit=1000) == "x" * 1000


def test_tail_begins_with_a_whole_character(log):
    assert tail(log("ä" * 1000), limit=101) == "ä" * 50


def test_tail_shows_the_last_state_of_a_progress_line(log):
    assert tail(log("get 1%\rget 50%\rget 100%\r\ndone\r\n")) == "get 100%\ndone\n"


def test_tail_of_binary_output_is_legal(log):
    text = tail(log(b"\x00\x1b[31mred\x1b[0m\x1b]0;title\x07 \xff\xfe ]]> \xed\xa0\x80 \x9b"))
    assert XML_LEGAL.fullmatch(text)
    assert "red" in text
    assert "]]>" in text
    assert "title" not in text
    assert "\x1b" not in text


@given(st.text(st.characters() | st.sampled_from("\x1b\x07[]m0;\n\r\0\ud800\udfff￾")))
def test_scrubbed_text_is_legal_and_stays_as_it_is(text):
    once = scrub(text)
    assert XML_LEGAL.fullmatch(once)
    assert "\x1b" not in once
    assert scrub(once) == once
    once.encode("utf-8")


def test_scrub_leaves_ordinary_text_alone():
    text = "Größe: 3 µm → ok\n\ttabbed 🎉\r\n"
    assert scrub(text) == text


FIRST_ERRORS = {
    "maven and javac": (
        (
            "[INFO] Compiling 3 files\n[ERROR] COMPILATION ERROR : \n[INFO] ----\n"
            "[ERROR] /src/main/java/A.java:[3,14] ';' expected\n[ERROR] /src/B.java:[9,1] other\n"
        ),
        "[ERROR] /src/main/java/A.java:[3,14] ';' expected",
    ),
    "maven and kotlinc": (
        (
            "[INFO] kotlin\n[ERROR] file:///src/main/kotlin/Orders.kt:[7,9] Unresolved reference 'totl'.\n"
            "[ERROR] Failed to execute goal\n"
        ),
        "[ERROR] file:///src/main/kotlin/Orders.kt:[7,9] Unresolved reference 'totl'.",
    ),
    "surefire": (
        (
            "[ERROR] Tests run: 2, Failures: 1, Errors: 0 <<< FAILURE! -- in shop.OrderTest\n"
            "[ERROR] shop.OrderTest.total -- Time elapsed: 0.01 s <<< FAILURE!\n"
            "org.opentest4j.AssertionFailedError: expected: <3> but was: <4>\n\tat org.junit\n"
        ),
        (
            "[ERROR] shop.OrderTest.total -- Time elapsed: 0.01 s <<< FAILURE!\n"
            "org.opentest4j.AssertionFailedError: expected: <3> but was: <4>"
        ),
    ),
    "kotlinc": ("w: unused\ne: file:///a/Main.kt:3:5 Unresolved reference: x\n", "e: file:///a/Main.kt:3:5 Unresolved"),
    "javac": ("Note: x\nA.java:3: error: ';' expected\nint x\n     ^\n1 error\n", "A.java:3: error: ';' expected"),
    "tsc": ("src/a.tsx(3,5): error TS2322: Type 'x'\n", "src/a.tsx(3,5): error TS2322: Type 'x'"),
    "tsc in colours": (
        "\x1b[96ma.ts\x1b[0m:\x1b[93m3\x1b[0m:\x1b[93m5\x1b[0m - \x1b[91merror\x1b[0m\x1b[90m TS2322: \x1b[0mType\n",
        "a.ts:3:5 - error TS2322: Type",
    ),
    "webpack": (
        "assets by status 1 KiB\nERROR in ./src/index.tsx 3:0-20\nModule not found: Error: Can't resolve './x'\nmore\n",
        "ERROR in ./src/index.tsx 3:0-20\nModule not found: Error: Can't resolve './x'",
    ),
    "ts-loader": (
        (
            "ERROR in /web/src/App.tsx\n./src/App.tsx 10:5-10\n[tsl] ERROR in /web/src/App.tsx(10,5)\n"
            "      TS2322: Type 'string' is not\n"
        ),
        "ERROR in /web/src/App.tsx\n./src/App.tsx 10:5-10\n[tsl] ERROR in /web/src/App.tsx(10,5)",
    ),
    "python": (
        (
            'start\nTraceback (most recent call last):\n  File "/a.py", line 1, in <module>\n    f()\n'
            "  File \"/b.py\", line 7, in f\n    x\nModuleNotFoundError: No module named 'nope'\nmake: *** x\n"
        ),
        "ModuleNotFoundError: No module named 'nope'\nFile \"/b.py\", line 7, in f",
    ),
    "python, chained": (
        (
            'Traceback (most recent call last):\n  File "/a.py", line 1, in f\n    x\nKeyError: 1\n\n'
            "During handling of the above exception, another exception occurred:\n\n"
            'Traceback (most recent call last):\n  File "/b.py", line 2, in g\n    y\nValueError: bad\n'
        ),
        'ValueError: bad\nFile "/b.py", line 2, in g',
    ),
    "pytest": (
        (
            "=== FAILURES ===\n    def test_a():\n>       assert 1 == 2\nE       assert 1 == 2\n\n"
            "test_a.py:2: AssertionError\n=== short\nFAILED test_a.py::test_a - assert 1 == 2\n"
        ),
        "E       assert 1 == 2\ntest_a.py:2: AssertionError",
    ),
    "protoc": ('x.proto:1:1: warning: unused\nshop.proto:3:5: Expected ";".\n', 'shop.proto:3:5: Expected ";".'),
    "docker": (
        '#8 1.2 x\nERROR: failed to solve: process "/bin/sh -c false" did not complete: exit code: 1\n',
        'ERROR: failed to solve: process "/bin/sh -c false" did not complete: exit code: 1',
    ),
    "gcc": ("In file a.h:1,\na.c:3:5: warning: x\na.c:4:6: error: expected ';'\n", "a.c:4:6: error: expected ';'"),
    "cargo": (
        "error[E0425]: cannot find value `x`\n --> src/main.rs:2:5\n",
        "error[E0425]: cannot find value `x`\n -->",
    ),
    "npm": (
        "npm warn x\nnpm error code E404\nnpm error 404 Not Found\n",
        "npm error code E404\nnpm error 404 Not Found",
    ),
    "sh": ("sh: 1: webpackk: not found\n", "sh: 1: webpackk: not found"),
    "bash": ("./x.sh: line 3: foo: command not found\n", "./x.sh: line 3: foo: command not found"),
    "node": ("/a.js:3\n  throw x\n\nError: Cannot find module 'x'\n    at y\n", "Error: Cannot find module 'x'"),
    "anything": ("working\nfoo: fatal: no such thing\nbye\n", "foo: fatal: no such thing"),
    "buf": (
        'a/v1/a.proto:3:1:warning: x\na/v1/a.proto:4:20:Field name "Y" should be lower_snake_case.\n',
        'a/v1/a.proto:4:20:Field name "Y" should be lower_snake_case.',
    ),
    "go test": (
        "=== RUN   TestFour\n    sums_test.go:7: got 6\n--- FAIL: TestFour (0.00s)\nFAIL\n",
        "    sums_test.go:7: got 6",
    ),
    "cargo test": (
        (
            "test adds ... FAILED\n\n---- adds stdout ----\n\nthread 'adds' (41) panicked at tests/it.rs:3:5:\n"
            "assertion `left == right` failed\n  left: 6\n right: 4\nnote: run with\nerror: test failed, to rerun\n"
        ),
        (
            "thread 'adds' (41) panicked at tests/it.rs:3:5:\nassertion `left == right` failed\n  left: 6\n right: 4"
        ),
    ),
    "a build script of cargo's": (
        (
            "error: failed to run custom build command for `a v0.1.0 (/x)`\n\nCaused by:\n  process didn't exit successfully\n"
            "  --- stderr\n\n  thread 'main' (7) panicked at build.rs:1:13:\n  no schema\n  note: run with `RUST_BACKTRACE=1`\n"
        ),
        "  thread 'main' (7) panicked at build.rs:1:13:\n  no schema\n  note: run with `RUST_BACKTRACE=1`",
    ),
    "nothing known": ("working\nit did not go well\n\n  \n", "it did not go well"),
    "a specific one after a general one": ("error: see below\na.c:4:6: error: x\n", "a.c:4:6: error: x"),
    "behind a progress line": ("1%\r2%\ra.c:4:6: error: x\n", "a.c:4:6: error: x"),
    "empty": ("", ""),
}


@pytest.mark.parametrize(("text", "expected"), FIRST_ERRORS.values(), ids=FIRST_ERRORS)
def test_first_error(log, text, expected):
    found = first_error(log(text))
    assert found.startswith(expected) if expected else found == ""


def test_first_error_is_bounded_and_legal(log):
    found = first_error(log(b"a.c:1:1: error: \x00\x1b[1m\xff" + b"x" * 5_000_000 + b"\n"), limit=500)
    assert found.startswith("a.c:1:1: error: ")
    assert len(found) == 500
    assert XML_LEGAL.fullmatch(found)


def test_an_error_behind_an_endless_line_is_found(log):
    assert first_error(log(b"x" * 5_000_000 + b"\na.c:1:1: error: here\n")) == "a.c:1:1: error: here"


def test_an_error_across_the_border_of_two_blocks_is_found(log):
    error = b"a.c:1:1: error: here"
    for before in range(256 * 1024 - len(error) - 2, 256 * 1024 + 2, 5):
        assert first_error(log(b"x" * (before - 1) + b"\n" + error + b"\nmore\n" * 50_000)) == error.decode()


def test_a_large_log_is_read_in_bounded_memory_at_its_beginning_and_its_end(log, monkeypatch):
    monkeypatch.setattr(logs, "HEAD_SCAN", 1 << 20)
    monkeypatch.setattr(logs, "END_SCAN", 1 << 20)
    noise = b"plain output of some length, nothing to see\n" * 200_000
    path = log(noise + b"a.c:9:9: error: in the middle\n" + noise + b"b.c:1:1: error: at the end\n")
    tracemalloc.start()
    try:
        assert first_error(path) == "b.c:1:1: error: at the end"
        assert tail(path).endswith("at the end\n")
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
