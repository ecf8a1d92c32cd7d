"""--build-affected: what the changes since a commit touch, and what depends on it."""


import os
import subprocess

import pytest

from build_tests.project import load_project
from build_tests.run.affected import touched
from build_tests.testing import BuildWorkspace

GIT = {
    "GIT_AUTHOR_NAME": "t", "GIT_COMMITTER_NAME": "t", "GIT_AUTHOR_EMAIL": "t@e", "GIT_COMMITTER_EMAIL": "t@e",
    "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
}  # fmt: skip
COMPONENTS = {
    "proto": {"steps": {"gen": {"command": "cp a.proto gen.txt", "inputs": ["*.proto"], "outputs": ["gen.txt"]}}},
    "web": {"steps": {
        "bundle": {"command": "cat ../proto/gen.txt src/* >out.js", "inputs": ["//proto/gen.txt", "src/"],
                   "outputs": ["out.js"]},
        "image": {"command": ["./pack.sh"], "inputs": ["out.js"], "outputs": ["image"]},
    }},
    "docs": {"steps": {
        "page": {"command": "cp one.md page", "inputs": ["*.md", "!draft.md"], "outputs": ["page"]},
        "deploy": {"command": "true", "inputs": ["page"], "on_request": True},
    }},
    "lib": {"kind": "python", "path": "lib"},
}  # fmt: skip
WHOLE = {"proto:gen", "web:bundle", "web:image", "docs:page", "docs:deploy"}
FILES = ("proto/a.proto", "web/src/a.ts", "web/pack.sh", "docs/one.md", "docs/draft.md", "other.txt", "lib/mod.py")


@pytest.fixture(scope="module")
def ws(tmp_path_factory):
    """A repository with one commit on main, and a branch."""
    ws = BuildWorkspace(tmp_path_factory.mktemp("affected") / "ws")
    ws.environ.update(GIT)
    ws.components(**COMPONENTS)
    for path in FILES:
        ws.write(path, path, executable=path.endswith(".sh"))
    ws.write("lib/pyproject.toml", '[project]\nname = "lib"\nversion = "1"\n')
    ws.write(".gitignore", "/proto/gen.txt\n/web/out.js\n.pytest_cache\n")
    git(ws, "init", "-q", "-b", "main")
    git(ws, "add", "-A")
    git(ws, "commit", "-q", "-m", "first")
    git(ws, "checkout", "-q", "-b", "branch")
    return ws


def git(ws, *arguments):
    subprocess.run(["git", *arguments], cwd=ws.root, env=ws.environ, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        ([], set()),
        (["proto/a.proto"], {"proto:gen", "web:bundle", "web:image"}),
        (["proto/gone.proto"], {"proto:gen", "web:bundle", "web:image"}),
        (["web/src/deep/new.ts"], {"web:bundle", "web:image"}),
        (["web/pack.sh"], {"web:image"}),
        (["docs/draft.md", "other.txt"], set()),
        (["docs/two.md"], {"docs:page", "docs:deploy"}),
        (["docs/page"], {"docs:page", "docs:deploy"}),
    ],
)
def test_files_are_mapped_to_steps(ws, files, labels):
    project = load_project(str(ws.root / "build.yml"))
    found = touched(project.graph, project.config, project.manifests, files)
    assert {label for label in found if not label.startswith("lib:")} == labels


@pytest.mark.parametrize("file", ["build.yml", "config/cache.yml", "config/environments/staging.yml"])
def test_the_build_file_touches_everything(ws, file):
    project = load_project(str(ws.root / "build.yml"))
    assert touched(project.graph, project.config, project.manifests, [file]) == set(project.graph.steps)


def test_a_manifest_touches_the_steps_of_its_folder(ws):
    project = load_project(str(ws.root / "build.yml"))
    assert "lib/pyproject.toml" in project.manifests
    found = touched(project.graph, project.config, project.manifests, ["lib/pyproject.toml"])
    assert found == {label for label in project.graph.steps if label.startswith("lib:")}


def planned(ws, *arguments):
    done = ws.pytest("build.yml", "-q", "--build-dry-run", *arguments)
    lines = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and ":" in line]
    return {label for label in lines if not label.startswith("lib:")}, done


def test_the_changes_of_the_branch_and_of_the_work_tree_are_built(ws):
    ws.write("docs/one.md", "changed in a commit")
    git(ws, "commit", "-qam", "docs")
    ws.write("web/src/new.ts", "not in git yet")
    # What is affected is built with what it needs.
    assert planned(ws, "--build-affected")[0] == {"docs:page", "proto:gen", "web:bundle", "web:image"}
    assert planned(ws, "--build-affected=HEAD")[0] == {"proto:gen", "web:bundle", "web:image"}
    assert planned(ws, "--build-affected", "-k", "page")[0] == {"docs:page"}
    # Only the form with = takes a value.
    before = ws.pytest("-q", "--build-dry-run", "--build-affected", "build.yml")
    assert "docs:page" in before.stdout
    wrong = planned(ws, "--build-affected=no-such-commit")[1]
    assert (wrong.returncode, "git can't compare with 'no-such-commit'" in wrong.stdout) == (4, True)


def test_without_git_it_is_an_error_that_says_so(tmp_path):
    ws = BuildWorkspace(tmp_path / "ws")
    ws.environ.update(GIT, GIT_CEILING_DIRECTORIES=str(tmp_path))
    ws.components(one={"steps": {"s": {"command": "true", "outputs": []}}})
    done = ws.pytest("build.yml", "--build-affected")
    assert done.returncode == 4
    assert "is in no git repository" in done.stdout
