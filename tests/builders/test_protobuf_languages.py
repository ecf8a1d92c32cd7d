"""Kind protobuf: what protoc is called with for each language and plugin, and buf's own files."""

import json
import shlex
import subprocess

import pytest
from build_tests.builders.protobuf import LanguageOptions, ProtobufBuilder
from derived import Derived

from build_tests.core.builder import ManifestError, Output
from build_tests.core.workspace import FileWorkspace

FILES = {"app/shop.proto": ""}


def plan(planned, files=FILES, *, languages=None, **options):
    chosen = {name: LanguageOptions(**options) for name, options in (languages or {}).items()}
    return planned(ProtobufBuilder, files, languages=chosen, **options)


def flags(planned, language, **options):
    """What stands between protoc's folders and the files."""
    steps = plan(planned, languages={language: {"out": "gen", **options}})
    call = steps[language].command.splitlines()[-1]
    return call.partition("-I. ")[2].removesuffix(" shop.proto")


GO = "--go_out=gen --go_opt=paths=source_relative"
TS_PROTO = "../web/node_modules/.bin/protoc-gen-ts_proto"
ON_PATH = '--plugin=protoc-gen-{}="$(command -v {})" --{}_out=gen'


@pytest.mark.parametrize(
    ("language", "options", "expected"),
    [
        ("java", {}, "--java_out=gen"),
        ("kotlin", {}, "--java_out=gen --kotlin_out=gen"),
        ("cpp", {}, "--cpp_out=gen"),
        ("python", {}, "--python_out=gen --python_opt=pyi_out"),
        ("python", {"options": ()}, "--python_out=gen"),
        ("python", {"grpc": True}, "--python_out=pyi_out:gen --grpc_python_out=gen"),
        ("go", {}, GO),
        ("go", {"grpc": True}, f"{GO} --go-grpc_out=gen --go-grpc_opt=paths=source_relative"),
        (
            "go",
            {"options": ["module=x"], "grpc": True, "grpc_options": []},
            "--go_out=gen --go_opt=module=x --go-grpc_out=gen",
        ),
        ("java", {"grpc": True}, "--java_out=gen --grpc-java_out=gen"),
        (
            "java",
            {"grpc": True, "grpc_plugin": "//bin/grpc-java.exe"},
            "--java_out=gen --plugin=protoc-gen-grpc-java=../bin/grpc-java.exe --grpc-java_out=gen",
        ),
        ("cpp", {"grpc": True}, f"--cpp_out=gen {ON_PATH.format('grpc', 'grpc_cpp_plugin', 'grpc')}"),
        (
            "python",
            {"grpc": True, "grpc_plugin": "grpc_python_plugin"},
            "--python_out=gen --python_opt=pyi_out "
            + ON_PATH.format("grpc_python", "grpc_python_plugin", "grpc_python"),
        ),
        ("rust", {}, "--prost_out=gen"),
        ("typescript", {}, "--es_out=gen --es_opt=target=ts"),
        ("typescript", {"plugin": "protoc-gen-ts_proto"}, "--ts_proto_out=gen"),
        (
            "typescript",
            {"plugin": "//web/node_modules/.bin/protoc-gen-ts_proto", "options": ["esModuleInterop=true"]},
            f"--plugin=protoc-gen-ts_proto={TS_PROTO} --ts_proto_out=gen --ts_proto_opt=esModuleInterop=true",
        ),
        ("doc", {"plugin": "protoc-gen-doc"}, "--doc_out=gen"),
        ("doc", {"plugin": "./protoc-gen-doc"}, "--plugin=protoc-gen-doc=./protoc-gen-doc --doc_out=gen"),
    ],
)
def test_flags(planned, language, options, expected):
    assert flags(planned, language, **options) == expected


def test_kotlin_beside_java_makes_no_java_twice(planned):
    steps = plan(planned, languages={"java": {"out": "j"}, "kotlin": {"out": "k"}})
    assert "java_out" not in steps["kotlin"].command


def test_services_of_a_language_without_a_plugin_for_them(planned):
    with pytest.raises(ManifestError, match="typescript has no gRPC plugin"):
        plan(planned, languages={"typescript": {"out": "gen", "grpc": True}})


