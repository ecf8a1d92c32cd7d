"""From settings to tiers: which, how they may be used, and what is imported for it."""

import subprocess
import sys

import pytest
from contract import blob_of, fetched, keep, name_of

from build_tests.cache.opening import open_store
from build_tests.core.model import CacheSettings


@pytest.fixture
def environ(tmp_path):
    return {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}


@pytest.fixture
def warnings():
    return []


REMOTES = {
    "redis": (("url", "redis://127.0.0.1:1/0"),),
    "s3": (("bucket", "b"), ("prefix", "p"), ("region", "r"), ("endpoint_url", "http://127.0.0.1:1")),
    "reapi": (("url", "grpc://127.0.0.1:1"),),
}


def test_tiers_are_those_named_in_their_order(environ, warnings):
    settings = CacheSettings(storage=("local", "redis", "s3", "reapi"), **REMOTES)
    for writable in (False, True):
        store = open_store(settings, environ, warnings.append, writable=writable)
        assert [(tier.store.name, tier.local, tier.writable) for tier in store.tiers] == [
            ("local", True, True),
            ("redis", False, writable),
            ("s3", False, writable),
            ("reapi", False, writable),
        ]
        store.close()
    assert warnings == []


def test_the_local_store_lies_in_the_users_cache_folder(environ, warnings, tmp_path):
    store = open_store(CacheSettings(), environ, warnings.append, writable=False)
    blob = keep(store, tmp_path, b"content")
    assert store.write_record(name_of("a"), b"record", [blob])
    assert fetched(store, blob, tmp_path) == b"content"
    assert (tmp_path / "cache" / "pytest-build").is_dir()
    store.close()


@pytest.mark.parametrize(("name", "key"), [("redis", "url"), ("s3", "bucket"), ("reapi", "url")])
def test_a_tier_that_is_not_described_is_off_with_a_warning(environ, warnings, name, key):
    store = open_store(CacheSettings(storage=("local", name)), environ, warnings.append, writable=True)
    assert [tier.store.name for tier in store.tiers] == ["local"]
    assert len(warnings) == 1
    assert f"{name}: {{{key}: …}}" in warnings[0]
    store.close()


def test_a_header_whose_variable_is_not_set_is_a_warning(environ, warnings):
    reapi = (("url", "grpc://127.0.0.1:1"), ("headers_env", (("authorization", "TOKEN"),)))
    settings = CacheSettings(storage=("reapi",), reapi=reapi)
    assert open_store(settings, environ, warnings.append, writable=True).tiers == ()
    assert len(warnings) == 1
    assert "TOKEN" in warnings[0]
    open_store(settings, {**environ, "TOKEN": "secret"}, warnings.append, writable=True).close()
    assert len(warnings) == 1


MODULES = {"redis": "redis", "s3": "botocore.session", "reapi": "grpc"}


@pytest.mark.parametrize("name", MODULES)
def test_a_tier_whose_extra_is_not_installed_is_off_with_one_warning(environ, warnings, monkeypatch, tmp_path, name):
    for module in [each for each in sys.modules if each.split(".")[0] == MODULES[name].split(".")[0]]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    store = open_store(CacheSettings(storage=("local", name), **REMOTES), environ, warnings.append, writable=True)
    for number in range(100):
        assert store.read_record(name_of(str(number))) is None
    blob = keep(store, tmp_path, b"content")
    assert fetched(store, blob, tmp_path) == b"content"
    assert fetched(store, blob_of(b"absent"), tmp_path) is None
    assert store.finish(60) == 0
    assert len(warnings) == 1
    assert f"pip install 'pytest-build[{name}]'" in warnings[0]
    store.close()


def test_nothing_big_is_imported_for_stores_that_are_not_named_or_not_asked(environ):
    code = """
import sys
from build_tests.cache.opening import open_store
from build_tests.core.model import CacheSettings
store = open_store(CacheSettings(), {"HOME": "/nowhere"}, print, writable=True)
assert "build_tests.cache.redis" not in sys.modules
remotes = dict(redis=(("url", "redis://127.0.0.1:1/0"),), s3=(("bucket", "b"),), reapi=(("url", "grpc://127.0.0.1:1"),))
open_store(CacheSettings(storage=("redis", "s3", "reapi"), **remotes), {"HOME": "/nowhere"}, print, writable=True)
big = {"redis", "boto3", "botocore", "grpc", "google", "cryptography", "pytest"} & set(sys.modules)
assert not big, big
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
