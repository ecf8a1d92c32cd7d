"""Kind `docker`: a Dockerfile → the step `image`, or a Compose file → one step for each service that it builds.

What enters an image is read off the Dockerfile: the files of the context that COPY, ADD and bind mounts name, less
what `.dockerignore` takes away, and the image of every FROM. A file that another step makes is an edge by its path, an
image that another step makes is one by its reference.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from build_tests.core.builder import (
    Component,
    Identity,
    ManifestError,
    Output,
    Resources,
    Step,
    Tool,
    Workspace,
    matches,
    path_from_root,
)

from ._dockerfile import IMAGE_CONTEXT, Dockerfile, parse
from ._dockerignore import from_root, ignored, source_segments
from ._dockerwords import UNKNOWN
from ._image import Image, tagged
from ._manifests import from_component, path_of, script

DOCKER = Tool(name="docker", hint="apt install docker.io, or https://docs.docker.com/engine/install")
NETWORK = ("DOCKER_*", "BUILDX_*", "BUILDKIT_*", "SSH_AUTH_SOCK")
"""Which engine builds, and how it is reached; not what the image is."""
DECIDING = ("DOCKER_BUILDKIT", "DOCKER_DEFAULT_PLATFORM", "SOURCE_DATE_EPOCH")
"""What of the caller's environment changes an image."""
REFERENCE = re.compile(
    r"(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?"
)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ENV = (("BUILDX_NO_DEFAULT_ATTESTATIONS", "1"), ("DOCKER_CLI_HINTS", "false"))
"""An attestation holds the time of the build."""
CHOOSE = (
    ': "${DOCKER_BUILDKIT:=$(DOCKER_BUILDKIT=1 docker build --help >/dev/null 2>&1 && echo 1 || echo 0)}"',
    "export DOCKER_BUILDKIT",
    'case "$DOCKER_BUILDKIT" in 0) set -- --force-rm ;; esac',
)
"""BuildKit where the command line has it: since docker 23 that is a plug-in, without which it says so and fails.

The classic builder would leave a container behind where it fails.
"""

MADE_BY_US = "pytest-build.component"
"""The label by which `clean` knows images that it may remove once no name means them (as `run/images.py` has it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerOptions:
    """Keys of a `docker` component."""

    image: str = ""
    """The image's reference (`shop/web:1`); without a tag it is `latest`, and by default the component's name."""
    aliases: tuple[str, ...] = ()
    """Further references of the same image (`shop/web:latest`)."""
    dockerfile: str = "Dockerfile"
    """The Dockerfile."""
    context: str = "."
    """The folder that COPY and ADD take files from (`//` = the whole repository)."""
    contexts: dict[str, str] | None = None
    """Named contexts: a folder, or `docker-image://REFERENCE`."""
    build_args: dict[str, str] | None = None
    """Values for the Dockerfile's ARGs."""
    target: str = ""
    """The stage to build, by name or number; "" = the last."""
    labels: dict[str, str] | None = None
    """Labels of the image."""
    secrets: dict[str, str] | None = None
    """For `RUN --mount=type=secret,id=NAME`: NAME → an environment variable, or a file (with a / in it)."""
    platform: str = ""
    """What the image is for (`linux/arm64`); "" = the engine's own."""
    cache_from: tuple[str, ...] = ()
    """Images whose layers may be taken over instead of built."""
    arguments: tuple[str, ...] = ()
    """Further arguments of `docker build` (`--network=host`)."""
    archive: str = ""
    """A file: the image is also saved there as an OCI archive, by a step `archive`."""
    compose: str = ""
    """A Compose file: one step for each service with a `build` section, named as the service."""
    services: tuple[str, ...] = ()
    """Which of its services are built; left out: all."""
    variables: dict[str, str] | None = None
    """Values for `${…}` in the Compose file, over those of the `.env` beside it."""


