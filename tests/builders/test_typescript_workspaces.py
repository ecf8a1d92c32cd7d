"""Kind typescript: workspaces → steps for each package, edges between them, and what enters whose key."""

import json

import pytest
from build_tests.builders.typescript import TypeScriptBuilder

from build_tests.core.builder import Identity, ManifestError
from build_tests.core.globs import matches
from build_tests.core.graph import build_graph
from tests.builders.test_typescript_locks import DATA, MEMBERS


def manifest(name, **fields):
    return json.dumps({"name": name, "version": "1.0.0"} | fields)


def monorepo(**more):
    """A pnpm workspace: core, ui on it, site on ui; tests and lint here and there."""
    files = {
        "app/package.json": manifest("shop", private=True, devDependencies={"ms": "2.1.3"}, scripts={"lint": "eslint ."}),
        "app/pnpm-workspace.yaml": "packages:\n  - packages/*  # all\n  - 'apps/*'\n  - '!packages/old'\n",
        "app/pnpm-lock.yaml": (DATA / "pnpm-lock.yaml").read_text(),
        "app/packages/core/package.json": manifest(
            "@shop/core", main="dist/index.js", scripts={"build": "esbuild src/index.ts --outdir=dist", "test": "vitest"},
            dependencies=MEMBERS["packages/core"]["dependencies"],
        ),
        "app/packages/ui/package.json": manifest(
            "@shop/ui", main="dist/index.js", scripts={"build": "vite build", "test": "vitest"},
            dependencies={"@shop/core": "workspace:*", "is-even": "1.0.0"},
        ),
        "app/apps/site/package.json": manifest(
            "site", scripts={"build": "vite build", "dev": "vite"}, dependencies={"@shop/ui": "workspace:*", "wrappy": "1.0.2"},
        ),
        "app/packages/old/package.json": manifest("old"),
    }  # fmt: skip
    return files | {f"app/{path}": text for path, text in more.items()}


def outputs(step):
    return {output.path + "/" * output.directory for output in step.outputs}


def test_each_package_has_its_own_steps_named_after_it(planned):
    steps = planned(TypeScriptBuilder, monorepo())
    assert list(steps) == ["install", "lint", "site.build", "core.build", "core.test", "ui.build", "ui.test"]
    assert steps["ui.build"].path == "app/packages/ui"
    assert outputs(steps["ui.build"]) == {"app/packages/ui/dist/"}
    assert steps["ui.build"].command.startswith('export PATH="$PWD/node_modules/.bin:$PWD/../../node_modules/.bin:$PATH"')


def test_one_install_fills_every_node_modules(planned):
    install = planned(TypeScriptBuilder, monorepo())["install"]
    folders = ["app", "app/apps/site", "app/packages/core", "app/packages/ui"]
    assert [output.path for output in install.outputs] == [f"{folder}/node_modules" for folder in folders]
    assert {output.identity for output in install.outputs} == {Identity.INSTALLED}
    assert {f"{folder}/package.json" for folder in folders} < set(install.inputs)


def test_what_a_package_depends_on_is_built_before_and_that_is_an_edge(planned):
    graph = build_graph(planned(TypeScriptBuilder, monorepo()).values())
    needs = {label: set(found) - {"app:install"} for label, found in graph.needs.items()}
    assert needs == {
        "app:install": set(),
        "app:lint": set(),
        "app:core.build": set(),
        "app:core.test": {"app:core.build"},
        "app:ui.build": {"app:core.build"},
        "app:ui.test": {"app:core.build", "app:ui.build"},  # it may import its own package by name
        "app:site.build": {"app:core.build", "app:ui.build"},
    }
    [install] = [edge for edge in graph.edges["app:ui.build"] if edge.label == "app:install"]
    assert install.outputs == ()  # another package's entry in the lockfile does not rebuild this one


