"""What `init` can say of a Dockerfile: its image's name and its context, read off whatever speaks of it. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from functools import lru_cache

from build_tests.core.builder import ManifestError, Workspace

from ._compose import told_by
from ._dockerfile import Dockerfile, parse
from ._image import Image, tagged

COMPOSE_FILES = "**/*compose.y*ml"


def suggested(path: str, workspace: Workspace, folders: Sequence[str]) -> dict[str, object]:
    """Keys for the image of the Dockerfile in a folder; `folders` are all that have one.

    A Compose file that builds and names it says everything. Else its name is the one by which Compose files and other
    Dockerfiles ask for it, and its context the nearest folder in which what it copies begins.
    """
    built: Image | None = None
    for file in _compose_files(workspace):
        images = [image for image in told_by(file, workspace)[0] if _is_of(path, image)]
        if images and all(image.references for image in images):
            return {"compose": _from_component(file, path), "services": [image.step for image in images]}
        built = built or next(iter(images), None)
    context = built.context if built else _context(path, workspace)
    args = {name: value for name, value in built.args.items() if value is not None} if built else {}
    keys = {
        "context": f"//{context}" if context != path else "",
        "target": built.target if built else "",
        "build_args": args,
        "image": _name(path, workspace, folders),
    }
    return {key: value for key, value in keys.items() if value}


def _is_of(path: str, image: Image) -> bool:
    return not image.inline and image.dockerfile == posixpath.join(path, "Dockerfile")


def _compose_files(workspace: Workspace) -> list[str]:
    return sorted(workspace.glob(COMPOSE_FILES), key=lambda file: (file.count("/"), file))


def _from_component(file: str, path: str) -> str:
    return posixpath.basename(file) if posixpath.dirname(file) == path else f"//{file}"


# Its name


def _name(path: str, workspace: Workspace, folders: Sequence[str]) -> str:
    """As others call it; else, where all others' names are made alike, made as they are. "" = nothing tells."""
    wanted = list(dict.fromkeys(_wanted(workspace, folders)))
    if name := _called(path, wanted, workspace):
        return name
    known = [name for folder in folders if folder != path and (name := _called(folder, wanted, workspace))]
    shapes = {(name.rpartition("/")[0], name.rpartition(":")[2]) for name in known}
    last = posixpath.basename(path).lower()
    if len(known) > 1 and len(shapes) == 1 and last:
        ((front, tag),) = shapes
        return f"{front}/{last}:{tag}"
    return ""


def _called(folder: str, wanted: Sequence[str], workspace: Workspace) -> str:
    """The wanted image that is called as the folder is.

    Not one without a `/`, which would be the public one of that name, nor one that this image itself stands on.
    """
    own = _read(workspace, folder)
    below = set(own.images) if own else set()
    last = f"/{posixpath.basename(folder).lower()}:"
    return next((name for name in wanted if last in tagged(name) and name not in below), "")


def _wanted(workspace: Workspace, folders: Sequence[str]) -> Iterator[str]:
    """The images that are used and not built where they are named."""
    for file in _compose_files(workspace):
        yield from told_by(file, workspace)[1]
    for folder in folders:
        if (dockerfile := _read(workspace, folder)) is not None:
            yield from dockerfile.images


# Its context


def _context(path: str, workspace: Workspace) -> str:
    """The nearest folder, of its own and those above, that has most of what is copied, or the folder it is in."""
    dockerfile = _read(workspace, path)
    if dockerfile is None or workspace.exists(posixpath.join(path, ".dockerignore")):
        return path  # docker looks for a .dockerignore in the context only
    heads = [source.partition("/")[0] for context, source in dockerfile.sources if source and not context]
    parts = path.split("/")
    choices = ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]
    return max(choices, key=lambda folder: sum(workspace.exists(posixpath.join(folder, head)) for head in heads))


def _read(workspace: Workspace, folder: str) -> Dockerfile | None:
    try:
        return _parsed(workspace.read_text(posixpath.join(folder, "Dockerfile")))
    except ManifestError:
        return None  # the plan says what is wrong with it


@lru_cache(maxsize=256)
def _parsed(text: str) -> Dockerfile:
    return parse(text, "Dockerfile", {})
