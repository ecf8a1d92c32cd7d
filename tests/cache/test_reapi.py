"""The Remote Execution API as a store: the contract with two real servers, and its failures with one of our own.

BuildGrid (`bgd`, Python) and buildbox-casd (C++) share no code with each other or with us. Two of the contract's tests
are left out: the protocol has no conditional write, so of writers at the same moment each may win; and no way to remove
what is damaged, so only the client that saw it takes it for absent.
"""

import datetime as dt
import ipaddress
import os
import subprocess
import sys
import textwrap
import time

import grpc
import pytest
from contract import *  # noqa: F403
from contract import CONTENTS, blob_of, damaged, entries, fetched, keep, name_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from proxy import Proxy
from reapi_server import ReapiServer
from servers import START_SECONDS, Server, free_port, need

from build_tests.cache.model import CHUNK, CorruptError, RefusedError, StoreError
from build_tests.cache.reapi import EMPTY, ReapiStore

del (
    test_one_of_many_writers_wins,  # noqa: F821
    test_one_of_many_replacers_wins,  # noqa: F821
    test_a_damaged_blob_is_never_taken_and_then_absent,  # noqa: F821
)

BGD = """\
server:
  - !channel
    address: "127.0.0.1:{port}"
    insecure-mode: true
storages:
  - !disk-storage &storage
    path: {folder}
caches:
  - !lru-action-cache &results
    storage: *storage
    max-cached-refs: 100000
    allow-updates: true
instances:
  - name: main
    services:
      - !action-cache
        cache: *results
      - !cas
        storage: *storage
      - !bytestream
        storage: *storage
thread-pool-size: 20
"""


def bgd_command(folder):
    binary = need("bgd")

    def command(port):
        with open(f"{folder}/bgd.yml", "w", encoding="ascii") as file:
            file.write(BGD.format(port=port, folder=folder))
        return [binary, "server", "start", f"{folder}/bgd.yml"]

    return command


def casd_command(folder):
    binary = need("buildbox-casd")
    return lambda port: [binary, f"--bind=127.0.0.1:{port}", folder]


SERVERS = {"buildgrid": (bgd_command, "main"), "buildbox-casd": (casd_command, "")}


def answers(store):
    try:
        store.missing([blob_of(b"nothing")])
    except StoreError:
        return False
    return True


def wait_until_it_answers(store):
    """The port is open before the services are."""
    end = time.monotonic() + START_SECONDS
    while not answers(store):
        assert time.monotonic() < end, "the server does not start"
        time.sleep(0.02)  # between looks; nothing depends on how long


@pytest.fixture(scope="module", params=SERVERS)
def server(request, tmp_path_factory):
    """A real server; its `instance`, and the folder where its blobs lie."""
    make, instance = SERVERS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    server = Server(make(str(folder)), str(folder)).start()
    server.instance = instance
    client = ReapiStore(f"grpc://127.0.0.1:{server.port}", instance, seconds=30)
    wait_until_it_answers(client)
    client.close()
    yield server
    server.stop()


@pytest.fixture
def make():
    made = []

    def make(url, instance="", headers=None, *, seconds=30, **more):
        made.append(ReapiStore(url, instance, headers, seconds=seconds, **more))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def empty(server):
    """Blobs and results lie in files, one each; a test begins without those of others."""
    for folder, _, files in os.walk(server.folder):
        for name in files:
            if "/objects" in folder:
                os.unlink(os.path.join(folder, name))
    return server


@pytest.fixture
def store(empty, make):
    return make(f"grpc://127.0.0.1:{empty.port}", empty.instance)


@pytest.fixture
def other(server, make):
    return make(f"grpc://127.0.0.1:{server.port}", server.instance)


@pytest.fixture
def ours():
    """Our own server."""
    with ReapiServer() as server:
        yield server


