"""`kind: auto` and patterns of paths: what is found, how it is called, and what it can be called by."""

import pytest

from build_tests.core import assemble
from build_tests.core.errors import ConfigError, SelectionError
from build_tests.project import Project
from build_tests.registry import Registry

BUILDERS = """
from dataclasses import dataclass
from build_tests.core.builder import Output, Step

@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    speed: str = "usual"

class Base:
    options = Options

    def plan(self, component, workspace):
        made = Output(path=f"{component.path}/made", directory=True)
        yield Step(component=component.name, name="make", kind=self.kind, path=component.path, outputs=(made,),
                   command=("make", component.options.speed))

class Lang(Base):
    kind = "lang"

    @staticmethod
    def detect(path, workspace):
        return workspace.exists(f"{path}/lang.toml".lstrip("/"))

class Image(Base):
    kind = "image"
    suffix = "-image"

    def plan(self, component, workspace):
        yield Step(component=component.name, name="pack", kind=self.kind, path=component.path, command=("pack",))

    @staticmethod
    def detect(path, workspace):
        return workspace.exists(f"{path}/Imagefile".lstrip("/"))

class Plain(Base):
    kind = "plain"
"""
TOP = "builders: {lang: 'discovered:Lang', image: 'discovered:Image', plain: 'discovered:Plain'}\ncomponents:\n"


class Kinds(Registry):
    """Only the kinds above: what else is installed is not under test."""

    def kinds(self):
        return [kind for kind in super().kinds() if kind in {"lang", "image", "plain"}]


@pytest.fixture
def read(tmp_path):
    """Config and graph of a build file among the named files."""

    def read(text, *files):
        (tmp_path / "discovered.py").write_text(BUILDERS)
        (tmp_path / "build.yml").write_text(TOP + text)
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        return assemble.read(str(tmp_path / "build.yml"), registry=Kinds())

    return read


def found(config):
    return {component.name: (component.kind, component.path) for component in config.components}


FILES = ("services/a/lang.toml", "services/b/lang.toml", "services/b/Imagefile", "services/notes/README.md")


def test_each_folder_gives_a_component_for_each_builder_that_knows_it(read):
    config, _ = read("  services: {kind: auto, path: services/*}\n", *FILES)
    assert found(config) == {
        "a": ("lang", "services/a"),
        "b": ("lang", "services/b"),
        "b-image": ("image", "services/b"),
    }


def test_one_folder_is_called_as_its_entry(read):
    config, _ = read("  shop: {kind: auto, path: services/b}\n", *FILES)
    assert found(config) == {"shop": ("lang", "services/b"), "shop-image": ("image", "services/b")}


def test_a_name_does_not_hang_on_what_else_is_there(read):
    config, graph = read("  b: {kind: auto, path: services/b}\n", "services/b/Imagefile")
    assert found(config) == {"b-image": ("image", "services/b")}
    assert list(graph.steps) == ["b-image:pack"]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("services/*", ["a", "b", "b-image"]),
        ("//services/*/", ["a", "b", "b-image"]),
        ("./services/[a]", ["a"]),
        ("*/b", ["b", "b-image"]),
        ("**", ["deep", "a", "b", "b-image"]),
        ("deep/**", ["deep"]),
    ],
)
def test_patterns(read, path, names):
    hidden = (".git/x/lang.toml", "services/.hidden/lang.toml", "services/a/node_modules/x/lang.toml")
    config, _ = read(f"  all: {{kind: auto, path: '{path}'}}\n", *FILES, "deep/one/deep/lang.toml", *hidden)
    assert list(found(config)) == names


def test_a_kind_with_a_pattern_takes_what_it_recognises_with_its_own_keys(read):
    config, graph = read("  all: {kind: lang, path: services/*, speed: high}\n", *FILES)
    assert list(found(config)) == ["a", "b"]
    assert graph.steps["a:make"].command == ("make", "high")


def test_a_builder_that_recognises_nothing_takes_every_folder_it_is_told_to(read):
    config, _ = read("  all: {kind: plain, path: services/*}\n", *FILES)
    assert list(found(config)) == ["a", "b", "notes"]


def test_steps_tags_and_dependencies_are_laid_over_each(read):
    _, graph = read(
        "  all:\n    kind: lang\n    path: services/*\n    tags: [back]\n    depends_on: [tools]\n"
        "    steps: {check: {command: [check], inputs: [src/]}}\n"
        "  tools: {kind: plain}\n",
        *FILES,
    )
    assert list(graph.steps) == ["a:make", "a:check", "b:make", "b:check", "tools:make"]
    assert graph.steps["b:check"].inputs == ("services/b/src/",)
    assert graph.steps["b:make"].tags == ("back",)
    assert graph.needs["a:check"] == ("tools:make",)


