"""Kind typescript: one package → install, build or bundle, test, lint."""

import json

import pytest
from build_tests.builders.typescript import TypeScriptBuilder

from build_tests.core.builder import Identity, ManifestError, Output
from build_tests.core.globs import matches
from build_tests.core.graph import build_graph
from build_tests.core.model import Component, Step, StepOverride
from build_tests.core.workspace import FileWorkspace

BIN = 'export PATH="$PWD/node_modules/.bin:$PATH"\n'


def package(_lock="package-lock.json", _text="{\"packages\": {}}", **scripts):
    return {"app/package.json": json.dumps({"name": "app", "scripts": scripts}), f"app/{_lock}": _text}


def depends(files, *names):
    manifest = json.loads(files["app/package.json"]) | {"devDependencies": dict.fromkeys(names, "1")}
    return files | {"app/package.json": json.dumps(manifest)}


WEBPACK = {"app/webpack.config.js": ""}


def outputs(step):
    return {output.path + "/" * output.directory for output in step.outputs}


def test_install_is_keyed_by_the_manifests_alone(planned):
    files = depends(package(), "left-pad") | {"app/src/a.ts": "", "app/.npmrc": "", "app/patches/x.patch": "", "app/binding.gyp": ""}
    step = planned(TypeScriptBuilder, files)["install"]
    assert step.command[:2] == ("npm", "ci")
    assert step.inputs == ("app/package.json", "app/package-lock.json", "app/.npmrc", "app/patches/", "app/binding.gyp")
    assert step.outputs == (Output(path="app/node_modules", directory=True, identity=Identity.INSTALLED),)
    assert "npm_config_*" in step.network_env
    assert step.retries.count
    assert step.retries.when


def test_webpack_where_its_configuration_is(planned):
    steps = planned(TypeScriptBuilder, package() | WEBPACK, sources=("src/", "gen/"))
    bundle = steps["bundle"]
    assert list(steps) == ["install", "bundle"]
    assert bundle.command == f"{BIN}webpack --mode production"
    assert (bundle.depends_on, bundle.after) == ((), ("app:install",))
    assert outputs(bundle) == {"app/dist/"}


def test_a_build_script_that_is_webpack_alone_is_the_bundle_with_its_own_arguments(planned):
    steps = planned(TypeScriptBuilder, package(build="webpack --mode development -o out") | WEBPACK)
    assert steps["bundle"].command == f"{BIN}webpack --mode development -o out"
    assert outputs(steps["bundle"]) == {"app/out/"}
    more = planned(TypeScriptBuilder, package(build="tsc --noEmit && webpack") | WEBPACK)
    assert "bundle" not in more
    assert more["build"].command == f"{BIN}sh -c 'tsc --noEmit && webpack'"


def test_the_bundle_is_made_of_sources_and_manifests(planned):
    files = package() | WEBPACK | {"app/tsconfig.json": "{}"}
    bundle = planned(TypeScriptBuilder, files, sources=("src/",))["bundle"]
    read = [
        path
        for path in ("src/a.tsx", "package.json", "tsconfig.json", "webpack.config.js", "package-lock.json", "README.md")
        if matches(bundle.inputs, f"app/{path}")
    ]
    assert read == ["src/a.tsx", "package.json", "tsconfig.json", "webpack.config.js"]


READ = {
    "src/a.ts": "build test",
    "styles/a.css": "build test",
    ".env.local": "build test",
    ".gitignore": "build test",
    "src/README.tsx.md": "",
    "README.md": "",
    "LICENSE": "",
    "src/a.ts~": "",
    "src/.a.ts.swp": "",
    ".idea/x.xml": "",
    "Dockerfile": "",
    "compose.yaml": "",
    "tmp/x.ts": "",
    "src/tmp/x.ts": "",
    "made/deep/x.ts": "",
    "made/x.ts": "build test",
    "node_modules/x/index.js": "",
    "src/node_modules/x/index.js": "",
    "package-lock.json": "",
    "debug.log": "",
    "test/a.ts": "test",
    "src/a.test.ts": "test",
    "src/__tests__/a.ts": "test",
    "src/__snapshots__/a.snap": "test",
}