@pytest.mark.parametrize("how", damaged(b"any"))
@pytest.mark.parametrize("size", [7, 3_000_000])
def test_a_damaged_blob_is_never_taken_and_absent_to_who_saw_it(empty, store, tmp_path, size, how):
    content = os.urandom(size)
    blob = keep(store, tmp_path, content)
    path = f"{empty.folder}/cas/objects/{blob.digest[:2]}/{blob.digest[2:]}"
    os.chmod(path, 0o600)
    with open(path, "wb") as file:
        file.write(damaged(content)[how])
    out = tmp_path / "out"
    try:
        there = store.fetch(blob, str(out))
    except CorruptError:
        there = False
        assert store.missing([blob]) == {blob}
        assert store.fetch(blob, str(out)) is False
    # Of a file that grew, a server may give the bytes that were asked for, and they are right.
    assert out.exists() == there
    assert not there or (how == "longer" and out.read_bytes() == content)


def test_a_record_is_absent_when_one_of_its_blobs_is(empty, store, other, tmp_path):
    blobs = [keep(store, tmp_path, content) for content in (b"one", b"two", b"three")]
    assert store.write_record(name_of("a"), b"first", blobs)
    assert not store.write_record(name_of("a"), b"second", blobs)
    os.unlink(f"{empty.folder}/cas/objects/{blobs[1].digest[:2]}/{blobs[1].digest[2:]}")
    assert other.read_record(name_of("a")) is None
    assert other.write_record(name_of("b"), b"third", [blobs[0], blobs[2]])
    assert store.read_record(name_of("b")) == b"third"


def test_large_records_and_many_blobs(store, other, tmp_path):
    blobs = [keep(store, tmp_path, content) for content in (b"one", b"two")]
    record = os.urandom(CHUNK + 1)
    assert store.write_record(name_of("a"), record, blobs)
    assert other.read_record(name_of("a")) == record
    assert not other.write_record(name_of("a"), record, blobs)
    assert other.write_record(name_of("a"), b"short", blobs, over=record)
    assert store.read_record(name_of("a")) == b"short"


def test_more_blobs_than_one_message_names_are_in_a_tree(ours, make):
    store = make(f"grpc://127.0.0.1:{ours.port}")
    many = [blob_of(str(number).encode()) for number in range(30_000)]
    assert store.write_record(name_of("a"), b"record", many)
    (result,) = ours.results.values()
    assert not result.output_files
    assert ours.blobs[result.output_directories[0].tree_digest.hash].count(many[-1].digest.encode()) == 2
    assert store.read_record(name_of("a")) == b"record"
    assert ours.largest <= 4 << 20
    assert store.missing(many) == set(many)
    assert ours.made("find") == 3


@pytest.mark.slow
def test_nothing_is_lost_while_the_server_restarts(tmp_path, make):
    for make_command, instance in SERVERS.values():
        folder = tmp_path / (instance or "none")
        folder.mkdir()
        server = Server(make_command(str(folder)), str(folder)).start()
        try:
            store = make(f"grpc://127.0.0.1:{server.port}", instance)
            wait_until_it_answers(store)
            blob = keep(store, tmp_path, b"content")
            server.stop()
            for call in (lambda: store.missing([blob]), lambda: store.fetch(blob, str(tmp_path / "out"))):
                with pytest.raises(StoreError, match="unavailable"):
                    call()
            assert not (tmp_path / "out").exists()
            server.start()
            wait_until_it_answers(store)
            assert fetched(store, blob, tmp_path) == b"content"
        finally:
            server.stop()


# What the client sends


def test_the_instance_and_the_headers_travel_with_every_call(ours, make, tmp_path):
    store = make(f"grpc://127.0.0.1:{ours.port}", "a/b", {"Authorization": "Bearer x"})
    for content in (CONTENTS["small"], CONTENTS["3 MB"]):
        blob = keep(store, tmp_path, content)
        assert fetched(store, blob, tmp_path) == content
    store.write_record(name_of("a"), b"record", [blob])
    assert make(f"grpc://127.0.0.1:{ours.port}", "c").read_record(name_of("a")) is None
    assert {name for name, _ in ours.calls} == {
        "get", "update", "write_batch", "read_batch", "capabilities", "read", "write"
    }  # fmt: skip
    assert all(sent.get("authorization") == "Bearer x" for _, sent in ours.calls[:-1])


