"""What the artifact cache costs and gives, in whole builds: `python benchmarks/cache.py`, or `make bench-cache`.

Beside it: a floor (a Python loop that hashes every input and copies every output, knowing nothing else), ninja with a
compiler-cache-like wrapper round each action (hash the inputs, copy if known), and Turborepo, if npm can bring it. All
on the workspace of `run.py`; medians of interleaved rounds. Writes `benchmarks/cache.md`.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import measure
import workspace
from measure import Taken
from workspace import Workspace

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
RESULTS = os.path.join(HERE, "cache.md")
BUILD = [
    sys.executable, "-m", "pytest", "-q", "-n2", "-p", "build_tests.plugin", "-p", "xdist.plugin", "-p", "pytest_dependency",
    "build.yml",
]  # fmt: skip
"""Without the plugins that this checkout's tests use: PYTEST_DISABLE_PLUGIN_AUTOLOAD is set."""
STATE = (".build", ".pytest_cache", ".ninja_log", ".ninja_deps")

FLOOR = """
import hashlib, json, shutil, sys
known = json.load(open("known.json"))
for inputs, output in json.load(open("steps.json")):
    key = hashlib.sha256()
    for path in inputs:
        with open(path, "rb") as file:
            key.update(hashlib.sha256(file.read()).digest())
    name = "store/" + key.hexdigest()
    if sys.argv[1] == "keep":
        shutil.copyfile(output, name)
        known[key.hexdigest()] = hashlib.sha256(open(output, "rb").read()).hexdigest()
    else:
        shutil.copyfile(name, output)
        assert hashlib.sha256(open(output, "rb").read()).hexdigest() == known[key.hexdigest()]
json.dump(known, open("known.json", "w"))
"""
WRAPPER = """set -e
output=$1 action=$2; shift 2
key=store/$(cat "$@" | sha256sum | cut -c1-64)
if [ -e "$key" ]; then cp "$key" "$output"; else eval "$action"; cp "$output" "$key"; fi
"""

FETCH = """
import json, re, sys, time
from build_tests.cache.model import Blob
from build_tests.cache.s3 import S3Store
def peak():  # ru_maxrss would be the starting process's
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1.024 / 1000
how, endpoint, bucket, digest, size, destination = sys.argv[1:]
store = S3Store(bucket, region="us-east-1", endpoint_url=endpoint)
store.missing([Blob(digest, int(size))])
import boto3, botocore.config
config = botocore.config.Config(s3={"addressing_style": "path"})
plain = boto3.client("s3", region_name="us-east-1", endpoint_url=endpoint, config=config)
(found,) = plain.list_objects_v2(Bucket=bucket)["Contents"]
idle = peak()
began = time.perf_counter()
if how == "ours":
    assert store.fetch(Blob(digest, int(size)), destination)
elif how == "one stream":
    with open(destination, "wb") as file:
        for piece in plain.get_object(Bucket=bucket, Key=found["Key"])["Body"].iter_chunks(1 << 20):
            file.write(piece)
else:
    plain.download_file(bucket, found["Key"], destination)
seconds = time.perf_counter() - began
print(json.dumps([seconds, peak() - idle]))
"""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    layers: int = 10
    width: int = 100
    inputs: int = 10
    rounds: int = 5
    files: int = 10_000
    big_mb: int = 1024
    packages: int = 200


QUICK = Sizes(layers=3, width=10, inputs=3, rounds=1, files=200, big_mb=8, packages=10)


@dataclass(slots=True)
class Rows:
    """Runs by name."""

    runs: dict[str, list[Taken]] = field(default_factory=dict)

    def add(self, name: str, taken: Taken) -> None:
        """One more."""
        self.runs.setdefault(name, []).append(taken)

    def median(self, name: str) -> float:
        """Seconds."""
        return measure.median(self.runs[name])


