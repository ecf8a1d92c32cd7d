"""Kind `protobuf`: .proto files → code, one step a language, and buf's checks.

A language's step is named after it, so that whoever needs the Java code waits for no npm. `generate` stands for all of
them: it lists every generated file with its digest, so what depends on it sees every change of the generated code.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from build_tests.core.builder import Component, ManifestError, Output, Step, Tool, Workspace

from ._buf import GENERATION, MANIFESTS, breaking_step, generation_steps, lint_step
from ._manifests import from_component, path_of, patterns_of, script
from ._protofiles import reachable
from ._protolanguages import GRPC_TOOLS, LANGUAGES, NODE, PLUGINS, PROTOC, Generator, Language
from ._suggest import generated_folder, mentions

SUMS = Tool(name="sha256sum", version_command=("sha256sum", "--version"), hint="apt install coreutils")
CONSUMERS = {"go": "go", "kotlin": "java", "python": "python", "typescript": "typescript"}
"""Kind → the language that its components are most likely to want."""
LONGEST = 40_000
"""Characters of file names in a command: Linux takes 128 KiB in one argument. Beyond that the shell lists folders."""
FOLDERS = frozenset({"proto", "protos", "protobuf"})
"""Names of folders that hold a schema, however deep in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageOptions:
    """One language of a `protobuf` component. A plain text is `out`."""

    shorthand: ClassVar[str] = "out"

    out: str
    """Folder for the generated code; the step owns all of it."""
    plugin: str = ""
    """Another plugin than the usual one: a path (`//web/node_modules/.bin/protoc-gen-es`), or a program on PATH."""
    options: tuple[str, ...] | None = None
    """What the generator is told (`target=ts`)."""
    comments: bool = True
    """False leaves the schema's comments out of the code, so that editing one changes no line of it."""
    grpc: bool = False
    """Code for services too, by the language's gRPC plugin."""
    grpc_plugin: str = ""
    """Another gRPC plugin than the usual one, as a path or a program on PATH."""
    grpc_options: tuple[str, ...] | None = None
    """What the gRPC plugin is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtobufOptions:
    """Keys of a `protobuf` component."""

    languages: dict[str, LanguageOptions] = field(default_factory=dict)
    """Language → where its code goes. Any name will do for a language of which the plugin is given."""
    imports: tuple[str, ...] = ()
    """Further folders whose .proto files are imported."""
    protoc: str = ""
    """The compiler, as a path or a program on PATH; default: protoc."""
    lint: bool | None = None
    """Whether `buf lint` is a step; default: where there is a buf.yaml."""
    breaking: str = ""
    """A git ref (`main`) that the schema must stay compatible with: `buf breaking` becomes a step."""
    buf: str = ""
    """buf, as a path (`//web/node_modules/.bin/buf`); default: on PATH."""
    sums: str = "gen/generated.sha256"
    """The list that `generate` writes."""


class ProtobufBuilder:
    """One step a language, `generate`, `lint` and `breaking`."""

    kind: ClassVar[str] = "protobuf"
    options: ClassVar[type[ProtobufOptions]] = ProtobufOptions

    @staticmethod
    def detect(path: str, workspace: Workspace) -> bool:
        """A folder of buf's, or one with a schema in it, or below it where it is called so."""
        if any(workspace.exists(posixpath.join(path, name)) for name in (*MANIFESTS, GENERATION)):
            return True
        deep = "**/*.proto" if posixpath.basename(path) in FOLDERS else "*.proto"
        return bool(workspace.glob(posixpath.join(path, deep)))

    @staticmethod
    def suggest(path: str, workspace: Workspace, others: Sequence[tuple[str, str]]) -> dict[str, object]:
        """What `init` writes down: a language for each component whose manifests name a folder for generated code."""
        if any(workspace.exists(posixpath.join(path, name)) for name in (*MANIFESTS, GENERATION)):
            return {}
        languages: dict[str, object] = {}
        for kind, folder in others:
            language = CONSUMERS.get(kind)
            generated = generated_folder(folder, workspace) if language else ""
            if language and generated and language not in languages:
                out: dict[str, object] = {"out": f"//{posixpath.join(folder, generated)}"}
                if kind == "typescript" and mentions(folder, workspace, "@bufbuild/protoc-gen-es"):
                    out["plugin"] = f"//{posixpath.join(folder, 'node_modules/.bin/protoc-gen-es')}"
                languages[language] = out
        # Go wants to be asked for: its plugin refuses a schema that names no Go package.
        kinds = dict.fromkeys(CONSUMERS[kind] for kind, _ in others if kind in CONSUMERS and kind != "go")
        return {"languages": languages or {name: {"out": f"gen/{name}"} for name in kinds or ("python",)}}

    def plan(self, component: Component, workspace: Workspace) -> Iterable[Step]:
        """Raises ManifestError: nothing to do, a language that is not known, no .proto file, or a broken manifest."""
        options: ProtobufOptions = component.options
        (pattern,) = patterns_of(component, ["**/*.proto"])
        files = workspace.glob(pattern)
        if not files:
            raise ManifestError(f"no .proto file in {component.path or 'the root'}")
        inputs = tuple(_inputs(component, workspace, files))
        steps = [_language(component, workspace, name, files, inputs) for name in options.languages]
        if not steps and workspace.exists(path_of(component, GENERATION)):
            steps = list(generation_steps(component, workspace, files))
        checks = list(_checks(component, workspace, files))
        if not steps and not checks:
            raise ManifestError(
                "no languages to generate", hint="write languages: {python: {out: gen/python}} for example"
            )
        yield from steps
        if steps:
            yield _generate(component, steps)
        yield from checks


