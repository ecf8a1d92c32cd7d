"""Builds with a cache: a workspace worth caching, other checkouts of it, servers to share it through, keys.

Steps call the tool `tick`, which counts, so that a test sees what was really run.
"""

import contextlib
import os
import shutil
import stat
from dataclasses import dataclass, field

from servers import ACCESS, BUCKET, S3_SERVERS, SECRET, Server, redis_command, s3_client
from test_reapi import SERVERS as REAPI_SERVERS
from test_reapi import wait_until_it_answers

from build_tests.cache import keys
from build_tests.cache.reapi import ReapiStore
from build_tests.testing import BuildWorkspace

LABELS = ("lib:make", "lib:pack", "lib:trim", "lib:head", "app:use", "app:check")
RESTORED = dict.fromkeys(LABELS, "restored")
BUILT = dict.fromkeys(LABELS, "built")
FRESH = dict.fromkeys(LABELS, "fresh")
MAKE = r"""
tick make
mkdir -p out/deep/deeper out/empty out/other/empty
cat in.txt >out/plain
printf '#!/bin/sh\necho hi\n' >out/deep/run
chmod 755 out/deep/run
: >out/deep/deeper/nothing
printf '\000\377\001' >'out/odd - näme'
ln -s deep/run out/link
ln -s deep out/folder
ln -s nowhere out/other/dangling
"""
STEPS = {
    "lib": {
        "make": {"command": MAKE, "inputs": ["in.txt"], "outputs": ["out/"]},
        # An executable, and a link as an output of its own.
        "pack": {
            "command": "tick pack; cp in.txt tool; chmod +x tool; ln -s tool latest",
            "inputs": ["in.txt"],
            "outputs": ["tool", "latest"],
        },
        # A chain that is cut off early: most edits change the first output and not the second.
        "trim": {
            "command": "tick trim; { grep -v '^#' in.txt || true; } >trimmed",
            "inputs": ["in.txt"],
            "outputs": ["trimmed"],
        },
        "head": {"command": "tick head; head -n 1 trimmed >head", "inputs": ["trimmed"], "outputs": ["head"]},
    },
    "app": {
        "use": {
            "command": "tick use; cat ../lib/out/plain ../lib/head src/*.txt >used",
            "inputs": ["src/*.txt", "//lib/out/", "//lib/head"],
            "outputs": ["used"],
        },
        "check": {"command": "tick check; test -s used", "inputs": ["used"]},
    },
}
OUTPUTS = ("lib/out", "lib/tool", "lib/latest", "lib/trimmed", "lib/head", "app/used")


def lay_out(ws, top=None, **changes):
    """The workspace; `changes` are fields of steps by name."""
    steps = {c: {name: {**step, **changes.get(name, {})} for name, step in made.items()} for c, made in STEPS.items()}
    ws.components(top, **{name: {"steps": made} for name, made in steps.items()})
    ws.write("lib/in.txt", "one\n# a note\n")
    ws.write("app/src/a.txt", "a\n")
    return ws.tool("tick")