def forget(root: str, outputs: Sequence[str], *more: str) -> None:
    """A checkout as another machine has it: no outputs, no state."""
    put_away(*(os.path.join(root, path) for path in (*STATE, *more, *outputs)))
    for folder in {os.path.dirname(path) for path in outputs}:
        os.makedirs(os.path.join(root, folder), exist_ok=True)


def empty_cache() -> None:
    """Nobody has built anything."""
    put_away(os.environ["XDG_CACHE_HOME"])


def put_away(*paths: str) -> None:
    """Out of sight, but not deleted: for a minute ext4 looks at each deleted inode again before it makes a new file.

    With some thousands just deleted, a file takes 0.4 ms to make in place of 0.04 ms, whoever makes it.
    """
    trash = tempfile.mkdtemp(prefix="trash-", dir=os.path.dirname(os.environ["XDG_CACHE_HOME"]))
    for number, path in enumerate(paths):
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, os.path.join(trash, str(number)))


def set_up(made: Workspace, root: str, settings: dict[str, object] | None = None) -> None:
    """Sources and build file."""
    workspace.write_sources(made, root)
    content = json.loads(workspace.build_yml(made))
    if settings is not None:
        content["build_system"] = {"cache": settings}
    workspace.write(os.path.join(root, "build.yml"), json.dumps(content))


# Restoring, and what keeping costs


def restoring(sizes: Sizes, folder: str) -> str:
    """Everything restored, beside the floor and ninja; a cold build with the store and without."""
    made = workspace.layered(layers=sizes.layers, width=sizes.width, inputs=sizes.inputs)
    roots = {name: os.path.join(folder, name) for name in ("ours", "floor", "ninja")}
    set_up(made, roots["ours"])
    set_up_floor(made, roots["floor"])
    set_up_ninja(made, roots["ninja"])
    bare = os.path.join(folder, "bare")
    os.makedirs(bare)
    rows = Rows()
    for number in range(sizes.rounds):
        measure.say(f"restoring, round {number + 1}")
        for name, extra in (("cold, not kept", ["--build-cache", "off"]), ("cold, kept", [])):
            empty_cache()
            forget(roots["ours"], made.outputs)
            rows.add(name, measure.take([*BUILD, *extra], roots["ours"]))
        forget(roots["ours"], made.outputs)
        rows.add("pytest-build", measure.take(BUILD, roots["ours"]))
        rows.add("bare pytest", measure.take(BUILD[:-1], bare, good=[5]))
        forget(roots["floor"], made.outputs)
        rows.add("floor", measure.take([sys.executable, "floor.py", "restore"], roots["floor"]))
        forget(roots["ninja"], made.outputs)
        rows.add("ninja", measure.take(["ninja", "-j2", "--quiet"], roots["ninja"]))
    over = rows.median("pytest-build") - rows.median("bare pytest") - rows.median("floor")
    overhead = (rows.median("cold, kept") / rows.median("cold, not kept") - 1) * 100
    return measure.table(
        [f"{len(made.steps):,} steps x 1 output, {sizes.inputs} inputs each", "seconds"],
        [
            ["pytest-build: everything restored", f"{rows.median('pytest-build'):.2f}"],
            ["floor: one Python loop that hashes and copies", f"{rows.median('floor'):.2f}"],
            ["ninja, each action behind a hash-and-copy script", f"{rows.median('ninja'):.2f}"],
            ["bare pytest, which finds nothing", f"{rows.median('bare pytest'):.2f}"],
            ["our own time over the floor's (target 0.6)", f"{over:.2f}"],
            ["a cold build, nothing kept", f"{rows.median('cold, not kept'):.2f}"],
            [f"a cold build, everything kept: {overhead:+.0f} % (target 15 %)", f"{rows.median('cold, kept'):.2f}"],
        ],
    )  # fmt: skip