def test_the_compiler_may_lie_in_the_repository(planned):
    compiler = "//svc/.venv/bin/python-grpc-tools-protoc"
    (step, _) = plan(planned, languages={"python": {"out": "gen", "grpc": True}}, protoc=compiler).values()
    assert step.command.splitlines()[-1].startswith("../svc/.venv/bin/python-grpc-tools-protoc -I. ")
    assert step.inputs == ("app/shop.proto", "svc/.venv/bin/python-grpc-tools-protoc")
    assert step.tools == ()


def test_thousands_of_files_do_not_make_a_command_too_long(planned, run, tmp_path):
    files = {f"app/some/package of names/v{i % 3}/schema_number_{i}.proto": "" for i in range(2000)}
    (step, _) = plan(planned, files, languages={"java": {"out": "gen", "comments": False}}).values()
    assert len(step.command) < 1000
    done = run(step, protoc='for file; do case $file in *.proto) echo "$file";; esac; done | sort -u >>listed')
    assert done.returncode == 0, done.stderr
    listed = (tmp_path / "app/listed").read_text().splitlines()
    assert sorted(f"app/{path}" for path in listed) == sorted([*files, *files])  # described, then generated


def test_a_plugin_on_path_that_has_another_name_is_found_there(planned, run, tmp_path):
    (step, _) = plan(planned, languages={"cpp": {"out": "gen", "grpc": True}}).values()
    done = run(step, protoc='echo "$@" > calls', grpc_cpp_plugin="exit 1")
    assert done.returncode == 0, done.stderr
    called = (tmp_path / "app/calls").read_text()
    assert f"--plugin=protoc-gen-grpc={tmp_path}/tools/grpc_cpp_plugin --grpc_out=gen" in called


def test_the_version_of_grpc_tools_is_told_by_its_own_python(planned, tmp_path):
    (step, _) = plan(planned, languages={"python": {"out": "gen", "grpc": True}}).values()
    (tool,) = step.tools
    python = tmp_path / "python3.x"
    python.write_text('#!/bin/sh\necho "asked: $1"\n')
    python.chmod(0o755)
    for head in (f"#!{python}\n", f"#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n"):
        script = tmp_path / "python-grpc-tools-protoc"
        script.write_text(f"{head}import sys\n")
        script.chmod(0o755)
        environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(tool.version_command, env=environ, capture_output=True, text=True, check=False)
        assert done.stdout == "asked: -c\n", done.stderr


# -- buf


def test_a_folder_of_buf_is_linted(planned):
    steps = plan(planned, FILES | {"app/buf.yaml": "version: v2\n"}, languages={"python": {"out": "gen"}})
    assert list(steps) == ["python", "generate", "lint"]
    assert steps["lint"].command == "buf lint"
    assert steps["lint"].inputs == ("app/shop.proto", "app/buf.yaml")
    assert [tool.name for tool in steps["lint"].tools] == ["buf"]


def test_checks_alone_are_enough(planned):
    assert list(plan(planned, lint=True)) == ["lint"]
    assert list(plan(planned, FILES | {"app/buf.yaml": ""}, lint=False, breaking="main")) == ["breaking"]


def test_buf_of_the_repository(planned):
    step = plan(planned, lint=True, buf="//web/node_modules/.bin/buf")["lint"]
    assert step.command == "../web/node_modules/.bin/buf lint"
    assert step.inputs == ("app/shop.proto", "web/node_modules/.bin/buf")
    assert [tool.name for tool in step.tools] == ["node"]