def test_the_empty_blob_needs_no_server(make, tmp_path):
    with ReapiServer() as ours:
        store = make(f"grpc://127.0.0.1:{ours.port}")
        assert keep(store, tmp_path, b"") == EMPTY
        assert store.missing([EMPTY]) == set()
        assert fetched(store, EMPTY, tmp_path) == b""
        assert {name for name, _ in ours.calls} <= {"capabilities"}


@pytest.mark.parametrize("limit", [5_000, 100_000])
def test_no_message_is_larger_than_the_server_takes(make, tmp_path, limit):
    with ReapiServer(max_batch=limit) as ours:
        store = make(f"grpc://127.0.0.1:{ours.port}")
        for size in (10, limit - 2000, limit - 1000, limit - 999, limit, limit + 1):
            content = os.urandom(size)
            assert fetched(store, keep(store, tmp_path, content), tmp_path) == content
        assert ours.made("write") == ours.made("read") == 3
        assert ours.made("capabilities") == 1


def test_what_the_server_has_already_is_not_sent_again(ours, make, tmp_path):
    store = make(f"grpc://127.0.0.1:{ours.port}")
    content = CONTENTS["3 MB"]
    keep(store, tmp_path, content)
    ours.largest = 0
    keep(store, tmp_path, content)
    assert fetched(store, blob_of(content), tmp_path) == content


def test_an_edited_file_is_taken_back_before_its_end(ours, make, tmp_path):
    store = make(f"grpc://127.0.0.1:{ours.port}")
    source = tmp_path / "source"
    source.write_bytes(CONTENTS["3 MB"] + b"more")
    with pytest.raises(CorruptError):
        store.store(blob_of(CONTENTS["3 MB"]), str(source))
    assert ours.blobs == {}


def test_settings_that_can_not_work_are_refused():
    for url in ("", "host:1", "http://host:1", "grpc://", "grpc://host:port", "grpc://host:1/instance", "grpcs://[::1"):
        with pytest.raises(StoreError, match=r"URL|form"):
            ReapiStore(url)
    with pytest.raises(StoreError, match="password") as refused:
        ReapiStore("grpc://user:hunter2@host:1")
    assert "hunter2" not in str(refused.value)
    for headers in ({"a b": "x"}, {"grpc-timeout": "1S"}, {"a": "x\ny"}, {"a": "é"}):
        with pytest.raises(StoreError, match="header") as refused:
            ReapiStore("grpc://host:1", headers=headers)
        assert not any(value in str(refused.value) for value in ("x\ny", "é"))


# What the server does wrong


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, RefusedError),
        (grpc.StatusCode.UNAUTHENTICATED, RefusedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RefusedError),
        (grpc.StatusCode.INVALID_ARGUMENT, RefusedError),
        (grpc.StatusCode.UNIMPLEMENTED, RefusedError),
        (grpc.StatusCode.UNAVAILABLE, StoreError),
        (grpc.StatusCode.INTERNAL, StoreError),
        (grpc.StatusCode.UNKNOWN, StoreError),
    ],
)
def test_every_status_is_one_line(ours, make, tmp_path, code, error):
    small, big = (blob_of(CONTENTS[name]) for name in ("small", "3 MB"))
    store = make(f"grpc://127.0.0.1:{ours.port}")
    for name in ("small", "3 MB"):
        (tmp_path / name).write_bytes(CONTENTS[name])
    calls = {
        "get": lambda: store.read_record(name_of("a")),
        "update": lambda: store.write_record(name_of("a"), b"record", []),
        "find": lambda: store.missing([small]),
        "write_batch": lambda: store.store(small, str(tmp_path / "small")),
        "read_batch": lambda: store.fetch(small, str(tmp_path / "out")),
        "write": lambda: store.store(big, str(tmp_path / "3 MB")),
        "read": lambda: store.fetch(big, str(tmp_path / "out")),
    }
    for name, call in calls.items():
        ours.fails = {name: code}
        with pytest.raises(StoreError) as raised:
            call()
        assert type(raised.value) is error
        assert str(raised.value).startswith(f"reapi: 127.0.0.1:{ours.port}: {code.name.lower().replace('_', ' ')}: ")
        assert "\n" not in str(raised.value)
    assert entries(tmp_path) == ["3 MB", "small"]