@pytest.mark.parametrize("path", READ)
def test_what_is_read_by_default(planned, path):
    files = package(build="esbuild src/a.ts --bundle --outfile=dist/a.js", test="vitest run")
    files |= {"app/.gitignore": "# what is made\ntmp/\n/made/deep\n*.js\n!keep\n.env.local\nnode_modules\n"}
    steps = planned(TypeScriptBuilder, files)
    assert [name for name in ("build", "test") if matches(steps[name].inputs, f"app/{path}")] == READ[path].split()


def test_what_the_root_ignores_is_ignored_in_a_component(planned):
    build = planned(TypeScriptBuilder, package(build="x") | {".gitignore": "/app/tmp/\nother/\n[bad\n"})["build"]
    assert not matches(build.inputs, "app/tmp/x.ts")
    assert not matches(build.inputs, "app/deep/other/x.ts")
    assert matches(build.inputs, "app/deep/tmp/x.ts")


# (script, other files, outputs from the package)
OUTPUTS = {
    "vite": ("vite build", {}, {"dist/"}),
    "vite told by its configuration": ("vite build", {"vite.config.ts": "build: { outDir: 'web' }"}, {"web/"}),
    "vite told by a flag": ("cross-env A=1 npx vite build --outDir=public", {}, {"public/"}),
    "vite out of the repository": ("vite build --outDir ../../out", {}, {"dist/"}),
    "esbuild": ("esbuild a.ts --outfile=dist/app.js --sourcemap", {}, {"dist/app.js", "dist/app.js.map"}),
    "esbuild into a folder": ("esbuild a.ts --outdir=lib", {}, {"lib/"}),
    "tsc and vite": ("tsc --noEmit && vite build", {"tsconfig.json": '{"compilerOptions": {"outDir": "x"}}'}, {"dist/"}),
    "tsc": ("tsc -p .", {"tsconfig.json": '{"compilerOptions": {"outDir": "lib", /* */ "declarationDir": "types",}}'},
            {"lib/", "types/"}),
    "a script of scripts": ("npm run one && yarn two", {}, {"a/", "b/"}),
    "next": ("next build", {}, {".next/"}),
    "react-scripts": ("react-scripts build", {}, {"build/"}),
    "whatever makes what others import": ("node make.mjs", {}, {"lib/"}),
}  # fmt: skip


@pytest.mark.parametrize("case", OUTPUTS)
def test_what_a_build_writes_is_read_off_its_tools(planned, case):
    script, others, made = OUTPUTS[case]
    files = package(build=script, one="esbuild a.ts --outdir=a", two="esbuild a.ts --outdir=b")
    if "others import" in case:
        files["app/package.json"] = json.dumps(json.loads(files["app/package.json"]) | {"main": "./lib/index.js"})
    build = planned(TypeScriptBuilder, files | {f"app/{name}": text for name, text in others.items()})["build"]
    assert outputs(build) == {f"app/{path}" for path in made}


def test_out_says_it_otherwise(planned):
    build = planned(TypeScriptBuilder, package(build="vite build"), out=("out/", "stats.json"))["build"]
    assert build.outputs == (Output(path="app/out", directory=True), Output(path="app/stats.json"))


def test_hooks_around_a_script_run_as_with_npm(planned):
    scripts = {"prebuild": "rm -rf x; true", "build": "make-it", "postbuild": "sign-it"}
    assert planned(TypeScriptBuilder, package(**scripts))["build"].command == (
        f"{BIN}sh -c 'rm -rf x; true'\nsh -c make-it\nsh -c sign-it"
    )


def test_a_later_yarn_runs_no_hooks(planned):
    files = package("yarn.lock", "__metadata:\n", prebuild="no", build="make-it")
    steps = planned(TypeScriptBuilder, files | {"app/.yarnrc.yml": "nodeLinker: node-modules"})
    assert steps["build"].command == f"{BIN}make-it"


