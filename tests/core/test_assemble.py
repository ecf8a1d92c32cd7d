import pytest

from build_tests.core import assemble, config
from build_tests.core.builder import ManifestError
from build_tests.core.errors import ConfigError
from build_tests.core.model import Output, Retries, Step, Tool
from build_tests.core.workspace import FileWorkspace
from build_tests.registry import Registry

BUILDER = """
from dataclasses import dataclass
from build_tests.core.builder import Output, Retries, Step

@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    optimize: str = "debug"

class Lib:
    kind = "lib"
    options = Options

    def plan(self, component, workspace):
        common = dict(component=component.name, kind="lib", path=component.path)
        sources = workspace.glob(f"{component.path}/**")
        yield Step(**common, name="compile", command=("cc", component.options.optimize), inputs=tuple(sources),
                   outputs=(Output(path=f"{component.path}/obj.o"),), env=(("A", "1"), ("B", "2")), tags=("fast",))
        yield Step(**common, name="link", command=("ld",), depends_on=(f"{component.name}:compile",), timeout=5.0,
                   retries=Retries(count=2, when=("ECONNRESET",)))
"""


@pytest.fixture
def assembled(tmp_path):
    def assembled(text):
        (tmp_path / "assemble_builders.py").write_text(BUILDER)
        (tmp_path / "build.yml").write_text("builders: {lib: 'assemble_builders:Lib'}\n" + text)
        registry = Registry()
        return assemble.steps_of(config.load(str(tmp_path / "build.yml"), registry=registry), registry)

    return assembled


def test_command_steps_keep_the_defaults_of_what_is_not_written(assembled):
    (step,) = assembled("components: {a: {kind: command, path: x, steps: {run: {command: [true]}}}}")
    tools = (Tool(name="true"),)
    assert step == Step(component="a", name="run", kind="command", path="x", command=("true",), tools=tools)
    assert str(step.where) == "build.yml:2:50"


def test_builders_steps_and_additions_in_order(assembled):
    steps = assembled(
        "components:\n"
        "  b: {kind: lib, optimize: speed, steps: {strip: {command: [strip]}}}\n"
        "  a: {kind: command, steps: {z: {command: [z]}, y: {command: [y]}}}\n"
    )
    assert [step.label for step in steps] == ["b:compile", "b:link", "b:strip", "a:z", "a:y"]
    assert steps[0].command == ("cc", "speed")
    assert (steps[2].kind, steps[2].path) == ("lib", "b")
    assert str(steps[0].where) == "build.yml:3:3"
    assert str(steps[2].where) == "build.yml:3:43"


def test_overrides_field_by_field(assembled):
    compile_, link = assembled(
        "components:\n"
        "  b:\n"
        "    kind: lib\n"
        "    steps:\n"
        "      compile: {env: {B: two, C: three}, retries: 2}\n"
        "      link: {command: [lld], depends_on: [other], timeout: 1s}\n"
        "  other: {kind: command}\n"
    )
    assert compile_.command == ("cc", "debug")
    assert compile_.env == (("A", "1"), ("B", "two"), ("C", "three"))
    assert compile_.retries == Retries(count=2)
    assert compile_.outputs == (Output(path="b/obj.o"),)
    assert (link.command, link.depends_on, link.timeout) == (("lld",), ("other",), 1.0)


def test_the_tag_flaky_goes_beyond_a_builders_retries_of_downloads(assembled):
    _, link = assembled("components: {b: {kind: lib, steps: {link: {tags: [slow]}}}}")
    assert link.retries.when == ("ECONNRESET",)
    _, link = assembled("components: {b: {kind: lib, steps: {link: {tags: [flaky]}}}}")
    assert link.retries == Retries(count=2)
    _, link = assembled("components: {b: {kind: lib, steps: {link: {tags: [flaky], retries: {count: 1, when: [timeout]}}}}}")
    assert (link.retries.count, link.retries.when) == (1, ("timeout",))


