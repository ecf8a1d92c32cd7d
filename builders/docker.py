"""Kind `docker`: Dockerfile → one step, `image`, through the docker command line.

What enters the image is read off the Dockerfile: the files of the context that COPY and ADD name, less what
`.dockerignore` takes away, and the image of every FROM. A file that another step makes is an edge by its path, an
image that another step makes is one by its reference.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from build_tests.core.builder import Component, Identity, ManifestError, Output, Resources, Step, Tool, Workspace

from ._dockerfile import Dockerfile, ignore_patterns, in_folder, parse
from ._manifests import from_component, path_of

DOCKER = Tool(name="docker", hint="apt install docker.io, or https://docs.docker.com/engine/install")
NETWORK = ("DOCKER_*", "BUILDX_*", "BUILDKIT_*", "SSH_AUTH_SOCK")
"""Which engine builds, and how it is reached; not what the image is."""
REFERENCE = re.compile(
    r"(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?"
)
ENV = (("BUILDX_NO_DEFAULT_ATTESTATIONS", "1"), ("DOCKER_CLI_HINTS", "false"))
"""An attestation holds the time of the build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerOptions:
    """Keys of a `docker` component."""

    image: str = ""
    """The image's reference (`shop/web:1`); without a tag it is `latest`, and by default the component's name."""
    dockerfile: str = "Dockerfile"
    """The Dockerfile."""
    context: str = "."
    """The folder that COPY and ADD take files from (`//` = the whole repository)."""
    build_args: dict[str, str] | None = None
    """Values for the Dockerfile's ARGs."""
    target: str = ""
    """The stage to build; "" = the last."""


class DockerBuilder:
    """One step, `image`."""

    kind: ClassVar[str] = "docker"
    suffix: ClassVar[str] = "-image"
    options: ClassVar[type[DockerOptions]] = DockerOptions

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: no Dockerfile, one that can't be read, or an image that can't be named so."""
        options: DockerOptions = component.options
        path = path_of(component, options.dockerfile)
        context = path_of(component, options.context)
        arguments = options.build_args or {}
        dockerfile = parse(workspace.read_text(path), path, arguments, options.target)
        image = _image(component)
        yield Step(
            component=component.name,
            name="image",
            kind=component.kind,
            path=component.path,
            command=_command(component, path, context, image),
            inputs=tuple(_inputs(workspace, dockerfile, path, context)),
            outputs=(Output(path=image, identity=Identity.IMAGE),),
            env=ENV,
            network_env=NETWORK,
            tools=(DOCKER,),
            resources=Resources(other=(("docker", 1),)),
            base_images=tuple(dict.fromkeys(_as_made(name, workspace) for name in dockerfile.images)),
        )


def _image(component: Component) -> str:
    named = component.options.image or component.name.lower()
    if not REFERENCE.fullmatch(named):
        raise ManifestError(f"{named!r} can't be the name of an image", hint="write image: NAME:TAG, in small letters")
    return _tagged(named)


def _tagged(reference: str) -> str:
    """With the tag that docker puts where there is none."""
    if "@" in reference or ":" in reference.rpartition("/")[2]:
        return reference
    return f"{reference}:latest"


def _as_made(reference: str, workspace: Workspace) -> str:
    """A reference as the step that makes the image writes it: `FROM base` and `path: base:latest` are one image.

    Steps of kind docker always write the tag; those of other kinds as build.yml does.
    """
    for other in workspace.components:
        for step in other.steps:
            for output in dict(step.fields).get("outputs", ()):
                if output.identity is Identity.IMAGE and _tagged(output.path) == _tagged(reference):
                    return str(output.path)
    return _tagged(reference)


def _command(component: Component, path: str, context: str, image: str) -> tuple[str, ...]:
    options: DockerOptions = component.options
    arguments = sorted((options.build_args or {}).items())
    return (
        "docker",
        "build",
        f"--tag={image}",
        f"--file={from_component(component, path)}",
        *(f"--build-arg={name}={value}" for name, value in arguments),
        *((f"--target={options.target}",) if options.target else ()),
        from_component(component, context),
    )


def _inputs(workspace: Workspace, dockerfile: Dockerfile, path: str, context: str) -> Iterator[str]:
    sources = list(dict.fromkeys(in_folder(source or "**", context) for source in dockerfile.sources))
    yield from sources
    ignore = _ignore_file(workspace, path, context)
    if ignore:
        for pattern in ignore_patterns(workspace.read_text(ignore), context):
            yield from (pattern,) if pattern.startswith("!") else _let_in(pattern, sources)
        yield ignore
    # Last, since docker reads these two whatever .dockerignore says.
    yield path


def _ignore_file(workspace: Workspace, path: str, context: str) -> str:
    """The one that docker reads: of the Dockerfile's own name, else the context's; "" = none."""
    names = (f"{path}.dockerignore", posixpath.join(context, ".dockerignore"))
    return next((name for name in names if workspace.exists(name)), "")


def _let_in(pattern: str, sources: list[str]) -> Iterator[str]:
    """What `.dockerignore` lets in again, as far as it is copied: the narrower of the two."""
    inner = _fixed(pattern)
    for source in sources:
        outer = _fixed(source)
        if inner == pattern and _lies_in(outer, inner):
            yield source
        elif _lies_in(inner, outer):
            yield pattern
        elif _lies_in(outer, inner):
            yield source


def _fixed(pattern: str) -> str:
    """The folders and file that stand before the first wildcard."""
    before, *after = re.split(r"[*?\[\\]", pattern, maxsplit=1)
    return before.rpartition("/")[0] if after else before


def _lies_in(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(folder + "/")
