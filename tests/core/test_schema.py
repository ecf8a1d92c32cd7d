"""The schema must accept what the reader accepts and refuse what it can't read, as far as a schema can know."""

import copy
import json
from pathlib import Path

import pytest

from build_tests.core import config
from build_tests.core.binding import keys_of
from build_tests.core.schema import schema_for
from build_tests.core.spec import StepSpec
from build_tests.registry import Registry

INTERFACE = Path(__file__).with_name("interface")


class Kinds(Registry):
    """Only the kinds of the interface's own builders: what else is installed is not under test."""

    def kinds(self):
        return ["command", "protobuf", "typescript"]


@pytest.fixture(scope="module")
def registry():
    registry = Kinds()
    registry.add_private("protobuf", "interface_builders:Protobuf", str(INTERFACE))
    registry.add_private("typescript", "interface_builders:TypeScript", str(INTERFACE))
    return registry


@pytest.fixture(scope="module")
def schema(registry):
    return schema_for(registry)


@pytest.fixture
def whole():
    """The interface's build file as an editor sees it."""
    import yaml

    return yaml.safe_load((INTERFACE / "build.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def refusals(schema):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    def refusals(document):
        return [".".join(map(str, error.absolute_path)) for error in validator.iter_errors(document)]

    return refusals


def test_every_key_is_described(schema):
    def undescribed(node, path=""):
        for key, value in node.items() if isinstance(node, dict) else ():
            if key == "properties":
                yield from (f"{path}.{name}" for name, found in value.items() if not found.get("description"))
            yield from undescribed(value, f"{path}.{key}")
        for i, value in enumerate(node) if isinstance(node, list) else ():
            yield from undescribed(value, f"{path}.{i}")

    missing = [path for path in undescribed(schema) if "allOf" not in path]
    assert missing == []


def test_the_schema_is_plain_json_and_the_same_every_time(schema, registry):
    assert json.loads(json.dumps(schema)) == schema
    assert json.dumps(schema_for(registry)) == json.dumps(schema)


def test_the_steps_have_exactly_the_keys_that_are_read(schema):
    steps = schema["$defs"]["component"]["properties"]["steps"]["additionalProperties"]
    assert list(steps["properties"]) == [field.key for field in keys_of(StepSpec)]
    assert steps["additionalProperties"] is False
    assert steps["properties"]["timeout"]["description"] == "After this time the step is ended and has failed."


def test_a_builders_options_are_keys_of_its_kind(schema):
    found = {
        rule["if"]["properties"]["kind"]["const"]: rule["then"]["properties"]
        for rule in schema["$defs"]["component"]["allOf"]
    }
    assert "languages" in found["protobuf"]
    assert "languages" not in found["typescript"]


def test_the_interface_is_accepted(refusals, whole):
    assert refusals(whole) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 3),
        ("colour", "red"),
        ("build_system.cache.storage", "disk"),
        ("build_system.cache.storage", ["local", "disk"]),
        ("build_system.cache.ttl", 7),
        ("build_system.parallelism.max_workers", 0),
        ("components.proto.languages.python.into", "gen"),
        ("components.web.languages", {}),
        ("components.web.tags", "frontend"),
        ("components.report.steps.render.ouputs", ["x"]),
        ("components.report.steps.render.command", {"run": "x"}),
        ("components.report.steps.render.outputs", [{"identity": "content"}]),
        ("components.report.steps.render.outputs", [{"path": "x", "identity": "contents"}]),
        ("components.report.steps.render.retries", "many"),
        ("components.report.steps.render.env", ["A"]),
        ("components.report.steps.render.cache", "maybe"),
        ("components.report.steps.render.resources.cpu", 0),
        ("targets.ci-build.cache_strategy", "agressive"),
        ("targets.ci-build.validation", "yes"),
        ("targets.1st", {}),
    ],
)
def test_schema_and_reader_refuse_the_same(refusals, registry, whole, tmp_path, path, value):  # noqa: PLR0917
    document = copy.deepcopy(whole)
    *parents, key = path.split(".")
    node = document
    for parent in parents:
        node = node[parent]
    node[key] = value
    assert refusals(document)
    (tmp_path / "build.yml").write_text(json.dumps(document))
    assert config.check(str(tmp_path / "build.yml"), registry=registry).diagnostics


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 2.0),
        ("x-shared", {"anything": 1}),
        ("build_system.cache.storage", ["local", "redis"]),
        ("build_system.parallelism.max_workers", "auto"),
        ("build_system.parallelism.resources", {"memory": "80%", "gpu": 1}),
        ("components.zig", {"kind": "zig", "optimize": "speed"}),
        ("components.report.steps.render.command", "make all"),
        ("components.report.steps.render.retries", 2),
        ("components.report.steps.render.env", {"A": 1.10, "B": True}),
        ("components.report.steps.render.outputs", [{"path": "node_modules/", "identity": "installed"}, "x"]),
    ],
)
def test_the_schema_accepts_what_is_read(refusals, whole, path, value):
    *parents, key = path.split(".")
    node = whole
    for parent in parents:
        node = node[parent]
    node[key] = value
    assert refusals(whole) == []