def _checks(component: Component, workspace: Workspace, files: list[str]) -> Iterator[Step]:
    options: ProtobufOptions = component.options
    configured = any(workspace.exists(path_of(component, name)) for name in MANIFESTS)
    if configured if options.lint is None else options.lint:
        yield lint_step(component, workspace, files)
    if options.breaking:
        yield breaking_step(component, workspace, files, options.breaking)


def _inputs(component: Component, workspace: Workspace, files: list[str]) -> Iterator[str]:
    """The files and all that they import; whole folders where another step makes what is imported."""
    options: ProtobufOptions = component.options
    if not options.imports:
        yield from files
        return
    patterns = patterns_of(component, (f"{folder.rstrip('/')}/**/*.proto" for folder in options.imports))
    folders = {component.path: frozenset(files)}
    folders |= {
        path_of(component, folder): frozenset(workspace.glob(pattern))
        for folder, pattern in zip(options.imports, patterns, strict=True)
    }
    found, missing = reachable(files, folders, workspace)
    yield from found
    if missing:
        yield from (
            pattern
            for folder, pattern in zip(options.imports, patterns, strict=True)
            if not folders[path_of(component, folder)]
        )


def _language(component: Component, workspace: Workspace, name: str, files: list[str], inputs: tuple[str, ...]) -> Step:
    options: ProtobufOptions = component.options
    chosen = options.languages[name]
    out = path_of(component, chosen.out)
    folder = from_component(component, out)
    language = _known(name, chosen)
    own_grpc = name == "python" and chosen.grpc and not chosen.grpc_plugin
    call = _Call(component=component, compiler=options.protoc or (GRPC_TOOLS.name if own_grpc else PROTOC.name))
    for other in language.also:
        if other not in options.languages:
            call.generate(LANGUAGES[other].messages, folder)
    call.generate(language.messages, folder, chosen.plugin, chosen.options)
    if own_grpc:
        call.generate(Generator(flag="grpc_python"), folder, "", chosen.grpc_options)
    elif chosen.grpc and language.services:
        call.generate(language.services, folder, chosen.grpc_plugin, chosen.grpc_options)
    elif chosen.grpc:
        raise ManifestError(
            f"{name} has no gRPC plugin that is known",
            hint="protoc-gen-es makes services as it is; ts-proto does with options: [outputServices=grpc-js]",
        )
    return Step(
        component=component.name,
        name=name,
        kind=component.kind,
        path=component.path,
        # protoc does not make the folder it writes to.
        command=script(["mkdir", "-p", folder], *call.lines(files, comments=chosen.comments)),
        inputs=(*inputs, *call.inputs(workspace)),
        outputs=(Output(path=out, directory=True),),
        tools=call.tools(),
    )


def _known(name: str, chosen: LanguageOptions) -> Language:
    """The language, or one that its plugin makes. Raises ManifestError."""
    if not chosen.plugin:
        if name in LANGUAGES:
            return LANGUAGES[name]
        raise ManifestError(
            f"language {name!r} is not known", hint=f"known: {', '.join(LANGUAGES)}; any other needs plugin: PATH"
        )
    program = posixpath.basename(chosen.plugin)
    services = LANGUAGES[name].services if name in LANGUAGES else None
    if program in PLUGINS:
        return Language(messages=PLUGINS[program], services=services)
    if name in LANGUAGES and LANGUAGES[name].messages.program in {program, ""}:
        return LANGUAGES[name]
    return Language(messages=Generator(flag=program.removeprefix("protoc-gen-"), program=program), services=services)