def test_a_server_without_capabilities_is_taken_at_the_usual_limit(ours, make, tmp_path):
    ours.fails = {"capabilities": grpc.StatusCode.UNIMPLEMENTED}
    store = make(f"grpc://127.0.0.1:{ours.port}")
    for content in CONTENTS.values():
        assert fetched(store, keep(store, tmp_path, content), tmp_path) == content


def test_a_server_without_sha256_is_no_store(make, tmp_path):
    with ReapiServer(functions=[2]) as ours, pytest.raises(StoreError, match="SHA-256"):
        keep(make(f"grpc://127.0.0.1:{ours.port}"), tmp_path, b"content")


@pytest.mark.parametrize("how", damaged(b"any"))
@pytest.mark.parametrize("name", ["small", "3 MB"])
def test_a_wrong_body_is_never_taken(ours, make, tmp_path, name, how):
    store = make(f"grpc://127.0.0.1:{ours.port}")
    blob = keep(store, tmp_path, CONTENTS[name])
    ours.blobs[blob.digest] = damaged(CONTENTS[name])[how]
    with pytest.raises(CorruptError):
        store.fetch(blob, str(tmp_path / "out"))
    assert entries(tmp_path) == []
    assert store.fetch(blob, str(tmp_path / "out")) is False
    assert store.missing([blob]) == {blob}
    del ours.blobs[blob.digest]
    keep(store, tmp_path, CONTENTS[name])
    assert fetched(store, blob, tmp_path) == CONTENTS[name]


def test_a_record_beside_its_result_that_is_gone_or_wrong_is_absent(ours, make):
    store = make(f"grpc://127.0.0.1:{ours.port}")
    record = b"r" * (CHUNK + 1)
    for harm in (
        lambda blob: ours.blobs.pop(blob.digest),
        lambda blob: ours.blobs.update({blob.digest: b"x" + record[1:]}),
    ):
        assert store.write_record(name_of("a"), record, [])
        assert store.read_record(name_of("a")) == record
        harm(blob_of(record))
        assert store.read_record(name_of("a")) is None
        ours.blobs.pop(blob_of(record).digest, None)


def test_a_batch_that_is_answered_for_another_is_an_error(ours, make, tmp_path):
    from build_tests.cache._reapi_messages import messages

    ours.write_batch = lambda asked, context: messages().BatchUpdateBlobsResponse()
    with pytest.raises(StoreError, match="other blobs"):
        keep(make(f"grpc://127.0.0.1:{ours.port}"), tmp_path, b"content")


def failure_of(call):
    """What a store says, or None."""
    try:
        call()
    except StoreError as error:
        return str(error)
    return None


