"""`pytest-build cache keygen`, `stats` and `verify`."""

import base64
import json
import os
import pty
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from commands import COMMAND, environment, run

from build_tests.cache.local import LocalStore
from build_tests.cache.model import record_name
from build_tests.cache.trust import Address, sealed

STEP = {"command": "echo 1 >one.txt; echo 2 >two.txt", "outputs": ["one.txt", "two.txt"]}


@pytest.fixture
def ws(build_workspace):
    build_workspace.components(a={"steps": {"make": STEP}})
    return build_workspace


def with_cache(ws, **cache):
    ws.components({"build_system": {"cache": cache}}, a={"steps": {"make": STEP}})


def store_of(ws):
    return Path(ws.environ["XDG_CACHE_HOME"], "pytest-build/v1")


def entries(ws, folder):
    return sorted(path for path in (store_of(ws) / folder).rglob("*") if path.is_file())


def public_of(said):
    return re.search(r'"(ed25519:[^"]+|hmac:[^"]+)"', said)[1]


def make_key(ws, *arguments):
    """The private key's file and the public key."""
    path = ws.root.parent / "".join(["key", *arguments])
    done = run(ws, "cache", "keygen", *arguments, "--file", str(path))
    assert done.returncode == 0, done.stderr
    return str(path), public_of(done.stdout)


# keygen


def test_a_new_pair_makes_entries_that_others_believe(ws):
    done = run(ws, "cache", "keygen")
    path = Path(ws.environ["XDG_CONFIG_HOME"], "pytest-build/main-k1.key")
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(path) in done.stdout
    assert path.read_text().split()[-1] not in done.stdout
    line = f'keys: {{main: {{k1: "{public_of(done.stdout)}"}}}}'
    assert f"\n    {line}\n" in done.stdout
    ws.write("build.yml", pasted(line))
    job = {"PYTEST_BUILD_SCOPE": "main", "PYTEST_BUILD_SIGNING_KEY_FILE": str(path)}
    assert run(ws, "build", "-n0", **job).returncode == 0
    assert "signs with k1; reads main" in run(ws, "cache", "stats", **job).stdout
    found = json.loads(run(ws, "cache", "verify", "--json").stdout)
    assert (found["records"], found["good"], found["ok"]) == (1, 1, True)


def pasted(line):
    return f"""\
version: "2.0"
build_system:
  cache:
    {line}
components:
  a:
    kind: command
    steps:
      make: {{command: "{STEP["command"]}", outputs: [one.txt, two.txt]}}
"""


def test_a_dash_prints_the_private_key_alone(ws):
    done = run(ws, "cache", "keygen", "release", "--file", "-")
    assert re.fullmatch(r"pytest-build-ed25519 k1 [A-Za-z0-9+/]{43}=\n", done.stdout)
    assert 'keys: {release: {k1: "ed25519:' in done.stderr
    assert done.stdout.split()[-1] not in done.stderr
    assert not Path(ws.environ["XDG_CONFIG_HOME"]).exists()


def test_the_next_key_stands_beside_the_others(ws):
    _, public = make_key(ws)
    with_cache(ws, keys={"main": {"k1": public, "k7": public}})
    done = run(ws, "cache", "keygen", "main")
    assert "beside k1, k7 of scope main" in done.stdout
    assert re.search(r'\n    k8: "ed25519:[^"]+"\n', done.stdout)
    assert run(ws, "cache", "keygen", "pr").stdout.count("keys: {pr: {k1: ") == 1
    again = run(ws, "cache", "keygen", "main", "--key-id", "k7")
    assert (again.returncode, again.stdout) == (4, "")
    assert again.stderr == "ERROR: scope main has a key k7 already: an id is never used again\n"


def test_a_secret_is_named_and_not_shown(ws):
    done = run(ws, "cache", "keygen", "main", "--hmac", "--key-id", "shared")
    path = Path(ws.environ["XDG_CONFIG_HOME"], "pytest-build/main-shared.key")
    secret = path.read_text().split()[-1]
    assert 'keys: {main: {shared: "hmac:PYTEST_BUILD_HMAC_MAIN_SHARED"}}' in done.stdout
    assert secret not in done.stdout
    assert len(base64.b64decode(secret)) == 32


