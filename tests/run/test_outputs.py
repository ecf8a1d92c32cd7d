"""Outputs on disk: what a run left, whether it is still that, and what may be removed before the next run."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from build_tests.core.digest import SLACK_NS, FileTable
from build_tests.core.globs import Tree
from build_tests.core.model import Identity, Output
from build_tests.run import outputs
from build_tests.run.git import Git
from build_tests.run.outputs import STAMP, Deviation


def write(root, *paths, text="text"):
    for path in paths:
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)


def everything(root):
    """Each path below a root with what it is."""
    found = {}
    for folder, folders, files in os.walk(root):
        if ".git" in folders:
            folders.remove(".git")
        for name in folders + files:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, root)] = (
                os.readlink(path) if os.path.islink(path) else "folder" if name in folders else Path(path).read_bytes()
            )
    return found


def wait_until_settled(root):
    newest = max(os.lstat(os.path.join(f, n)).st_ctime_ns for f, d, n_ in os.walk(root) for n in [*d, *n_, "."])
    while time.time_ns() <= newest + SLACK_NS:
        pass


REPORT = Output(path="out/report.txt")
ASSETS = Output(path="out/assets", directory=True)
BOTH = [REPORT, ASSETS]
MODULES = Output(path="web/node_modules", directory=True, identity=Identity.INSTALLED)
IMAGE = Output(path="shop/web:dev", identity=Identity.IMAGE)


def capture(root, declared):
    return outputs.capture(str(root), declared, FileTable(str(root)), Tree(str(root)))


def intact(root, manifest, declared, table=None, tree=None):
    manifest = json.loads(json.dumps(manifest))
    return outputs.intact(manifest, declared, table or FileTable(str(root)), tree or Tree(str(root)))


@pytest.fixture
def made(tmp_path):
    write(tmp_path, "out/report.txt", "out/assets/a.js", "out/assets/deep/er/b.js", "out/assets/__pycache__/c.pyc")
    os.mkdir(tmp_path / "out/assets/hollow")
    os.symlink("a.js", tmp_path / "out/assets/latest")
    os.symlink("nowhere", tmp_path / "out/assets/dangling")
    os.chmod(tmp_path / "out/assets/a.js", 0o755)
    wait_until_settled(tmp_path)
    return tmp_path


# --- capture ---


def test_a_manifest_lists_files_links_and_empty_folders(made):
    captured = capture(made, [*BOTH, IMAGE])
    assert captured.missing == ()
    assert sorted((entry[0], entry[1]) for entry in captured.manifest) == [
        ("out/assets/__pycache__/c.pyc", "f"),
        ("out/assets/a.js", "x"),
        ("out/assets/dangling", "l"),
        ("out/assets/deep/er/b.js", "f"),
        ("out/assets/hollow", "d"),
        ("out/assets/latest", "l"),
        ("out/report.txt", "f"),
    ]
    assert set(captured.digests) == {"out/report.txt", "out/assets"}
    assert outputs.total_size(captured.manifest) == 16


def test_an_empty_file_and_an_empty_folder_are_outputs(tmp_path):
    write(tmp_path, "out/report.txt", text="")
    os.mkdir(tmp_path / "out/assets")
    captured = capture(tmp_path, BOTH)
    assert captured.missing == ()
    assert [entry[:2] for entry in captured.manifest] == [["out/report.txt", "f"], ["out/assets", "d"]]
    assert intact(tmp_path, captured.manifest, BOTH) is None


def test_what_was_not_produced_is_named(tmp_path):
    write(tmp_path, "real/x", "file", "folder/x")
    os.symlink("nowhere", tmp_path / "dangling")
    os.symlink("real", tmp_path / "to_folder")
    os.symlink("file", tmp_path / "to_file")
    os.mkfifo(tmp_path / "pipe")
    declared = [Output(path=p) for p in ("gone", "gone/below", "dangling", "folder", "pipe", "to_file")]
    declared += [Output(path=p, directory=True) for p in ("lost", "file", "to_folder", "real")]
    captured = capture(tmp_path, declared)
    assert captured.missing == (
        "gone",
        "gone/below",
        "dangling (a dangling link)",
        "folder (a folder: declare it as folder/)",
        "pipe (not a file)",
        "lost",
        "file (not a folder)",
        "to_folder (a link, not a folder)",
    )
    assert set(captured.digests) == {"to_file", "real"}


@pytest.mark.parametrize(
    "change",
    [
        lambda root: write(root, "out/assets/a.js", text="TEXT"),
        lambda root: os.chmod(root / "out/assets/a.js", 0o644),
        lambda root: os.rename(root / "out/assets/a.js", root / "out/assets/b.js"),
        lambda root: os.rmdir(root / "out/assets/hollow"),
        lambda root: os.mkdir(root / "out/assets/deep/hollow"),
        lambda root: write(root, "out/assets/hollow/x", text=""),
        lambda root: (os.unlink(root / "out/assets/latest"), os.symlink("b.js", root / "out/assets/latest")),
        lambda root: (os.unlink(root / "out/assets/latest"), write(root, "out/assets/latest", text="a.js")),
    ],
)
def test_every_difference_gives_another_digest_and_times_give_none(made, change):
    before = capture(made, BOTH).digests
    os.utime(made / "out/assets/a.js", (1, 1))
    assert capture(made, BOTH).digests == before
    change(made)
    after = capture(made, BOTH).digests
    assert after["out/assets"] != before["out/assets"]
    assert after["out/report.txt"] == before["out/report.txt"]


def test_names_can_not_be_forged_into_another_digest(tmp_path):
    """One file whose path reads like the rows of two, if nothing stood between the fields."""
    one, two = tmp_path / "one", tmp_path / "two"
    write(two, "out/assets/a", "out/assets/b")
    both = capture(two, [ASSETS])
    write(one, f"out/assets/af{both.manifest[0][2]}/b")
    assert capture(one, [ASSETS]).digests != both.digests


# --- intact ---


def test_a_check_in_which_nothing_changed_reads_nothing(made):
    table, tree = FileTable(str(made)), Tree(str(made))
    manifest = outputs.capture(str(made), BOTH, table, tree).manifest
    table, tree = FileTable(str(made), table.export()), Tree(str(made), tree.export())
    assert intact(made, manifest, BOTH, table, tree) is None
    assert (table.hashes, tree.listings, table.dirty, tree.dirty) == (0, 0, False, False)
    # Six files and links and five folders; the empty one is an entry as well.
    assert table.stats == 7
    assert tree.stats == 5


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: os.unlink(root / "out/report.txt"), ("missing", "out/report.txt")),
        (lambda root: os.unlink(root / "out/assets/deep/er/b.js"), ("missing", "out/assets/deep/er/b.js")),
        (lambda root: os.rmdir(root / "out/assets/hollow"), ("missing", "out/assets/hollow")),
        (lambda root: outputs.remove(str(root / "out")), ("missing", None)),
        (lambda root: write(root, "out/assets/a.js", text="TEXT"), ("changed", "out/assets/a.js")),
        (lambda root: os.chmod(root / "out/report.txt", 0o755), ("changed", "out/report.txt")),
        (lambda root: write(root, "out/assets/new.js"), ("extra", "out/assets/new.js")),
        (lambda root: os.mkdir(root / "out/assets/new"), ("extra", "out/assets/new")),
        (lambda root: os.symlink("a.js", root / "out/assets/new"), ("extra", "out/assets/new")),
        (lambda root: os.mkfifo(root / "out/assets/pipe"), ("extra", "out/assets/pipe")),
        (lambda root: write(root, "out/other.txt"), None),
        (lambda root: os.utime(root / "out/report.txt", (1, 1)), None),
    ],
)
def test_deviations_are_named(made, change, expected):
    manifest = capture(made, BOTH).manifest
    change(made)
    found = intact(made, manifest, BOTH)
    if expected is None:
        assert found is None
    else:
        kind, path = expected
        assert found is not None
        assert (found.kind, found.path if path else None) == (kind, path)


def test_a_same_size_edit_with_the_mtime_put_back_is_noticed(made):
    manifest = capture(made, BOTH).manifest
    was = os.stat(made / "out/report.txt")
    write(made, "out/report.txt", text="TEXT")
    os.utime(made / "out/report.txt", ns=(was.st_atime_ns, was.st_mtime_ns))
    assert intact(made, manifest, BOTH) == Deviation(kind="changed", path="out/report.txt")


def test_conservative_reads_every_output(made):
    manifest = capture(made, BOTH).manifest
    table = FileTable(str(made), trust=False)
    assert intact(made, manifest, BOTH, table) is None
    assert table.hashes == 6


def test_an_edit_within_the_tick_of_the_capture_is_noticed(tmp_path):
    write(tmp_path, "out/report.txt")
    manifest = capture(tmp_path, [REPORT]).manifest
    write(tmp_path, "out/report.txt", text="TEXT")
    now = os.lstat(tmp_path / "out/report.txt")
    # As if the clock had not moved on between the capture and the edit.
    manifest[0][3:8] = [now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino, now.st_mode]
    assert intact(tmp_path, manifest, [REPORT]) == Deviation(kind="changed", path="out/report.txt")


# --- stamps ---


def test_a_stamp_stands_for_an_installed_folder(tmp_path):
    write(tmp_path, "web/node_modules/p/index.js")
    folder = str(tmp_path / MODULES.path)
    table = FileTable(str(tmp_path))
    root = str(tmp_path)
    assert outputs.stamp_fault(root, MODULES.path, "k1", table) == "missing"
    assert outputs.read_stamp(folder) == ""
    outputs.write_stamp(folder, "k1")
    table.forget_under(MODULES.path)
    assert outputs.read_stamp(folder) == "k1"
    assert outputs.stamp_fault(root, MODULES.path, "k1", table) == ""
    assert outputs.stamp_fault(root, MODULES.path, "k2", table) == "missing"
    assert outputs.stamp_fault(root, MODULES.path, "", table) == "missing"
    assert capture(tmp_path, [MODULES]).manifest == []


def test_a_stamp_is_not_written_through_links(tmp_path):
    write(tmp_path, "outside/precious", "web/node_modules/x")
    os.symlink(tmp_path / "outside/precious", tmp_path / "web/node_modules" / STAMP)
    outputs.write_stamp(str(tmp_path / "web/node_modules"), "k1")
    os.symlink("node_modules", tmp_path / "web/link")
    with pytest.raises(OSError, match="this is a link"):
        outputs.write_stamp(str(tmp_path / "web/link"), "k2")
    assert (tmp_path / "outside/precious").read_text() == "text"
    assert outputs.read_stamp(str(tmp_path / "web/node_modules")) == "k1"


def test_a_kept_installed_folder_loses_its_stamp_while_its_step_runs(tmp_path):
    write(tmp_path, "web/node_modules/x")
    outputs.write_stamp(str(tmp_path / "web/node_modules"), "k1")
    outputs.prepare(str(tmp_path), [MODULES])
    assert outputs.stamp_fault(str(tmp_path), MODULES.path, "k1", FileTable(str(tmp_path))) == "missing"
    assert (tmp_path / "web/node_modules/x").exists()


# --- clean ---


class NoGit:
    """A git that must not be asked."""

    @property
    def problem(self):
        raise AssertionError("git was asked")

    tracked = ignored = problem


def clean(root, declared, manifest=(), *, interrupted=False, git=None):
    return outputs.clean(
        str(root), declared, manifest_paths=list(manifest), interrupted=interrupted, git=git or Git(str(root))
    )


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    write(root, "src/a.py", "gen/kept.py")
    write(root, ".gitignore", text="ignored/\nnode_modules/\n")
    for arguments in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    return root


def test_what_the_manifest_lists_goes_and_git_is_not_asked(made):
    paths = [entry[0] for entry in capture(made, BOTH).manifest]
    write(made, "out/neighbour.txt")
    assert clean(made, [*BOTH, IMAGE], paths, git=NoGit()) is None
    assert everything(made) == {"out": "folder", "out/neighbour.txt": b"text"}


def test_nothing_there_is_nothing_to_do(tmp_path):
    assert clean(tmp_path, [*BOTH, MODULES, IMAGE], git=NoGit()) is None


def test_a_strange_file_stops_everything_and_is_named(repository):
    write(repository, "out/report.txt", "out/assets/a.js", "out/assets/mine/notes.txt")
    before = everything(repository)
    error = clean(repository, BOTH, ["out/report.txt", "out/assets/a.js"])
    assert str(error) == (
        "out/assets/mine/notes.txt lies in a declared output, not made by this build: "
        "move it away, or let git ignore it"
    )
    assert everything(repository) == before
    write(repository, "out/assets/a/second", "out/assets/b/third")
    assert clean(repository, BOTH, ["out/assets/a.js"]).path == "out/assets/a/second"
    assert "and 2 more lie" in str(clean(repository, BOTH, ["out/assets/a.js"]))


def test_after_an_interrupted_run_everything_in_the_outputs_goes(made):
    assert clean(made, BOTH, interrupted=True, git=NoGit()) is None
    assert everything(made) == {"out": "folder"}


def test_what_git_ignores_goes(repository):
    write(repository, "ignored/a", "ignored/deep/b", "web/node_modules/p/i.js", "src/keep.py")
    declared = [Output(path="ignored", directory=True), MODULES]
    assert clean(repository, declared) is None
    assert set(everything(repository)) == {".gitignore", "src", "src/a.py", "src/keep.py", "gen", "gen/kept.py", "web"}


def test_a_tracked_file_in_an_ignored_folder_stays(repository):
    write(repository, "ignored/a", "ignored/kept")
    subprocess.run(["git", "add", "-f", "ignored/kept"], cwd=repository, check=True)
    error = clean(repository, [Output(path="ignored", directory=True)])
    assert (error.path, "tracked by git" in str(error)) == ("ignored/kept", True)
    assert (repository / "ignored/a").exists()


def test_a_declared_file_goes_unless_git_tracks_it(repository):
    write(repository, "src/new.txt")
    assert clean(repository, [Output(path="src/new.txt")]) is None
    assert not (repository / "src/new.txt").exists()
    error = clean(repository, [Output(path="src/a.py")])
    assert str(error).startswith("src/a.py lies in a declared output, tracked by git")
    assert (repository / "src/a.py").exists()


def test_tracked_outputs_give_up_what_git_can_give_back_and_no_more(repository):
    gen = Output(path="gen", directory=True, tracked=True)
    write(repository, "gen/mine.py")
    assert clean(repository, [gen]).path == "gen/mine.py"
    os.unlink(repository / "gen/mine.py")
    assert clean(repository, [gen]) is None
    assert clean(repository, [Output(path="src/a.py", tracked=True)]) is None
    assert set(everything(repository)) == {".gitignore", "src"}


def test_without_a_repository_only_declared_files_and_listed_ones_go(made, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(made.parent))
    assert clean(made, [REPORT]) is None
    assert clean(made, [ASSETS]).path == "out/assets/__pycache__/c.pyc"
    assert (made / "out/assets/a.js").exists()


def test_a_repository_that_can_not_be_read_costs_no_source(repository):
    with open(repository / ".git/index", "wb") as index:
        index.write(b"nonsense" * 10)
    error = clean(repository, [Output(path="src/a.py")])
    assert (error.path, "git can't say whose" in str(error)) == ("src/a.py", True)
    assert (repository / "src/a.py").exists()


def test_an_installed_folder_goes_by_its_stamp_alone(repository):
    venv = Output(path="env", directory=True, identity=Identity.INSTALLED)
    write(repository, "env/lib/x")
    assert clean(repository, [venv]).path == "env/lib/x"
    outputs.write_stamp(str(repository / "env"), "any key")
    assert clean(repository, [venv], git=NoGit()) is None
    assert not (repository / "env").exists()


class TestLinks:
    def test_nothing_outside_the_outputs_changes(self, tmp_path):
        root = tmp_path / "root"
        write(tmp_path, "outside/precious", "root/out/assets/a.js")
        os.symlink(tmp_path / "outside", root / "out/assets/way_out")
        os.symlink("..", root / "out/assets/loop")
        os.symlink("../../outside/precious", root / "out/report.txt")
        assert clean(root, BOTH, interrupted=True) is None
        assert everything(root) == {"out": "folder"}
        assert everything(tmp_path / "outside") == {"precious": b"text"}

    def test_a_link_in_place_of_a_folder_output_is_unlinked(self, tmp_path):
        write(tmp_path, "outside/precious", "root/out/x")
        os.symlink("../../outside", tmp_path / "root/out/assets")
        assert clean(tmp_path / "root", [ASSETS]).path == "out/assets"
        assert clean(tmp_path / "root", [ASSETS], ["out/assets"]) is None
        assert not os.path.lexists(tmp_path / "root/out/assets")
        assert everything(tmp_path / "outside") == {"precious": b"text"}

    @pytest.mark.parametrize("interrupted", [False, True])
    def test_a_link_above_an_output_is_refused(self, tmp_path, interrupted):
        write(tmp_path, "outside/report.txt", "outside/assets/a.js", "root/x")
        os.symlink("../outside", tmp_path / "root/out")
        error = clean(tmp_path / "root", BOTH, ["out/report.txt", "out/assets/a.js"], interrupted=interrupted)
        assert str(error) == "out is a link, and outputs lie behind it: declare the real folder"
        with pytest.raises(OSError, match="outputs lie behind it"):
            outputs.prepare(str(tmp_path / "root"), BOTH)
        assert set(everything(tmp_path / "outside")) == {"report.txt", "assets", "assets/a.js"}


def test_odd_names_go(tmp_path):
    write(tmp_path, *(f"out/assets/{name}" for name in ["new\nline", "-rf", 'quo"te', "[x]", "*", "b\udcff", ":x"]))
    paths = [entry[0] for entry in capture(tmp_path, [ASSETS]).manifest]
    assert len(paths) == 7
    assert clean(tmp_path, [ASSETS], paths) is None
    assert everything(tmp_path) == {"out": "folder"}


def test_folders_nested_deeper_than_python_recurses(tmp_path):
    deep = tmp_path / "out/assets"
    os.makedirs(deep)
    here = os.open(deep, os.O_RDONLY)
    try:
        for _ in range(1050):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
    finally:
        os.close(here)
    assert clean(tmp_path, [ASSETS], interrupted=True) is None
    assert everything(tmp_path) == {"out": "folder"}


def test_read_only_folders_go_and_what_can_not_be_removed_is_named():
    # Root may do everything: as somebody else. Not in tmp_path: pytest closes the folders above it to other users.
    program = (
        "import os, sys, subprocess\n"
        "from build_tests.core.model import Output\n"
        "from build_tests.run.git import Git\n"
        "from build_tests.run import outputs\n"
        "root = sys.argv[1]\n"
        "if os.geteuid() == 0:\n    os.chown(root, 65534, 65534); os.setegid(65534); os.seteuid(65534)\n"
        "for folder in ('out/assets/ro', 'out/assets/blind', 'shut/assets'):\n"
        "    os.makedirs(os.path.join(root, folder))\n"
        "    open(os.path.join(root, folder, 'file'), 'w').close()\n"
        "os.chmod(root + '/out/assets/ro', 0o555)\n"
        "os.chmod(root + '/out/assets/blind', 0o000)\n"
        "def clean(path):\n"
        "    declared = [Output(path=path, directory=True)]\n"
        "    return outputs.clean(root, declared, manifest_paths=[], interrupted=True, git=Git(root))\n"
        "print(clean('out/assets'), os.listdir(root + '/out'))\n"
        "os.chmod(root + '/shut', 0o555)\n"
        "try:\n    clean('shut/assets')\n"
        "except OSError as error:\n    print(error.strerror, os.path.relpath(error.filename, root))\n"
        "os.chmod(root + '/shut', 0o755)\n"
    )
    with tempfile.TemporaryDirectory() as root:
        said = subprocess.run(
            [sys.executable, "-c", program, root], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    assert said.splitlines() == ["None []", "Permission denied shut/assets"]


def test_parents_are_made_and_nothing_else(tmp_path):
    declared = [Output(path="a/b/file"), Output(path="c/folder", directory=True), Output(path="top"), MODULES, IMAGE]
    outputs.prepare(str(tmp_path), declared)
    outputs.prepare(str(tmp_path), declared)
    assert set(everything(tmp_path)) == {"a", "a/b", "c", "web"}
    write(tmp_path, "file")
    with pytest.raises(OSError, match="file"):
        outputs.prepare(str(tmp_path), [Output(path="file/below")])
