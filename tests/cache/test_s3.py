"""The S3 store against real servers: the contract, and every way in which such a server fails."""

import sys

import contract
import pytest
from contract import *  # noqa: F403
from contract import CONTENTS, blob_of, entries, fetched, keep, name_of
from proxy import Canned, Proxy
from servers import BUCKET

from build_tests.cache import s3
from build_tests.cache.guarded import Guarded
from build_tests.cache.model import CorruptError, RefusedError, StoreError
from build_tests.cache.s3 import S3Store

BIG = CONTENTS["3 MB"]
pytestmark = pytest.mark.usefixtures("aws")


@pytest.fixture
def at(aws, prefix):
    """Stores in a server on a port."""
    made = []

    def at(port, **more):
        made.append(S3Store(BUCKET, prefix, "us-east-1", f"http://127.0.0.1:{port}", **more))
        return made[-1]

    yield at
    for each in made:
        each.close()


@pytest.fixture
def store(s3_server, at):
    return at(s3_server.port)


@pytest.fixture
def other(s3_server, at):
    return at(s3_server.port)


@pytest.fixture
def damage(s3_server, prefix):
    def damage(blob, content):
        key = f"{prefix}/b/{blob.digest[:2]}/{blob.digest}"
        s3_server.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    return damage


def keys(server, prefix):
    found = server.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return sorted(each["Key"] for each in found)


# Whose record it is a server of files decides by a look before the write; moto is made to do it in one.


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_one_of_many_writers_wins(store, other):
    contract.test_one_of_many_writers_wins(store, other)


@pytest.mark.parametrize("s3_server", ["moto"], indirect=True)
def test_one_of_many_replacers_wins(store, other):
    contract.test_one_of_many_replacers_wins(store, other)


# Objects


def test_objects_lie_under_the_prefix(store, s3_server, prefix, tmp_path):
    blob = keep(store, tmp_path, b"content")
    store.write_record(name_of("a"), b"record", [blob])
    assert keys(s3_server, prefix) == [
        f"{prefix}/b/{blob.digest[:2]}/{blob.digest}",
        f"{prefix}/r/{name_of('a')[:2]}/{name_of('a')}",
    ]


def test_a_large_blob_goes_in_parts(store, s3_server, prefix, tmp_path, monkeypatch):
    monkeypatch.setattr(s3, "ONE_REQUEST", 6 << 20)
    monkeypatch.setattr(s3, "PART", 5 << 20)
    content = BIG * 4
    assert fetched(store, keep(store, tmp_path, content), tmp_path) == content
    (tmp_path / "source").write_bytes(b"!" + content)
    with pytest.raises(CorruptError):
        store.store(blob_of(content + b"!"), str(tmp_path / "source"))
    assert keys(s3_server, prefix) == [f"{prefix}/b/{blob_of(content).digest[:2]}/{blob_of(content).digest}"]
    assert "Uploads" not in s3_server.client.list_multipart_uploads(Bucket=BUCKET)


def test_a_large_blob_that_is_there_is_not_sent_again(store, s3_server, at, tmp_path):
    blob = keep(store, tmp_path, BIG)
    with Proxy(s3_server.port) as proxy:
        assert keep(at(proxy.port), tmp_path, BIG) == blob
        assert proxy.to_server < 10_000


def test_a_reader_that_may_not_write_leaves_a_damaged_blob(store, s3_server, at, damage, prefix, tmp_path):  # noqa: PLR0917
    blob = keep(store, tmp_path, b"content")
    damage(blob, b"c0ntent")
    reader = at(s3_server.port, writable=False)
    for _ in range(2):
        with pytest.raises(CorruptError):
            reader.fetch(blob, str(tmp_path / "out"))
    assert len(keys(s3_server, prefix)) == 1


def test_a_huge_object_is_no_record_and_can_be_replaced(store, monkeypatch):
    store.write_record(name_of("a"), b"x" * 1001, [])
    monkeypatch.setattr(s3, "MAX_RECORD", 1000)
    assert store.read_record(name_of("a")) is None


# Servers that fail


def everything(store, folder):
    """Each of the store's calls, as functions."""
    blob, big = blob_of(b"content"), blob_of(BIG)
    (folder / "small").write_bytes(b"content")
    (folder / "big").write_bytes(BIG)
    return {
        "read_record": lambda: store.read_record(name_of("a")),
        "write_record": lambda: store.write_record(name_of("a"), b"record", [blob]),
        "replace": lambda: store.write_record(name_of("a"), b"record", [blob], over=b"bad"),
        "missing one": lambda: store.missing([blob]),
        "missing": lambda: store.missing([blob, big]),
        "fetch": lambda: store.fetch(blob, str(folder / "out")),
        "store": lambda: store.store(blob, str(folder / "small")),
        "store big": lambda: store.store(big, str(folder / "big")),
    }


def outcomes(store, folder):
    """What each call returns, or the kind of error."""
    said = {name: outcome(call) for name, call in everything(store, folder).items()}
    assert not (folder / "out").exists()
    return said


def outcome(call):
    try:
        return call()
    except StoreError as error:
        text, kind = str(error), type(error)
    assert "\n" not in text
    assert "test-secret-key" not in text
    return kind


def answer(status, code="", body=None, headers=""):
    xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said so</Message></Error>" if code else ""
    content = body if body is not None else xml.encode()
    return (
        f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\nConnection: close\r\n{headers}\r\n".encode()
        + content
    )


