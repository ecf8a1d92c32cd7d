import os
from pathlib import Path

import pytest

from build_tests.core import config, locate, yamltree
from build_tests.core.errors import ConfigError, SelectionError
from build_tests.core.model import (
    CacheSettings,
    Component,
    Identity,
    Monitoring,
    Output,
    Parallelism,
    Resources,
    Retries,
    Strategy,
    Target,
    Tool,
)
from build_tests.registry import Registry

INTERFACE = Path(__file__).with_name("interface")
"""A build file that uses every key."""

REPORT = """
components:
  report:
    kind: command
    path: tools/report
    steps:
      render:
"""


@pytest.fixture
def load(tmp_path):
    def load(text, *, environment=None, name="build.yml", **files):
        for path, content in {name: text, **files}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(content, encoding="utf-8")
        return config.load(str(tmp_path / name), registry=Registry(), environment=environment)

    return load


@pytest.fixture
def step(load):
    """The fields of one step, from what stands under its name."""

    def step(*lines):
        found = load(REPORT + "".join(f"        {line}\n" for line in ("command: [x]", *lines)))
        return dict(found.components[0].steps[0].fields)

    return step


def said(raised):
    return [diagnostic.message for diagnostic in raised.value.diagnostics]


# -- everything of the interface --------------------------------------------------------------------------------------


@pytest.fixture
def whole():
    registry = Registry()
    registry.add_private("protobuf", "interface_builders:Protobuf", str(INTERFACE))
    registry.add_private("typescript", "interface_builders:TypeScript", str(INTERFACE))
    return config.load(str(INTERFACE / "build.yml"), registry=registry)


def test_settings_of_the_whole_interface(whole):
    assert whole.cache == CacheSettings(
        enabled=True,
        storage=("local",),
        ttl=7 * 86400.0,
        max_size=10 * 10**9,
        redis=(("url", "redis://host:6379/0"), ("prefix", "pytest-build")),
        s3=(("bucket", "b"), ("prefix", "p"), ("region", "r"), ("endpoint_url", "https://s3.example")),
        reapi=(
            ("url", "grpcs://host:8980"),
            ("instance", "main"),
            ("headers_env", (("authorization", "VARIABLE"),)),
        ),
        keys=(("main", (("k1", "ed25519:" + "A" * 43 + "="),)),),
        read_scopes=("main",),
    )
    assert whole.parallelism == Parallelism(max_workers=4, resources=(("memory", 2e9), ("docker", 2.0)))
    assert whole.monitoring == Monitoring(build_notifications=True)
    assert whole.default_target == "dev-fast"


def test_targets_of_the_whole_interface(whole):
    assert whole.targets == (
        Target(
            name="dev-fast",
            description="Fast development build with maximum caching",
            components=("web", "report"),
        ),
        Target(
            name="ci-build",
            description="CI build",
            cache_strategy=Strategy.CONSERVATIVE,
            strict=True,
            artifacts=True,
            environment="staging",
        ),
    )


def test_components_of_the_whole_interface(whole):
    proto, web, report = whole.components
    assert {name: language.out for name, language in proto.options.languages.items()} == {
        "python": "gen/python",
        "typescript": "gen/ts",
    }
    assert (web.kind, web.path, web.tags) == ("typescript", "web", ("frontend",))
    (render,) = report.steps
    assert [(place.column, place.text) for place in (report.where, render.where)] == [
        (3, "  report:"),
        (7, "      render:"),
    ]
    assert dict(render.fields) == {
        "command": ("python3", "render.py"),
        "inputs": (
            "tools/report/*.py",
            "tools/report/data/**/*.csv",
            "!tools/report/data/tmp/**",
            "schemas/*.json",
        ),
        "outputs": (
            Output(path="tools/report/out/report.html"),
            Output(path="tools/report/out/assets", directory=True),
        ),
        "depends_on": ("proto:generate", "web"),
        "env": (("LANG", "C.UTF-8"),),
        "pass_env": ("SOURCE_DATE_EPOCH",),
        "secrets": ("NPM_TOKEN",),
        "tools": (Tool(name="python3"), Tool(name="node", version=">=20")),
        "timeout": 600.0,
        "retries": Retries(count=2, backoff=1.0, when=("timeout", "ECONNRESET")),
        "resources": Resources(cpu=1, memory=512 * 10**6, locks=("gradle-home",), other=(("docker", 1),)),
        "cache": True,
        "clean": True,
        "state": ("tools/report/.tsbuildinfo",),
        "on_request": True,
        "daemons": ("gradle",),
        "tags": ("slow",),
    }