@dataclass(slots=True, kw_only=True)
class _Call:
    """A call of protoc, put together one generator after another."""

    component: Component
    compiler: str
    flags: list[str] = field(default_factory=list)
    """Quoted for the shell."""
    paths: list[str] = field(default_factory=list)
    """Programs that lie in the repository, from the root."""
    packages: list[str] = field(default_factory=list)
    programs: dict[str, Tool] = field(default_factory=dict)

    def generate(
        self, generator: Generator, folder: str, plugin: str = "", options: tuple[str, ...] | None = None
    ) -> None:
        """Have code made. `plugin` is the generator's program where it is another than the usual one."""
        if "/" in plugin:
            path = path_of(self.component, plugin)
            self.flags.append(shlex.quote(f"--plugin=protoc-gen-{generator.flag}={self._in_repository(path)}"))
            if generator.package and "node_modules/.bin/" in path:
                # A link in .bin is the same in every release.
                self.packages.append(path.partition("/.bin/")[0] + f"/{generator.package}/package.json")
        elif program := plugin or generator.program:
            if generator.package:
                self.programs[NODE.name] = NODE
            self.programs[program] = generator.tool if program == generator.program else Tool(name=program)
            if program != f"protoc-gen-{generator.flag}":
                # protoc looks on PATH for the name that it makes of the flag only.
                self.flags.append(f'--plugin=protoc-gen-{generator.flag}="$(command -v {shlex.quote(program)})"')
        told = generator.options if options is None else options
        if posixpath.basename(self.compiler) == GRPC_TOOLS.name:
            # It knows no flag for a generator's options.
            self.flags.append(shlex.quote(f"--{generator.flag}_out={','.join(told)}{':' if told else ''}{folder}"))
            return
        self.flags.append(shlex.quote(f"--{generator.flag}_out={folder}"))
        self.flags.extend(shlex.quote(f"--{generator.flag}_opt={text}") for text in told)

    def lines(self, files: Iterable[str], *, comments: bool) -> Iterator[str]:
        """The commands."""
        options: ProtobufOptions = self.component.options
        near = [from_component(self.component, path) for path in files]
        names = script([path if not path.startswith("-") else f"./{path}" for path in near])
        if len(names) > LONGEST:
            names = " ".join(
                f"{shlex.quote(folder or '.')}/*.proto" for folder in sorted(set(map(posixpath.dirname, near)))
            )
        where = [from_component(self.component, path_of(self.component, path)) for path in options.imports]
        folders = ["-I.", *(f"-I{path}" for path in where)]
        protoc = self.compiler
        if "/" in protoc:
            protoc = self._in_repository(path_of(self.component, protoc))
        if comments:
            yield f"{script([protoc, *folders])} {' '.join(self.flags)} {names}"
            return
        # A descriptor set holds no comment unless asked to, and protoc generates from one as well.
        yield "tmp=$(mktemp -d)"
        yield """trap 'rm -rf "$tmp"' EXIT"""
        yield f'{script([protoc, *folders, "--include_imports"])} {names} --descriptor_set_out="$tmp/set"'
        yield f'{script([protoc])} {" ".join(self.flags)} {names} --descriptor_set_in="$tmp/set"'

    def inputs(self, workspace: Workspace) -> Iterator[str]:
        """The programs of the repository: made or installed by another step, they are an edge."""
        yield from dict.fromkeys(self.paths)
        yield from (path for path in self.packages if workspace.exists(path))

    def tools(self) -> tuple[Tool, ...]:
        """The programs on PATH."""
        compiler = {"protoc": PROTOC, GRPC_TOOLS.name: GRPC_TOOLS}.get(self.compiler, Tool(name=self.compiler))
        scripts = any("node_modules/" in path for path in self.paths)
        programs = {NODE.name: NODE, **self.programs} if scripts else self.programs
        return (*(() if "/" in self.compiler else (compiler,)), *programs.values())

    def _in_repository(self, path: str) -> str:
        self.paths.append(path)
        near = from_component(self.component, path)
        return near if "/" in near else f"./{near}"


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