def set_up_floor(made: Workspace, root: str) -> None:
    """The loop, and its store filled."""
    set_up(made, root)
    steps = [([*step.inputs, *step.needs], step.output) for step in made.steps]
    workspace.write(os.path.join(root, "steps.json"), json.dumps(steps))
    workspace.write(os.path.join(root, "known.json"), "{}")
    workspace.write(os.path.join(root, "floor.py"), FLOOR)
    os.makedirs(os.path.join(root, "store"))
    for step in made.steps:
        subprocess.run(step.command, shell=True, cwd=root, check=True)
    measure.take([sys.executable, "floor.py", "keep"], root)


def set_up_ninja(made: Workspace, root: str) -> None:
    """Rules behind the wrapper, and its store filled."""
    set_up(made, root)
    workspace.write(os.path.join(root, "wrapper.sh"), WRAPPER)
    os.makedirs(os.path.join(root, "store"))
    lines = ["rule run", "  command = sh wrapper.sh $out '$cmd' $in"]
    for step in made.steps:
        lines += [f"build {step.output}: run {' '.join(step.inputs + step.needs)}", f"  cmd = {step.command}"]
    workspace.write(os.path.join(root, "build.ninja"), "\n".join(lines) + "\n")
    measure.take(["ninja", "-j2", "--quiet"], root)


# Turborepo


def turbo_table(sizes: Sizes, folder: str) -> str:
    """Everything restored by Turborepo and by us, of packages in one layer; npm starts each action of Turborepo's."""
    program = turbo(folder)
    if program is None:
        return "Turborepo could not be installed here.\n"
    made = workspace.layered(layers=1, width=sizes.packages, inputs=sizes.inputs)
    ours, theirs = os.path.join(folder, "ours-packages"), os.path.join(folder, "turbo")
    set_up(made, ours)
    set_up_turbo(made, theirs)
    empty_cache()
    measure.take(BUILD, ours)
    command = [program, "run", "build", "--concurrency=2", "--no-daemon", "--output-logs=none"]
    measure.say("Turborepo, filling its cache")
    measure.take(command, theirs)
    rows = Rows()
    for _ in range(sizes.rounds):
        for name, words, root in (("ours", BUILD, ours), ("turbo", command, theirs)):
            forget(root, made.outputs if root == ours else [f"packages/{step.name}/out" for step in made.steps])
            rows.add(f"{name} restored", measure.take(words, root))
            measure.take(words, root)
            rows.add(f"{name} unchanged", measure.take(words, root))
    return measure.table(
        [f"{sizes.packages} steps, seconds", "pytest-build", "Turborepo"],
        [
            [text, f"{rows.median(f'ours {what}'):.2f}", f"{rows.median(f'turbo {what}'):.2f}"]
            for text, what in (("everything restored", "restored"), ("nothing changed", "unchanged"))
        ],
    )


def turbo(folder: str) -> str | None:
    """Its program, installed by npm; None where that is not to be had."""
    if shutil.which("npm") is None:
        return None
    prefix = os.path.join(folder, "npm")
    os.makedirs(prefix)
    done = subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", prefix, "turbo"], check=False
    )
    program = os.path.join(prefix, "node_modules", ".bin", "turbo")
    return program if done.returncode == 0 and os.path.exists(program) else None


def set_up_turbo(made: Workspace, root: str) -> None:
    """A package a step, the same files, the same shell line."""
    os.makedirs(root)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    version = measure.version(["npm", "--version"])
    manifest = {"name": "root", "private": True, "packageManager": f"npm@{version}", "workspaces": ["packages/*"]}
    workspace.write(os.path.join(root, "package.json"), json.dumps(manifest))
    workspace.write(os.path.join(root, "turbo.json"), json.dumps({"tasks": {"build": {"outputs": ["out/**"]}}}))
    for step in made.steps:
        package = os.path.join(root, "packages", step.name)
        os.makedirs(os.path.join(package, "in"))
        names = [f"in/{os.path.basename(path)}" for path in step.inputs]
        for name in names:
            workspace.write(os.path.join(package, name), f"{name}\n")
        script = f"mkdir -p out && cksum {' '.join(names)} >out/out.txt"
        content = {"name": step.name, "version": "1.0.0", "scripts": {"build": script}}
        workspace.write(os.path.join(package, "package.json"), json.dumps(content))
    subprocess.run(
        ["npm", "install", "--package-lock-only", "--silent", "--no-audit", "--no-fund", "--offline"], cwd=root, check=True
    )
    os.environ.update(TURBO_TELEMETRY_DISABLED="1", DO_NOT_TRACK="1", TURBO_NO_UPDATE_NOTIFIER="1")