def test_no_file_is_written_over(ws):
    path = ws.write("precious", "content")
    done = run(ws, "cache", "keygen", "--file", "precious")
    assert done.returncode == 4
    assert done.stderr == "ERROR: precious is there already: a key is never written over another file\n"
    assert path.read_text() == "content"
    (ws.root / "link").symlink_to(ws.root / "elsewhere")
    assert run(ws, "cache", "keygen", "--file", "link").returncode == 4
    assert not (ws.root / "elsewhere").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a b"], "'a b' is no scope: letters, digits, _ . and -, beginning with a letter"),
        (["--key-id", "7"], "'7' is no key id: letters, digits, _ . and -, beginning with a letter"),
        (["--file", "no/such/folder"], "no/such/folder can't be written: No such file or directory"),
        (["--build-file", "no.yml"], "--build-file no.yml: no such file"),
    ],
)
def test_wrong_wishes_end_with_4_and_one_line(ws, arguments, message):
    done = run(ws, "cache", "keygen", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (4, "", f"ERROR: {message}\n")


def test_no_build_file_is_needed(ws):
    (ws.root / "build.yml").unlink()
    assert run(ws, "cache", "keygen", "--file", "-").returncode == 0
    assert run(ws, "cache", "stats").returncode == 0
    assert run(ws, "cache", "verify").returncode == 0


# stats


def test_stats_say_what_the_local_store_holds(ws):
    before = run(ws, "cache", "stats").stdout
    assert "0 records, 0 files, 0 B of 10.0 GB" in before
    assert "last sweep: never" in before
    assert ws.build("-n0").status == 0
    said = run(ws, "cache", "stats").stdout
    assert "cache: scope local, has no private key; reads local; remote tiers are read only\n" in said
    assert f"local: {store_of(ws).parent}\n    1 record, 2 files, 12.3 kB of 10.0 GB\n" in said
    assert re.search(r"kept for 7d after the last use; last sweep: \d{4}-\d\d-\d\d \d\d:\d\d\n", said)


def test_stats_as_json(ws):
    with_cache(ws, ttl="90m", max_size="1MB")
    assert ws.build("-n0").status == 0
    found = json.loads(run(ws, "cache", "stats", "--json").stdout)
    (local,) = found["tiers"]
    swept = local["holds"].pop("swept")
    assert abs(swept - (store_of(ws) / "sweep").stat().st_mtime) < 60
    assert found == {
        "version": 1,
        "permissions": {
            "cache": "ro", "scope": "local", "reads": ["local"], "key_id": None, "writes_remote": False,
        },
        "ttl": 5400.0,
        "max_size": 1000000,
        "tiers": [{
            "name": "local", "why_not": "",
            "holds": {
                "folder": str(store_of(ws).parent), "records": 1, "blobs": 2, "bytes": 12288, "quarantined": 0,
            },
        }],
        "warnings": [],
    }  # fmt: skip


def test_each_tier_says_whether_it_answers_and_why_not(ws):
    tiers = ["local", "redis", "s3", "reapi"]
    with_cache(ws, storage=tiers, redis={"url": "redis://127.0.0.1:1/0"}, reapi={"url": "grpc://127.0.0.1:1"})
    done = run(ws, "cache", "stats")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line.partition(":")[0] for line in lines] == ["cache", *tiers]
    assert re.match(r"redis: not usable: .*refused", lines[2])
    assert lines[3] == "s3: not usable: the build file does not say s3: {bucket: …}"
    assert lines[4].startswith("reapi: not usable: ")


def test_off_says_who_turned_it_off(ws):
    assert run(ws, "cache", "stats", PYTEST_BUILD_CACHE="off").stdout.startswith("cache: off (PYTEST_BUILD_CACHE")
    found = json.loads(run(ws, "cache", "stats", "--json", PYTEST_BUILD_CACHE="off").stdout)
    assert (found["permissions"]["cache"], found["tiers"]) == ("off", [])
    with_cache(ws, enabled=False)
    assert run(ws, "cache", "stats").stdout == "cache: off (enabled: false in the build file)\n"


