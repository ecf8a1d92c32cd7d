"""The Redis store against a real server: the contract, and every way in which such a server fails."""

import pytest
import redis
from contract import *  # noqa: F403
from contract import CONTENTS, blob_of, entries, fetched, keep, name_of
from proxy import Canned, Proxy

from build_tests.cache.guarded import Guarded
from build_tests.cache.model import CHUNK, CorruptError, RefusedError, StoreError
from build_tests.cache.redis import RedisStore

BIG = CONTENTS["3 MB"]


def url_of(port, userinfo=""):
    return f"redis://{userinfo}127.0.0.1:{port}/0"


@pytest.fixture
def client(redis_server):
    with redis.Redis(port=redis_server.port) as client:
        yield client


@pytest.fixture
def make(redis_server, prefix):
    made = []

    def make(port=redis_server.port, **more):
        made.append(RedisStore(url_of(port), prefix, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def store(make):
    return make()


@pytest.fixture
def other(make):
    return make()


@pytest.fixture
def damage(client, prefix):
    def damage(blob, content):
        if blob.size <= CHUNK:
            client.set(f"{prefix}:b:{blob.digest}", b"=" + content)
            return
        for number in range(-(-blob.size // CHUNK)):
            client.set(f"{prefix}:b:{blob.digest}:{number}", content[number * CHUNK : (number + 1) * CHUNK])

    return damage


def keys(client, prefix):
    return sorted(key.decode() for key in client.scan_iter(f"{prefix}:*"))


# Keys and their time


def test_a_big_blob_lies_in_pieces_under_a_header(store, client, prefix, tmp_path):
    blob = keep(store, tmp_path, BIG)
    assert keys(client, prefix) == [f"{prefix}:b:{blob.digest}", *(f"{prefix}:b:{blob.digest}:{n}" for n in range(3))]
    assert all(client.strlen(key) <= CHUNK for key in keys(client, prefix))


def test_a_file_that_changed_leaves_no_pieces(store, client, prefix, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(BIG[:-1] + b"?")
    with pytest.raises(CorruptError):
        store.store(blob_of(BIG), str(source))
    assert keys(client, prefix) == []


def test_everything_gets_the_time_to_live(make, client, prefix, tmp_path):
    store = make(ttl=1000.0)
    blobs = [keep(store, tmp_path, BIG), keep(store, tmp_path, b"small")]
    store.write_record(name_of("a"), b"record", blobs)
    store.write_record(name_of("b"), b"bad", [])
    store.write_record(name_of("b"), b"good", [], over=b"bad")
    assert len(keys(client, prefix)) == 7
    assert {client.ttl(key) for key in keys(client, prefix)} <= {1000, 999, 998}


def test_a_writer_refreshes_the_time_to_live_of_the_whole_entry(make, client, prefix, tmp_path):
    store = make(ttl=1000.0)
    blobs = [keep(store, tmp_path, BIG), keep(store, tmp_path, b"small")]
    store.write_record(name_of("a"), b"record", blobs)
    for key in keys(client, prefix):
        client.expire(key, 50)
    assert not store.write_record(name_of("a"), b"record", blobs)
    assert min(client.ttl(key) for key in keys(client, prefix)) > 900
    for key in keys(client, prefix):
        client.expire(key, 50)
    keep(store, tmp_path, BIG)
    assert min(client.ttl(key) for key in client.scan_iter(f"{prefix}:b:{blobs[0].digest}*")) > 900


def test_without_a_time_to_live_nothing_expires(make, client, prefix, tmp_path):
    store = make(ttl=0)
    store.write_record(name_of("a"), b"record", [keep(store, tmp_path, b"small"), keep(store, tmp_path, BIG)])
    store.write_record(name_of("a"), b"other", [], over=b"record")
    assert store.read_record(name_of("a")) == b"other"
    assert {client.ttl(key) for key in keys(client, prefix)} == {-1}


# Damage, eviction


def test_a_piece_that_the_server_dropped_makes_the_blob_absent(store, client, prefix, tmp_path):
    for dropped in ("", ":0", ":1", ":2"):
        blob = keep(store, tmp_path, BIG)
        client.delete(f"{prefix}:b:{blob.digest}{dropped}")
        assert store.missing([blob]) == {blob}
        assert store.fetch(blob, str(tmp_path / "out")) is False
        assert entries(tmp_path) == []
        assert fetched(store, keep(store, tmp_path, BIG), tmp_path) == BIG


@pytest.mark.parametrize("header", [b"", b"?", b"#", b"#3", b"#3000001 ", b"=short", b"#99999999999999999999"])
@pytest.mark.parametrize("content", [b"small", BIG], ids=["small", "big"])
def test_a_damaged_header_is_removed(store, client, prefix, tmp_path, header, content):  # noqa: PLR0917
    blob = keep(store, tmp_path, content)
    client.set(f"{prefix}:b:{blob.digest}", header)
    with pytest.raises(CorruptError):
        store.fetch(blob, str(tmp_path / "out"))
    assert entries(tmp_path) == []
    assert keys(client, prefix) == []


def test_a_reader_that_may_not_write_leaves_a_damaged_blob(make, damage, client, prefix, tmp_path):
    blob = keep(make(), tmp_path, b"content")
    damage(blob, b"evil")
    reader = make(writable=False)
    for _ in range(2):
        with pytest.raises(CorruptError):
            reader.fetch(blob, str(tmp_path / "out"))
    assert keys(client, prefix) == [f"{prefix}:b:{blob.digest}"]


def test_a_huge_value_is_neither_a_record_nor_read(make, client, prefix, tmp_path, monkeypatch):
    monkeypatch.setattr("build_tests.cache.redis.MAX_RECORD", 1000)
    client.set(f"{prefix}:r:{name_of('a')}", b"x" * 1001)
    assert make().read_record(name_of("a")) is None


def test_a_value_of_another_type_is_an_error_of_the_store(store, client, prefix, tmp_path):
    blob = blob_of(b"content")
    client.rpush(f"{prefix}:r:{name_of('a')}", b"a list")
    client.rpush(f"{prefix}:b:{blob.digest}", b"a list")
    with pytest.raises(RefusedError):
        store.read_record(name_of("a"))
    with pytest.raises(RefusedError):
        store.fetch(blob, str(tmp_path / "out"))
    assert entries(tmp_path) == []


def test_flushed_in_between_is_absent(own_redis, make, tmp_path):
    server = own_redis()
    store = make(server.port)
    blob = keep(store, tmp_path, BIG)
    store.write_record(name_of("a"), b"record", [blob])
    with redis.Redis(port=server.port) as client:
        client.flushall()
    assert store.read_record(name_of("a")) is None
    assert store.missing([blob]) == {blob}
    assert fetched(store, blob, tmp_path) is None


# A server that will not


def everything(store, folder):
    """Each of the store's calls, as functions."""
    blob, big = blob_of(b"content"), blob_of(BIG)
    (folder / "small").write_bytes(b"content")
    (folder / "big").write_bytes(BIG)
    return {
        "read_record": lambda: store.read_record(name_of("a")),
        "write_record": lambda: store.write_record(name_of("a"), b"record", [blob]),
        "replace": lambda: store.write_record(name_of("a"), b"record", [blob], over=b"bad"),
        "missing": lambda: store.missing([blob, big]),
        "fetch": lambda: store.fetch(blob, str(folder / "out")),
        "store": lambda: store.store(blob, str(folder / "small")),
        "store big": lambda: store.store(big, str(folder / "big")),
    }


def assert_all_raise(store, folder, kind, says=""):
    for call in everything(store, folder).values():
        with pytest.raises(StoreError, match=says) as caught:
            call()
        assert type(caught.value) is kind
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("redis: ")
    assert not (folder / "out").exists()


def test_a_full_server_refuses_writes_and_still_answers(own_redis, make, tmp_path):
    port = own_redis().port
    store = make(port)
    blob = keep(store, tmp_path, b"there")
    store.write_record(name_of("there"), b"record", [blob])
    with redis.Redis(port=port) as client:
        client.config_set("maxmemory", 1)
    (tmp_path / "source").write_bytes(BIG)
    for write in (
        lambda: store.store(blob_of(BIG), str(tmp_path / "source")),
        lambda: store.write_record(name_of("new"), b"record", []),
        lambda: store.write_record(name_of("there"), b"other", [], over=b"record"),
    ):
        with pytest.raises(RefusedError, match="memory"):
            write()
    assert store.read_record(name_of("there")) == b"record"
    assert fetched(store, blob, tmp_path) == b"there"


def test_a_read_only_replica_refuses_writes_and_still_answers(own_redis, make, tmp_path):
    port = own_redis().port
    store = make(port)
    blob = keep(store, tmp_path, b"there")
    with redis.Redis(port=port) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(RefusedError):
        store.write_record(name_of("a"), b"record", [])
    assert fetched(store, blob, tmp_path) == b"there"
    warnings = []
    guarded = Guarded(store, warn=warnings.append)
    assert [guarded.write_record(name_of(str(number)), b"record", []) for number in range(1000)] == [False] * 1000
    assert len(warnings) == 1
    assert guarded.traffic.errors == 5
    assert fetched(guarded, blob, tmp_path) == b"there"


@pytest.mark.parametrize(
    "answer", [b"-LOADING Redis is loading\r\n", b"-MISCONF disk\r\n", b"-CLUSTERDOWN no\r\n", b"-NOPERM no\r\n"]
)
def test_an_error_reply_is_a_refusal(make, tmp_path, answer):
    with Canned(answer * 9) as server:  # a pipeline waits for as many
        for call in everything(make(server.port), tmp_path).values():
            with pytest.raises(StoreError) as caught:
                call()
            assert str(caught.value).startswith("redis: ")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"$-5\r\n",
        b"$nonsense\r\n",
        b":7\r\n",
        b"*1\r\n*1\r\n:1\r\n",
        b"$3\r\nab",
        b"\xff" * 99,
        b"+OK\r\n",
        b"*-1\r\n",
        b"%1\r\n",
        b"\r\n",
        b"*9999999999\r\n",
    ],
    ids=repr,
)
def test_nonsense_is_an_error_of_the_store(make, tmp_path, answer):
    with Canned(answer, close=True) as server:
        for name, call in everything(make(server.port), tmp_path).items():
            if name in ("write_record", "replace", "store") and answer == b"+OK\r\n":
                continue  # is how a server says yes
            with pytest.raises((StoreError, CorruptError)):
                call()
    assert not (tmp_path / "out").exists()


def test_a_wrong_password_is_an_error_that_does_not_tell_it(own_redis, tmp_path):
    server = own_redis("--requirepass", "right-secret")
    for userinfo in ("", ":wr%40ng-secret@", "someone:wr%40ng-secret@"):
        store = RedisStore(url_of(server.port, userinfo))
        for call in everything(store, tmp_path).values():
            with pytest.raises(StoreError) as caught:
                call()
            assert type(caught.value) is StoreError
            assert "secret" not in str(caught.value)
            assert caught.value.__cause__ is None
        store.close()
    store = RedisStore(url_of(server.port, ":right-secret@"))
    assert store.read_record(name_of("a")) is None
    store.close()


@pytest.mark.parametrize(
    "url",
    ["", "secret", "http://:secret@host", "redis://:secret@host:port/0", "redis://:p#secret@host", "redis://[::1"],
)
def test_a_url_that_can_not_be_read_is_an_error_that_does_not_tell_it(url, tmp_path):
    store = RedisStore(url)
    with pytest.raises(StoreError) as caught:
        store.read_record(name_of("a"))
    assert "secret" not in str(caught.value)


def test_a_url_can_not_lift_the_time_limits(redis_server):
    store = RedisStore(
        url_of(redis_server.port) + "?socket_timeout=900&socket_connect_timeout=900&retry_on_timeout=yes"
    )
    store.prepare()
    options = store._made.connection_pool.connection_kwargs
    assert options["socket_timeout"] <= 2
    assert options["socket_connect_timeout"] <= 0.5
    assert not options["retry_on_timeout"]
    store.close()


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(StoreError, match=r"pip install 'pytest-build\[redis\]'"):
        RedisStore("redis://127.0.0.1:1/0").read_record(name_of("a"))


def test_a_server_that_restarts_is_found_again(own_redis, make, tmp_path):
    server = own_redis()
    store = make(server.port)
    keep(store, tmp_path, b"content")
    server.stop()
    assert_all_raise(store, tmp_path, StoreError, "refused|Connection")
    server.start()
    assert fetched(store, blob_of(b"content"), tmp_path) is None
    assert fetched(store, keep(store, tmp_path, b"content"), tmp_path) == b"content"


def test_no_server_no_name_no_tls(redis_server, tmp_path):
    with Proxy(redis_server.port, "refused") as proxy:
        urls = [url_of(proxy.port), "redis://nowhere.invalid:6379/0", f"rediss://127.0.0.1:{redis_server.port}/0"]
        for url in urls:
            store = RedisStore(url)
            with pytest.raises(StoreError):
                store.read_record(name_of("a"))
            store.close()


def test_silence_is_an_error_of_the_store(redis_server, make):
    for how in ("silent", "black-hole"):
        with Proxy(redis_server.port, how) as proxy, pytest.raises(StoreError):
            make(proxy.port).read_record(name_of("a"))


@pytest.mark.parametrize("how", ["reset", "cut"])
@pytest.mark.parametrize("after", [0, 1, 20, 1000, 1_500_000])
def test_a_connection_that_breaks_leaves_nothing(redis_server, make, tmp_path, how, after):
    blob = keep(make(), tmp_path, BIG)
    with Proxy(redis_server.port, how, after) as proxy, pytest.raises(StoreError):
        make(proxy.port).fetch(blob, str(tmp_path / "out"))
    assert entries(tmp_path) == []


def test_content_that_changes_on_the_way_is_not_taken(redis_server, make, tmp_path):
    blob = keep(make(), tmp_path, b"content" * 100)
    with Proxy(redis_server.port, "rewrite", rewrite=lambda piece: piece.replace(b"content", b"c0ntent")) as proxy:
        with pytest.raises(CorruptError):
            make(proxy.port).fetch(blob, str(tmp_path / "out"))
        assert proxy.connections == 1
    assert entries(tmp_path) == []


def test_a_closed_store_is_an_error(store, tmp_path):
    keep(store, tmp_path, b"content")
    store.close()
    store.close()
    assert_all_raise(store, tmp_path, StoreError, "closed")