def test_a_script_sees_what_npm_would_tell_it(planned):
    env = dict(planned(TypeScriptBuilder, package(test="vitest"))["test"].env)
    assert env == {
        "npm_lifecycle_event": "test", "npm_package_name": "app", "npm_package_version": "", "CI": "true", "NO_COLOR": "1",
    }  # fmt: skip


def test_a_script_that_starts_its_manager_needs_it(planned):
    steps = planned(TypeScriptBuilder, package(build="npm run x && tsc", lint="npx eslint .", test="node --test"))
    assert [[tool.name for tool in steps[name].tools] for name in ("build", "lint", "test")] == [
        ["node", "npm"], ["node", "npm"], ["node"],
    ]  # fmt: skip


# Tests


NODE_FLAGS = (
    "node --test-reporter=spec --test-reporter-destination=stdout --test-reporter=junit "
    "--test-reporter-destination=reports/junit.xml --test test/"
)
VITEST_FLAGS = "--no-cache --reporter=default --reporter=junit --outputFile.junit=reports/junit.xml"


@pytest.mark.parametrize(
    ("script", "command"),
    [
        ("node --test test/", NODE_FLAGS),
        ("vitest run", f"vitest run {VITEST_FLAGS}"),
        ("jest", "jest --reporters=default --reporters=jest-junit"),
        ("bun test", "bun test --reporter=junit --reporter-outfile=reports/junit.xml"),
        ("tsc -p . && vitest run", f"sh -c 'tsc -p . && vitest run {VITEST_FLAGS}'"),
    ],
)
def test_test_runners_write_their_cases(planned, script, command):
    step = planned(TypeScriptBuilder, depends(package(test=script), "jest-junit"))["test"]
    assert step.command == f"{BIN}mkdir -p reports\n{command}"
    assert step.junit == ("app/reports/junit.xml",)
    assert outputs(step) == {"app/reports/junit.xml"}


@pytest.mark.parametrize("script", ["vitest --reporter=dot", "jest", "mocha", "npm run check", "node test.js"])
def test_runners_that_can_not_or_are_told_otherwise_are_left_alone(planned, script):
    step = planned(TypeScriptBuilder, package(test=script, check="vitest"))["test"]
    assert step.command == BIN + script
    assert (step.junit, step.outputs) == ((), ())


def test_coverage_is_an_output(planned):
    assert "app/coverage/" in outputs(planned(TypeScriptBuilder, package(test="vitest run --coverage"))["test"])


def test_npms_placeholder_is_no_test(planned):
    placeholder = 'echo "Error: no test specified" && exit 1'
    assert list(planned(TypeScriptBuilder, package(test=placeholder))) == ["install"]


def test_a_test_of_what_the_build_made_comes_after_it(planned):
    steps = planned(TypeScriptBuilder, package(build="esbuild a.ts --outdir=out", test="node --test ./out/a.test.js"))
    graph = build_graph(steps.values())
    assert graph.needs["app:test"] == ("app:install", "app:build")


# Without scripts, and other scripts


def test_tools_whose_configuration_is_there_need_no_script(planned):
    files = depends(package(), "vite", "eslint", "vitest") | {
        "app/vite.config.ts": "", "app/eslint.config.mjs": "", "app/vitest.config.ts": "",
    }  # fmt: skip
    steps = planned(TypeScriptBuilder, files)
    assert {name: step.command.split("\n")[-1].split(" --")[0] for name, step in steps.items() if name != "install"} == {
        "build": "vite build", "lint": "eslint .", "test": "vitest run",
    }  # fmt: skip
    assert list(planned(TypeScriptBuilder, package() | {"app/vite.config.ts": ""})) == ["install"]  # nothing installs it


