"""What patterns mean, against a slow and simple reader of the same rules; what a walk costs."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from build_tests.core.digest import SLACK_NS, FileTable
from build_tests.core.globs import (
    NEVER,
    PathSet,
    Tree,
    UnreadableError,
    escape,
    is_literal,
    literal_prefix,
    matches,
    reaches,
    validate,
)


def write(root, *paths):
    for path in paths:
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(path.encode("utf-8", "replace").decode())


def wait_until_settled(*paths):
    """Until no edit could hide behind the time stamps of what is there now."""
    newest = max(os.lstat(p).st_ctime_ns for p in paths)
    while time.time_ns() <= newest + SLACK_NS:
        pass


def folders_of(root):
    return [folder for folder, _, _ in os.walk(root)]


# --- a second opinion: walk everything, match segments recursively ---


def naive(root, patterns):
    every = []
    for folder, folders, files in os.walk(root):
        links = [f for f in folders if os.path.islink(os.path.join(folder, f))]
        every += [os.path.relpath(os.path.join(folder, f), root) for f in files + links]
    return sorted(path for path in every if wanted(path.split("/"), patterns))


def wanted(names, patterns):
    if NEVER.intersection(names):
        return False
    verdict = False
    for pattern in patterns:
        if means(names, pattern.lstrip("!")):
            verdict = not pattern.startswith("!")
    return verdict


def means(names, pattern):
    parts = pattern.rstrip("/").split("/")
    if pattern.endswith("/"):
        return fits(names, [*parts, "**"])
    if not re.search(r"[*?\[]", parts[-1]):
        return fits(names, parts) or fits(names, [*parts, "**"])
    return fits(names, parts)


def fits(names, parts):
    if not parts:
        return not names
    if parts == ["**"]:
        return bool(names)
    if parts[0] == "**":
        return fits(names, parts[1:]) or (bool(names) and fits(names[1:], parts))
    return bool(names) and name_fits(names[0], parts[0]) and fits(names[1:], parts[1:])


def name_fits(name, part):
    if not part:
        return not name
    if part[0] == "*":
        return name_fits(name, part[1:]) or (bool(name) and name_fits(name[1:], part))
    if part[0] == "[":
        inside, rest = part[1:].split("]", 1)
        return bool(name) and ((name[0] in inside.lstrip("!")) != inside.startswith("!")) and name_fits(name[1:], rest)
    return bool(name) and part[0] in {"?", name[0]} and name_fits(name[1:], part[1:])


NAMES = ["a", "b", "ab", "a.py", "b.py", ".a", "c-a", "__pycache__", ".git"]
PARTS = [*NAMES, "*", "**", "*.py", "?", "a*", "[ab]", "[!a]", "[ab]*", "*a*", "?.*"]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)
one_pattern = st.builds(
    lambda negated, parts, end: negated + "/".join(parts) + end,
    st.sampled_from(["", "", "!"]),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=4),
    st.sampled_from(["", "", "/"]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(paths, min_size=1, max_size=25), st.lists(st.lists(one_pattern, min_size=1, max_size=4), max_size=6))
def test_a_walk_finds_what_the_naive_reader_finds(tmp_path_factory, files, selections):
    root = tmp_path_factory.mktemp("tree")
    for path in files:
        with contextlib.suppress(OSError):  # the path of an earlier file, or below one
            write(root, path)
    tree = Tree(str(root))
    for patterns in selections:
        expected = naive(root, patterns)
        assert tree.select(patterns) == expected
        assert [p for p in naive(root, ["**"]) if matches(patterns, p)] == expected
        # Remembered listings give the same answer as fresh ones.
        assert Tree(str(root), tree.export()).select(patterns) == expected


# --- the rules, one by one ---


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.py"], ["a.py"]),
        (["**/*.py"], ["a.py", "src/b.py", "src/deep/er/c.py"]),
        (["src/"], ["src/.hidden", "src/b.py", "src/deep/er/c.py", "src/deep/x.txt"]),
        (["src"], ["src/.hidden", "src/b.py", "src/deep/er/c.py", "src/deep/x.txt"]),
        (["src/*"], ["src/.hidden", "src/b.py"]),
        (["src/**", "!src/deep/"], ["src/.hidden", "src/b.py"]),
        (["src/**", "!src/deep", "src/deep/x.txt"], ["src/.hidden", "src/b.py", "src/deep/x.txt"]),
        (["!src/b.py", "src/*.py"], ["src/b.py"]),
        (["**/deep"], ["src/deep/er/c.py", "src/deep/x.txt"]),
        (["*/deep/*.txt"], ["src/deep/x.txt"]),
        (["a.py", "src/b.py", "nothing.py"], ["a.py", "src/b.py"]),
        (["a.py/"], []),
        (["a.py/**"], []),
        (["missing/**", "missing/*.py", "missing/"], []),
    ],
)
def test_rules(tmp_path, patterns, expected):
    write(tmp_path, "a.py", "src/b.py", "src/.hidden", "src/deep/x.txt", "src/deep/er/c.py", "src/__pycache__/b.pyc")
    assert Tree(str(tmp_path)).select(patterns) == expected


def test_caches_and_git_are_never_inputs_even_when_named(tmp_path):
    write(tmp_path, ".git/HEAD", ".build/log", "a/__pycache__/x.py", ".pytest_cache/v", "a/ok.py")
    tree = Tree(str(tmp_path))
    named = ["**", ".git/HEAD", ".git/", "a/__pycache__/x.py", "**/.build/log", ".pytest_cache"]
    assert tree.select(named) == ["a/ok.py"]
    assert "never inputs" in validate(".git/HEAD")
    assert validate("!**/__pycache__/") is None


def test_patterns_without_a_file_are_named(tmp_path):
    write(tmp_path, "a.py", "gen/x.py")
    tree = Tree(str(tmp_path))
    patterns = ["a.py", "*.rs", "src/**", "gone.py", "gen/", "!*.md"]
    assert tree.empty_patterns(patterns) == ["*.rs", "src/**", "gone.py"]
    # Nobody expects files where another step's output lies.
    assert tree.empty_patterns(["gen/*.py", "*.rs"], exclude=PathSet(folders=["gen"]).contains) == ["*.rs"]


def test_outputs_are_not_seen(tmp_path):
    write(tmp_path, "web/a.ts", "web/dist/a.js", "web/dist/deep/b.js", "web/version.txt", "web/distant.ts")
    outputs = PathSet(files=["web/version.txt"], folders=["web/dist/"])
    tree = Tree(str(tmp_path))
    assert tree.select(["web/"], exclude=outputs.contains) == ["web/a.ts", "web/distant.ts"]
    assert tree.select(["**", "web/dist/a.js", "web/dist", "web/version.txt"], exclude=outputs.contains) == [
        "web/a.ts",
        "web/distant.ts",
    ]
    assert not any(row[0].startswith("web/dist") for row in tree.export())


def test_path_set():
    known = PathSet(files=["a/b"], folders=["out/", "x/y"])
    inside = ["a/b", "out", "out/", "out/deep/er", "x/y/z", "x/y/"]
    outside = ["a", "a/", "a/b/", "a/b/c", "outer", "x", "x/yy", "", "b"]
    assert [p for p in inside + outside if known.contains(p)] == inside
    assert not PathSet().contains("a")


@pytest.mark.parametrize(
    ("pattern", "prefix", "literal"),
    [
        ("a/b.py", "a/b.py", True),
        ("a/b/", "a/b", True),
        ("a/*.py", "a", False),
        ("a/b*/c", "a", False),
        ("**/a", "", False),
        ("*.py", "", False),
        ("data/**/", "data", False),
        (r"pages/\[id\].tsx", "pages/[id].tsx", True),
        ("!out/*.js", "out", False),
    ],
)
def test_literal_prefix(pattern, prefix, literal):
    assert (literal_prefix(pattern), is_literal(pattern)) == (prefix, literal)
    assert validate(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "empty"),
        ("!", "empty"),
        ("/etc/passwd", "relative to the root"),
        ("../x", "'..'"),
        ("a/./b", "'.'"),
        ("a//b", "''"),
        ("a[b", "no ] closes"),
        ("[z-a]", "backwards"),
        ("[[:alpha:]]", "[a-z]"),
        ("a\\", "backslash"),
        ("a\0b", "NUL"),
    ],
)
def test_malformed_patterns_are_told(tmp_path, pattern, says):
    assert says in validate(pattern)
    with pytest.raises(ValueError, match=re.escape(validate(pattern))):
        Tree(str(tmp_path)).select([pattern])


ODD = [
    "new\nline",
    "-rf",
    "quo'te\"s",
    "[id].tsx",
    "a::b",
    "*",
    "?",
    "back\\slash",
    "!bang",
    "ünï",
    "b\udcff",
    " ",
    "x\n",
]


def test_odd_names(tmp_path):
    write(tmp_path, *(f"odd/{name}" for name in ODD), *ODD)
    tree = Tree(str(tmp_path))
    assert tree.select(["odd/"]) == sorted(f"odd/{name}" for name in ODD)
    for name in ODD:
        assert tree.select([escape(name)]) == [name]
        assert tree.select([escape(f"odd/{name}")]) == [f"odd/{name}"]
        assert matches(["**", "!" + escape(name)], name) is False


class TestLinks:
    def test_loops_dangling_links_and_links_out_of_the_tree_are_entries(self, tmp_path):
        root = tmp_path / "root"
        write(root, "src/a.py")
        write(tmp_path, "outside/secret.py")
        os.symlink(".", root / "src/loop")
        os.symlink("../src", root / "src/up")
        os.symlink("nowhere", root / "src/dangling")
        os.symlink(tmp_path / "outside", root / "src/out")
        os.symlink("self", root / "src/self")
        tree = Tree(str(root))
        expected = ["src/a.py", "src/dangling", "src/loop", "src/out", "src/self", "src/up"]
        assert tree.select(["src/"]) == expected
        assert tree.select(["**"]) == expected
        assert tree.select(["src/out"]) == ["src/out"]
        assert tree.select(["src/self/", "src/self/*.py", "src/dangling/", "src/self/x"]) == []

    def test_what_lies_behind_a_named_link_is_declared(self, tmp_path):
        write(tmp_path, "root/x", "outside/a.py")
        os.symlink("../outside", tmp_path / "root/shared")
        tree = Tree(str(tmp_path / "root"))
        assert tree.select(["shared/*.py"]) == ["shared/a.py"]
        assert tree.select(["shared/"]) == ["shared/a.py"]
        assert tree.select(["shared/a.py"]) == ["shared/a.py"]
        assert tree.select(["*/a.py"]) == []

    def test_specials_are_no_files(self, tmp_path):
        write(tmp_path, "a")
        os.mkfifo(tmp_path / "pipe")
        assert Tree(str(tmp_path)).select(["**"]) == ["a"]


# --- what can't be read ---


def as_nobody(imports, code, *args):
    """Run code as a user whom permissions hold; root reads everything."""
    program = f"import os, sys\n{imports}\nif os.geteuid() == 0:\n    os.setegid(65534); os.seteuid(65534)\n{code}"
    return subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    write(tmp_path, "src/closed/a.py")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UnreadableError, match="can't read 'src/closed': Permission denied"):
        Tree(str(tmp_path)).select(["src/"])


def test_a_folder_removed_between_listing_and_reading_is_named(tmp_path, monkeypatch):
    write(tmp_path, "src/going/a.py")
    real = os.scandir

    def scandir(path):
        entries = real(path)
        if str(path).endswith("src"):
            listed = list(entries)
            os.unlink(tmp_path / "src/going/a.py")
            os.rmdir(tmp_path / "src/going")
            entries = real(path)  # only for its `with`
            return Prelisted(listed, entries)
        return entries

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr("build_tests.core.globs.ATTEMPTS", 1)
    with pytest.raises(UnreadableError, match="can't read 'src/going': it was there a moment ago"):
        Tree(str(tmp_path)).select(["src/"])


class Prelisted:
    def __init__(self, listed, entries):
        self.listed, self.entries = listed, entries

    def __enter__(self):
        self.entries.__enter__()
        return iter(self.listed)

    def __exit__(self, *args):
        return self.entries.__exit__(*args)


# --- memory between runs ---


@pytest.fixture
def workspace(tmp_path):
    write(tmp_path, *(f"p{i}/src/{j}.py" for i in range(10) for j in range(5)))
    wait_until_settled(*folders_of(tmp_path), tmp_path / "p9/src/4.py")
    return tmp_path


PATTERNS = [[f"p{i}/src/*.py", f"p{i}/src/0.py"] for i in range(10)] + [["**/*.py"], ["p1/"], ["p1/src/"]]


def test_a_run_in_which_nothing_changed_lists_nothing(workspace):
    files = FileTable(str(workspace))
    first = Tree(str(workspace), files=files)
    expected = [first.select(p) for p in PATTERNS]
    assert first.dirty
    assert first.listings == 21
    for path in naive(workspace, ["**"]):
        files.lookup(path)
    files = FileTable(str(workspace), files.export())
    second = Tree(str(workspace), first.export(), files=files)
    assert [second.select(p) for p in PATTERNS] == expected
    assert not second.dirty
    assert second.listings == 0
    # Each folder and each literal path once.
    assert second.stats == 21
    assert files.stats == 10
    for path in naive(workspace, ["**"]):
        files.lookup(path)
    assert (files.stats, files.hashes) == (50, 0)


def test_conservative_lists_again(workspace):
    first = Tree(str(workspace))
    first.select(["**"])
    second = Tree(str(workspace), first.export(), trust=False)
    second.select(["**"])
    assert second.listings == 21


def test_changes_are_seen_and_only_their_folder_is_listed(workspace):
    first = Tree(str(workspace))
    first.select(["**"])
    write(workspace, "p3/src/new.py")
    os.unlink(workspace / "p4/src/0.py")
    os.rename(workspace / "p5/src", workspace / "p5/moved")
    second = Tree(str(workspace), first.export())
    assert second.select(["**"]) == naive(workspace, ["**"])
    assert second.dirty
    assert second.listings == 4  # p3/src, p4/src, p5, p5/moved


def test_a_file_added_within_the_tick_of_the_listing_is_seen(tmp_path):
    write(tmp_path, "src/a.py")
    first = Tree(str(tmp_path))
    first.select(["src/"])
    was = os.stat(tmp_path / "src")
    rows = first.export()
    write(tmp_path, "src/b.py")
    now = os.stat(tmp_path / "src")
    # As if the clock had not moved on between the two: the folder shows the very same stat.
    for row in rows:
        if row[0] == "src":
            assert row[2:4] == [was.st_mtime_ns, was.st_ctime_ns]
            row[1:4] = [now.st_size, now.st_mtime_ns, now.st_ctime_ns]
    assert Tree(str(tmp_path), rows).select(["src/"]) == ["src/a.py", "src/b.py"]


def test_a_folder_from_the_future_is_listed_every_time(tmp_path):
    write(tmp_path, "src/a.py")
    os.utime(tmp_path / "src", (2**32, 2**32))
    wait_until_settled(tmp_path / "src")
    first = Tree(str(tmp_path))
    first.select(["src/"])
    second = Tree(str(tmp_path), first.export())
    assert second.select(["src/"]) == ["src/a.py"]
    assert second.listings == 1


def test_nothing_is_looked_at_twice_until_it_is_forgotten(tmp_path):
    write(tmp_path, "src/a.py")
    tree = Tree(str(tmp_path))
    assert tree.select(["src/", "lib/x.py", "**/out/*"]) == ["src/a.py"]
    write(tmp_path, "src/deep/b.py", "lib/x.py", "src/out/y")
    assert tree.select(["src/", "lib/x.py", "**/out/*"]) == ["src/a.py"]
    tree.forget_under("src/out")
    assert tree.select(["src/", "lib/x.py", "**/out/*"]) == ["src/a.py", "src/deep/b.py", "src/out/y"]
    tree.forget_under("")
    assert tree.select(["lib/x.py"]) == ["lib/x.py"]


def test_rows_of_folders_that_are_gone_are_dropped(workspace):
    first = Tree(str(workspace))
    first.select(["**"])
    os.rename(workspace / "p5/src", workspace / "p5/moved")
    assert "p5/src" in {row[0] for row in Tree(str(workspace), first.export()).export()}
    assert "p5/src" not in {row[0] for row in Tree(str(workspace), first.export()).export(prune=True)}


@pytest.mark.parametrize("known", [[None], [[]], [["src"]], [{}], ["text"], [["src", *range(10)]]])
def test_rows_that_are_no_rows_do_no_harm(tmp_path, known):
    write(tmp_path, "src/a.py")
    assert Tree(str(tmp_path), known).select(["src/"]) == ["src/a.py"]


def test_literal_patterns_list_nothing(workspace):
    tree = Tree(str(workspace))
    assert tree.select([f"p{i}/src/0.py" for i in range(10)]) == [f"p{i}/src/0.py" for i in range(10)]
    assert (tree.listings, tree.stats) == (0, 0)


def test_only_the_literal_prefix_is_walked(workspace):
    tree = Tree(str(workspace))
    tree.select(["p3/src/*.py"])
    assert [row[0] for row in tree.export()] == ["p3/src"]
    pruned = Tree(str(workspace))
    pruned.select(["**", "!p*/"])
    assert [row[0] for row in pruned.export()] == [""]


def test_a_hundred_thousand_files_in_bounded_memory():
    # In memory where there is such a place: a disk takes its time for this many.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as root:
        for i in range(100):
            os.mkdir(f"{root}/d{i:02}")
            for j in range(1000):
                os.mknod(f"{root}/d{i:02}/some_file_name_{j}.csv", 0o100644)
        tracemalloc.start()
        try:
            found = Tree(root).select(["**/*.csv", "!d00/"])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (len(found), found[0], found[-1]) == (99_000, "d01/some_file_name_0.csv", "d99/some_file_name_999.csv")
    # A name, a path and their places in lists: the result itself is the greater part of it.
    assert peak < 32 << 20


def test_as_another_user_who_may_not_look():
    # Not in tmp_path: pytest closes the folders above it to other users.
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        write(root, "src/closed/a.py", "open/b.py")
        for folder in ("src", "open"):
            os.chmod(os.path.join(root, folder), 0o755)
        os.chmod(os.path.join(root, "src/closed"), 0o000)
        said = as_nobody(
            "from build_tests.core.globs import Tree, UnreadableError",
            "for pattern in ('open/', 'src/', 'src/closed/', 'src/closed/a.py', 'src/closed/*/x'):\n"
            "    try:\n        print(Tree(sys.argv[1]).select([pattern]))\n"
            "    except UnreadableError as error:\n        print(error)",
            root,
        )
        os.chmod(os.path.join(root, "src/closed"), 0o755)
    closed = "can't read 'src/closed': Permission denied"
    assert said.splitlines() == [
        "['open/b.py']", closed, closed, "can't read 'src/closed/a.py': Permission denied", closed,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("patterns", "folder", "expected"),
    [
        (["a/**"], "a/b", True),
        (["a/*.c"], "a", True),
        (["a/*.c"], "a/b", False),
        (["a"], "a/b", True),
        (["a/b/c"], "a/b", True),
        (["a/**/x"], "a/b", True),
        (["b/**"], "a", False),
        (["a/**", "!a/b"], "a/b", False),
        (["a/**", "!a/**"], "a/b", False),
        (["a/**", "!a/**/node_modules"], "a/b/node_modules", False),
        (["a/**", "!a/b/*.txt"], "a/b", True),
        (["a/**", "!a/b", "a/b/keep"], "a/b", True),
        (["a/**", "!a/b", "a/c"], "a/b", False),
        (["**"], ".git", False),
    ],
)
def test_whether_patterns_may_mean_something_in_a_folder(patterns, folder, expected):
    assert reaches(patterns, folder) is expected