def test_a_package_that_is_not_built_is_read_as_it_lies(planned):
    core = manifest("@shop/core", main="src/index.ts")
    steps = planned(TypeScriptBuilder, monorepo(**{"packages/core/package.json": core}))
    assert "core.build" not in steps
    for name in ("ui.build", "site.build", "ui.test"):
        assert matches(steps[name].inputs, "app/packages/core/src/index.ts"), name
        assert not matches(steps[name].inputs, "app/packages/core/node_modules/x/index.js")
        assert not matches(steps[name].inputs, "app/packages/core/README.md")


def test_a_package_that_is_built_and_entered_past_it_is_both(planned):
    core = manifest("@shop/core", exports={".": {"types": "./src/index.ts", "default": "./dist/index.js"}},
                    scripts={"build": "esbuild src/index.ts --outdir=dist"})  # fmt: skip
    ui = planned(TypeScriptBuilder, monorepo(**{"packages/core/package.json": core}))["ui.build"]
    assert matches(ui.inputs, "app/packages/core/src/index.ts")
    assert "app/packages/core/dist/" in ui.inputs


def test_a_step_knows_its_own_packages_part_of_the_lockfile_and_the_workspaces_tools(planned):
    steps = planned(TypeScriptBuilder, monorepo())
    facts = {name: {fact.partition(" ")[0] for fact, _ in steps[name].facts} for name in ("core.build", "ui.test")}
    assert facts == {"core.build": {"is-odd", "ms"}, "ui.test": {"@shop/core", "is-even", "ms"}}
    assert steps["core.build"].facts[0][0] == "is-odd in pnpm-lock.yaml"


def test_a_cycle_through_development_dependencies_is_cut_for_builds(planned):
    core = manifest("@shop/core", main="dist/index.js", scripts={"build": "vite build", "test": "vitest"},
                    devDependencies={"@shop/ui": "workspace:*"})  # fmt: skip
    graph = build_graph(planned(TypeScriptBuilder, monorepo(**{"packages/core/package.json": core})).values())
    assert "app:ui.build" in graph.needs["app:core.test"]
    assert "app:core.build" not in graph.needs["app:ui.build"]
    assert "app:ui.build" not in graph.needs["app:core.build"]


def test_the_workspaces_own_configuration_is_read_by_its_packages(planned):
    files = monorepo(**{"tsconfig.base.json": "{}", "eslint.config.js": "", "notes.txt": "", ".npmrc": ""})
    core = planned(TypeScriptBuilder, files)["core.build"]
    read = [name for name in ("tsconfig.base.json", "eslint.config.js", ".npmrc", "notes.txt", "package.json", "pnpm-lock.yaml")
            if matches(core.inputs, f"app/{name}")]  # fmt: skip
    assert read == ["tsconfig.base.json", "eslint.config.js", ".npmrc", "package.json"]


@pytest.mark.parametrize(
    "script", ["turbo run build", "pnpm -r build", "npm run build --workspaces", "nx run-many -t build", "npm run all"]
)
def test_a_script_that_builds_the_packages_is_what_their_steps_do(planned, script):
    root = manifest("shop", scripts={"build": script, "all": "lerna run build"})
    assert "build" not in planned(TypeScriptBuilder, monorepo(**{"package.json": root}))


def test_names_that_two_packages_share_keep_their_scope(planned):
    files = monorepo(**{
        "packages/other/package.json": manifest("@else/ui", scripts={"test": "x"}),
        "packages/third/package.json": manifest("@e/3d kit", scripts={"test": "x"}),
        "packages/nameless/package.json": '{"scripts": {"test": "x"}}',
    })  # fmt: skip
    steps = planned(TypeScriptBuilder, files)
    assert {"shop-ui.test", "else-ui.test", "p3d-kit.test", "packages-nameless.test"} <= set(steps)


def test_npm_and_yarn_list_workspaces_in_the_manifest(planned):
    files = {
        "app/package.json": manifest("shop", workspaces={"packages": ["./packages/*/", "tool"]}),
        "app/package-lock.json": (DATA / "package-lock.json").read_text(),
        "app/packages/core/package.json": manifest("@shop/core", scripts={"test": "x"}),
        "app/tool/package.json": manifest("tool", scripts={"test": "x"}),
        "app/elsewhere/package.json": manifest("elsewhere", scripts={"test": "x"}),
    }
    assert list(planned(TypeScriptBuilder, files)) == ["install", "core.test", "tool.test"]