# Artifacts that are large or of many files


def artifacts_table(sizes: Sizes, folder: str) -> str:
    """One step with many small files, one with a big one: built, restored, beside `cp -r`."""
    rows = []
    many = f"mkdir -p out; i=0; while [ $i -lt {sizes.files} ]; do echo $i >out/$i; i=$((i+1)); done"
    big = f"mkdir -p out; head -c {sizes.big_mb * 1_000_000} /dev/urandom >out/big"
    for text, command in ((f"{sizes.files:,} small files", many), (f"one file of {sizes.big_mb:,} MB", big)):
        measure.say(text)
        rows.append([text, *artifact_row(sizes, folder, command)])
    return measure.table(
        ["one artifact", "restored, beyond a run that has nothing to do", "cp -r", "of cp's speed", "peak, beyond it"], rows
    )


def artifact_row(sizes: Sizes, folder: str, command: str) -> list[str]:
    """Medians of restoring and of copying, and what the restoring process needed more memory than an idle one."""
    root = os.path.join(folder, "artifact")
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(os.path.join(root, "c"))
    step = {"command": command, "outputs": ["out/"]}
    components = {"c": {"kind": "command", "steps": {"s": step}}}
    build = {"version": "2.0", "build_system": {"cache": {"max_size": "50GB"}}, "components": components}
    workspace.write(os.path.join(root, "build.yml"), json.dumps(build))
    empty_cache()
    measure.take(BUILD, root)
    rows = Rows()
    for _ in range(sizes.rounds):
        measure.take(BUILD, root)
        rows.add("idle", measure.take(BUILD, root))
        rows.add("cp", measure.take(["cp", "-r", "c/out", "c/copy"], root))
        forget(root, [], "c/copy", "c/out")
        rows.add("restored", measure.take(BUILD, root))
    took = rows.median("restored") - rows.median("idle")
    more = max(run.peak_mb for run in rows.runs["restored"]) - max(run.peak_mb for run in rows.runs["idle"])
    cp = rows.median("cp")
    return [f"{took:.2f} s", f"{cp:.2f} s", f"{cp / took:.0%}", f"{more:.0f} MB"]


def remote_table(sizes: Sizes, folder: str) -> str:
    """A big blob from a real S3 server on this machine: our store, which verifies it, beside the plain client."""
    from servers import ACCESS, BUCKET, SECRET, Server, s3_client, versitygw_command

    from build_tests.cache.model import Blob
    from build_tests.cache.s3 import S3Store

    if shutil.which("versitygw") is None:
        return "There was no S3 server here.\n"
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS, AWS_SECRET_ACCESS_KEY=SECRET)
    served = os.path.join(folder, "s3")
    os.makedirs(served)
    source, content = os.path.join(folder, "blob"), os.urandom(sizes.big_mb * 1_000_000)
    with open(source, "wb") as file:
        file.write(content)
    blob = Blob(hashlib.sha256(content).hexdigest(), len(content))
    del content
    measure.say("S3")
    server = Server(versitygw_command(served), served).start()
    try:
        s3_client(server.port).create_bucket(Bucket=BUCKET)
        endpoint = f"http://127.0.0.1:{server.port}"
        S3Store(BUCKET, region="us-east-1", endpoint_url=endpoint).store(blob, source)
        runs: dict[str, list[tuple[float, float]]] = {"ours": [], "one stream": [], "download_file": []}
        for number in range(sizes.rounds):
            for how, taken in runs.items():
                words = [how, endpoint, BUCKET, blob.digest, str(blob.size), os.path.join(folder, f"{how}{number}")]
                done = subprocess.run([sys.executable, "-c", FETCH, *words], check=True, stdout=subprocess.PIPE)
                taken.append(tuple(json.loads(done.stdout)))
    finally:
        server.stop()
    seconds = {how: statistics.median(one for one, _ in taken) for how, taken in runs.items()}
    return measure.table(
        [f"one blob of {sizes.big_mb:,} MB from S3", "seconds", "MB/s", "beyond idle"],
        [
            [name, f"{seconds[how]:.2f}", f"{sizes.big_mb / seconds[how]:.0f}", f"{max(more for _, more in runs[how]):.0f} MB"]
            for how, name in (("ours", "our store, verified"), ("one stream", "boto3, one stream"), ("download_file", "boto3's download_file"))
        ],
    )


