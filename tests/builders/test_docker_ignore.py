"""A .dockerignore says to us what it says to docker: what moby's own patternmatcher (0.6.1) answered, recorded."""

import json
from pathlib import Path

import pytest
from build_tests.builders._dockerignore import alternatives, from_root, ignored, meet, source_segments

from build_tests.core.builder import ManifestError
from build_tests.core.globs import matches

RECORDED = json.loads((Path(__file__).parents[1] / "data/dockerignore.json").read_text())


@pytest.mark.parametrize("context", ["", "some/[odd] folder"])
def test_the_same_files_are_ignored(context):
    wrong = {}
    front = f"{context}/" if context else ""
    everything = list(from_root((), context))
    for row in RECORDED["rows"]:
        try:
            patterns = [*everything, *ignored(row["text"], context, [()], ".dockerignore")]
            found = [path for path in RECORDED["paths"] if not matches(patterns, front + path)]
        except ManifestError:
            found = None
        if found != row["ignored"]:
            wrong[row["text"]] = found
    assert wrong == {}
    assert sum(row["ignored"] is None for row in RECORDED["rows"]) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [("a[b", "has a \\[ that no \\] closes"), ("!", "lets in nothing"), ("a\\", "ends in a backslash")],
)
def test_a_line_that_docker_refuses_is_named(line, message):
    with pytest.raises(ManifestError, match=f"^web/.dockerignore:2: .*{message}"):
        list(ignored(f"# first\n{line}\n", "web", [()], "web/.dockerignore"))


@pytest.mark.parametrize(
    ("source", "lets_in", "both"),
    [
        ("docs", "**/*.md", ["docs/**/*.md"]),
        ("docs/a.md", "**/*.md", ["docs/a.md", "docs/a.md/**/*.md"]),
        ("docs/a.txt", "**/*.md", ["docs/a.txt/**/*.md"]),
        ("docs", "docs/api", ["docs/api"]),
        ("docs/api", "docs", ["docs/api"]),
        ("docs", "src", []),
        ("lib/python3*/google", "lib", ["lib/python3*/google"]),
        ("lib/python3*/google", "lib/*/g*/x", ["lib/python3*/google/x"]),
        ("*.ts", "a*", ["*.ts"]),
        ("", "a**b", ["ab", "a*/**/b"]),
    ],
)
def test_what_is_let_in_again_is_narrowed_to_what_is_copied(source, lets_in, both):
    found = [way for one in alternatives(lets_in) for way in meet(source_segments(source), one)]
    assert ["/".join(way) for way in found] == both