def test_what_nothing_reads_yet_is_said(whole):
    lines = (INTERFACE / "build.yml").read_text(encoding="utf-8").splitlines()
    assert [note.split(": ", 1)[1] for note in whole.unused] == [
        f"{name} is accepted, but nothing reads it yet"
        for name in ("ttl", "max_size", "redis", "s3", "reapi", "keys", "read_scopes", "build_notifications")
    ]
    for note in whole.unused:
        _, line, column, message = note.split(":", 3)
        assert lines[int(line) - 1][int(column) - 1 :].startswith(message.split()[0])


def test_a_list_of_tiers_is_not_read_yet(load):
    found = load("build_system: {cache: {storage: [local, redis]}}")
    assert found.cache.storage == ("local", "redis")
    assert found.unused == ("build.yml:1:24: storage: local, redis is accepted, but nothing reads it yet",)


def test_defaults(load):
    found = load("components: {web: {kind: command}}")
    assert found.components == (Component(name="web", kind="command", path="web", options=found.components[0].options),)
    assert found.cache == CacheSettings()
    assert found.parallelism == Parallelism(max_workers=None, dependency_aware=True)
    assert found.monitoring == Monitoring(build_notifications=False)
    assert (found.targets, found.default_target, found.unused) == ((), None, ())


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "off",
        "no",
        "yes",
        "y",
        "true",
        "1.10",
        "1:30",
        "0x10",
        "010",
        "1e3",
        "1_000",
        "2026-01-02",
        "null",
        "~",
        "=",
        ".inf",
    ],
)
def test_a_value_is_what_was_written(step, text):
    fields = step(f"env: {{A: {text}}}", f"inputs: [{text}]", f"tools: [{text}]")
    assert fields["env"] == (("A", text),)
    assert fields["inputs"] == (f"tools/report/{text}",)
    assert fields["tools"] == (Tool(name=text),)


@pytest.mark.parametrize("text", ["2.0", '"2.0"', "'2.0'"])
def test_the_version_is_text(load, text):
    assert load(f"version: {text}").components == ()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("1.5s", 1.5), ("10m", 600.0), ("2h", 7200.0), ("7d", 604800.0), ("2w", 1209600.0)],
)
def test_durations(step, text, seconds):
    assert step(f"timeout: {text}")["timeout"] == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("1B", 1), ("2kB", 2000), ("512MB", 512 * 10**6), ("1.5GB", 1500 * 10**6), ("1GiB", 2**30)]
)
def test_sizes(step, text, size):
    assert step(f"resources: {{memory: {text}}}")["resources"].memory == size


def test_a_share_of_memory_is_that_of_this_machine(load):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = load("build_system: {parallelism: {resources: {memory: 50%}}}")
    assert found.parallelism.resources == (("memory", memory / 2),)


def test_max_workers_auto(load):
    assert load("build_system: {parallelism: {max_workers: auto}}").parallelism.max_workers is None


def test_short_and_long_forms_are_one(step):
    assert step("retries: 3")["retries"] == step("retries: {count: 3}")["retries"] == Retries(count=3)
    assert step("outputs: [a/]")["outputs"] == step("outputs: [{path: a/}]")["outputs"]
    assert step("tools: [node]")["tools"] == step("tools: [{name: node}]")["tools"]


def test_a_text_is_a_script(load):
    found = load(REPORT + "        command: |\n          make\n          make check\n")
    assert dict(found.components[0].steps[0].fields)["command"] == "make\nmake check\n"


