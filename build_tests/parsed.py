"""A parsed build file, kept under the digest of its bytes: parsing is most of what an unchanged build costs.

Only where builders looked at nothing (every component of kind `command`): a manifest is not among the bytes. The file
lies in `.build`, which is as much the user's own as the build file; a damaged one is parsed anew.
"""

from __future__ import annotations

import contextlib
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


def remembered(file: str, environment: str | None, registry: Registry) -> tuple[Config, Graph]:
    """A build file's configuration and graph. Raises what `assemble.read` raises."""
    root = root_of(file)
    kept = os.path.join(root, FOLDER, f"parsed-{environment or ''}.pickle")
    key = _key(file, root, environment)
    found = _load(kept, key)
    known = found is not None
    if found is None:
        # The reader is most of what there is to import: left alone where nothing has to be read.
        from build_tests.core.assemble import read

        found = read(file, registry=registry, environment=environment)
        config, graph = found
        known = not config.builders and all(
            component.kind == "command" and not component.found for component in config.components
        )
        if known:
            # What a component's entry says is in the graph's steps by now.
            bare = tuple(replace(component, steps=(), options=None) for component in config.components)
            _keep(kept, key, (replace(config, components=bare), graph))
    config, graph = found
    return config, replace(graph, digest=key.hex()) if known else graph


def _key(file: str, root: str, environment: str | None) -> bytes:
    """Every byte that was read, and whatever decides what is made of it."""
    from xxhash import xxh3_128

    digest = xxh3_128()
    with os.scandir(os.path.dirname(model.__file__)) as modules:
        code = sum(module.stat().st_mtime_ns for module in modules if module.name.endswith(".py"))
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


def _load(path: str, key: bytes) -> tuple[Config, Graph] | None:
    from xxhash import xxh3_128_digest

    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return None
    body = data[32:]
    if data[:16] != key or data[16:32] != xxh3_128_digest(body):
        return None
    with collector_paused():
        config, graph = pickle.loads(body)  # noqa: S301 - checked, and whoever writes here can write build.yml too
    return config, graph


def _keep(path: str, key: bytes, found: tuple[Config, Graph]) -> None:
    from xxhash import xxh3_128_digest

    from build_tests.run.state import write_atomically

    if not os.path.isdir(os.path.dirname(path)):
        prepare(os.path.dirname(os.path.dirname(path)))
    body = pickle.dumps(found, protocol=5)
    # A checkout that can't be written is parsed each time.
    with contextlib.suppress(OSError):
        write_atomically(path, key + xxh3_128_digest(body) + body)