def test_a_version_from_the_registry_is_no_edge(planned):
    """npm and yarn link a package of the workspace only where its version fits."""
    lock = json.loads((DATA / "package-lock.json").read_text())
    lock["packages"]["packages/ui/node_modules/@shop/core"] = {"version": "0.9.0", "integrity": "x"}
    files = monorepo(**{"package-lock.json": json.dumps(lock)})
    root = json.loads(files["app/package.json"]) | {"packageManager": "npm@11.0.0"}
    graph = build_graph(planned(TypeScriptBuilder, files | {"app/package.json": json.dumps(root)}).values())
    assert "app:core.build" not in graph.needs["app:ui.build"]


def test_a_workspace_that_leaves_the_repository_is_told(planned):
    root = manifest("shop", workspaces=["../../x"])
    files = monorepo(**{"package.json": root}) | {"app/pnpm-workspace.yaml": ""}
    with pytest.raises(ManifestError, match="leaves the repository"):
        planned(TypeScriptBuilder, files)


@pytest.mark.parametrize(("parser", "reads"), [({}, False), ({"typescript-eslint": "8"}, True)])
def test_a_linter_reads_other_packages_only_where_it_follows_imports(planned, parser, reads):
    ui = manifest("@shop/ui", scripts={"lint": "eslint src"}, dependencies={"@shop/core": "workspace:*"}, devDependencies=parser)
    graph = build_graph(planned(TypeScriptBuilder, monorepo(**{"packages/ui/package.json": ui})).values())
    assert ("app:core.build" in graph.needs["app:ui.lint"]) is reads


# tsc


COMPOSITE = '{"compilerOptions": {"composite": true, "rootDir": "src", "outDir": "dist"}, "include": ["src"]}'


def with_tsc(**more):
    files = monorepo(**{"packages/core/tsconfig.json": COMPOSITE})
    core = manifest("@shop/core", main="dist/index.js", scripts={"build": "tsc -b"})
    return files | {"app/packages/core/package.json": core} | {f"app/{path}": text for path, text in more.items()}


def test_tsc_keeps_what_it_remembers_beside_the_outputs_it_belongs_to(planned):
    core = planned(TypeScriptBuilder, with_tsc())["core.build"]
    assert outputs(core) == {"app/packages/core/dist/"}
    assert core.state == ("app/packages/core/tsconfig.tsbuildinfo", "app/packages/core/names.tsbuildinfo")
    assert not core.clean
    assert "node -e" in core.command


def test_what_others_refer_to_comes_and_goes_with_the_outputs(planned):
    ui = '{"compilerOptions": {"composite": true, "outDir": "dist"}, "references": [{"path": "../core"}]}'
    files = with_tsc(**{
        "packages/ui/tsconfig.json": ui,
        "packages/ui/package.json": manifest("@shop/ui", main="dist/index.js", scripts={"build": "tsc -b"}),
    })  # fmt: skip
    steps = planned(TypeScriptBuilder, files)
    assert outputs(steps["core.build"]) == {"app/packages/core/dist/", "app/packages/core/tsconfig.tsbuildinfo"}
    assert (steps["core.build"].state, steps["core.build"].clean) == ((), True)
    assert steps["ui.build"].state == ()  # without rootDir it lies in dist/
    graph = build_graph(steps.values())
    assert "app:core.build" in graph.needs["app:ui.build"]
    assert matches(steps["ui.build"].inputs, "app/packages/core/src/a.ts")  # tsc -b compares them itself
    assert "app/packages/core/tsconfig.json" in steps["ui.build"].inputs