@pytest.mark.parametrize("how", ["refused", "black-hole", "silent", "trickle", "reset", "cut"])
def test_a_network_that_fails_is_an_error_and_leaves_nothing(ours, make, tmp_path, how):
    content = CONTENTS["3 MB"]
    blob = keep(make(f"grpc://127.0.0.1:{ours.port}"), tmp_path, content)
    (tmp_path / "source").write_bytes(content)
    with Proxy(ours.port, how, after=2000) as proxy:
        store = make(f"grpc://127.0.0.1:{proxy.port}", seconds=0.3)
        calls = (
            lambda: store.read_record(name_of("a")),
            lambda: store.missing([blob_of(b"x")]),
            lambda: store.store(blob_of(content + b"?"), str(tmp_path / "source")),
            lambda: store.fetch(blob, str(tmp_path / "out")),
        )
        failures = [failure_of(call) for call in calls]
        store.close()  # or it would go on connecting while the proxy is taken down
    # What is answered in a few bytes comes before the cut.
    needed = failures if how not in {"reset", "cut"} else failures[-1:]
    assert all(failure and "\n" not in failure for failure in needed)
    assert entries(tmp_path) == ["source"]


# TLS


def certificate(folder, names):
    """A self-signed certificate and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    (folder / "ca.pem").write_bytes(made)
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain), made


def test_tls_takes_the_certificates_it_was_given(make, tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    credentials = grpc.ssl_server_credentials(
        [certificate(tmp_path, [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])]
    )
    ca = str(tmp_path / "ca.pem")
    with ReapiServer(credentials=credentials) as ours:
        url = f"grpcs://127.0.0.1:{ours.port}"
        assert make(url, ca_file=ca).read_record(name_of("a")) is None
        with pytest.raises(StoreError, match="unavailable"):
            make(url).read_record(name_of("a"))
        with pytest.raises(StoreError, match="unavailable"):
            make(f"grpc://127.0.0.1:{ours.port}").read_record(name_of("a"))
        monkeypatch.setenv("SSL_CERT_FILE", ca)
        assert make(url).read_record(name_of("a")) is None
    with pytest.raises(StoreError, match="can't be read"):
        make(f"grpcs://127.0.0.1:{free_port()}", ca_file=str(tmp_path / "none")).read_record(name_of("a"))


def test_tls_refuses_another_hosts_certificate(make, tmp_path):
    credentials = grpc.ssl_server_credentials([certificate(tmp_path, [x509.DNSName("elsewhere.test")])])
    with ReapiServer(credentials=credentials) as ours, pytest.raises(StoreError, match="unavailable"):
        make(f"grpcs://127.0.0.1:{ours.port}", ca_file=str(tmp_path / "ca.pem")).read_record(name_of("a"))


def test_a_failed_handshake_writes_nothing_to_the_terminal(ours):
    code = f"""
        import os
        from build_tests.cache.model import StoreError
        from build_tests.cache.reapi import ReapiStore
        store = ReapiStore("grpcs://127.0.0.1:{ours.port}", seconds=30)
        try:
            store.read_record("0" * 64)
        except StoreError as error:
            print(error)
        store.close()
        assert "GRPC_VERBOSITY" not in os.environ
    """
    environ = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert "unavailable" in done.stdout
    assert done.stderr == ""


# What it costs


def test_nothing_of_grpc_is_imported_before_it_is_used():
    code = """
        import sys
        from build_tests.cache.reapi import ReapiStore
        ReapiStore("grpcs://host:1", "main").close()
        print(*[name for name in ("grpc", "google.protobuf", "cryptography", "ssl", "asyncio") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.slow
def test_a_big_blob_passes_through_little_memory(server, tmp_path):
    code = f"""
        import hashlib, os, resource, sys
        from build_tests.cache.model import Blob
        from build_tests.cache.reapi import ReapiStore
        store = ReapiStore("grpc://127.0.0.1:{server.port}", {server.instance!r}, seconds=60)
        digest = hashlib.sha256()
        with open("source", "wb") as file:
            for _ in range(200):
                piece = os.urandom(1_000_000)
                digest.update(piece)
                file.write(piece)
        store.read_record("0" * 64)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        blob = Blob(digest.hexdigest(), 200_000_000)
        store.store(blob, "source")
        os.unlink("source")
        assert store.fetch(blob, "out")
        assert os.path.getsize("out") == blob.size
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
        store.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64_000_000
