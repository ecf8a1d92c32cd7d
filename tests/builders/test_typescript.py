"""Kind typescript: npm's manifests → install, bundle, test."""

import json

import pytest
from build_tests.builders.typescript import TypeScriptBuilder

from build_tests.core.builder import Identity, ManifestError, Output
from build_tests.core.globs import matches
from build_tests.core.graph import build_graph


def package(**scripts):
    return {"app/package.json": json.dumps({"scripts": scripts}), "app/package-lock.json": "{}"}


WEBPACK = {"app/webpack.config.js": ""}


def test_install_is_keyed_by_the_manifests_alone(planned):
    step = planned(TypeScriptBuilder, package() | {"app/src/a.ts": ""})["install"]
    assert step.command[:2] == ("npm", "ci")
    assert step.inputs == ("app/package.json", "app/package-lock.json")
    assert step.outputs == (Output(path="app/node_modules", directory=True, identity=Identity.INSTALLED),)
    assert step.network_env == ("npm_config_*", "NPM_CONFIG_*")
    assert step.retries.count
    assert step.retries.when


def test_webpack_where_its_configuration_is(planned):
    steps = planned(TypeScriptBuilder, package(build="anything") | WEBPACK, sources=("src/", "gen/"))
    bundle = steps["bundle"]
    assert list(steps) == ["install", "bundle"]
    assert bundle.command == ("node", "node_modules/.bin/webpack", "--mode", "production")
    assert bundle.depends_on == ("app:install",)
    assert bundle.outputs == (Output(path="app/dist", directory=True),)


def test_the_bundle_is_made_of_sources_and_manifests(planned):
    files = package() | WEBPACK | {"app/tsconfig.json": "{}"}
    bundle = planned(TypeScriptBuilder, files, sources=("src/",))["bundle"]
    read = [
        path
        for path in ("src/a.tsx", "tsconfig.json", "webpack.config.js", "package-lock.json", "README.md")
        if matches(bundle.inputs, f"app/{path}")
    ]
    assert read == ["src/a.tsx", "tsconfig.json", "webpack.config.js", "package-lock.json"]


def test_by_default_everything_but_tests_and_packages_is_read(planned):
    bundle = planned(TypeScriptBuilder, package() | WEBPACK)["bundle"]
    assert matches(bundle.inputs, "app/styles/a.css")
    assert not matches(bundle.inputs, "app/test/a.ts")
    assert not matches(bundle.inputs, "app/node_modules/x/index.js")


def test_the_packages_own_build_script_without_webpack(planned):
    bundle = planned(TypeScriptBuilder, package(build="vite build"), out=("out/", "stats.json"))["bundle"]
    assert bundle.command == ("npm", "run", "--silent", "build")
    assert bundle.outputs == (Output(path="app/out", directory=True), Output(path="app/stats.json"))


def test_a_test_script_is_a_step_that_reads_the_tests(planned):
    test = planned(TypeScriptBuilder, package(test="node --test") | {"app/test/a.js": ""}, sources=("src/",))["test"]
    assert test.command == ("npm", "test", "--silent")
    assert matches(test.inputs, "app/test/a.js")
    assert matches(test.inputs, "app/src/a.js")


def test_npms_placeholder_is_no_test(planned):
    placeholder = 'echo "Error: no test specified" && exit 1'
    assert list(planned(TypeScriptBuilder, package(test=placeholder))) == ["install"]


def test_generated_code_among_the_sources_makes_an_edge(planned):
    from build_tests.core.model import Step

    steps = planned(TypeScriptBuilder, package() | WEBPACK, sources=("src/", "gen/"))
    proto = Step(
        component="proto", name="ts", kind="command", command=":", outputs=(Output(path="app/gen", directory=True),)
    )
    graph = build_graph([proto, *steps.values()])
    assert set(graph.needs["app:bundle"]) == {"app:install", "proto:ts"}
    assert graph.needs["app:install"] == ()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"app/x": ""}, "package.json is missing"),
        ({"app/package.json": "{"}, "package.json is no JSON"),
        ({"app/package.json": "[]"}, "no package manifest"),
        ({"app/package.json": "{}"}, "package-lock.json is missing"),
    ],
)
def test_manifests_that_will_not_do(planned, files, message):
    with pytest.raises(ManifestError, match=message):
        planned(TypeScriptBuilder, files)
