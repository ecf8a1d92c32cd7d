"""Kind protobuf: one step a language, and one that stands for all of them."""

import pytest
from build_tests.builders.protobuf import LanguageOptions, ProtobufBuilder

from build_tests.core.builder import Identity, ManifestError, Output, Step
from build_tests.core.graph import build_graph

FILES = {"app/shop.proto": "", "app/parts/part.proto": ""}
PROTOC = """
echo "$@" >> calls
for arg; do case $arg in --descriptor*) ;; --*_out=*) echo code > "${arg#*=}/made" ;; esac; done
"""


def plan(planned, *others, files=FILES, imports=(), **languages):
    return planned(
        ProtobufBuilder,
        files,
        *others,
        imports=imports,
        languages={name: LanguageOptions(**options) for name, options in languages.items()},
    )


def test_each_language_has_a_step_and_generate_needs_them_all(planned):
    steps = plan(planned, python={"out": "gen/python"}, java={"out": "//other/gen"})
    assert list(steps) == ["python", "java", "generate"]
    assert steps["python"].outputs == (Output(path="app/gen/python", directory=True),)
    assert steps["java"].outputs == (Output(path="other/gen", directory=True),)
    assert steps["generate"].depends_on == ("app:python", "app:java")


def test_the_keys_hold_only_what_protoc_reads(planned):
    steps = plan(planned, python={"out": "gen"}, imports=("//common",))
    assert steps["python"].inputs == ("app/parts/part.proto", "app/shop.proto")


def test_the_code_lands_in_a_folder_that_was_not_there(planned, run, tmp_path):
    steps = plan(planned, python={"out": "//other/gen"})
    assert run(steps["python"], protoc=PROTOC).returncode == 0
    assert (tmp_path / "other/gen/made").is_file()
    (call,) = (tmp_path / "app/calls").read_text().splitlines()
    assert call == "-I. --python_out=../other/gen --python_opt=pyi_out parts/part.proto shop.proto"


def test_a_failing_protoc_fails_the_step(planned, run):
    steps = plan(planned, python={"out": "gen"}, java={"out": "jen", "comments": False})
    assert run(steps["python"], protoc="exit 3").returncode == 3
    assert run(steps["java"], protoc="exit 3").returncode == 3


def test_without_comments_code_is_made_from_a_descriptor_set(planned, run, tmp_path):
    steps = plan(planned, java={"out": "gen", "comments": False})
    assert run(steps["java"], protoc=PROTOC).returncode == 0
    describe, generate = (tmp_path / "app/calls").read_text().splitlines()
    assert "--descriptor_set_out=" in describe
    assert "--include_source_info" not in describe
    assert "--java_out=gen" in generate
    assert "--descriptor_set_in=" in generate


def test_what_depends_on_generate_sees_every_change_of_the_code(planned, run, tmp_path):
    steps = plan(planned, python={"out": "gen/python"}, java={"out": "jen"})
    listed = []
    for code in ("one", "two", "one"):
        for folder in ("gen/python", "jen"):
            (tmp_path / "app" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "app/jen/Shop.java").write_text(code)
        assert run(steps["generate"]).returncode == 0
        listed.append((tmp_path / steps["generate"].outputs[0].path).read_text())
    assert listed[0] != listed[1]
    assert listed[0] == listed[2]


def test_a_plugin_under_node_modules_waits_for_its_install(planned):
    steps = plan(planned, typescript={"out": "gen", "plugin": "//web/node_modules/.bin/protoc-gen-es"})
    step = steps["typescript"]
    installed = Output(path="web/node_modules", directory=True, identity=Identity.INSTALLED)
    install = Step(component="web", name="install", kind="typescript", command=("npm", "ci"), outputs=(installed,))
    assert build_graph([step, install]).needs["app:typescript"] == ("web:install",)
    assert "--plugin=protoc-gen-es=../web/node_modules/.bin/protoc-gen-es" in step.command
    assert [tool.name for tool in step.tools] == ["protoc", "node"]


def test_a_plugin_on_path_is_a_tool(planned):
    steps = plan(planned, typescript={"out": "gen"})
    assert [tool.name for tool in steps["typescript"].tools] == ["protoc", "node", "protoc-gen-es"]
    assert all(tool.hint for tool in steps["typescript"].tools)


def test_the_steps_make_a_graph(planned):
    steps = plan(planned, python={"out": "gen/python"}, java={"out": "gen/java"})
    graph = build_graph(steps.values())
    assert graph.order == ("app:python", "app:java", "app:generate")


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        ({}, "no languages"),
        ({"cobol": {"out": "gen"}}, "'cobol' is not known"),
        ({"python": {"out": "/x"}}, "absolute"),
    ],
)
def test_what_can_not_be_generated_is_said(planned, languages, message):
    with pytest.raises(ManifestError, match=message):
        plan(planned, **languages)


def test_a_folder_without_schema_is_refused(planned):
    with pytest.raises(ManifestError, match=r"no \.proto file in app"):
        plan(planned, files={"app/readme": ""}, python={"out": "gen"})