def test_the_roots_own_tsc_builds_the_packages_that_it_refers_to(planned):
    project = '{"compilerOptions": {"composite": true, "rootDir": "src", "outDir": "dist"}, "include": ["src"]}'
    files = monorepo(**{
        "package.json": manifest("shop", devDependencies={"typescript": "6"}, scripts={"build": "tsc -b"}),
        "tsconfig.json": '{"files": [], "references": [{"path": "packages/core"}, {"path": "packages/ui"}]}',
        "packages/core/tsconfig.json": project,
        "packages/core/package.json": manifest("@shop/core", main="dist/index.js"),
        "packages/ui/tsconfig.json": project,
        "packages/ui/package.json": manifest("@shop/ui", main="dist/index.js", scripts={"test": "vitest"},
                                             dependencies={"@shop/core": "workspace:*"}),
    })  # fmt: skip
    steps = planned(TypeScriptBuilder, files)
    assert list(steps) == ["install", "build", "site.build", "ui.test"]
    assert {"app/packages/core/dist/", "app/packages/ui/dist/"} <= outputs(steps["build"])
    graph = build_graph(steps.values())
    assert [label for label in graph.needed_by["app:build"]] == ["app:site.build", "app:ui.test"]


def test_a_script_of_several_commands_keeps_only_what_checks(planned):
    files = with_tsc(**{
        "packages/core/tsconfig.json": '{"files": [], "references": [{"path": "./tsconfig.app.json"}]}',
        "packages/core/tsconfig.app.json": '{"extends": "../../tsconfig.base.json", "include": ["src"],'
        ' "compilerOptions": {"noEmit": true, "tsBuildInfoFile": "node_modules/.tmp/app.tsbuildinfo"}}',
        "tsconfig.base.json": '{"compilerOptions": {"incremental": true}}',
        "packages/core/package.json": manifest("@shop/core", main="dist/i.js", scripts={"build": "tsc -b && vite build"}),
    })  # fmt: skip
    core = planned(TypeScriptBuilder, files)["core.build"]
    assert outputs(core) == {"app/packages/core/dist/"}
    assert core.state == ("app/packages/core/node_modules/.tmp/app.tsbuildinfo",)
    assert core.clean
    assert "app/tsconfig.base.json" in core.inputs
    assert not matches(core.inputs, "app/packages/core/test/a.ts")  # include names src alone


def test_what_must_not_outlive_the_outputs_is_removed_first(planned):
    plain = '{"compilerOptions": {"rootDir": "src", "outDir": "dist"}}'
    core = planned(TypeScriptBuilder, with_tsc(**{"packages/core/tsconfig.json": plain}))["core.build"]
    assert "rm -f tsconfig.tsbuildinfo\ntsc -b" in core.command
    assert core.state == ("app/packages/core/tsconfig.tsbuildinfo",)
    assert matches(core.inputs, "app/packages/core/test/a.ts")  # without include, tsc reads all


def test_a_file_outside_that_a_script_names_is_read(planned):
    core = manifest("@shop/core", scripts={"build": "node ../../tools/make.mjs ../../none ../../../../out && cp ../../*.txt x"})
    files = monorepo(**{"packages/core/package.json": core, "tools/make.mjs": ""})
    inputs = planned(TypeScriptBuilder, files)["core.build"].inputs
    assert "app/tools/make.mjs" in inputs
    assert not [path for path in inputs if "none" in path or "out" in path]


# At size


def test_thirty_packages_are_planned_in_a_moment(planned):
    files = {
        "app/package.json": manifest("big", workspaces=["packages/*"], devDependencies={"d0": "1"}),
        "app/package-lock.json": json.dumps({"packages": {
            f"node_modules/d{i}": {"version": "1.0.0", "integrity": f"i{i}", "dependencies": {f"d{i + 1}": "1", f"d{i * 2}": "1"}}
            for i in range(1500)
        }}),
    }  # fmt: skip
    for i in range(30):
        files[f"app/packages/p{i}/package.json"] = manifest(
            f"@big/p{i}", main="dist/index.js", scripts={"build": "esbuild a.ts --outdir=dist", "test": "vitest", "lint": "eslint ."},
            dependencies={f"@big/p{j}": "*" for j in range(i)} | {f"d{k}": "1" for k in range(i, i + 40)},
        )  # fmt: skip
    steps = planned(TypeScriptBuilder, files)
    assert len(steps) == 91
    graph = build_graph(steps.values())
    assert len(graph.needs["app:p29.build"]) == 30
