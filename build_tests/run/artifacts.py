"""`artifacts: true`: the declared outputs of a target, collected under `.build/artifacts/` with a manifest."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from build_tests.core.model import Identity
from build_tests.run.state import write_atomically

if TYPE_CHECKING:
    from build_tests.run.build import Build


def collect(root: str, folder: str, build: Build, labels: Collection[str]) -> None:
    """Copy the content outputs of these steps to FOLDER/COMPONENT/STEP/PATH; replaces what an earlier run collected.

    Raises OSError.
    """
    if os.path.isdir(folder):
        shutil.rmtree(folder)
    manifest: dict[str, Any] = {"version": 1, "steps": {}}
    for label in sorted(labels):
        step = build.graph.steps[label]
        entry = build.memory.entries.get(label)
        below = os.path.join(folder, step.component, step.name)
        for output in step.outputs:
            if output.identity is Identity.CONTENT:
                _copy(os.path.join(root, output.path), os.path.join(below, output.path))
        manifest["steps"][label] = {
            "key": entry.key if entry else "",
            "outputs": {o.path: (entry.digests.get(o.path, "") if entry else "") for o in step.outputs},
        }
    write_atomically(os.path.join(folder, "manifest.json"), json.dumps(manifest, indent=1).encode())


def _copy(source: str, destination: str) -> None:
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    if os.path.isdir(source) and not os.path.islink(source):
        shutil.copytree(source, destination, symlinks=True)
    else:
        shutil.copy2(source, destination, follow_symlinks=False)