def test_who_may_write_and_why_not(ws):
    key, public = make_key(ws)
    with_cache(ws, storage=["local", "redis"], redis={"url": "redis://127.0.0.1:1/0"}, keys={"main": {"k1": public}})
    job = {"PYTEST_BUILD_CACHE": "rw", "PYTEST_BUILD_SCOPE": "main"}
    said = run(ws, "cache", "stats", **job).stdout
    assert "remote tiers are not written: scope main has public keys, and this job has no private key of it" in said
    job["PYTEST_BUILD_SIGNING_KEY_FILE"] = key
    said = run(ws, "cache", "stats", **job).stdout
    assert "cache: scope main, signs with k1; reads main; remote tiers are written\n" in said
    permissions = json.loads(run(ws, "cache", "stats", "--json", **job).stdout)["permissions"]
    assert permissions == {"cache": "rw", "scope": "main", "reads": ["main"], "key_id": "k1", "writes_remote": True}
    wrong = run(ws, "cache", "stats", **{**job, "PYTEST_BUILD_CACHE": "yes"})
    assert wrong.returncode == 4
    assert wrong.stderr.startswith("ERROR: PYTEST_BUILD_CACHE: 'yes' is not off, ro or rw")


@pytest.mark.parametrize("command", ["stats", "verify"])
def test_a_pull_request_that_holds_mains_secret_is_told(ws, command):
    make_key(ws, "main", "--hmac")
    with_cache(ws, keys={"main": {"k1": "hmac:PYTEST_BUILD_HMAC_MAIN_K1"}}, read_scopes=["main"])
    secret = base64.b64encode(b"s" * 32).decode()
    job = {"PYTEST_BUILD_HMAC_MAIN_K1": secret, "PYTEST_BUILD_SCOPE": "pr.7"}
    line = "this is a pull request's job, and it holds what can write scope main (k1, hmac)"
    done = run(ws, "cache", command, **job)
    assert done.returncode == 0
    assert done.stderr == f"WARNING: {line}\n"
    assert json.loads(run(ws, "cache", command, "--json", **job).stdout)["warnings"] == [line]
    assert run(ws, "cache", command, **{**job, "PYTEST_BUILD_SCOPE": "main"}).stderr == ""


# verify