def test_tsc_checks_where_it_builds_nothing(planned):
    files = depends(package(), "typescript")
    only = planned(TypeScriptBuilder, files | {"app/tsconfig.json": '{"compilerOptions": {"noEmit": true}}'})
    assert (list(only), outputs(only["typecheck"])) == (["install", "typecheck"], set())
    made = planned(TypeScriptBuilder, files | {"app/tsconfig.json": '{"compilerOptions": {"outDir": "lib"}}'})
    assert (list(made), outputs(made["build"])) == (["install", "build"], {"app/lib/"})


def test_other_scripts_become_steps_when_asked_for(planned, tmp_path):
    files = package(dev="vite", codegen="gen", **{"build:types": "tsc"})
    assert list(planned(TypeScriptBuilder, files)) == ["install"]
    assert list(planned(TypeScriptBuilder, files, scripts=("build:types",))) == ["install", "build-types"]
    named = StepOverride(name="codegen", fields=(("outputs", (Output(path="app/src/gen", directory=True),)),))
    component = Component(name="app", kind="typescript", path="app", options=TypeScriptBuilder.options(), steps=(named,))
    steps = TypeScriptBuilder().plan(component, FileWorkspace(str(tmp_path), (component,)))
    assert [step.name for step in steps] == ["install", "codegen"]


# Edges


def test_generated_code_among_the_sources_makes_an_edge(planned):
    steps = planned(TypeScriptBuilder, package() | WEBPACK, sources=("src/", "gen/"))
    proto = Step(
        component="proto", name="ts", kind="command", command=":", outputs=(Output(path="app/gen", directory=True),)
    )
    graph = build_graph([proto, *steps.values()])
    assert set(graph.needs["app:bundle"]) == {"app:install", "proto:ts"}
    assert graph.needs["app:install"] == ()


def test_what_others_make_in_the_folder_is_found_without_being_named(planned):
    made = StepOverride(name="ts", fields=(("outputs", (Output(path="app/src/gen", directory=True),)),))
    proto = Component(name="proto", kind="command", path="proto", steps=(made,))
    files = package(build="esbuild a.ts --outdir=out") | {"app/.gitignore": "gen/"}
    build = planned(TypeScriptBuilder, files, proto)["build"]
    assert "app/src/gen/" in build.inputs
    assert matches(build.inputs, "app/src/gen/x.ts")


def test_what_waits_for_a_step_makes_nothing_for_it(tmp_path):
    for name, text in package(build="esbuild a.ts --outdir=out").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def step(name, folder, *needs):
        fields = (("command", (name,)), ("depends_on", needs), ("outputs", (Output(path=folder, directory=True),)))
        return StepOverride(name=name, fields=fields)

    own = (step("e2e", "app/results", "app:build"), step("gen", "app/src/gen", "app:install"))
    app = Component(name="app", kind="typescript", path="app", options=TypeScriptBuilder.options(), steps=own)
    shots = Component(name="shots", kind="command", path="app/shots", depends_on=("app",), steps=(step("take", "app/shots/made"),))
    more = Component(name="more", kind="command", path="more", steps=(step("make", "app/src/more"), step("look", "app/seen", "app")))
    steps = TypeScriptBuilder().plan(app, FileWorkspace(str(tmp_path), (app, shots, more)))
    build = next(step for step in steps if step.name == "build")
    made = ("app/results/", "app/src/gen/", "app/shots/made/", "app/src/more/", "app/seen/")
    assert [path for path in made if path in build.inputs] == ["app/src/gen/", "app/src/more/"]


def test_another_components_folder_inside_is_not_read(planned):
    api = Component(name="api", kind="python", path="app/api")
    build = planned(TypeScriptBuilder, package(build="x"), api)["build"]
    assert not matches(build.inputs, "app/api/main.py")


# Managers


LOCKS = {
    "npm": ("package-lock.json", '{"packages": {}}', "npm ci"),
    "pnpm": ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n", "pnpm install --frozen-lockfile"),
    "yarn": ("yarn.lock", "# yarn lockfile v1\n", "yarn install --frozen-lockfile"),
    "berry": ("yarn.lock", "__metadata:\n  version: 8\n", "yarn install --immutable"),
    "bun": ("bun.lock", '{"workspaces": {}, "packages": {},}', "bun install --frozen-lockfile"),
}