# A server that is not there


def faulty_table(sizes: Sizes, folder: str) -> str:
    """A cold build with a Redis tier that answers "miss", refuses, or is silent: what the fault adds."""
    from proxy import Proxy

    made = workspace.layered(layers=sizes.layers, width=sizes.width, inputs=1)
    rows = Rows()
    with redis_server(folder) as port, contextlib.ExitStack() as stack:
        ports = {"answers": port}
        ports |= {how: stack.enter_context(Proxy(port, how)).port for how in ("refused", "silent", "black-hole")}
        for name in ports:
            set_up(made, os.path.join(folder, f"faulty-{name}"), redis_settings(ports[name]))
        for _ in range(sizes.rounds):
            for name in ports:
                root = os.path.join(folder, f"faulty-{name}")
                empty_cache()
                forget(root, made.outputs)
                rows.add(name, measure.take(BUILD, root))
    usual = rows.median("answers")
    return measure.table(
        [f"{len(made.steps):,} steps built, Redis behind the local store", "seconds", "added", "at the most"],
        [
            [name, f"{rows.median(name):.2f}", f"{rows.median(name) - usual:+.2f}", most]
            for name, most in (("answers", ""), ("refused", "0.5"), ("silent", "5"), ("black-hole", "5"))
        ],
    )


@contextlib.contextmanager
def redis_server(folder: str) -> Iterator[int]:
    """A real one, empty, on a free port."""
    from servers import Server, redis_command

    server = Server(redis_command(), folder)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def redis_settings(port: int) -> dict[str, object]:
    """`build_system.cache` with a public key: a tier of which nothing could be believed is never asked."""
    from build_tests.cache.keys import keygen

    return {
        "storage": ["local", "redis"], "redis": {"url": f"redis://127.0.0.1:{port}/0"},
        "keys": {"main": {"k1": keygen("main", "k1").public}}, "read_scopes": ["main"],
    }  # fmt: skip


def report(sizes: Sizes) -> str:
    """Measure, and write it all down."""
    sys.path.insert(0, os.path.join(ROOT, "tests", "cache"))
    parts: list[Callable[[Sizes, str], str]] = [restoring, turbo_table, artifacts_table, remote_table, faulty_table]
    with measure.scratch() as folder:
        os.environ["XDG_CACHE_HOME"] = os.path.join(folder, "cache")
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        tables = [part(sizes, folder) for part in parts]
    return (
        f"# The cache\n\nMedians of {sizes.rounds} interleaved rounds on {os.cpu_count()} CPUs, two workers. Made by "
        "`python benchmarks/cache.py`.\n\n" + "\n".join(tables)
    )


def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="little of each, to see that it works; writes no file")
    options = parser.parse_args()
    measure.need("ninja", "redis-server", "git")
    text = report(QUICK if options.quick else Sizes())
    print(text)
    if not options.quick:
        workspace.write(RESULTS, text)


if __name__ == "__main__":
    main()
