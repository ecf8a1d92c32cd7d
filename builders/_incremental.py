"""tsc with what it remembers of its last run, and yet the outputs of a clean one.

tsc never removes what it wrote for a source that is gone, and writes nothing where it remembers to have written. So
outputs and memory are kept or removed together: kept while no source has left the program and no setting has changed,
which the names in tsbuildinfo tell. What runs is a few lines of JavaScript, since node is what is surely there.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable

from build_tests.core.builder import Workspace

from ._scripts import Call
from ._tsconfig import TsConfig

NAMES = "names.tsbuildinfo"
"""Kept beside the first tsbuildinfo: the sources of the last run."""

_SCRIPT = """
const fs = require("fs"), path = require("path"), { spawnSync } = require("child_process");
const { memory, settings, outputs, infos, tsc } = JSON.parse(process.argv[1]);
const json = (file) => { try { return JSON.parse(fs.readFileSync(file, "utf8")); } catch { return undefined; } };
const clear = () => [memory, ...outputs, ...infos].forEach((file) => fs.rmSync(file, { recursive: true, force: true }));
const names = () => infos.flatMap((file) => {
  const info = json(file) ?? {};
  return [info.version, ...(info.fileNames ?? []).map((name) => path.join(path.dirname(file), name))];
});
const run = () => {
  const { status, signal, error } = spawnSync(tsc[0], tsc.slice(1), { stdio: "inherit" });
  if (error) console.error(`${tsc[0]}: ${error.message}`);
  if (status !== 0) process.exit(status ?? (signal ? 1 : 127));
};
let before = json(memory);
if (before?.settings !== settings || !infos.every((file) => fs.existsSync(file))) { clear(); before = undefined; }
run();
let now = names();
if (before && !before.names.every((name) => now.includes(name))) { clear(); run(); now = names(); }
fs.writeFileSync(memory, JSON.stringify({ settings, names: now }));
"""


def settings_of(compiled: Iterable[TsConfig], workspace: Workspace) -> str:
    """All that the projects say; another text makes other outputs."""
    return "\0".join(workspace.read_text(path) for path in sorted({path for one in compiled for path in one.chain}))


def incremental(call: Call, settings: str, *, memory: str, outputs: Iterable[str], infos: Iterable[str]) -> str:
    """A line for `sh` in place of the call. Paths are as the step's folder sees them."""
    given = {
        "memory": memory,
        "settings": hashlib.sha256("\0".join([*call.arguments, settings]).encode()).hexdigest(),
        "outputs": [path.rstrip("/") for path in outputs],
        "infos": list(infos),
        "tsc": [call.program, *call.arguments],
    }
    return shlex.join(["node", "-e", _SCRIPT.strip(), json.dumps(given)])
