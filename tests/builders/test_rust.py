"""Kind rust: what is read off Cargo.toml and the sources, and which edits rebuild what."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from build_tests.builders._rustjunit import CONVERT
from build_tests.builders.rust import RustBuilder
from derived import Derived, changed, needs_beside_a_maker_of

from build_tests.core.builder import ManifestError, Output
from build_tests.core.workspace import FileWorkspace
from build_tests.testing import BuildWorkspace, Outcome


def package(name, *lines):
    return "\n".join(["[package]", f'name = "{name}"', 'version = "0.1.0"', 'edition = "2021"', *lines, ""])


FILES = {
    "app/Cargo.toml": package("app", "[dependencies]", 'lib-one = { path = "../lib" }', 'serde = "1"'),
    "app/Cargo.lock": "version = 3\n",
    "app/src/main.rs": 'fn main() { include_str!("../page.html"); }\n',
    "app/src/deep/mod.rs": "",
    "app/page.html": "<p>\n",
    "app/tests/it.rs": "",
    "lib/Cargo.toml": package("lib-one", "[dev-dependencies]", 'deeper = { path = "../deeper" }'),
    "lib/src/lib.rs": "",
    "lib/tests/own.rs": "",
    "deeper/Cargo.toml": package("deeper"),
    "deeper/src/lib.rs": "",
    "other/Cargo.toml": package("other"),
    "other/src/lib.rs": "",
}
ALL = {"build", "test", "clippy"}


@pytest.fixture
def derived(tmp_path):
    return Derived(tmp_path, RustBuilder, FILES, clippy=True)


def test_the_steps(planned):
    steps = planned(RustBuilder, FILES)
    assert list(steps) == ["build", "test"]
    build = steps["build"]
    assert 'cargo build --profile release --locked --target-dir target/build\n' in build.command
    assert build.command.endswith("\nmkdir -p bin\ncp target/build/release/app bin/")
    assert build.outputs == (Output(path="app/bin", directory=True),)
    assert build.state == ("app/target/build",)
    assert 'cargo test --no-fail-fast --locked --target-dir target/test' in steps["test"].command
    assert steps["test"].junit == ("app/.reports/cargo-test.xml",)
    assert steps["test"].after == ("app:build",)


def test_options(planned):
    steps = planned(
        RustBuilder, FILES, profile="dev", features=("a", "b"), flags=("--all-targets",), out="//dist", clippy=True, tests=False
    )  # fmt: skip
    assert list(steps) == ["build", "clippy"]
    assert "--locked --target-dir target/build --features a,b --all-targets\n" in steps["build"].command
    assert steps["build"].command.endswith("cp target/build/debug/app ../dist/")
    assert steps["clippy"].command.splitlines()[-2].endswith("--features a,b --all-targets -- -D warnings")


@pytest.mark.parametrize(
    ("files", "made"),
    [
        ({"app/Cargo.toml": package("a"), "app/src/lib.rs": ""}, []),
        (
            {
                "app/Cargo.toml": package("a"),
                "app/src/main.rs": "",
                "app/src/bin/b.rs": "",
                "app/src/bin/c/main.rs": "",
            },
            ["a", "b", "c"],
        ),
        ({"app/Cargo.toml": package("a", "autobins = false"), "app/src/main.rs": ""}, []),
        (
            {"app/Cargo.toml": package("a", "[[bin]]", 'name = "x"', 'path = "src/main.rs"'), "app/src/main.rs": ""},
            ["x"],
        ),
        ({"app/Cargo.toml": package("a", "[[bin]]", 'name = "x"', 'required-features = ["y"]')}, []),
        (
            {"app/Cargo.toml": package("a-b", "[lib]", 'crate-type = ["cdylib", "staticlib", "rlib"]')},
            ["liba_b.so", "liba_b.a"],
        ),
    ],
)
def test_what_is_built(planned, files, made):
    build = planned(RustBuilder, {"app/Cargo.lock": "", **files})["build"]
    copied = [word.rpartition("/")[2] for word in build.command.splitlines()[-1].split()[1:-1]] if build.outputs else []
    assert copied == made


WORKSPACE = {
    "app/Cargo.toml": (
        '[workspace]\nmembers = ["crates/*"]\nexclude = ["crates/old"]\n'
        '[workspace.dependencies]\none = { path = "crates/one" }\n'
    ),
    "app/Cargo.lock": "",
    "app/crates/one/Cargo.toml": package("one"),
    "app/crates/one/src/lib.rs": "",
    "app/crates/two/Cargo.toml": package("two", "[dependencies]", "one = { workspace = true }"),
    "app/crates/two/src/main.rs": "",
    "app/crates/old/Cargo.toml": package("old"),
    "app/crates/old/src/main.rs": "",
}


def test_a_workspace_is_built_whole(planned):
    build = planned(RustBuilder, WORKSPACE)["build"]
    assert build.command.endswith("cp target/build/release/two bin/")
    assert {"app/crates/one/src/**", "app/crates/two/src/**", "app/Cargo.lock"} <= set(build.inputs)
    assert not [path for path in build.inputs if "old" in path]


def test_a_member_has_the_lock_of_its_workspace_and_what_it_needs(planned):
    files = WORKSPACE | {"app/crates/three/Cargo.toml": package("three"), "app/crates/three/src/lib.rs": ""}
    inputs = set(planned(RustBuilder, files, path="app/crates/two")["build"].inputs)
    assert {"app/Cargo.lock", "app/Cargo.toml", "app/crates/one/src/**", "app/crates/two/src/**"} <= inputs
    assert "app/crates/three/src/**" not in inputs
    assert "app/crates/three/Cargo.toml" in inputs  # cargo reads it, whichever member it builds


def test_a_build_script_may_read_all_of_its_package(planned):
    inputs = planned(RustBuilder, FILES | {"lib/build.rs": ""})["build"].inputs
    assert "lib/**" in inputs
    assert "app/**" not in inputs


def test_generated_code_among_the_sources_is_an_edge(planned):
    steps = planned(RustBuilder, FILES)
    assert needs_beside_a_maker_of(Output(path="lib/src/gen", directory=True), steps, "app:build") == ("maker:make",)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"app/Cargo\.toml is missing"),
        ({"app/Cargo.toml": "[package\n"}, r"app/Cargo\.toml is no TOML"),
        ({"app/Cargo.toml": package("a")}, r"app/Cargo\.lock is missing"),
        ({"app/Cargo.toml": "[workspace]\n", "app/Cargo.lock": ""}, "has no package and no member"),
        (
            {"app/Cargo.toml": package("a", "[dependencies]", 'b = { path = "../b" }'), "app/Cargo.lock": ""},
            r"b/Cargo\.toml is missing",
        ),
    ],
)
def test_manifests_that_do_not_do(planned, files, message):
    with pytest.raises(ManifestError, match=message):
        planned(RustBuilder, files)


def test_detect(derived):
    workspace = FileWorkspace(str(derived.root))
    assert RustBuilder.detect("app", workspace)
    assert not RustBuilder.detect("app/src", workspace)


REBUILD = {
    "a source": (lambda d: d.append("app/src/main.rs", "\n"), ALL),
    "a new source": (lambda d: d.write("app/src/new.rs", ""), ALL),
    "a deleted source": (lambda d: (d.root / "app/src/deep/mod.rs").unlink(), ALL),
    "a renamed source": (lambda d: (d.root / "lib/src/lib.rs").rename(d.root / "lib/src/l.rs"), ALL),
    "a mode bit": (lambda d: (d.root / "app/src/main.rs").chmod(0o755), ALL),
    "a path dependency": (lambda d: d.append("lib/src/lib.rs", "\n"), ALL),
    "a path dependency's own": (lambda d: d.append("deeper/src/lib.rs", "\n"), ALL),
    "the manifest": (lambda d: d.append("app/Cargo.toml", "\n"), ALL),
    "a dependency's manifest": (lambda d: d.append("lib/Cargo.toml", "\n"), ALL),
    "the lock": (lambda d: d.append("app/Cargo.lock", "\n"), ALL),
    "an included file": (lambda d: d.append("app/page.html", "\n"), ALL),
    "cargo's configuration above": (lambda d: d.write(".cargo/config.toml", "[build]\n"), ALL),
    "the toolchain that is asked for": (lambda d: d.write("rust-toolchain.toml", "[toolchain]\n"), ALL),
    "a test": (lambda d: d.append("app/tests/it.rs", "\n"), {"test", "clippy"}),
    "a folder of examples": (lambda d: d.write("app/examples/e.rs", ""), ALL),
    "another test": (lambda d: d.write("app/tests/more.rs", ""), {"test", "clippy"}),
    "a feature": (lambda d: d.options.update(features=("fast",)), ALL),
}


@pytest.mark.parametrize("edit", REBUILD)
def test_what_must_rebuild(derived, edit):
    change, expected = REBUILD[edit]
    assert derived.rebuilt_by(change) == expected


def test_tools_and_variables_that_must_rebuild(derived):
    assert changed(derived.keys(), derived.keys(cargo="2")) == ALL
    assert changed(derived.keys(), derived.keys(rustc="2")) == ALL
    assert changed(derived.keys(), derived.keys(cargo_clippy="2")) == {"clippy"}
    for step in derived.steps():
        assert {"RUSTFLAGS", "RUSTUP_TOOLCHAIN"} <= set(step.pass_env)


KEEP = {
    "a README": lambda d: d.write("app/README.md", "# App\n"),
    "a file beside the sources": lambda d: d.write("app/notes.txt", ""),
    "an editor's backup": lambda d: d.write("app/Cargo.toml~", ""),
    "cargo's memory": lambda d: d.write("app/target/build/release/app", ""),
    "the developer's own target": lambda d: d.write("app/target/debug/app", ""),
    "what it built": lambda d: d.write("app/bin/app", ""),
    "another package": lambda d: d.append("other/src/lib.rs", "\n"),
    "another package's manifest": lambda d: d.append("other/Cargo.toml", "\n"),
    "a dependency's tests": lambda d: d.append("lib/tests/own.rs", "\n"),
    "a dependency's lock": lambda d: d.write("lib/Cargo.lock", ""),
    "the time of a source": lambda d: os.utime(d.root / "app/src/main.rs", (1, 1)),
    "another folder's toolchain": lambda d: d.write("other/rust-toolchain", "nightly\n"),
}


@pytest.mark.parametrize("edit", KEEP)
def test_what_must_not_rebuild(derived, edit):
    assert derived.rebuilt_by(KEEP[edit]) == set()


LOCK = 'version = 3\n\n[[package]]\nname = "app"\nversion = "0.1.0"\ndependencies = [\n "own",\n]\n\n[[package]]\nname = "own"\nversion = "0.1.0"\n'
REAL = {
    "app/Cargo.toml": package("app", "[dependencies]", 'own = { path = "../own" }'),
    "app/Cargo.lock": LOCK,
    "app/src/main.rs": 'fn main() {\n    println!("{}", own::twice(21));\n}\n',
    "app/tests/it.rs": "#[test]\nfn adds() {\n    assert_eq!(own::twice(2), 4);\n}\n",
    "own/Cargo.toml": package("own"),
    "own/src/lib.rs": "pub fn twice(n: i32) -> i32 {\n    2 * n\n}\n",
}


SAID = """
     Running unittests src/lib.rs (target/test/debug/deps/own-0123456789abcdef)