def test_tags_and_dependencies_of_the_component_are_added(assembled):
    steps = assembled(
        "components:\n"
        "  tools: {kind: command, steps: {get: {command: [get]}}}\n"
        "  b: {kind: lib, tags: [core, fast], depends_on: [tools], steps: {new: {command: [n], tags: [slow]}}}\n"
    )
    found = {step.label: (step.tags, step.depends_on) for step in steps}
    assert found["b:compile"] == (("fast", "core"), ("tools",))
    assert found["b:link"] == (("core", "fast"), ("b:compile", "tools"))
    assert found["b:new"] == (("slow", "core", "fast"), ("tools",))
    assert found["tools:get"] == ((), ())


def test_clean_false_may_rest_on_the_steps_state(assembled):
    (step,) = assembled("components: {a: {kind: command, steps: {r: {command: [x], clean: false, state: [s]}}}}")
    assert (step.clean, step.state) == (False, ("a/s",))


def test_the_plan_is_the_same_in_a_fresh_clone_and_after_a_build(assembled, tmp_path):
    text = "components: {b: {kind: lib, steps: {extra: {command: [x], outputs: [extra/]}}}}"
    (tmp_path / "b/__pycache__").mkdir(parents=True)
    (tmp_path / "b/node_modules").mkdir()
    (tmp_path / "b/main.c").touch()
    (tmp_path / "b/__pycache__/x.pyc").touch()
    (tmp_path / "b/node_modules/x.js").touch()
    fresh = assembled(text)
    assert fresh[0].inputs == ("b/main.c",)
    (tmp_path / "b/extra").mkdir()
    (tmp_path / "b/extra/made").touch()
    (tmp_path / "b/obj.o").touch()
    assert assembled(text) == fresh


def test_read_gives_the_graph(tmp_path):
    (tmp_path / "build.yml").write_text(
        "components:\n"
        "  a: {kind: command, steps: {one: {command: [x], outputs: [out]}, two: {command: [y], inputs: [out]}}}\n"
    )
    found, graph = assemble.read(str(tmp_path / "build.yml"), registry=Registry())
    assert found.components[0].name == "a"
    assert graph.order == ("a:one", "a:two")
    assert graph.needs["a:two"] == ("a:one",)


def test_a_component_that_is_broken_hides_no_other_fault_and_makes_none_up(tmp_path):
    (tmp_path / "build.yml").write_text(
        "components:\n"
        "  a: {kind: comand, steps: {one: {command: [x]}}}\n"
        "  b: {kind: command, steps: {two: {command: [x], depends_on: ['a:one'], clean: false}}}\n"
    )
    with pytest.raises(ConfigError) as raised:
        assemble.read(str(tmp_path / "build.yml"), registry=Registry())
    assert [d.message for d in raised.value.diagnostics] == [
        "component 'a' is of a kind 'comand' that no builder has",
        "step 'b:two': clean: false needs state",
    ]


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web/package.json").write_text('{"name": "é"}', encoding="utf-8")
    (tmp_path / "web/bad.txt").write_bytes(b"\xff")
    return FileWorkspace(str(tmp_path))


def test_the_workspace_remembers_what_was_asked(workspace):
    assert workspace.read_text("web/package.json") == '{"name": "é"}'
    assert workspace.exists("web")
    assert not workspace.exists("web/yarn.lock")
    assert workspace.glob("web/*.json") == ["web/package.json"]
    assert workspace.read == {"web/package.json", "web", "web/yarn.lock"}
    assert workspace.patterns == {"web/*.json"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("web/none.json", "web/none.json is missing"),
        ("web/bad.txt", "web/bad.txt is not UTF-8 (byte 0)"),
        ("web", "web can't be read: Is a directory"),
        ("../x", "../x lies outside the repository"),
        ("/etc/hostname", "/etc/hostname lies outside the repository"),
        ("web/../../x", "web/../../x lies outside the repository"),
    ],
)
def test_what_the_workspace_can_not_read(workspace, path, message):
    with pytest.raises(ManifestError) as raised:
        workspace.read_text(path)
    assert str(raised.value) == message


def test_a_wrong_pattern_is_the_manifests_fault(workspace):
    with pytest.raises(ManifestError, match="can't be listed"):
        workspace.glob("web/[")
