"""The cache and the collected artifacts from Python."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from build_tests.api import BuildArtifacts, BuildCache, BuildError
from build_tests.cache.artifact import place


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("PYTEST_BUILD_CACHE", "PYTEST_BUILD_SCOPE", "PYTEST_BUILD_SIGNING_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "repo"
    (root / "docs/deep").mkdir(parents=True)
    (root / "docs/one.md").write_text("one")
    (root / "docs/deep/two.md").write_text("two")
    return root


def site(root):
    (root / "site/empty").mkdir(parents=True)
    (root / "site/index.html").write_text("<p>")
    (root / "site/run").write_text("#!/bin/sh")
    (root / "site/run").chmod(0o755)
    (root / "site/link").symlink_to("index.html")


def test_a_result_comes_back_under_its_key_in_another_checkout(home, tmp_path):
    site(home)
    with BuildCache(home) as cache:
        key = cache.get_cache_key("docs", ["docs/**"])
        assert not cache.is_cached(key)
        assert not cache.restore(key)
        cache.store_result(key, ["site"])
        assert cache.is_cached(key)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with BuildCache(home) as cache:
        assert cache.restore(key, elsewhere)
    assert (elsewhere / "site/index.html").read_text() == "<p>"
    assert os.access(elsewhere / "site/run", os.X_OK)
    assert os.readlink(elsewhere / "site/link") == "index.html"
    assert (elsewhere / "site/empty").is_dir()


def test_the_key_is_of_name_paths_and_contents(home):
    with BuildCache(home) as cache:
        key = cache.get_cache_key("docs", ["docs/**"])
        assert key == cache.get_cache_key("docs", ["docs/**/*.md"])
        assert key != cache.get_cache_key("other", ["docs/**"])
        (home / "docs/one.md").write_text("eno")
        assert key != cache.get_cache_key("docs", ["docs/**"])
        (home / "docs/one.md").write_text("one")
        assert key == cache.get_cache_key("docs", ["docs/**"])
        (home / "docs/one.md").rename(home / "docs/uno.md")
        assert key != cache.get_cache_key("docs", ["docs/**"])


def test_two_caches_of_one_checkout_leave_each_others_files_alone(home, tmp_path):
    site(home)
    for name in ("one", "two", "three", "four"):
        (tmp_path / name).mkdir()
    warnings = []
    with BuildCache(home) as first, BuildCache(home, warn=warnings.append) as second:
        first.store_result("k", ["site"])
        assert first.restore("k", tmp_path / "one")
        found = first._keeper.find("k")
        staging = first._keeper.stage(found)
        assert second.restore("k", tmp_path / "two")
        place(str(tmp_path / "three"), found.record.items, staging)
        first.close()
        assert second.restore("k", tmp_path / "four")
    assert not warnings
    assert (tmp_path / "three/site/index.html").read_text() == "<p>"
    assert not (home / ".build/staging").exists()


def test_what_is_absent_can_not_be_stored(home):
    with BuildCache(home) as cache, pytest.raises(BuildError, match="nowhere"):
        cache.store_result("k", ["nowhere"])


def test_off_is_off(home, monkeypatch):
    site(home)
    monkeypatch.setenv("PYTEST_BUILD_CACHE", "off")
    with BuildCache(home) as cache:
        cache.store_result("k", ["site"])
        assert not cache.is_cached("k")


def test_artifacts_of_a_target(build_workspace):
    ws = build_workspace
    steps = {"make": {"command": "echo 1 >out; mkdir d; echo 2 >d/two", "outputs": ["out", "d/"]}}
    ws.components({"targets": {"ship": {"artifacts": True}}}, a={"steps": steps})
    with pytest.raises(BuildError, match="artifacts: true"):
        BuildArtifacts(ws.root)
    ws.build("--build-target", "ship")
    artifacts = BuildArtifacts(ws.root)
    assert artifacts.labels == ["a:make"]
    paths = artifacts.paths("a:make")
    assert Path(paths["a/out"]).read_text() == "1\n"
    assert os.listdir(paths["a/d"]) == ["two"]


def test_the_api_needs_no_pytest():
    code = "import sys, build_tests.api; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
