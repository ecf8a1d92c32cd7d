"""A miss explained against what main's jobs have left in the cache: no file changes hands."""

import json
import subprocess
import sys
from pathlib import Path

from builds import Keys, as_reader, as_writer, cached, elsewhere, lay_out, remote

COMMAND = str(Path(sys.executable).with_name("pytest-build"))


def explain(ws, *arguments):
    done = subprocess.run(
        [COMMAND, "explain", "lib:make", "--against", "main", *arguments], cwd=ws.root, env=ws.environ,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_ingredient_that_made_a_colleague_miss_is_named(build_workspace, tmp_path):
    ws, keys = build_workspace, Keys(tmp_path).add("main")
    with remote("redis", tmp_path / "server") as server:
        lay_out(ws, cached(server.settings(behind_local=False, keys=keys.public, read_scopes=["main"])))
        ws.environ.update(server.environ)
        as_writer(ws, keys, "main")
        assert ws.build("-n0").status == 0
        clone = elsewhere(ws, tmp_path / "clone", own_cache=True)
        as_reader(clone)
        assert explain(clone) == "1 of 1 steps are made from the same\n"
        clone.write("lib/in.txt", "another\n")
        said = explain(clone).splitlines()
        assert said[0].startswith("lib:make is made from something else (scope main, ")
        assert said[1:] == ["    lib/in.txt changed", "0 of 1 steps are made from the same"]
        found = json.loads(explain(clone, "--json"))
        assert found["steps"][0]["reasons"][0]["text"] == "lib/in.txt changed"
