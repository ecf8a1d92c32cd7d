"""Which steps a change touches: changed files mapped to steps through their inputs, and what depends on them.

Asks git which files changed; runs nothing. Where a file's part in the build can't be told more exactly (the build file,
a manifest), every step that it may decide on counts as touched: too much is found fresh at once, too little is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from build_tests.core.errors import SelectionError
from build_tests.core.globs import PathSet, matches
from build_tests.core.graph import Graph
from build_tests.core.model import Config, Identity, Step
from build_tests.run.git import Git

MAIN = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
"""What the main branch may be called, in the order in which they are tried."""


def changed_files(root: str, ref: str) -> set[str]:
    """The files that differ between a commit and the work tree; `ref` "" = where the branch left the main branch.

    Raises:
        SelectionError: git can't tell.
    """
    git = Git(root)
    if not git.available:
        raise SelectionError(f"--build-affected: {git.problem or f'{root} is in no git repository'}")
    base = ref or git.merge_base(MAIN)
    if base is None:
        tried = ", ".join(MAIN)
        raise SelectionError(f"--build-affected: no main branch is here ({tried}): name one, --build-affected=REF")
    found = git.changed_since(base)
    if found is None:
        raise SelectionError(f"--build-affected: git can't compare with {base!r}: {git.problem or 'unknown revision'}")
    return found


def touched(graph: Graph, config: Config, manifests: Collection[str], files: Iterable[str]) -> set[str]:
    """The steps that changed files touch, and all that depends on them.

    Args:
        graph: all steps.
        config: says where the build file lies.
        manifests: the files that builders read.
        files: from the root; some may be gone.
    """
    direct: set[str] = set()
    known = frozenset(manifests)
    for path in files:
        if _is_build_file(path, config):
            return set(graph.steps)
        direct.update(label for label, step in graph.steps.items() if _uses(step, path))
        if path in known:
            direct.update(label for label, step in graph.steps.items() if _may_decide(path, step))
    return _with_dependents(graph, direct)


def _is_build_file(path: str, config: Config) -> bool:
    overlay = os.path.dirname(path) == "config/environments"
    return path in (config.file, "config/cache.yml") or overlay


def _uses(step: Step, path: str) -> bool:
    """Whether a file is, or was, an input; or lies in an output that git tracks."""
    if matches(step.inputs, path) or (step.command and os.path.normpath(f"{step.path}/{step.command[0]}") == path):
        return True
    owned = PathSet.of(
        f"{o.path}/" if o.directory else o.path for o in step.outputs if o.identity is not Identity.IMAGE
    )
    return owned.contains(path)


def _may_decide(manifest: str, step: Step) -> bool:
    """Whether a manifest lies in the step's folder or above it."""
    folder = os.path.dirname(manifest)
    inside = f"{step.path}/" if step.path else ""
    return manifest.startswith(inside) or not folder or f"{step.path}/".startswith(f"{folder}/")


def _with_dependents(graph: Graph, labels: Iterable[str]) -> set[str]:
    found = set(labels)
    left = list(found)
    while left:
        users = [user for user in graph.needed_by[left.pop()] if user not in found]
        found.update(users)
        left += users
    return found