def test_a_good_store_is_good_and_stays_as_it_is(ws):
    assert ws.build("-n0").status == 0
    paths = [*entries(ws, "blobs"), *entries(ws, "records")]
    for path in paths:
        os.utime(path, (1e9, 1e9))
    done = run(ws, "cache", "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 record: 1 good, 0 damaged, 0 not believed, 0 unchecked, 0 lacking a file" in done.stdout
    assert "2 files, 4 B: 0 damaged" in done.stdout
    assert {path.stat().st_mtime for path in paths} == {1e9}  # looking is no use


@pytest.mark.parametrize("how", ["a bit", "cut", "longer", "a link", "a folder"])
@pytest.mark.parametrize("what", ["blobs", "records"])
def test_what_is_damaged_is_put_aside(ws, tmp_path, what, how):
    assert ws.build("-n0").status == 0
    path = entries(ws, what)[0]
    content = path.read_bytes()
    path.unlink()
    if how == "a link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    elif how == "a folder":
        path.mkdir()
    else:
        path.write_bytes(
            {"a bit": bytes([content[0] ^ 1]) + content[1:], "cut": content[:-1], "longer": content + b"x"}[how]
        )
    done = run(ws, "cache", "verify")
    assert done.returncode == 1
    assert "1 damaged (put aside)" in done.stdout
    assert not os.path.lexists(path)
    assert len(os.listdir(store_of(ws) / "quarantine")) == 1
    assert "put aside as damaged: 1" in run(ws, "cache", "stats").stdout
    again = json.loads(run(ws, "cache", "verify", "--json").stdout)
    assert (again["ok"], again["incomplete"]) == (True, 1 if what == "blobs" else 0)
    for name in ("one.txt", "two.txt"):
        (ws.root / "a" / name).unlink()
    assert ws.build("-n0").outcomes() == {"a:make": "built"}
    assert ws.read("a/one.txt") == "1\n"


def planted(ws, address, body, *, lookup=None):
    """Somebody with access to the store, and no key, writes an entry."""
    store = LocalStore(str(store_of(ws).parent))
    assert store.write_record(lookup or address.lookup, sealed(address, body, None), [])


def test_what_nobody_should_believe_is_named(ws):
    _, public = make_key(ws)
    assert ws.build("-n0").status == 0
    (record,) = entries(ws, "records")
    body = record.read_bytes().split(b"\n", 2)[2]
    with_cache(ws, keys={"main": {"k1": public}})
    # Another step's entry under a name of its own; a forged one in the scope that has keys; and no entry at all.
    planted(ws, Address("action", "local", "other"), body)
    planted(ws, Address("action", "main", "forged"), b'{"version": 1, "label": "a:\x1b[31mmake"}')
    LocalStore(str(store_of(ws).parent)).write_record("ab" * 32, b"no entry", [])
    done = run(ws, "cache", "verify")
    assert done.returncode == 1
    assert "4 records: 1 good, 0 damaged, 3 not believed" in done.stdout
    assert "not believed: a:make, scope local: it lies under another step's name" in done.stdout
    assert "scope main: not signed" in done.stdout
    assert "not an entry of ours, or cut" in done.stdout
    assert len(entries(ws, "records")) == 4  # they count as absent where they lie


def test_an_entry_that_was_changed_after_it_was_signed(ws):
    key, public = make_key(ws)
    with_cache(ws, keys={"main": {"k1": public}})
    job = {"PYTEST_BUILD_SCOPE": "main", "PYTEST_BUILD_SIGNING_KEY_FILE": key}
    assert run(ws, "build", "-n0", **job).returncode == 0
    (path,) = entries(ws, "records")
    envelope = path.read_bytes()[65:]
    assert b'"seconds":' in envelope
    path.unlink()
    changed = re.sub(rb'"seconds":[\d.]+', b'"seconds":99', envelope)
    LocalStore(str(store_of(ws).parent)).write_record(path.parent.name + path.name, changed, [])
    done = run(ws, "cache", "verify")
    assert done.returncode == 1
    assert re.search("not believed: a:make: .*the signature of k1 does not hold", done.stdout)
    _, other = make_key(ws, "main", "--key-id", "k2")
    with_cache(ws, keys={"main": {"k2": other}})
    assert "signed with k1 (ed25519), not a key of the scope" in run(ws, "cache", "verify").stdout


def test_results_of_the_python_api_can_not_be_checked_without_their_key(ws):
    code = "from build_tests.api import BuildCache\nwith BuildCache() as cache: cache.store_result('k', ['a'])"
    ws.write("a/file", "1")
    subprocess.run([sys.executable, "-c", code], cwd=ws.root, env=environment(ws), check=True)
    assert record_name("local", "k") in {path.parent.name + path.name for path in entries(ws, "records")}
    done = run(ws, "cache", "verify")
    assert done.returncode == 0
    assert "1 record: 0 good, 0 damaged, 0 not believed, 1 unchecked" in done.stdout


def test_a_terminal_sees_how_far_it_is(ws):
    store = LocalStore(str(store_of(ws).parent))
    for number in range(300):
        store.write_record(
            record_name("local", str(number)), sealed(Address("action", "local", "?"), b"x" * 50, None), []
        )
    leader, follower = pty.openpty()
    done = subprocess.run(
        [COMMAND, "cache", "verify"], cwd=ws.root, env=environment(ws, TERM="xterm"), stdout=subprocess.PIPE,
        stderr=follower, text=True, check=False,
    )  # fmt: skip
    os.close(follower)
    drawn = os.read(leader, 100_000).decode()
    os.close(leader)
    assert done.returncode == 0
    assert re.match(r"\rchecked \d+ of 300", drawn)
    assert drawn.endswith("\r\x1b[K")


def test_nothing_goes_behind_dashes(ws):
    done = run(ws, "cache", "verify", "--", "-x")
    assert (done.returncode, done.stderr) == (4, "ERROR: cache takes nothing behind --\n")