def install(steps):
    command = steps["install"].command
    return command if isinstance(command, str) else " ".join(command)


@pytest.mark.parametrize("manager", LOCKS)
def test_the_lockfile_tells_the_manager(planned, manager):
    lock, text, command = LOCKS[manager]
    steps = planned(TypeScriptBuilder, package(lock, text))
    assert install(steps).startswith(command)
    assert f"app/{lock}" in steps["install"].inputs


@pytest.mark.parametrize(
    ("said", "command"),
    [
        ({"packageManager": "pnpm@9.1.0+sha512.abc"}, "pnpm install"),
        ({"packageManager": "npm@11.0.0"}, "npm ci"),
        ({"devEngines": {"packageManager": {"name": "pnpm", "version": "^9"}}}, "pnpm install"),
    ],
)
def test_the_package_says_which_of_two_lockfiles_counts(planned, said, command):
    files = package() | {"app/pnpm-lock.yaml": LOCKS["pnpm"][1]}
    files["app/package.json"] = json.dumps({"scripts": {}} | said)
    assert install(planned(TypeScriptBuilder, files)).startswith(command)


def test_yarns_own_program_in_the_repository_is_run_by_node(planned):
    files = package("yarn.lock", LOCKS["berry"][1]) | {"app/.yarnrc.yml": "yarnPath: .yarn/releases/yarn-4.cjs\n"}
    step = planned(TypeScriptBuilder, files | {"app/.yarn/releases/yarn-4.cjs": ""})["install"]
    assert step.command.startswith("node .yarn/releases/yarn-4.cjs install --immutable")
    assert "app/.yarn/releases/yarn-4.cjs" in step.inputs
    assert [tool.name for tool in step.tools] == ["node"]


def test_buns_binary_lockfile_counts_as_a_whole(planned):
    build = planned(TypeScriptBuilder, package("bun.lockb", "", build="x"))["build"]
    assert build.depends_on == ("app:install",)
    assert matches(build.inputs, "app/bun.lockb")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"app/x": ""}, "package.json is missing"),
        ({"app/package.json": "{"}, "package.json is no JSON"),
        ({"app/package.json": "[]"}, "no package manifest"),
        ({"app/package.json": "{}"}, "package-lock.json is missing"),
        ({"app/package.json": "{}", "package.json": "{}", "bun.lock": "{}"}, "one of the packages of package.json"),
        ({"app/package.json": '{"packageManager": "pnpm@9"}', "app/yarn.lock": ""}, "pnpm-lock.yaml is missing"),
        ({"app/package.json": '{"packageManager": "cargo@9"}'}, "'cargo' is not known"),
        ({"app/package.json": "{}", "app/yarn.lock": "", "app/bun.lock": "{}"}, "yarn.lock and app/bun.lock: which"),
        ({"app/package.json": "{}", "app/package-lock.json": "{"}, "package-lock.json can't be read as a lockfile"),
        (package(build="tsc") | {"app/tsconfig.json": "{"}, "tsconfig.json is no JSON"),
        (package(build="tsc") | {"app/tsconfig.json": '{"extends": "./tsconfig.json"}'}, "no configuration for tsc"),
    ],
)
def test_manifests_that_will_not_do(planned, files, message):
    with pytest.raises(ManifestError, match=message):
        planned(TypeScriptBuilder, files)


def test_a_folder_with_a_lockfile_is_recognised(tmp_path):
    for name in ("a/package.json", "a/pnpm-lock.yaml", "a/packages/ui/package.json", "b/yarn.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    workspace = FileWorkspace(str(tmp_path))
    assert [path for path in ("a", "a/packages/ui", "b") if TypeScriptBuilder.detect(path, workspace)] == ["a"]