running 3 tests
test tests::odd::works ... ok
test tests::breaks - should panic ... \x1b[31mFAILED\x1b[m
test tests::later ... ignored, not <yet>

failures:

---- tests::breaks stdout ----
thread 'tests::breaks' panicked at src/lib.rs:3:5:
no & no

failures:
    tests::breaks

test result: FAILED. 1 passed; 1 failed; 1 ignored
   Doc-tests own
test src/lib.rs - twice (line 3) ... ok
"""


def test_the_report_of_the_tests(tmp_path):
    (tmp_path / "said").write_text(SAID)
    subprocess.run([sys.executable, "-c", CONVERT, "said", "out.xml"], cwd=tmp_path, check=True)
    works, breaks, later, doc = ET.parse(tmp_path / "out.xml").iter("testcase")
    assert (works.get("classname"), works.get("name"), len(works)) == ("own", "tests::odd::works", 0)
    assert breaks.find("failure").text == "thread 'tests::breaks' panicked at src/lib.rs:3:5:\nno & no\n"
    assert later.find("skipped").get("message") == "not <yet>"
    assert (doc.get("classname"), doc.get("name")) == ("own (doc)", "src/lib.rs - twice (line 3)")


@pytest.mark.real("cargo", "rustc")
def test_the_same_program_comes_out_in_two_places(build_workspace, tmp_path):
    made = []
    for ws in (build_workspace, BuildWorkspace(tmp_path / "elsewhere" / "ws")):
        ws.components(all={"kind": "rust", "path": "//", "tests": False})
        ws.write("Cargo.toml", '[workspace]\nmembers = ["app", "own"]\n')
        for name, text in REAL.items():
            ws.write(name.replace("app/Cargo.lock", "Cargo.lock"), text.replace("2 * n", "[n].len() as i32 * n"))
        result = ws.build()
        assert result.status == 0, result.output
        made.append((ws.root / "bin/app").read_bytes())
    assert made[0] == made[1]
    assert str(tmp_path).encode() not in made[0]


@pytest.mark.real("cargo", "rustc", "python3")
def test_a_program_with_a_path_dependency(build_workspace):
    ws = build_workspace
    ws.components(app={"kind": "rust", "profile": "dev"})
    for name, text in REAL.items():
        ws.write(name, text)
    first = ws.build()
    assert first.status == 0, first.output
    program = [ws.root / "app/bin/app"]
    assert subprocess.run(program, capture_output=True, text=True, check=True).stdout == "42\n"
    assert 'classname="it" name="adds"' in ws.read(".build/reports/junit.xml")
    assert set(ws.build().outcomes().values()) == {"fresh"}
    # cargo alone would believe the old time and take the old code for right.
    times = (ws.root / "own/src/lib.rs").stat()
    ws.write("own/src/lib.rs", REAL["own/src/lib.rs"].replace("2 * n", "3 * n"))
    os.utime(ws.root / "own/src/lib.rs", ns=(times.st_atime_ns, times.st_mtime_ns))
    wrong = ws.build()
    assert wrong["app:build"] is Outcome.BUILT, wrong.output
    assert wrong["app:test"] is Outcome.FAILED
    assert subprocess.run(program, capture_output=True, text=True, check=True).stdout == "63\n"
    assert "panicked at tests/it.rs:3:5" in wrong.steps["app:test"].first_error
    ws.write("own/src/lib.rs", "pub fn twice(n: i32) -> i32 {\n    two * n\n}\n")
    broken = ws.build()
    assert "own/src/lib.rs:2:5" in broken.output
    assert broken["app:test"] is Outcome.BLOCKED
