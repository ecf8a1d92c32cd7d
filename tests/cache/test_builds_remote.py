"""Builds that share through a server: redis-server, S3 servers, Remote Execution API servers; alone and behind `local`."""

import pytest
from builds import (
    BUILT,
    FRESH,
    LABELS,
    REMOTES,
    RESTORED,
    Keys,
    as_reader,
    as_writer,
    cached,
    clean_build,
    elsewhere,
    lay_out,
    noted,
    remote,
    right,
    seen,
    wipe,
)


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path).add("main")


@pytest.fixture(params=REMOTES)
def server(request, tmp_path):
    with remote(request.param, tmp_path / "server") as made:
        yield made


def shared(ws, server, keys, *, behind_local):
    """A workspace whose main job writes to a server; it has been built once."""
    settings = server.settings(behind_local=behind_local, keys=keys.public, read_scopes=["main"])
    tick = lay_out(ws, cached(settings))
    ws.environ.update(server.environ)
    as_writer(ws, keys, "main")
    result = ws.build("-n2")
    right(ws, result, seen(ws), BUILT)
    assert noted(result, "cache") == []
    return tick


def test_a_server_alone_gives_back_what_was_built(build_workspace, tmp_path, server, keys):
    ws = build_workspace
    tick = shared(ws, server, keys, behind_local=False)
    made = seen(ws)
    assert made == clean_build(ws, tmp_path / "plain")
    calls = tick.calls
    # A colleague's machine, without any key; and the same checkout with nothing left in it.
    clone = elsewhere(ws, tmp_path / "clone", own_cache=True)
    as_reader(clone)
    result = clone.build("-n0")
    right(clone, result, made, RESTORED)
    assert f"6 from {server.name}" in noted(result, "cache:")[0]
    right(clone, clone.build("-n0"), made, FRESH)
    wipe(ws, cache=True)
    right(ws, ws.build("-n2"), made, RESTORED)
    assert tick.calls == calls
    # A reader keeps nothing there: what it builds nobody else gets.
    clone.write("lib/in.txt", "three\n")
    assert clone.build("-n0")["lib:make"].value == "built"
    ws.write("lib/in.txt", "three\n")
    assert ws.build("-n0")["lib:make"].value == "built"


def test_behind_the_local_store_the_second_build_needs_no_server(build_workspace, tmp_path, server, keys):
    ws = build_workspace
    shared(ws, server, keys, behind_local=True)
    made = seen(ws)
    wipe(ws, cache=True)
    as_reader(ws)
    result = ws.build("-n0")
    right(ws, result, made, RESTORED)
    assert f"6 from {server.name}" in noted(result, "cache:")[0]
    server.server.stop()
    wipe(ws)
    result = ws.build("-n0")
    right(ws, result, made, RESTORED)
    assert "6 from local" in noted(result, "cache:")[0]
    # Another step of the same build is another matter: the server is missed once.
    ws.write("app/src/a.txt", "b\n")
    result = ws.build("-n0")
    assert result.status == 0
    assert result.outcomes() == {**dict.fromkeys(LABELS, "fresh"), "app:use": "built", "app:check": "built"}
    [line] = noted(result, "is not used for the rest of this run")
    assert server.name in line


@pytest.mark.parametrize("name", ["redis"])
def test_a_missing_blob_is_taken_from_the_farther_tier(build_workspace, tmp_path, name, keys):
    ws = build_workspace
    with remote(name, tmp_path / "server") as server:
        tick = shared(ws, server, keys, behind_local=True)
        made, calls = seen(ws), tick.calls
        blobs = tmp_path / "ws-cache/pytest-build/v1/blobs"
        for path in [each for each in blobs.rglob("*") if each.is_file()]:
            path.unlink()
        wipe(ws)
        right(ws, ws.build("-n0"), made, RESTORED)
        assert tick.calls == calls
    wipe(ws)
    right(ws, ws.build("-n0"), made, RESTORED)


@pytest.mark.parametrize("name", ["redis"])
def test_a_store_that_lost_everything_is_filled_again(build_workspace, tmp_path, name, keys):
    ws = build_workspace
    with remote(name, tmp_path / "server") as server:
        shared(ws, server, keys, behind_local=False)
        made = seen(ws)
        server.server.stop()
        server.server.start()  # it keeps nothing on disk
        wipe(ws)
        right(ws, ws.build("-n0"), made, BUILT)
        wipe(ws)
        right(ws, ws.build("-n0"), made, RESTORED)


def test_a_writer_without_a_key_writes_nothing_and_is_told(build_workspace, tmp_path, keys):
    ws = build_workspace
    with remote("redis", tmp_path / "server") as server:
        lay_out(ws, cached(server.settings(behind_local=True, keys=keys.public, read_scopes=["main"])))
        ws.environ.update(PYTEST_BUILD_CACHE="rw", PYTEST_BUILD_SCOPE="main")
        result = ws.build("-n0")
        assert result.outcomes() == BUILT
        assert any("no private key" in line for line in noted(result)), result.output
        wipe(ws, cache=True)
        assert ws.build("-n0").outcomes() == BUILT
