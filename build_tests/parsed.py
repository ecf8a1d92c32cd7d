"""A parsed build file, kept under the digest of its bytes: parsing is most of what an unchanged build costs.

What builders looked at besides (manifests, listings) is kept with it, and must still be so (core/witness.py). The file
lies in `.build`, which is as much the user's own as the build file; a damaged one is parsed anew.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import pickle
import sys
from dataclasses import replace

import build_tests
from build_tests.core import model
from build_tests.core.collector import collector_paused
from build_tests.core.graph import Graph
from build_tests.core.locate import root_of
from build_tests.core.model import Config
from build_tests.registry import Registry
from build_tests.run.places import FOLDER, prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from build_tests.core.witness import Witness
    from build_tests.core.workspace import FileWorkspace


HEAD = 16
"""Bytes of a digest: of the key, of all that follows, of the graph."""


def remembered(file: str, environment: str | None, registry: Registry) -> tuple[Config, Graph, tuple[str, ...]]:
    """Configuration, graph, and the manifests that builders read. Raises what `assemble.read` raises."""
    root = root_of(file)
    kept = os.path.join(root, FOLDER, f"parsed-{environment or ''}.pickle")
    key = _key(file, root, environment)
    if (found := _load(kept, key, root)) is not None:
        return found
    # The reader is most of what there is to import: left alone where nothing has to be read.
    from build_tests.core.assemble import read
    from build_tests.core.witness import taken

    shown: list[FileWorkspace] = []
    config, graph = read(file, registry=registry, environment=environment, shown=shown)
    outputs = [output for step in graph.steps.values() for output in step.outputs]
    seen = taken(root, shown, _modules(registry), outputs)
    manifests = tuple(sorted({path for workspace in shown for path in workspace.texts}))
    if seen is None:
        return config, graph, manifests
    # What a component's entry says is in the graph's steps by now.
    bare = tuple(replace(component, steps=(), options=None) for component in config.components)
    body = pickle.dumps((replace(config, components=bare), graph, manifests), protocol=5)
    _keep(kept, key, seen, body)
    return config, replace(graph, digest=_digest_of(body).hex()), manifests


def _modules(registry: Registry) -> list[str]:
    """The files of builders that are not this package's: a repository's own, and other distributions'."""
    packages = {type(builder).__module__.partition(".")[0] for builder in registry.loaded()} - {"build_tests"}
    loaded = [(name.partition(".")[0], getattr(module, "__file__", None)) for name, module in sys.modules.items()]
    return sorted({os.path.abspath(path) for package, path in loaded if package in packages and path})


def _key(file: str, root: str, environment: str | None) -> bytes:
    """Every byte that was read, and whatever decides what is made of it."""
    from xxhash import xxh3_128

    digest = xxh3_128()
    package = os.path.dirname(os.path.dirname(model.__file__))
    code = [_code(f"{package}/core"), _code(f"{package}/builders") or _code(f"{os.path.dirname(package)}/builders")]
    # Installing or upgrading a distribution changes these: it may bring a builder.
    code += [os.stat(path).st_mtime_ns for path in sys.path if path.endswith("-packages") and os.path.isdir(path)]
    digest.update(
        f"{file}\0{environment}\0{build_tests.__version__}\0{sys.version}\0{code}\0".encode("utf-8", "replace")
    )
    paths = [file, os.path.join(root, "config", "cache.yml")]
    if environment is not None:
        paths.append(os.path.join(root, "config", "environments", f"{environment}.yml"))
    for path in paths:
        try:
            with open(path, "rb") as opened:
                content = opened.read()
        except OSError:
            content = b"\0absent"
        digest.update(b"%d\0" % len(content))
        digest.update(content)
    return digest.digest()


def _code(folder: str) -> int:
    """Changes when our own code does: for those who work on it."""
    try:
        with os.scandir(folder) as modules:
            return sum(module.stat().st_mtime_ns for module in modules if module.name.endswith(".py"))
    except OSError:
        return 0


def _load(path: str, key: bytes, root: str) -> tuple[Config, Graph, tuple[str, ...]] | None:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return None
    rest = data[2 * HEAD :]
    if data[:HEAD] != key or data[HEAD : 2 * HEAD] != _digest_of(rest):
        return None
    length = int.from_bytes(rest[:8], "little")
    body = rest[8 + length :]
    if length:
        from build_tests.core.witness import renewed

        known = marshal.loads(rest[8 : 8 + length])  # noqa: S302 - as below
        now = renewed(root, known)
        if now is None:
            return None
        if now is not known:
            _keep(path, key, now, body)
    with collector_paused():
        config, graph, manifests = pickle.loads(body)  # noqa: S301 - checked; whoever writes here can write build.yml
    return config, replace(graph, digest=_digest_of(body).hex()), manifests


def _keep(path: str, key: bytes, seen: Witness, body: bytes) -> None:
    from build_tests.run.state import write_atomically

    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        if not os.access(os.path.dirname(folder), os.W_OK):
            return
        prepare(os.path.dirname(folder))
    # Nothing was looked at: nothing is to be compared.
    looked = marshal.dumps(seen, 4) if seen["files"] or seen["folders"] or seen["answers"] else b""
    rest = len(looked).to_bytes(8, "little") + looked + body
    # A checkout that can't be written is parsed each time.
    with contextlib.suppress(OSError):
        write_atomically(path, key + _digest_of(rest) + rest)


def _digest_of(data: bytes) -> bytes:
    from xxhash import xxh3_128_digest

    return xxh3_128_digest(data)
