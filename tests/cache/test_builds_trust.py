"""Whoever writes what into a store, only those who may get a byte into a build: docs/trust.md, seen by builds."""

import json
from pathlib import Path

import pytest
from builds import (
    BUILT,
    LABELS,
    REMOTES,
    RESTORED,
    Keys,
    as_reader,
    as_writer,
    cached,
    elsewhere,
    lay_out,
    noted,
    remote,
    right,
    seen,
    wipe,
)

from build_tests.cache.artifact import Item, encode
from build_tests.cache.keys import read_signer
from build_tests.cache.local import LocalStore, default_folder
from build_tests.cache.model import Blob
from build_tests.cache.opening import open_store
from build_tests.cache.trust import Address, sealed
from build_tests.core.model import CacheSettings

EVIL = b"evil\n"


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path).add("main", "pr")


@pytest.fixture(params=["local", *REMOTES])
def poisoned(request, tmp_path, monkeypatch, keys):
    """The store that an attacker can write: settings of it for a build, and whether it is another machine."""
    common = {"keys": keys.public, "read_scopes": ["main"]}
    if request.param == "local":
        yield {"storage": ["local"], **common}, None
        return
    with remote(request.param, tmp_path / "server") as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        yield server.settings(**common), server


def entries(ws):
    """name → envelope of every record of the user's local store that is a step's."""
    store = LocalStore(default_folder(ws.environ))
    found = {}
    for path in sorted(Path(store.records).rglob("*")):
        if path.is_file():
            name = path.parent.name + path.name
            envelope = store.peek(name)
            if b'"items"' in envelope:
                found[name] = envelope
    return found


def body_of(envelope):
    return json.loads(envelope.partition(b"\n")[2])


class Attacker:
    """Has read every record of main's, and can write to a store, by whatever name."""

    def __init__(self, settings, environ, folder, known):
        options = {name: tuple(settings.get(name, {}).items()) for name in ("redis", "s3", "reapi")}
        self.store = open_store(CacheSettings(storage=tuple(settings["storage"]), **options), environ, print, writable=True)
        self.known = known
        self.file = folder / "evil"
        self.file.write_bytes(EVIL)
        self.blob = Blob(Item("x", "f", _sha(EVIL), len(EVIL)).blob.digest, len(EVIL))
        self.store.store(self.blob, str(self.file))

    def evil_body(self, envelope):
        """The same outputs, every file of them evil."""
        body = body_of(envelope)
        items = [[*item] for item in body["items"]]
        body["items"] = encode([
            Item(path, mode, self.blob.digest, self.blob.size) if mode in "fx" else Item(path, mode, content, 0)
            for path, mode, content, *_ in items
        ])  # fmt: skip
        return json.dumps(body, separators=(",", ":"), sort_keys=True).encode()

    def write(self, forge):
        written = []
        for name, envelope in self.known.items():
            text = forge(self, name, envelope)
            if not body_of(envelope)["items"] and forge is tampered:
                continue  # a check has no outputs: nothing to put evil in
            assert text != envelope
            self.store.write_record(name, text, [self.blob])
            written.append(name)
        assert self.store.finish(60) == 0
        assert [name for name in written if self.store.read_record(name) is None] == []
        self.store.close()


def _sha(data):
    import hashlib

    return hashlib.sha256(data).hexdigest()


def unsigned(attacker, name, envelope):
    # Whoever writes it knows everything but the key; the checksum is right.
    key = attacker.keys_by_name[name]
    return sealed(Address("action", "main", key), attacker.evil_body(envelope), None)


def signed_with_another_key(attacker, name, envelope):
    address = Address("action", "main", attacker.keys_by_name[name])
    return sealed(address, attacker.evil_body(envelope), attacker.signer)


def tampered(attacker, name, envelope):
    return envelope.partition(b"\n")[0] + b"\n" + attacker.evil_body(envelope)


def replayed(attacker, name, envelope):
    others = [text for other, text in attacker.known.items() if other != name]
    return others[hash(name) % len(others)]