def test_403_for_a_key_that_is_not_there_is_absent(at, tmp_path):
    blobs = {blob_of(b"content"), blob_of(BIG)}
    with Canned(answer(403, "AccessDenied"), close=True) as server:
        said = outcomes(at(server.port), tmp_path)
    assert said["read_record"] is None
    assert said["fetch"] is False
    assert said["missing"] == blobs
    for write in ("write_record", "replace", "store", "store big"):
        assert said[write] is RefusedError


def test_404_is_absent(at, tmp_path):
    with Canned(answer(404, "NoSuchKey"), close=True) as server:
        said = outcomes(at(server.port), tmp_path)
    assert (said["read_record"], said["fetch"]) == (None, False)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_busy_server_is_a_refusal(at, tmp_path, status):
    with Canned(answer(status, "SlowDown"), close=True) as server:
        assert set(outcomes(at(server.port), tmp_path).values()) == {RefusedError}
        assert server.requests == len(everything(None, tmp_path)) + 1  # two questions of one; nothing was asked twice


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket"])
def test_what_no_other_request_will_mend_turns_the_store_off(at, tmp_path, code):
    with Canned(answer(400, code), close=True) as server:
        said = outcomes(at(server.port), tmp_path)
        assert said["read_record"] is said["write_record"] is said["fetch"] is StoreError
        warnings = []
        guarded = Guarded(at(server.port), warn=warnings.append)
        before = server.requests
        assert [guarded.read_record(name_of(str(number))) for number in range(1000)] == [None] * 1000
        assert server.requests == before + 1
        assert len(warnings) == 1
        assert code in warnings[0]


def test_an_expired_token_of_a_head_is_not_taken_for_presence(at, tmp_path):
    with Canned(answer(400, body=b""), close=True) as server, pytest.raises(StoreError):
        at(server.port).missing([blob_of(b"content")])


NONSENSE = {
    "no HTTP": b"-ERR unknown command\r\n",
    "no XML": answer(500, body=b"<html>"),
    "XML of something else": answer(400, body=b"<a><b/></a>"),
    "nothing": b"\r\n\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bad status": b"HTTP/1.1 999999 OK\r\n\r\n",
    "long header": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
    "redirect": b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "truncated": b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncont",
}


@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_an_error_of_the_store(at, tmp_path, text):
    with Canned(text, close=True) as server:
        said = outcomes(at(server.port), tmp_path)
    for read in ("read_record", "fetch"):
        assert said[read] is None or said[read] is False or issubclass(said[read], StoreError)
    assert said["fetch"] is not True


@pytest.mark.parametrize("body", [b"c0ntent", b"content!", b"", b"conten"])
def test_a_wrong_body_is_never_taken(at, tmp_path, body):
    with Canned(answer(200, body=body), close=True) as server:
        assert outcomes(at(server.port), tmp_path)["fetch"] is CorruptError


def test_a_body_that_changes_on_the_way_up_is_not_kept(store, s3_server, at, tmp_path):
    """The server is told the digest."""
    if s3_server.command(0)[0] == sys.executable:
        pytest.skip("moto takes any body")
    source = tmp_path / "source"
    source.write_bytes(b"content" * 9)
    client = at(s3_server.port)
    real = s3.Source.read
    try:
        s3.Source.read = lambda self, size=-1: real(self, size).replace(b"content", b"c0ntent")
        with pytest.raises(StoreError):
            client.store(blob_of(b"content" * 9), str(source))
    finally:
        s3.Source.read = real
    assert fetched(store, blob_of(b"content" * 9), tmp_path) is None


@pytest.mark.parametrize("how", ["reset", "cut"])
@pytest.mark.parametrize("after", [0, 5, 100, 1000, 1_500_000])
def test_a_connection_that_breaks_leaves_nothing(store, s3_server, at, tmp_path, how, after):  # noqa: PLR0917
    blob = keep(store, tmp_path, BIG)
    with Proxy(s3_server.port, how, after) as proxy, pytest.raises(StoreError):
        at(proxy.port).fetch(blob, str(tmp_path / "out"))
    assert entries(tmp_path) == []


def test_no_server_no_name_no_tls(s3_server, tmp_path):
    with Proxy(s3_server.port, "refused") as proxy:
        ends = [
            f"http://127.0.0.1:{proxy.port}",
            "http://nowhere.invalid",
            f"https://127.0.0.1:{s3_server.port}",
            "no url",
        ]
        for end in ends:
            store = S3Store(BUCKET, "p", "us-east-1", end)
            with pytest.raises(StoreError):
                store.read_record(name_of("a"))
            store.close()


def test_silence_is_an_error_of_the_store(s3_server, at):
    for how in ("silent", "black-hole"):
        with Proxy(s3_server.port, how) as proxy, pytest.raises(StoreError):
            at(proxy.port).read_record(name_of("a"))


def test_wrong_credentials_and_none(s3_server, at, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    if s3_server.command(0)[0] != sys.executable:  # moto believes everyone
        with pytest.raises(StoreError) as caught:
            at(s3_server.port).read_record(name_of("a"))
        assert type(caught.value) is StoreError
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name)
    with pytest.raises(StoreError, match="credentials"):
        at(s3_server.port).read_record(name_of("a"))


def test_without_the_library_the_error_names_the_extra(monkeypatch, at):
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(StoreError, match=r"pip install 'pytest-build\[s3\]'"):
        at(1).read_record(name_of("a"))


def test_a_closed_store_is_an_error(store, tmp_path):
    keep(store, tmp_path, b"content")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.read_record(name_of("a"))
