"""What real tools printed when they failed, in tests/data/failures, and what of it is told first.

first_errors.json holds every first error. UPDATE_GOLDEN=1 writes it and the table of docs/errors.md anew: read the difference.
"""

import json
import os
import re
from pathlib import Path

import pytest

from build_tests.run.logs import first_error
from build_tests.run.pinpoint import pinpoint
from build_tests.run.text import scrub

ROOT = Path(__file__).parents[2]
LOGS = sorted((ROOT / "tests/data/failures").glob("*.txt"))
GOLDEN = ROOT / "tests/data/failures/first_errors.json"
PAGE = ROOT / "docs/errors.md"
PLACE = re.compile(r"[\w./-]+\.\w+['\"]?(?:: ?|, line | line: | [(]line | ?[(\[]|:[(\[]| )[(]?\d+|\.c:\(\.text")
"""A file, and a line in it: each tool has a way of its own."""
LONGEST = 130
NO_PLACE = {
    "docker-copy": "docker names the instruction, not its line",
    "docker-instruction": "docker says the line of the Dockerfile, and not which",
    "docker-run": "what a RUN prints is its own matter",
    "docker-run-classic": "what a RUN prints is its own matter",
    "gradle-dependency": "of no file",
    "maven-dependency": "of no file",
    "npm-lockfile": "of no line",
    "pip-no-version": "of no line",
    "uv-hashes": "of no line",
    "uv-no-version": "of no line",
}
TABLE = {
    "kotlinc-type": "Kotlin, kotlinc",
    "gradle-script": "Kotlin, Gradle's own file",
    "maven-test": "Java, a test under Maven",
    "webpack-types": "TypeScript, webpack",
    "eslint-rules": "TypeScript, ESLint",
    "vitest-assertion": "TypeScript, Vitest",
    "pytest-import": "Python, pytest",
    "protoc-import": "Protobuf, protoc",
    "docker-run": "an image",
    "cargo-syntax": "Rust, cargo",
    "go-type": "Go",
    "gcc-link": "C, the linker",
}


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_the_first_error_of_a_real_failure(log):
    assert first_error(str(log)).splitlines() == golden()[log.stem]


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_it_names_file_and_line_where_the_tool_does(log):
    assert (PLACE.search(first_error(str(log))) is None) is (log.stem in NO_PLACE)


def test_each_golden_error_has_its_log():
    assert set(golden()) == {log.stem for log in LOGS}


def test_the_page_shows_what_the_logs_and_the_code_say():
    assert len(TABLE) >= 10
    assert table() in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("said", "file", "place"),
    [
        ("gradle-kotlin-type", "lib/src/main/kotlin/Price.kt", "lib/src/main/kotlin/Price.kt:2:26"),
        ("gradle-script", "lib/build.gradle", "lib/build.gradle:2"),
        ("gradle-javac", "services/tax/src/main/java/shop/tax/Tax.java", "services/tax/src/main/java/shop/tax/Tax.java:1"),
        ("maven-test-with-spaces", "src/test/kotlin/shop/orders/PricingTest.kt", "src/test/kotlin/shop/orders/PricingTest.kt:12"),
        ("eslint-rules", "lint/same.js", "lint/same.js:2:9"),
        ("cargo-syntax", "src/basket.rs", "src/basket.rs:2:14"),
        ("vite-missing-import", "src/index.ts", "src/index.ts:2:25"),
        ("node-test-assertion", "test/sum.mjs", "test/sum.mjs:5:10"),
        ("python-traceback", "lib/y.py", "lib/y.py:3"),
    ],
)
def test_the_place_is_a_file_of_the_repository(tmp_path, said, file, place):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    error = "\n".join(golden()[said])
    for root in ("/repo/shop", "/repo/web", "/repo"):
        error = error.replace(f"{root}/", f"{tmp_path}/")
    assert pinpoint(error, str(tmp_path), "") == place


def golden():
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def table():
    head = ("| | lines | the last of them | what is shown first |", "|---|---|---|---|")
    return "\n".join([*head, *(row(stem, title) for stem, title in TABLE.items())]) + "\n"


def row(stem, title):
    log = ROOT / "tests/data/failures" / f"{stem}.txt"
    said = [scrub(line) for line in log.read_text(encoding="utf-8").splitlines()]
    last = next(line for line in reversed(said) if line.strip())
    return f"| {title} | {len(said)} | {cell([last])} | {cell(first_error(str(log)).splitlines())} |"


def cell(lines):
    short = (line.strip() if len(line) <= LONGEST else f"{line.strip()[:LONGEST]}…" for line in lines)
    return "<br>".join(f"`` {line} ``".replace("|", "\\|") for line in short)


@pytest.mark.skipif("UPDATE_GOLDEN" not in os.environ, reason="the golden file is only written on demand")
def test_write_what_is_told_first():
    found = {log.stem: first_error(str(log)).splitlines() for log in LOGS}
    GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    head, marker, _ = PAGE.read_text(encoding="utf-8").partition("<!-- what follows is written by tests/run/test_failures.py -->\n")
    PAGE.write_text(f"{head}{marker}\n{table()}", encoding="utf-8")