def of_the_pull_request(attacker, name, envelope):
    address = Address("action", "pr.7", attacker.keys_by_name[name])
    return sealed(address, attacker.evil_body(envelope), attacker.signer)


FORGERIES = [unsigned, signed_with_another_key, tampered, replayed, of_the_pull_request]


def keys_of(ws, settings):
    """name → key of each record: what an attacker works out from the sources, we take from a keeper that notes it."""
    probe = ws.bin / "key_probe.py"
    told = ws.bin / "keys.jsonl"
    probe.write_text(
        "import json\n"
        "from build_tests.run.keeping import Keeper\n"
        "find = Keeper.find\n"
        "def noting(self, key, outputs):\n"
        "    self.opened()\n"
        "    from build_tests.cache.trust import Address\n"
        f"    with open({str(told)!r}, 'a') as file:\n"
        "        json.dump([Address('action', 'main', key).lookup, key], file)\n"
        "        print(file=file)\n"
        "    return find(self, key, outputs)\n"
        "Keeper.find = noting\n"
    )
    ws.environ["PYTHONPATH"] = str(ws.bin)
    result = ws.build("-n0", "-p", "key_probe")
    del ws.environ["PYTHONPATH"]
    return result, dict(json.loads(line) for line in told.read_text().splitlines())


@pytest.mark.parametrize("forge", FORGERIES)
def test_who_can_write_the_store_gets_nothing_into_a_build(build_workspace, tmp_path, keys, poisoned, forge):
    settings, server = poisoned
    ws = build_workspace
    # Main's job, elsewhere: what the attacker knows of it.
    lay_out(ws, cached({"storage": "local", "keys": keys.public}))
    as_writer(ws, keys, "main")
    result, by_name = keys_of(ws, settings)
    right(ws, result, seen(ws), BUILT)
    made, known = seen(ws), entries(ws)
    assert len(known) == len(LABELS)
    victim = elsewhere(ws, tmp_path / "victim", own_cache=True)
    attacker = Attacker(settings, victim.environ, tmp_path, known)
    attacker.keys_by_name = by_name
    attacker.signer = read_signer(keys.files["pr"])[0]
    if forge is signed_with_another_key:
        attacker.signer = attacker.signer.__class__(
            algorithm=attacker.signer.algorithm, secret=attacker.signer.secret, key_id="k1"
        )
    attacker.write(forge)
    lay_out(victim, cached(settings))
    if server:
        victim.environ.update(server.environ)
    for job in (lambda: as_reader(victim), lambda: as_writer(victim, keys, "main")):
        job()
        result = victim.build("-n0")
        right(victim, result, made, BUILT)
        warned = noted(result, "security")
        assert warned, result.output
        assert len(set(warned)) == len(warned)
        assert "not believed" in noted(result, "cache:")[-1]
        wipe(victim)
    # Squatting gains nothing: main's job has put its own in place of what it could not believe.
    as_reader(victim)
    result = victim.build("-n0")
    right(victim, result, made, RESTORED)
    assert noted(result, "security") == []


def test_wrong_bytes_under_the_right_name_are_not_used(build_workspace, tmp_path, keys):
    ws = build_workspace
    with remote("redis", tmp_path / "server") as server:
        import redis

        lay_out(ws, cached(server.settings(keys=keys.public, read_scopes=["main"])))
        as_writer(ws, keys, "main")
        assert ws.build("-n0").outcomes() == BUILT
        made = seen(ws)
        with redis.Redis(port=server.server.port) as client:
            changed = 0
            for name in client.keys("*"):
                kind = client.type(name)
                value = client.get(name) if kind == b"string" else None
                if value is not None and b"one\n# a note\n" in value and b"pytest-build entry" not in value:
                    client.set(name, value.replace(b"one\n", b"two\n"))
                    changed += 1
        assert changed
        wipe(ws)
        as_reader(ws)
        result = ws.build("-n0")
        right(ws, result, made)
        assert result["lib:make"].value == "built"
        assert "incomplete" in noted(result, "cache:")[-1]


def evil_tick(ws):
    """The environment of a job whose tools are not what they seem: the steps' keys do not show it."""
    ws.tool("cat", 'echo evil')