def test_what_is_written_down_goes_before(read):
    config, graph = read(
        "  services: {kind: auto, path: services/*}\n  special: {kind: lang, path: services/b, speed: high}\n", *FILES
    )
    assert found(config) == {
        "a": ("lang", "services/a"),
        "b-image": ("image", "services/b"),
        "special": ("lang", "services/b"),
    }
    assert graph.steps["special:make"].command == ("make", "high")


def test_the_entry_stands_for_all_that_it_finds(read):
    _, graph = read(
        "  services: {kind: auto, path: services/*}\n  end: {kind: plain, depends_on: [services]}\n"
        "targets: {some: {components: [services]}, one: {components: [b-image]}}\n",
        *FILES,
    )
    assert set(graph.needs["end:make"]) == {"a:make", "b:make", "b-image:pack"}


def test_targets_and_selectors_take_the_entry_and_what_it_finds(read):
    config, graph = read(
        "  services: {kind: auto, path: services/*}\n  end: {kind: plain}\n"
        "targets: {some: {components: [services]}, one: {components: [b-image, end]}}\n",
        *FILES,
    )
    some, one = config.targets
    project = Project(config=config, graph=graph, target=some, registry=Registry())
    everything = {"a:make", "b:make", "b-image:pack"}
    assert project.members(some) == project.select(["services"]) == everything
    assert project.members(one) == {"b-image:pack", "end:make"}
    assert project.select(["b"]) == {"b:make"}
    with pytest.raises(SelectionError, match="did you mean 'services'"):
        project.select(["service"])


def test_a_folder_that_a_step_makes_is_no_component_after_the_build_either(read):
    text = "  services: {kind: auto, path: services/**}\n"
    before, _ = read(text, *FILES)
    after, graph = read(text, *FILES, "services/a/made/copy/lang.toml", "services/a/made/copy/Imagefile")
    assert found(after) == found(before)
    assert list(graph.steps) == ["a:make", "b:make", "b-image:pack"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  s: {kind: auto, path: other/*}\n", "component 's': 'other/*' matches no folder"),
        ("  s: {kind: auto, path: other}\n", "component 's': there is no folder 'other'"),
        ("  s: {kind: auto, path: services/notes}\n", "component 's': no builder recognises services/notes"),
        ("  s: {kind: auto, path: 'services/n*'}\n", "component 's': no builder recognises services/notes"),
        ("  s: {kind: auto, path: '../*'}\n", "component 's': it leaves the repository"),
        (
            "  s: {kind: auto, path: 'services/*'}\n  a: {kind: plain}\n",
            "services/a (lang) and a (plain) would both be called 'a'",
        ),
        (
            "  a: {kind: lang, path: 'services/*'}\n",
            "services/a (lang) and this entry would both be called 'a'",
        ),
    ],
)
def test_what_can_not_be_found_is_said_at_its_place(read, text, message):
    with pytest.raises(ConfigError) as raised:
        read(text, *FILES)
    (said,) = raised.value.diagnostics
    assert said.message == message
    assert said.hint or "matches" in message or "there is no" in message or "leaves" in message
    assert (said.place.line, said.place.text[said.place.column - 1]) == (
        3,
        "'" if "'" in text else text.split("path: ")[1][0],
    )


def test_two_folders_of_one_name_are_refused_and_nothing_else_is_made_up(read):
    with pytest.raises(ConfigError) as raised:
        read("  s: {kind: auto, path: '*/*'}\n  end: {kind: plain, depends_on: [a]}\n", *FILES, "libs/a/lang.toml")
    (said,) = raised.value.diagnostics
    assert said.message == "services/a (lang) and libs/a (lang) would both be called 'a'"
    assert said.hint == "write it down, as NAME: {kind: lang, path: services/a}"


def test_a_found_component_and_a_target_may_not_share_a_name(read):
    with pytest.raises(ConfigError, match="'a' is a target and a component"):
        read("  s: {kind: auto, path: services/*}\ntargets: {a: {}}\n", *FILES)


def test_steps_beside_auto_are_refused(read):
    with pytest.raises(ConfigError, match="steps can't stand beside kind: auto"):
        read("  s: {kind: auto, path: services/*, steps: {x: {command: [x]}}}\n", *FILES)