class DockerBuilder:
    """`image`, and with an archive `archive`; or one step a service."""

    kind: ClassVar[str] = "docker"
    options: ClassVar[type[DockerOptions]] = DockerOptions
    nests: ClassVar[bool] = True
    suffix: ClassVar[str] = "-image"

    @staticmethod
    def detect(path: str, workspace: Workspace) -> bool:
        """Whether the folder has a Dockerfile."""
        return workspace.exists(path_from_root("Dockerfile", path))

    @staticmethod
    def suggest(path: str, workspace: Workspace, others: Sequence[tuple[str, str]]) -> dict[str, object]:
        """What `init` writes down: the image's name and context, or the Compose file that says both."""
        from ._suggestimage import suggested

        return suggested(path, workspace, [folder for kind, folder in others if kind == "docker"])

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: a Dockerfile or Compose file that is missing or says too little, an impossible name."""
        options: DockerOptions = component.options
        if not options.compose:
            image = _own(component)
            step = _step(component, workspace, image)
            yield step
            if options.archive:
                yield _archive(component, image, step)
            return
        if wrong := [name for name in ("image", "archive", "target", "secrets") if getattr(options, name)]:
            raise ManifestError(f"{wrong[0]} and compose don't go together", hint="the Compose file says it")
        from ._compose import images_of

        file = path_of(component, options.compose)
        for image in images_of(file, workspace, options.variables or {}, options.services):
            yield _step(component, workspace, image)


def _own(component: Component) -> Image:
    options: DockerOptions = component.options
    contexts = {
        name: where if where.startswith(IMAGE_CONTEXT) else path_of(component, where)
        for name, where in (options.contexts or {}).items()
    }
    return Image(
        step="image",
        references=(options.image or component.name.lower(), *options.aliases),
        dockerfile=path_of(component, options.dockerfile),
        context=path_of(component, options.context),
        contexts=contexts,
        args=dict(options.build_args or {}),
        target=options.target,
        labels=options.labels or {},
        secrets={name: _secret(component, value) for name, value in (options.secrets or {}).items()},
        platform=options.platform,
        cache_from=options.cache_from,
        arguments=options.arguments,
    )


def _secret(component: Component, value: str) -> str:
    return value if VARIABLE.fullmatch(value) else path_of(component, value)


def _step(component: Component, workspace: Workspace, image: Image) -> Step:
    references = [_named(reference) for reference in image.references]
    text = image.inline or workspace.read_text(image.dockerfile)
    given = {name: UNKNOWN if value is None else value for name, value in image.args.items()}
    dockerfile = parse(text, image.dockerfile, given, image.target, image.contexts)
    passed = (name for name, value in image.args.items() if value is None)
    return Step(
        component=component.name,
        name=image.step,
        kind=component.kind,
        path=component.path,
        command=_command(component, workspace, image, references),
        inputs=tuple(_inputs(workspace, dockerfile, image)),
        outputs=tuple(Output(path=reference, identity=Identity.IMAGE) for reference in references),
        takes_outputs=True,
        env=ENV,
        pass_env=tuple(dict.fromkeys((*DECIDING, *passed))),
        network_env=NETWORK,
        secrets=tuple(sorted({name for name in image.secrets.values() if VARIABLE.fullmatch(name)})),
        tools=(DOCKER,),
        resources=Resources(other=(("docker", 1),)),
        base_images=tuple(dict.fromkeys(_as_made(name, workspace) for name in dockerfile.images)),
    )


def _named(reference: str) -> str:
    """With its tag. Raises ManifestError where docker could not name an image so."""
    if not REFERENCE.fullmatch(reference):
        raise ManifestError(
            f"{reference!r} can't be the name of an image", hint="write image: NAME:TAG, in small letters"
        )
    return tagged(reference)


def _as_made(reference: str, workspace: Workspace) -> str:
    """A reference as the step that makes the image writes it: `FROM base` and `path: base:latest` are one image.

    Steps of kind docker always write the tag; those of other kinds as build.yml does.
    """
    for other in workspace.components:
        for step in other.steps:
            for output in dict(step.fields).get("outputs", ()):
                if output.identity is Identity.IMAGE and tagged(output.path) == tagged(reference):
                    return str(output.path)
    return tagged(reference)


def _command(component: Component, workspace: Workspace, image: Image, references: list[str]) -> str:
    lines: list[Iterable[str] | str] = [*CHOOSE]
    if needs := _only_buildkit(workspace, image):
        said = f"{needs}: only BuildKit knows that (apt install docker-buildx, or unset DOCKER_BUILDKIT)"
        lines.append(f'[ "$DOCKER_BUILDKIT" != 0 ] || {{ echo {_quoted(said)} >&2; exit 1; }}')
    file = "-" if image.inline else from_component(component, image.dockerfile)
    build = script(
        (
            *(f"--tag={reference}" for reference in references),
            f"--file={file}",
            *_flags(component, image),
            *image.arguments,
            from_component(component, image.context),
        )
    )
    build = f'docker build "$@" {build}'
    lines.append(f"printf %s {_quoted(image.inline)} | {build}" if image.inline else build)
    return script(*lines)


def _only_buildkit(workspace: Workspace, image: Image) -> str:
    """What the classic builder would silently leave out; "" = nothing."""
    own = f"{image.dockerfile}.dockerignore"
    used = {own: _ignore_file(workspace, image) == own, "secrets": image.secrets, "contexts": image.contexts}
    return ", ".join(name for name, is_used in used.items() if is_used)


def _quoted(text: str) -> str:
    return script((text,))


def _flags(component: Component, image: Image) -> Iterator[str]:
    for name, value in sorted(image.args.items()):
        # Without a value it is the caller's variable.
        yield f"--build-arg={name}" if value is None else f"--build-arg={name}={value}"
    for name, where in sorted(image.contexts.items()):
        yield f"--build-context={name}={where if where.startswith(IMAGE_CONTEXT) else from_component(component, where)}"
    yield f"--label={MADE_BY_US}={component.name}"
    for name, value in sorted(image.labels.items()):
        yield f"--label={name}={value}"
    for name, value in sorted(image.secrets.items()):
        source = f"env={value}" if VARIABLE.fullmatch(value) else f"src={from_component(component, value)}"
        yield f"--secret=id={name},{source}"
    if image.target:
        yield f"--target={image.target}"
    if image.platform:
        yield f"--platform={image.platform}"
    yield from (f"--cache-from={reference}" for reference in image.cache_from)


def _inputs(workspace: Workspace, dockerfile: Dockerfile, image: Image) -> Iterator[str]:
    """What lies in the context and is wanted, less what is ignored; then what docker reads in any case."""
    sources = []
    for context, source in dockerfile.sources:
        try:
            segments = source_segments(source)
        except ValueError as error:
            raise ManifestError(f"{image.dockerfile}: {source!r} {error}", file=image.dockerfile) from None
        if context:
            yield from from_root(segments, context)
        else:
            sources.append(segments)
    for segments in sources:
        yield from from_root(segments, image.context)
    ignore = _ignore_file(workspace, image)
    if ignore:
        yield from ignored(workspace.read_text(ignore), image.context, sources, ignore)
        yield ignore
    if not image.inline:
        yield image.dockerfile


def _ignore_file(workspace: Workspace, image: Image) -> str:
    """The one that docker reads: of the Dockerfile's own name, else the context's; "" = none."""
    own = [] if image.inline else [f"{image.dockerfile}.dockerignore"]
    names = (*own, posixpath.join(image.context, ".dockerignore"))
    return next((name for name in names if workspace.exists(name)), "")


def _archive(component: Component, image: Image, made: Step) -> Step:
    """The image as a file. It is made by a program of ours, which `docker save` is not good enough for."""
    from . import _ociarchive

    options: DockerOptions = component.options
    path = path_of(component, options.archive)
    if matches(made.inputs, path):
        raise ManifestError(
            f"the archive {options.archive} would lie in the image's own context",
            hint=f"add it to {posixpath.join(image.context, '.dockerignore')}",
        )
    return Step(
        component=component.name,
        name="archive",
        kind=component.kind,
        path=component.path,
        command=("python3", "-c", _ociarchive.source(), made.outputs[0].path, from_component(component, path)),
        outputs=(Output(path=path),),
        depends_on=(made.label,),
        network_env=NETWORK,
        tools=(DOCKER, Tool(name="python3", hint="apt install python3")),
        resources=Resources(other=(("docker", 1),)),
        base_images=tuple(output.path for output in made.outputs[:1]),
    )