def test_nothing_of_a_pull_requests_job_enters_mains_on_a_kept_runner(build_workspace, tmp_path, keys):
    ws = build_workspace
    lay_out(ws, cached({"storage": "local", "keys": keys.public, "read_scopes": ["main"]}))
    pull_request = elsewhere(ws, tmp_path / "pr")
    pull_request.environ["PATH"] = f"{pull_request.bin}:{pull_request.environ['PATH']}"
    evil_tick(pull_request)
    as_writer(pull_request, keys, "pr.7", "pr")
    assert pull_request.build("-n0").outcomes() == BUILT
    assert pull_request.read("app/used") == "evil\n"
    # It is in the shared store, and that job gets it back.
    wipe(pull_request)
    assert pull_request.build("-n0").outcomes() == RESTORED
    assert pull_request.read("app/used") == "evil\n"
    as_writer(ws, keys, "main")
    result = ws.build("-n0")
    assert result.outcomes() == BUILT, result.output
    assert ws.read("app/used") == "one\n# a note\none\na\n"
    assert noted(result, "security") == []
    # Main's own are another pull request's to read, before anybody's.
    other = elsewhere(ws, tmp_path / "pr2")
    as_reader(other, "pr.8")
    right(other, other.build("-n0"), seen(ws), RESTORED)


@pytest.mark.parametrize("name", ["redis"])
def test_nothing_of_a_pull_requests_job_enters_mains_through_a_server(build_workspace, tmp_path, keys, name):
    ws = build_workspace
    with remote(name, tmp_path / "server") as server:
        settings = server.settings(behind_local=True, keys=keys.public, read_scopes=["main"])
        lay_out(ws, cached(settings))
        pull_request = elsewhere(ws, tmp_path / "pr")
        pull_request.environ["PATH"] = f"{pull_request.bin}:{pull_request.environ['PATH']}"
        evil_tick(pull_request)
        as_writer(pull_request, keys, "pr.7", "pr")
        assert pull_request.build("-n0").outcomes() == BUILT
        # With main's scope claimed and the pull request's key it can't write at all.
        wipe(pull_request, cache=True)
        as_writer(pull_request, keys, "main", "pr")
        result = pull_request.build("-n0")
        assert result.outcomes() == BUILT
        assert any("none of the public keys of scope main" in line for line in noted(result)), result.output
        as_writer(ws, keys, "main")
        result = ws.build("-n0")
        assert result.outcomes() == BUILT, result.output
        assert ws.read("app/used") == "one\n# a note\none\na\n"


def test_who_has_mains_key_is_believed(build_workspace, tmp_path, keys):
    """Without this, the tests above would hold for a cache that believes nobody."""
    ws = build_workspace
    lay_out(ws, cached({"storage": "local", "keys": keys.public, "read_scopes": ["main"]}))
    stolen = elsewhere(ws, tmp_path / "pr")
    stolen.environ["PATH"] = f"{stolen.bin}:{stolen.environ['PATH']}"
    evil_tick(stolen)
    as_writer(stolen, keys, "main")
    assert stolen.build("-n0").outcomes() == BUILT
    as_reader(ws)
    assert ws.build("-n0").outcomes() == RESTORED
    assert ws.read("app/used") == "evil\n"


def test_unsigned_entries_of_a_server_are_never_used(build_workspace, tmp_path):
    """A build file without keys: the server is of no use, which is said, and what lies there is not asked for."""
    ws = build_workspace
    with remote("redis", tmp_path / "server") as server:
        tick = lay_out(ws, cached(server.settings()))
        ws.environ.update(PYTEST_BUILD_CACHE="rw", PYTEST_BUILD_SCOPE="main")
        for round_ in (1, 2):
            result = ws.build("-n0")
            assert result.outcomes() == BUILT
            assert tick.calls == round_ * len(LABELS)
            assert any("no public key" in line for line in noted(result)), result.output
            wipe(ws)
        as_reader(ws)
        result = ws.build("-n0")
        assert result.outcomes() == BUILT
        assert any("no public key" in line for line in noted(result)), result.output
