"""`pytest-build clean`: what goes, what stays, and what is said about it."""

import fcntl
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import run, start
from xxhash import xxh3_128_hexdigest

ROOT = Path(__file__).parents[2]

KEEP = {"command": "echo 1 >keep.txt", "outputs": ["keep.txt"]}
OLD = {
    "command": "mkdir -p out/deep out/empty; echo 2 >old.txt; echo 3 >out/deep/three; echo 4 >made/four",
    "outputs": ["old.txt", "out/", "made/four"],
}


@pytest.fixture
def ws(build_workspace):
    """Built with two steps, the second of which the build file then loses."""
    ws = build_workspace
    ws.components(a={"steps": {"keep": KEEP, "old": OLD}})
    ws.write("a/mine.txt", "by hand")
    assert ws.build("-n0").status == 0
    ws.components(a={"steps": {"keep": KEEP}})
    return ws


def tree(*folders):
    """Every path below some folders, with content and times: whatever a change would show in."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            stat = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (content, stat.st_mtime_ns, stat.st_ino)
    return found


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def git(ws, *arguments):
    done = subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e@x", *arguments], cwd=ws.root, capture_output=True, check=True
    )
    return done.stdout


# Steps that no longer exist


def test_outputs_of_a_step_that_is_gone_go_and_nothing_else(ws):
    done = run(ws, "clean")
    assert (done.returncode, done.stderr) == (0, "")
    assert files(ws.root / "a") == ["keep.txt", "mine.txt"]
    assert "outputs of steps that no longer exist: 4, 6 B" in done.stdout
    assert "a/out/deep/three" in done.stdout
    assert "removed 6 B here (4 paths)" in done.stdout
    assert run(ws, "clean").stdout == "nothing to remove\n"
    assert ws.build("-n0").outcomes() == {"a:keep": "fresh"}


def test_a_dry_run_says_the_same_and_changes_nothing(ws):
    places = (ws.root, Path(ws.environ["XDG_CACHE_HOME"]))
    before = tree(*places)
    dry = run(ws, "clean", "--dry-run")
    assert dry.returncode == 0
    assert tree(*places) == before
    real = run(ws, "clean")
    assert dry.stdout.splitlines()[:-1] == real.stdout.splitlines()[:-1]
    assert dry.stdout.splitlines()[-1] == "would remove 6 B here (4 paths); nothing was changed (--dry-run)"


def test_what_was_edited_since_stays_and_is_named(ws):
    ws.write("a/old.txt", "mine now")
    ws.write("a/out/empty/new", "mine too")
    done = run(ws, "clean")
    assert "stays: a/old.txt: changed since it was made" in done.stdout
    assert "stays: a/out/empty: not empty any more" in done.stdout
    assert files(ws.root / "a") == ["keep.txt", "mine.txt", "old.txt", "out", "out/empty", "out/empty/new"]


def test_what_git_tracks_stays(ws):
    git(ws, "init")
    git(ws, "add", "--force", "a/old.txt", "a/out/deep/three")
    done = run(ws, "clean")
    assert done.returncode == 0
    assert "stays: a/old.txt: tracked by git" in done.stdout
    assert files(ws.root / "a") == ["keep.txt", "mine.txt", "old.txt", "out", "out/deep", "out/deep/three"]


def test_where_git_can_not_answer_nothing_is_removed(ws):
    git(ws, "init")
    ws.write(".git/index", "no index")
    before = tree(ws.root / "a")
    done = run(ws, "clean")
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("ERROR: nothing is removed, since git can't say what it tracks: ")
    assert tree(ws.root / "a") == before


@pytest.mark.parametrize(
    "steps",
    [
        {"keep": KEEP, "renamed": OLD},
        {"keep": KEEP, "user": {"command": "cat old.txt out/deep/three made/four", "inputs": ["old.txt", "out/", "made/four"]}},
    ],
    ids=["declared by another step", "named as an input"],
)  # fmt: skip
def test_what_another_step_uses_stays(ws, steps):
    ws.components(a={"steps": steps})
    before = files(ws.root / "a")
    assert run(ws, "clean").stdout == "nothing to remove\n"
    assert files(ws.root / "a") == before


def test_what_an_environment_declares_stays(ws):
    ws.write("config/environments/staging.yml", json.dumps({"components": {"a": {"steps": {"old": OLD}}}}))
    assert run(ws, "clean").stdout == "nothing to remove\n"


def test_an_output_that_a_step_no_longer_declares_goes(ws):
    ws.components(a={"steps": {"keep": {"command": "echo 1 >other.txt", "outputs": ["other.txt"]}}})
    done = run(ws, "clean")
    assert "a/keep.txt" in done.stdout
    assert not (ws.root / "a/keep.txt").exists()


def test_nothing_behind_a_link_is_touched(ws, tmp_path):
    outside = tmp_path / "outside"
    (ws.root / "a/out").rename(outside)
    (ws.root / "a/out").symlink_to(outside)
    before = files(outside)
    done = run(ws, "clean")
    assert "a/out/deep/three: lies behind the link a/out" in done.stdout
    assert files(outside) == before


def test_a_manifest_can_not_name_what_lies_outside(ws, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("3\n")
    rows = [
        [path, "f", xxh3_128_hexdigest(b"3\n"), 2, 0, 0, 0, 0, 0]
        for path in (f"{victim}", "../victim", "a/../../victim")
    ]
    body = json.dumps({"x:y": rows}).encode()
    (ws.root / ".build/made.json").write_bytes(xxh3_128_hexdigest(body).encode() + b"\n" + body)
    (ws.root / ".pytest_cache/d/build/hashes").unlink()
    assert run(ws, "clean").returncode == 0
    assert victim.exists()


def test_a_state_that_was_cleared_takes_nothing_from_us(ws):
    ws.pytest("--cache-clear", "--co", "-p", "no:build_tests.plugin")
    assert not (ws.root / ".pytest_cache/d/build/hashes").exists()
    assert run(ws, "clean").returncode == 0
    assert files(ws.root / "a") == ["keep.txt", "mine.txt"]


def test_a_file_in_the_old_place_is_its_makers(ws):
    run(ws, "clean")
    ws.write("a/old.txt", "2\n")  # byte for byte what the step had made
    assert run(ws, "clean").stdout == "nothing to remove\n"
    assert ws.read("a/old.txt") == "2\n"


def test_an_installed_folder_of_a_step_that_is_gone_goes(build_workspace):
    ws = build_workspace
    install = {"command": "mkdir -p lib && echo 1 >lib/one", "outputs": [{"path": "lib/", "identity": "installed"}]}
    ws.components(a={"steps": {"keep": KEEP, "install": install}})
    assert ws.build("-n0").status == 0
    assert run(ws, "clean").stdout == "nothing to remove\n"
    ws.components(a={"steps": {"keep": KEEP}})
    done = run(ws, "clean")
    assert "    a/lib\n" in done.stdout
    assert files(ws.root / "a") == ["keep.txt"]


def test_what_was_collected_for_a_target_that_is_gone_goes(ws):
    ws.components({"targets": {"ship": {"artifacts": True}}}, a={"steps": {"keep": KEEP}})
    ws.build("--build-target", "ship")
    run(ws, "clean")
    assert (ws.root / ".build/artifacts/a/keep/a/keep.txt").exists()
    ws.components(a={"steps": {"keep": KEEP}})
    run(ws, "clean")
    assert not (ws.root / ".build/artifacts").exists()


# Our own files


def test_leftovers_of_the_dead_go_and_of_the_living_stay(ws):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ws.write(f".build/staging/restore-{dead.pid}-0.0", b"x" * 2000)
    ws.write(f".build/staging/restore-{os.getpid()}-0.0", b"x")
    ws.write(".build/made.json.tmp", "half")
    ws.write(".build/parsed-gone.pickle", "of an environment that is gone")
    ws.write(".pytest_cache/d/build/hashes.tmp", "half")
    done = run(ws, "clean")
    assert "leftovers of builds that were cut off: 4, 2.0 kB" in done.stdout
    assert os.listdir(ws.root / ".build/staging") == [f"restore-{os.getpid()}-0.0"]
    assert not (ws.root / ".build/made.json.tmp").exists()
    assert not (ws.root / ".pytest_cache/d/build/hashes.tmp").exists()


def test_logs_of_runs_that_nobody_remembers_go(ws):
    logs, runs = ws.root / ".build/logs", ws.root / ".build/runs"
    (kept,) = os.listdir(logs)
    ws.write(".build/logs/20200101T000000.000-1/a.old.log", "nobody's")
    for number in range(110):
        ws.write(f".build/runs/20200101T{number:06}.000-1.jsonl", "{}\n")
    ws.write(".build/logs/20200101T000001.000-1/a.old.log", "forgotten")
    ws.write(".build/logs/20200101T000109.000-1/a.old.log", "kept")
    done = run(ws, "clean")
    assert "records and logs of old runs: 13, " in done.stdout  # 111 records less 100, two logs
    assert sorted(os.listdir(logs)) == sorted(["20200101T000109.000-1", kept])
    assert len(os.listdir(runs)) == 100
    assert f"{kept}.jsonl" in os.listdir(runs)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are told apart by /proc")
def test_daemons_that_steps_left_are_ended(ws):
    daemon = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "daemon-of-mine"])
    try:
        other = os.getpid()  # a number that belongs to somebody else by now
        ws.write(".build/daemons", f"{daemon.pid} daemon-of-mine\n{other} daemon-of-mine-too\n")
        assert "1 daemon to be ended: daemon-of-mine" in run(ws, "clean", "--dry-run").stdout
        assert daemon.poll() is None
        assert "ended daemon-of-mine" in run(ws, "clean").stdout
        assert daemon.wait(60) == -15
        assert not (ws.root / ".build/daemons").exists()
    finally:
        daemon.kill()
        daemon.wait()


# The local store


def test_what_the_local_store_need_not_keep_goes(ws):
    store = Path(ws.environ["XDG_CACHE_HOME"], "pytest-build/v1")
    entries = [path for folder in ("blobs", "records") for path in (store / folder).rglob("*") if path.is_file()]
    run(ws, "clean")
    assert all(path.exists() for path in entries)
    (store / "sweep").unlink()  # or the week without any run would count as a jump of the clock
    old = time.time() - 8 * 86400
    for path in entries:
        os.utime(path, (old, old))
    line = "local store: 2 records and 4 files, 24.6 kB, unused for 7d or beyond 10.0 GB; 0 leftovers"
    assert line in run(ws, "clean", "--dry-run").stdout
    assert all(path.exists() for path in entries)
    done = run(ws, "clean")
    assert line in done.stdout
    assert "and 24.6 kB of the local store" in done.stdout
    assert not any(path.exists() for path in entries)


@pytest.mark.parametrize("how", ["variable", "storage"])
def test_a_store_that_this_build_does_not_use_is_left_alone(ws, how):
    store = Path(ws.environ["XDG_CACHE_HOME"], "pytest-build/v1")
    entries = [path for path in (store / "blobs").rglob("*") if path.is_file()]
    for path in entries:
        os.utime(path, (1, 1))
    top = {"build_system": {"cache": {"storage": "redis", "redis": {"url": "redis://127.0.0.1:1/0"}}}}
    ws.components(top if how == "storage" else {}, a={"steps": {"keep": KEEP}})
    assert run(ws, "clean", PYTEST_BUILD_CACHE="off" if how == "variable" else "").returncode == 0
    assert entries
    assert all(path.exists() for path in entries)


# --all


def test_all_takes_outputs_and_state_and_the_next_build_begins_anew(ws):
    ws.components(a={"steps": {"keep": KEEP, "old": OLD}})
    dry = run(ws, "clean", "--all", "--dry-run")
    assert (ws.root / "a/out/deep/three").exists()
    done = run(ws, "clean", "--all")
    assert done.returncode == 0
    assert dry.stdout.splitlines()[:-1] == done.stdout.splitlines()[:-1]
    assert files(ws.root / "a") == ["mine.txt"]
    assert sorted(os.listdir(ws.root / ".build")) == [".gitignore", "lock"]
    assert not (ws.root / ".pytest_cache/d/build/hashes").exists()
    assert ws.build("-n0").outcomes() == {"a:keep": "restored", "a:old": "restored"}


def test_all_never_takes_what_git_tracks_or_somebody_else_made(ws):
    ws.components(a={"steps": {"keep": KEEP, "old": OLD}})
    git(ws, "init")
    ws.write(".gitignore", "*.log\n")
    ws.write("a/out/theirs", "not made by the build")
    ws.write("a/out/x.log", "ignored")
    git(ws, "add", "--force", "a/keep.txt", "a/out/deep/three")
    done = run(ws, "clean", "--all")
    assert done.returncode == 0
    assert files(ws.root / "a") == ["keep.txt", "mine.txt", "out", "out/deep", "out/deep/three", "out/theirs"]
    for line in ("a/keep.txt: tracked by git", "a/out/theirs: not made by this build"):
        assert f"stays: {line}" in done.stdout


def test_all_takes_what_a_step_that_failed_has_left(build_workspace):
    ws = build_workspace
    half = {"command": "mkdir -p out; echo 1 >out/half; exit 1", "outputs": ["out/"]}
    whole = {
        "command": "mkdir -p lib; echo 1 >lib/one; chmod 555 lib",
        "outputs": [{"path": "lib/", "identity": "installed"}],
    }
    ws.components(a={"steps": {"half": half}}, b={"steps": {"install": whole}})
    ws.build("-n0")
    assert (ws.root / "a/out/half").exists()
    assert run(ws, "clean", "--all").returncode == 0
    assert files(ws.root / "a") == files(ws.root / "b") == []


# Beside a build, and wrong uses


def test_it_waits_for_a_build_or_ends_with_4(ws):
    lock = ws.root / ".build/lock"
    with open(lock, "r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        before = tree(ws.root / "a")
        refused = run(ws, "clean", "--no-wait")
        assert (refused.returncode, refused.stdout) == (4, "")
        assert refused.stderr.startswith("ERROR: another build runs in this checkout: process ")
        waiting = start(ws, "clean")
        assert waiting.stderr.readline().startswith("waiting for another build in this checkout: process ")
        assert tree(ws.root / "a") == before
    said, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert "removed 6 B here (4 paths)" in said


def test_wrong_uses_end_with_4_and_one_line(build_workspace):
    ws = build_workspace
    done = run(ws, "clean")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("ERROR: neither build.yml nor config/build.yml is here")
    assert run(ws, "clean", "--build-file", "no.yml").stderr == "ERROR: --build-file no.yml: no such file\n"
    ws.components(a={"steps": {"keep": KEEP}})
    assert run(ws, "clean", "--", "-x").stderr == "ERROR: clean takes nothing behind --\n"
    ws.write("config/environments/bad.yml", "components: 7")
    done = run(ws, "clean")
    assert done.returncode == 4
    assert "config/environments/bad.yml:1:13" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_build_that_was_never_run_has_nothing_to_remove(build_workspace):
    ws = build_workspace
    ws.components(a={"steps": {"keep": KEEP}})
    assert run(ws, "clean", "--dry-run").stdout == "nothing to remove\n"
    assert not (ws.root / ".build").exists()
    assert run(ws, "clean", "--all").returncode == 0


def test_the_makefile_hands_its_variables_on():
    # Under `make test` this make would say which folder it enters and leaves.
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        ["make", "-n", "build-clean-smart", "DRY=1", "ARGS=--all"], cwd=ROOT, env=environ, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "pytest-build clean --dry-run --all"


@pytest.mark.real("docker")
def test_images_that_no_name_means_any_more_go_and_others_stay(build_workspace):
    ws = build_workspace
    name = f"pytest-build-clean-{os.getpid()}"
    docker = functools.partial(subprocess.run, check=True, capture_output=True, text=True)
    ws.components(app={"kind": "docker", "image": f"{name}:1"})
    ws.write("app/Dockerfile", "FROM scratch\nCOPY a.txt /a.txt\n")
    try:
        images = []
        for text in ("one", "two"):
            ws.write("app/a.txt", f"{name} {text}")
            assert ws.build("-n0").status == 0
            images.append(docker(["docker", "image", "inspect", "--format", "{{.Id}}", f"{name}:1"]).stdout.strip())
        old, new = images
        assert old in run(ws, "clean", "--dry-run").stdout
        done = run(ws, "clean")
        assert done.returncode == 0, done.stderr
        left = docker(["docker", "images", "--all", "--no-trunc", "--quiet"]).stdout.split()
        assert old not in left
        assert new in left
        assert ws.build("-n0")["app:image"].value == "fresh"
    finally:
        subprocess.run(["docker", "image", "rm", "--force", f"{name}:1"], check=False, capture_output=True)