def elsewhere(ws, root, *, own_cache=False):
    """A clone of the sources in another folder: the same tools, the same user's cache unless it is `own_cache`."""
    clone = BuildWorkspace(root, ws.environ)
    for name in ("PATH", "XDG_CONFIG_HOME") if own_cache else ("PATH", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        clone.environ[name] = ws.environ[name]
    left_out = shutil.ignore_patterns(".build", ".pytest_cache", *(path.rpartition("/")[2] for path in OUTPUTS))
    shutil.copytree(ws.root, root, symlinks=True, dirs_exist_ok=True, ignore=left_out)
    return clone


def wipe(ws, *, state=True, cache=False):
    """Remove every output; what is known of this checkout; the user's cache."""
    for path in OUTPUTS:
        target = ws.root / path
        shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink(missing_ok=True)
    for folder in (".build", ".pytest_cache") if state else ():
        shutil.rmtree(ws.root / folder, ignore_errors=True)
    if cache:
        shutil.rmtree(ws.environ["XDG_CACHE_HOME"], ignore_errors=True)


def seen(ws, paths=OUTPUTS):
    """Everything that lies in the outputs: modes, bytes, what links lead to."""
    found = {}
    for path in paths:
        top = ws.root / path
        below = sorted(top.rglob("*")) if top.is_dir() and not top.is_symlink() else []
        found.update({str(each.relative_to(ws.root)): _one(each) for each in (top, *below)})
    return found


def _one(path):
    if path.is_symlink():
        return "link", os.readlink(path)
    if not path.exists():
        return "absent", ""
    if path.is_dir():
        return "folder", ""
    return stat.S_IMODE(path.stat().st_mode), path.read_bytes()


# Servers


@dataclass
class Remote:
    """A server with its place in the settings."""

    name: str
    server: Server
    options: dict
    environ: dict = field(default_factory=dict)

    def settings(self, port=None, *, behind_local=False, **more):
        """`build_system.cache`, by way of another port perhaps."""
        storage = ["local", self.name] if behind_local else [self.name]
        options = {key: self._ported(value, port) for key, value in self.options.items()}
        return {"storage": storage, self.name: options, **more}

    def _ported(self, value, port):
        return value.replace(f":{self.server.port}", f":{port}") if port else value


AWS = {
    "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}  # fmt: skip
REMOTES = ("redis", *(f"s3-{name}" for name in S3_SERVERS), *(f"reapi-{name}" for name in REAPI_SERVERS))


@contextlib.contextmanager
def remote(name, folder):
    """A server of this test's own, which may be stopped and started."""
    folder.mkdir()
    kind, _, make = name.partition("-")
    command, instance = redis_command(), ""
    if kind == "s3":
        command = S3_SERVERS[make](str(folder))
    elif kind == "reapi":
        make, instance = REAPI_SERVERS[make]
        command = make(str(folder))
    server = Server(command, str(folder)).start()
    try:
        yield {"redis": _redis, "s3": _s3, "reapi": _reapi}[kind](server, instance)
    finally:
        server.stop()


def _redis(server, _):
    return Remote("redis", server, {"url": f"redis://127.0.0.1:{server.port}/0"})


def _s3(server, _):
    client = s3_client(server.port)
    client.create_bucket(Bucket=BUCKET)
    client.close()
    options = {"bucket": BUCKET, "region": "us-east-1", "endpoint_url": f"http://127.0.0.1:{server.port}"}
    return Remote("s3", server, options, AWS)


def _reapi(server, instance):
    client = ReapiStore(f"grpc://127.0.0.1:{server.port}", instance, seconds=30)
    wait_until_it_answers(client)
    client.close()
    options = {"url": f"grpc://127.0.0.1:{server.port}", **({"instance": instance} if instance else {})}
    return Remote("reapi", server, options)


# Keys


@dataclass
class Keys:
    """Pairs by scope: the public keys for the build file, the private ones as files."""

    folder: object
    public: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)

    def add(self, *scopes):
        """A pair for each."""
        for scope in scopes:
            pair = keys.keygen(scope, "k1")
            self.public[scope] = {"k1": pair.public}
            self.files[scope] = str(self.folder / f"key-{scope}")
            keys.write_private(self.files[scope], pair.private)
        return self


def as_writer(ws, made, scope, key_of=None):
    """The workspace's builds are jobs that write a scope, with its family's key or another's."""
    ws.environ["PYTEST_BUILD_CACHE"] = "rw"
    ws.environ["PYTEST_BUILD_SCOPE"] = scope
    ws.environ["PYTEST_BUILD_SIGNING_KEY_FILE"] = made.files[key_of or scope]


def as_reader(ws, scope="dev"):
    """The workspace's builds are jobs without a key."""
    for name in ("PYTEST_BUILD_CACHE", "PYTEST_BUILD_SIGNING_KEY_FILE"):
        ws.environ.pop(name, None)
    ws.environ["PYTEST_BUILD_SCOPE"] = scope


def cached(settings):
    """The top of a build file."""
    return {"build_system": {"cache": settings}}


def noted(result, word="cache"):
    """The lines of a build's end that are about the cache."""
    return [line for line in result.output.splitlines() if word in line and not line.startswith("FAILED")]


def right(ws, result, expected, outcomes=None):
    """The build went well, its outputs are those expected, and the steps ended as they should."""
    assert result.status == 0, result.output
    if outcomes is not None:
        assert result.outcomes() == outcomes, result.output
    assert seen(ws) == expected


def clean_build(ws, root):
    """What a build without any cache gives in another folder."""
    plain = elsewhere(ws, root, own_cache=True)
    plain.environ["PYTEST_BUILD_CACHE"] = "off"
    result = plain.build("-n0")
    assert result.status == 0, result.output
    assert not os.path.exists(plain.environ["XDG_CACHE_HOME"])
    return seen(plain)