# -- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a.txt", "tools/report/a.txt"),
        ("./a.txt", "tools/report/a.txt"),
        ("../other/*.c", "tools/other/*.c"),
        ("a/./b/../c", "tools/report/a/c"),
        ("src/", "tools/report/src/"),
        (".", "tools/report/"),
        ("//schemas/*.json", "schemas/*.json"),
        ("//", "**"),
        ("!data/tmp/**", "!tools/report/data/tmp/**"),
        ("!//data/tmp/**", "!data/tmp/**"),
        (".eslintrc", "tools/report/.eslintrc"),
        ("**/*.py", "tools/report/**/*.py"),
        ("pages/[id].tsx", "tools/report/pages/[id].tsx"),
        ("\\!odd", "tools/report/\\!odd"),
    ],
)
def test_inputs_are_relative_to_the_component(step, written, meant):
    assert step(f"inputs: ['{written}']")["inputs"] == (meant,)


def test_a_component_at_the_root(load):
    found = load(REPORT.replace("tools/report", ".") + "        inputs: [a, ./b, '!c']\n        outputs: [out/]\n")
    fields = dict(found.components[0].steps[0].fields)
    assert found.components[0].path == ""
    assert fields["inputs"] == ("a", "b", "!c")
    assert fields["outputs"] == (Output(path="out", directory=True),)


def test_outputs(step):
    fields = step(
        "outputs:",
        "  - {path: node_modules, identity: installed}",
        "  - {path: gen/, tracked: true}",
        "  - //dist/app.whl",
        "  - {path: 'shop/web:dev', identity: image}",
    )
    assert fields["outputs"] == (
        Output(path="tools/report/node_modules", directory=True, identity=Identity.INSTALLED),
        Output(path="tools/report/gen", directory=True, tracked=True),
        Output(path="dist/app.whl"),
        Output(path="shop/web:dev", identity=Identity.IMAGE),
    )


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "root"), [("build.yml", "."), ("config/build.yml", "."), ("sub/other.yml", "sub")])
def test_the_root(tmp_path, file, root):
    assert locate.root_of(str(tmp_path / file)) == os.path.normpath(tmp_path / root)


def test_find_build_file(tmp_path):
    assert locate.find_build_file(str(tmp_path)) is None
    (tmp_path / "config").mkdir()
    (tmp_path / "config/build.yml").touch()
    assert locate.find_build_file(str(tmp_path)) == str(tmp_path / "config/build.yml")
    (tmp_path / "build.yml").touch()
    assert locate.find_build_file(str(tmp_path)) == str(tmp_path / "build.yml")


def test_paths_are_from_the_root_when_the_file_lies_in_config(load, tmp_path):
    found = load("components: {a: {kind: command, path: src}}", name="config/build.yml")
    assert (found.root, found.file, found.components[0].path) == (str(tmp_path), "config/build.yml", "src")


@pytest.mark.parametrize("name", ["build.yml", "config/build.yml"])
def test_overlays_merge_mappings_and_replace_lists(load, name):
    found = load(
        "build_system: {cache: {ttl: 1d, storage: [redis]}}\n"
        "components: {a: {kind: command, tags: [x, y], steps: {s: {command: [a], env: {A: one, B: two}}}}}\n",
        name=name,
        environment="dev",
        **{
            "config/cache.yml": "ttl: 2d\nstorage: local\nmax_size: 1GB\n",
            "config/environments/dev.yml": "build_system: {cache: {max_size: 2GB}}\n"
            "components: {a: {tags: [z], steps: {s: {env: {B: three}}}}, b: {kind: command}}\n",
        },
    )
    assert (found.cache.ttl, found.cache.max_size, found.cache.storage) == (172800.0, 2 * 10**9, ("local",))
    a, b = found.components
    assert a.tags == ("z",)
    assert dict(a.steps[0].fields) == {"command": ("a",), "env": (("A", "one"), ("B", "three"))}
    assert b.name == "b"
    assert found.environment == "dev"