@pytest.mark.parametrize(
    ("files", "commit"),
    [
        ({".git/refs/heads/main": "a" * 40 + "\n"}, "a" * 40),
        ({".git/refs/tags/main": "b" * 40, ".git/refs/heads/main": "a" * 40}, "b" * 40),
        ({".git/packed-refs": f"# pack-refs\n{'c' * 40} refs/heads/main\n^{'d' * 40}\n"}, "c" * 40),
        ({".git/packed-refs": f"{'c' * 40} refs/heads/main2\n{'c' * 40} refs/heads/x/main\n"}, ""),
        ({".git/refs/remotes/main": "ref: refs/heads/it\n", ".git/refs/heads/it": "e" * 40}, "e" * 40),
        ({".git/refs/heads/main": "ref: refs/heads/main\n"}, ""),
        ({".git": "gitdir: /elsewhere\n"}, ""),
        ({}, ""),
    ],
)
def test_the_commit_of_a_branch_is_in_the_key_or_the_step_always_runs(planned, files, commit):
    step = plan(planned, FILES | files, breaking="main")["breaking"]
    assert step.facts == ((("git main", commit),) if commit else ())
    assert step.cache is bool(commit)


TEMPLATE = """
version: v2
managed: {enabled: true}
plugins:
  - {local: protoc-gen-go, out: gen/go, opt: paths=source_relative}
  - {local: protoc-gen-go-grpc, out: gen/go}
  - {protoc_builtin: java, out: gen/java}
  - {local: [../bin/protoc-gen-own, --fast], out: gen/own}
  - {remote: "buf.build/bufbuild/es:v2.2.0", out: ../web/gen}
"""
OLD_TEMPLATE = """
version: v1
plugins:
  - {plugin: go, out: gen/go}
  - {name: python, out: gen/python}
  - {plugin: "buf.build/protocolbuffers/js:v3", out: gen/js}
"""


def test_code_by_bufs_template(planned):
    steps = plan(planned, FILES | {"app/buf.gen.yaml": TEMPLATE})
    assert list(steps) == ["go", "java", "own", "es", "generate"]
    assert steps["es"].outputs == (Output(path="web/gen", directory=True),)
    assert steps["own"].inputs == ("app/shop.proto", "bin/protoc-gen-own")
    assert [tool.name for tool in steps["go"].tools] == ["buf", "protoc-gen-go", "protoc-gen-go-grpc"]
    assert [tool.name for tool in steps["java"].tools] == ["buf", "protoc"]
    *_, template = shlex.split(steps["go"].command)
    assert json.loads(template)["managed"] == {"enabled": True}
    assert [plugin["local"] for plugin in json.loads(template)["plugins"]] == ["protoc-gen-go", "protoc-gen-go-grpc"]


def test_code_by_an_old_template(planned):
    steps = plan(planned, FILES | {"app/buf.gen.yaml": OLD_TEMPLATE})
    assert [(name, [tool.name for tool in step.tools]) for name, step in steps.items()][:-1] == [
        ("go", ["buf", "protoc-gen-go"]),
        ("python", ["buf", "protoc"]),
        ("js", ["buf"]),
    ]


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("plugins: [", "app/buf.gen.yaml is no YAML", 1),
        ("- x", "is no mapping", 0),
        ("version: v2", "has no plugins", 0),
        ("plugins: [{local: x}]", "a mapping with out:", 0),
        ("plugins: [{local: x, out: g}]\ninputs: [{git_repo: x}]", "only inputs that are folders", 0),
    ],
)
def test_a_template_that_can_not_be_read(planned, text, message, line):
    with pytest.raises(ManifestError, match=message) as raised:
        plan(planned, FILES | {"app/buf.gen.yaml": text})
    assert (raised.value.file, raised.value.line) == ("app/buf.gen.yaml", line)


@pytest.mark.parametrize(
    ("path", "files", "expected"),
    [
        ("api", ["api/a.proto"], True),
        ("api", ["api/v1/a.proto"], False),
        ("services/proto", ["services/proto/v1/a.proto"], True),
        ("api", ["api/buf.yaml"], True),
        ("api", ["api/buf.gen.yaml"], True),
        ("", ["buf.work.yaml"], True),
        ("", ["v1/a.proto"], False),
        ("api", ["api/a.txt"], False),
    ],
)
def test_detect(tmp_path, path, files, expected):
    derived = Derived(tmp_path, ProtobufBuilder, dict.fromkeys(files, ""))
    assert ProtobufBuilder.detect(path, FileWorkspace(str(derived.root))) is expected
