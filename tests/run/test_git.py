"""Real git, real repositories."""

import os
import shutil
import subprocess

import pytest

from build_tests.run import git as module
from build_tests.run.git import Git

ODD = ["new\nline", "-rf", 'quo"te', "[x]", "*", ":(glob)**", "b\udcff", "ünï"]


def sh(folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, env=environment)


def write(root, *paths, text="text"):
    for path in paths:
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    write(root, "src/a.py", "src/b.py", "gen/kept.py", "top")
    write(root, ".gitignore", text="out/\n*.log\nnode_modules/\n")
    sh(root, "init", "-q", "-b", "main")
    sh(root, "add", "-A")
    sh(root, "commit", "-qm", "first")
    return root


def test_tracked(repository):
    write(repository, "src/new.py", "out/x", "out/kept")
    sh(repository, "add", "-f", "out/kept")
    git = Git(str(repository))
    assert git.tracked(["src/", "top", "gone", "out"]) == {"src/a.py", "src/b.py", "top", "out/kept"}
    assert git.tracked(["src/a.py", "src/new.py"]) == {"src/a.py"}
    assert git.tracked([""]) >= {".gitignore", "top", "gen/kept.py"}
    assert git.tracked([]) == set()
    assert (git.available, git.problem) == (True, "")


def test_ignored_and_tracked_is_not_ignored(repository):
    write(repository, "out/x", "out/kept", "a.log", "src/new.py", "web/node_modules/p/i.js")
    sh(repository, "add", "-f", "out/kept")
    git = Git(str(repository))
    asked = ["out/x", "out/kept", "a.log", "src/new.py", "src/a.py", "web/node_modules", "gone.log", "gone"]
    assert git.ignored(asked) == {"out/x", "a.log", "web/node_modules", "gone.log"}
    assert git.ignored(["src/a.py"]) == set()
    assert git.problem == ""


def test_the_root_may_lie_below_the_top(repository):
    git = Git(str(repository / "src"))
    write(repository, "src/x.log")
    assert git.tracked(["a.py", "b.py", "c.py"]) == {"a.py", "b.py"}
    assert git.ignored(["x.log", "a.py"]) == {"x.log"}


def test_odd_names_are_names_and_no_patterns(repository):
    write(repository, *ODD, *(f"{name}.log" for name in ODD))
    sh(repository, "--literal-pathspecs", "add", "--", "[x]", "*", "b\udcff", "new\nline")
    git = Git(str(repository))
    for name in ODD:
        assert git.tracked([name]) == ({name} & {"[x]", "*", "b\udcff", "new\nline"})
    assert git.ignored(ODD + [f"{name}.log" for name in ODD]) == {f"{name}.log" for name in ODD}


def test_any_number_of_paths_is_one_process(repository, monkeypatch):
    calls = []
    real = subprocess.run

    def run(command, **options):
        calls.append(command)
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", run)
    git = Git(str(repository))
    many = [f"some/folder/that/is/not/there/{i}" for i in range(20_000)]
    assert git.tracked([*many, "src/a.py", "gen"]) == {"src/a.py", "gen/kept.py"}
    assert git.ignored([*many, "x.log"]) == {"x.log"}
    assert len(calls) == 2


def test_files_of_a_submodule_are_tracked(repository, tmp_path):
    library = tmp_path / "library"
    write(library, "made.txt")
    sh(library, "init", "-q")
    sh(library, "add", "-A")
    sh(library, "commit", "-qm", "first")
    sh(repository, "submodule", "add", "-q", str(library), "lib")
    assert Git(str(repository)).tracked(["lib/made.txt", "lib/other"]) == {"lib/made.txt"}


def test_head(repository):
    git = Git(str(repository))
    commit, dirty = git.head()
    assert (len(commit), dirty) == (40, False)
    write(repository, "untracked")
    assert git.head() == (commit, False)
    write(repository, "top", text="edited")
    assert git.head() == (commit, True)


def test_head_of_a_repository_without_a_commit(tmp_path):
    sh(tmp_path, "init", "-q")
    assert Git(str(tmp_path)).head() is None


def test_the_index_is_not_written(repository):
    os.utime(repository / "top", (1, 1))  # a refresh of the index would want to write it down
    before = os.stat(repository / ".git/index")
    git = Git(str(repository))
    git.head()
    git.tracked(["top"])
    after = os.stat(repository / ".git/index")
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_hook_s_environment_does_not_answer_for_another_repository(repository, tmp_path, monkeypatch):
    other = tmp_path / "other"
    write(other, "src/other.py")
    sh(other, "init", "-q")
    sh(other, "add", "-A")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    monkeypatch.setenv("GIT_GLOB_PATHSPECS", "1")
    git = Git(str(repository))
    assert git.tracked(["src"]) == {"src/a.py", "src/b.py"}
    assert git.head() is not None


class TestWithoutAnswer:
    def nothing(self, git):
        return (git.available, git.tracked(["top"]), git.ignored(["a.log"]), git.head()) == (False, set(), set(), None)

    def test_no_repository(self, tmp_path, monkeypatch):
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        git = Git(str(tmp_path))
        assert self.nothing(git)
        assert git.problem == ""

    def test_no_git(self, repository, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        git = Git(str(repository))
        assert self.nothing(git)
        assert git.problem == ""

    def test_a_broken_index_is_a_problem(self, repository):
        with open(repository / ".git/index", "wb") as index:
            index.write(b"nonsense" * 10)
        git = Git(str(repository))
        assert git.tracked(["top"]) == set()
        assert "index" in git.problem

    def test_a_git_that_does_not_answer_is_a_problem(self, repository, tmp_path, monkeypatch):
        write(tmp_path, "bin/git", text="#!/bin/sh\nexec sleep 600\n")
        os.chmod(tmp_path / "bin/git", 0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(module, "SECONDS", 0.2)
        git = Git(str(repository))
        assert git.tracked(["top"]) == set()
        assert "timed out" in git.problem

    def test_a_git_that_asks_gets_no_answer(self, repository, tmp_path, monkeypatch):
        write(tmp_path, "bin/git", text='#!/bin/sh\nread answer && echo "$answer"\necho nobody >&2\nexit 128\n')
        os.chmod(tmp_path / "bin/git", 0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        git = Git(str(repository))
        assert git.head() is None
        assert git.problem == "nobody"

    def test_a_problem_is_forgotten_with_the_next_answer(self, repository):
        shutil.copy(repository / ".git/index", repository / "saved")
        with open(repository / ".git/index", "wb") as index:
            index.write(b"nonsense" * 10)
        git = Git(str(repository))
        git.tracked(["top"])
        assert git.problem
        shutil.copy(repository / "saved", repository / ".git/index")
        assert git.tracked(["top"]) == {"top"}
        assert not git.problem