def test_an_overlay_that_is_not_asked_for_is_not_read(load):
    overlays = {"config/environments/dev.yml": "["}
    assert load("components: {}", **overlays).environment is None


@pytest.mark.parametrize("name", ["prod", "../../build", ""])
def test_an_environment_that_is_not_there(load, name):
    with pytest.raises(SelectionError, match="there is no environment"):
        load("components: {}", environment=name, **{"config/environments/dev.yml": "{}"})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"build\.yml: the file can't be read: No such file"):
        config.load(str(tmp_path / "build.yml"), registry=Registry())


# -- YAML -------------------------------------------------------------------------------------------------------------


def test_anchors_and_merges(load):
    found = load(
        "x-base: &base {kind: command, tags: [x]}\n"
        "components:\n"
        "  a: {<<: *base}\n"
        "  b: {<<: [{tags: [first]}, *base], path: elsewhere}\n"
        "  c: &c {<<: *base, tags: [own]}\n"
        "  d: {<<: *c}\n"
    )
    assert [(c.name, c.path, c.tags) for c in found.components] == [
        ("a", "a", ("x",)),
        ("b", "elsewhere", ("first",)),
        ("c", "c", ("own",)),
        ("d", "d", ("own",)),
    ]


@pytest.mark.parametrize(
    "text", ["[" * 200_000, "{a: " * 200_000, "- " * 200_000, "a:\n" + "".join(" " * i + "- \n" for i in range(300))]
)
def test_deep_nesting(load, text):
    with pytest.raises(ConfigError) as raised:
        load(text)
    assert said(raised) == ["nested more than 64 deep"]
    assert raised.value.diagnostics[0].place.line


def test_alias_bomb(load):
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 30)]
    with pytest.raises(ConfigError) as raised:
        load("\n".join(lines))
    assert said(raised) == ["aliases make this more than 100000 values larger than the file"]


def test_merge_bomb(load):
    big = ", ".join(f"k{i}: v" for i in range(400))
    lines = [f"x-0: &x0 {{{big}}}"] + [f"x-{i}: {{<<: [{', '.join(['*x0'] * 20)}]}}" for i in range(1, 20)]
    with pytest.raises(ConfigError) as raised:
        load("\n".join(lines))
    assert said(raised)[0].startswith(("merges copy more than", "aliases make this more than"))


def test_many_merges_within_bounds(load):
    lines = ["x-base: &base {kind: command}", "components:"] + [f"  c{i}: {{<<: *base}}" for i in range(1000)]
    assert len(load("\n".join(lines)).components) == 1000


def test_a_file_that_is_too_large(load):
    with pytest.raises(ConfigError, match="too large"):
        load("#" + "x" * yamltree.MAX_BYTES)


def test_the_python_loader_says_the_same(load, monkeypatch):
    import yaml

    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    yamltree._loader.cache_clear()
    try:
        assert load("components: {a: {kind: command, tags: [on]}}").components[0].tags == ("on",)
        for text, expected in (
            ("[" * 5000, "nested more than 64 deep"),
            ("a: 1\na: 2", "the key 'a' stands here twice"),
        ):
            with pytest.raises(ConfigError) as raised:
                load(text)
            assert expected in said(raised)
    finally:
        yamltree._loader.cache_clear()


def test_lines_end_as_they_like(tmp_path):
    for text in (b"components:\r\n  a:\r\n    kin: command\r\n", b"components:\r  a:\r    kin: command\r"):
        (tmp_path / "build.yml").write_bytes(text)
        with pytest.raises(ConfigError) as raised:
            config.load(str(tmp_path / "build.yml"), registry=Registry())
        place = raised.value.diagnostics[-1].place
        assert (place.line, place.column, place.text) == (3, 5, "    kin: command")


def test_every_truncation_is_read_or_refused(tmp_path):
    data = (INTERFACE / "build.yml").read_bytes()
    file = tmp_path / "build.yml"
    refused = 0
    for length in range(0, len(data), 7):
        file.write_bytes(data[:length])
        checked = config.check(str(file), registry=Registry())
        refused += bool(checked.diagnostics)
    assert refused
