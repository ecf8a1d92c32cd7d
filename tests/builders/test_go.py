"""Kind go: what is read off go.mod, go.work and the sources, and which edits rebuild what."""

import json
import os
import subprocess
import sys

import pytest
from build_tests.builders._gojunit import CONVERT
from build_tests.builders._gomodule import read_module
from build_tests.builders.go import GoBuilder
from derived import Derived, changed, needs_beside_a_maker_of

from build_tests.core.builder import ManifestError, Output
from build_tests.core.workspace import FileWorkspace
from build_tests.testing import BuildWorkspace, Outcome

MAIN = "package main\n\nfunc main() {}\n"
FILES = {
    "app/go.mod": (
        "module example.com/app // ours\n\ngo 1.18\n\nrequire (\n\texample.com/lib v0.0.0\n\tgolang.org/x/text v0.3.0 // indirect\n)\n"
        "replace example.com/lib => ../lib\nreplace example.com/far v1.0.0 => example.com/fork v1.0.1\n"
    ),
    "app/go.sum": "golang.org/x/text v0.3.0 h1:x\n",
    "app/cmd/app/main.go": MAIN,
    "app/text/text.go": 'package text\n\nimport _ "embed"\n\n//go:embed hello.txt more/*\nvar Hello string\n',
    "app/text/hello.txt": "hello\n",
    "app/text/more/a.html": "a\n",
    "app/text/text_test.go": "package text\n",
    "app/text/testdata/golden.txt": "golden\n",
    "lib/go.mod": "module example.com/lib\n",
    "lib/lib.go": "package lib\n",
    "lib/lib_test.go": "package lib\n",
    "other/go.mod": "module example.com/other\n",
    "other/other.go": "package other\n",
}
ALL = {"build", "vet", "test"}


@pytest.fixture
def derived(tmp_path):
    return Derived(tmp_path, GoBuilder, FILES)


def test_the_steps(planned):
    steps = planned(GoBuilder, FILES)
    assert list(steps) == ["build", "vet", "test"]
    assert steps["build"].command == "go build -trimpath -buildvcs=false -o bin/ ./..."
    assert steps["build"].outputs == (Output(path="app/bin", directory=True),)
    assert steps["vet"].command == "go vet -buildvcs=false ./..."
    assert steps["test"].after == steps["vet"].after == ("app:build",)
    assert steps["test"].junit == ("app/.reports/go-test.xml",)


def test_options(planned):
    steps = planned(
        GoBuilder, FILES, out="//dist", flags=("-tags=a b",), ldflags="-s -w", vet=False, test_flags=("-race",), packages=("./cmd/...",)
    )  # fmt: skip
    assert list(steps) == ["build", "test"]
    assert steps["build"].command == (
        "go build -trimpath -buildvcs=false '-tags=a b' '-ldflags=-s -w' -o ../dist/ ./cmd/..."
    )
    assert "go test -json -buildvcs=false '-tags=a b' -race ./cmd/..." in steps["test"].command


@pytest.mark.parametrize(
    ("files", "steps"),
    [
        ({"app/lib.go": "package lib\n"}, ["build", "vet"]),
        (
            {"app/gen.go": "//go:build ignore\n\npackage main\n", "app/lib_test.go": "package lib\n"},
            ["build", "vet", "test"],
        ),
        ({"app/_old/main.go": MAIN, "app/testdata/main.go": MAIN}, ["build", "vet"]),
        ({"app/tool/main.go": MAIN, "app/tool/go.mod": "module tool\n"}, ["build", "vet"]),
    ],
)
def test_a_library_has_no_program(planned, files, steps):
    found = planned(GoBuilder, {"app/go.mod": "module m\n", **files})
    assert list(found) == steps
    assert found["build"].outputs == ()
    assert "-o" not in found["build"].command


def test_a_workspace_is_built_whole_and_its_modules_see_each_other(planned):
    files = {name: text for name, text in FILES.items() if not name.startswith("app/go.mod")}
    files |= {
        "go.work": "go 1.18\n\nuse (\n\t./app\n\t./lib\n)\n",
        "app/go.mod": "module example.com/app\nrequire example.com/lib v0.0.0\n",
    }
    steps = planned(GoBuilder, files, path="")
    assert steps["build"].command.endswith("-o bin/ ./app/... ./lib/...")
    assert {"go.work", "app/go.mod", "lib/go.mod", "lib/**/*.go"} <= set(steps["build"].inputs)
    alone = planned(GoBuilder, files)
    assert alone["build"].command.endswith("-o bin/ ./...")
    assert {"go.work", "lib/**/*.go"} <= set(alone["build"].inputs)


def test_generated_code_among_the_sources_is_an_edge(planned):
    steps = planned(GoBuilder, FILES)
    for made in (Output(path="app/gen/shop", directory=True), Output(path="app/text/hello.txt")):
        assert needs_beside_a_maker_of(made, steps, "app:build") == ("maker:make",)
    assert needs_beside_a_maker_of(Output(path="app/docs/a.md"), steps, "app:build") == ()


def test_a_module_file_in_all_its_forms(tmp_path):
    text = (
        'module "example.com/a" // said\nrequire example.com/one v1.2.3\nrequire (\n  example.com/two v1.0.0 // indirect\n\n)\n'
        "replace (\n example.com/one v1.2.3 => ./vendored/one\n example.com/two => ../../outside\n)\n"
        "// replace example.com/x => ./x\nexclude example.com/three v1.0.0\nretract v1.0.0\n"
    )
    derived = Derived(tmp_path, GoBuilder, {"a/go.mod": text})
    module = read_module("a/go.mod", FileWorkspace(str(derived.root)))
    assert module.name == "example.com/a"
    assert module.requires == {"example.com/one", "example.com/two"}
    assert module.replaces == (("example.com/one", "a/vendored/one"),)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"app/main.go": MAIN}, r"app/go\.mod is missing"),
        ({"app/go.mod": "go 1.18\n"}, r"app/go\.mod names no module"),
        ({"app/go.work": "use ./gone\n"}, r"app/gone/go\.mod is missing"),
    ],
)
def test_manifests_that_do_not_do(planned, files, message):
    with pytest.raises(ManifestError, match=message):
        planned(GoBuilder, files)


def test_detect(derived):
    workspace = FileWorkspace(str(derived.root))
    assert GoBuilder.detect("app", workspace)
    assert not GoBuilder.detect("app/text", workspace)


REBUILD = {
    "a source": (lambda d: d.append("app/text/text.go", "\n"), ALL),
    "a new source": (lambda d: d.write("app/text/new.go", "package text\n"), ALL),
    "a deleted source": (lambda d: (d.root / "app/text/text.go").unlink(), ALL),
    "a renamed source": (lambda d: (d.root / "lib/lib.go").rename(d.root / "lib/l.go"), ALL),
    "a mode bit": (lambda d: (d.root / "app/text/text.go").chmod(0o755), ALL),
    "a module that it replaces": (lambda d: d.append("lib/lib.go", "\n"), ALL),
    "that module's manifest": (lambda d: d.append("lib/go.mod", "go 1.18\n"), ALL),
    "the manifest": (lambda d: d.append("app/go.mod", "\n"), ALL),
    "the lock": (lambda d: d.append("app/go.sum", "\n"), ALL),
    "an embedded file": (lambda d: d.append("app/text/hello.txt", "\n"), ALL),
    "a new file in an embedded folder": (lambda d: d.write("app/text/more/b.html", ""), ALL),
    "C beside it": (lambda d: d.write("app/text/fast.c", ""), ALL),
    "a test, which go looks at": (lambda d: d.append("app/text/text_test.go", "\n"), ALL),
    "a profile": (lambda d: d.write("app/cmd/app/default.pgo", ""), ALL),
    "what a test reads": (lambda d: d.append("app/text/testdata/golden.txt", "\n"), {"vet", "test"}),
    "a flag": (lambda d: d.options.update(flags=("-race",)), ALL),
}


@pytest.mark.parametrize("edit", REBUILD)
def test_what_must_rebuild(derived, edit):
    change, expected = REBUILD[edit]
    assert derived.rebuilt_by(change) == expected


def test_tools_and_variables_that_must_rebuild(derived):
    assert changed(derived.keys(), derived.keys(go="2")) == ALL
    assert changed(derived.keys(), derived.keys(gcc="2")) == ALL
    for step in derived.steps():
        assert {"GOFLAGS", "GOOS", "GOARCH", "CGO_ENABLED"} <= set(step.pass_env)
        assert "GOPROXY" in step.network_env


KEEP = {
    "a README": lambda d: d.write("app/README.md", "# App\n"),
    "an editor's backup": lambda d: d.write("app/text/text.go~", ""),
    "an editor's swap file": lambda d: d.write("app/text/.text.go.swp", ""),
    "a folder that go leaves out": lambda d: d.write("app/_old/old.go", "package old\n"),
    "a hidden folder": lambda d: d.write("app/.tools/tool.go", "package tool\n"),
    "another module below": lambda d: (
        d.write("app/sub/go.mod", "module sub\n"),
        d.write("app/sub/s.go", "package s\n"),
    ),
    "another module beside": lambda d: d.append("other/other.go", "\n"),
    "what tests of a module that it replaces read": lambda d: d.write("lib/testdata/x", ""),
    "the time of a source": lambda d: os.utime(d.root / "app/text/text.go", (1, 1)),
    "what it built": lambda d: d.write("app/bin/app", ""),
    "the report of its tests": lambda d: d.write("app/.reports/go-test.xml", ""),
    "a file that is not embedded": lambda d: d.write("app/text/draft.txt", ""),
}


@pytest.mark.parametrize("edit", KEEP)
def test_what_must_not_rebuild(derived, edit):
    assert derived.rebuilt_by(KEEP[edit]) == set()


EVENTS = [
    {"Action": "run", "Package": "m/a", "Test": "TestOne"},
    {"Action": "output", "Package": "m/a", "Test": "TestOne", "Output": "a.go:3: <bad> \x1b\n"},
    {"Action": "fail", "Package": "m/a", "Test": "TestOne", "Elapsed": 0.5},
    {"Action": "output", "Package": "m/a", "Test": "TestTwo", "Output": "quiet\n"},
    {"Action": "pass", "Package": "m/a", "Test": "TestTwo", "Elapsed": 0.25},
    {"Action": "output", "Package": "m/a", "Output": "FAIL m/a\n"},
    {"Action": "fail", "Package": "m/a", "Elapsed": 1},
    {"Action": "output", "Package": "m/b", "Output": "panic: outside of a test\n"},
    {"Action": "fail", "Package": "m/b", "Elapsed": 1},
    {"Action": "build-output", "ImportPath": "m/c", "Output": "c.go:1:1: expected\n"},
]


def test_the_report_of_the_tests(tmp_path):
    from xml.etree import ElementTree as ET

    lines = [json.dumps(event) for event in EVENTS]
    (tmp_path / "events").write_text("\n".join([*lines, "go: no event", '{"Action"']))
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, "events", "out.xml"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    for said in ("a.go:3: <bad>", "panic: outside of a test", "c.go:1:1: expected", "go: no event"):
        assert done.stdout.count(said) == 1
    assert "quiet" not in done.stdout
    one, two = ET.parse(tmp_path / "out.xml").iter("testcase")
    assert (one.get("classname"), one.get("name"), one.get("time")) == ("m/a", "TestOne", "0.500")
    assert one.find("failure").text == "a.go:3: <bad> ?\n"
    assert two.find("failure") is None


REAL = {
    "lib/go.mod": "module example.com/lib\n\ngo 1.18\n",
    "lib/lib.go": "package lib\n\nfunc Twice(n int) int { return 2 * n }\n",
    "svc/go.mod": "module example.com/svc\n\ngo 1.18\n\nrequire example.com/lib v0.0.0\n\nreplace example.com/lib => ../lib\n",
    "svc/cmd/app/main.go": (
        'package main\n\nimport (\n\t"os"\n\t"strconv"\n\n\t"example.com/lib"\n)\n\n'
        'func main() { os.Stdout.WriteString(strconv.Itoa(lib.Twice(21)) + "\\n") }\n'
    ),
    "svc/sums/sums.go": 'package sums\n\nimport "example.com/lib"\n\nfunc Four() int { return lib.Twice(2) }\n',
    "svc/sums/sums_test.go": (
        'package sums\n\nimport "testing"\n\nfunc TestFour(t *testing.T) {\n'
        "\tif Four() != 4 {\n\t\tt.Errorf(\"got %d\", Four())\n\t}\n}\n"
    ),
}  # fmt: skip


@pytest.mark.real("go")
def test_the_same_program_comes_out_in_two_places(build_workspace, tmp_path):
    made = []
    for ws in (build_workspace, BuildWorkspace(tmp_path / "elsewhere" / "ws")):
        ws.components(svc={"kind": "go", "vet": False})
        for name, text in REAL.items():
            ws.write(name, text)
        result = ws.build("-k", "build")
        assert result.status == 0, result.output
        made.append((ws.root / "svc/bin/app").read_bytes())
    assert made[0] == made[1]


@pytest.mark.real("go", "python3")
def test_two_modules_built_and_tested(build_workspace):
    ws = build_workspace
    ws.components(all={"kind": "auto", "path": "*"})
    for name, text in REAL.items():
        ws.write(name, text)
    first = ws.build()
    assert first.status == 0, first.output
    assert set(first.steps) == {"lib:build", "lib:vet", "svc:build", "svc:vet", "svc:test"}
    program = ws.root / "svc/bin/app"
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "42\n"
    assert str(ws.root).encode() not in program.read_bytes()
    assert 'name="TestFour"' in ws.read(".build/reports/junit.xml")
    assert set(ws.build().outcomes().values()) == {"fresh"}
    ws.write("lib/lib.go", REAL["lib/lib.go"].replace("2 * n", "3 * n"))
    wrong = ws.build()
    assert wrong["svc:test"] is Outcome.FAILED
    assert "sums_test.go:7: got 6" in wrong.steps["svc:test"].first_error
    ws.write("lib/lib.go", REAL["lib/lib.go"].replace("2 * n", "two * n"))
    broken = ws.build("-k", "lib")
    assert "lib.go:3:32: undefined: two" in broken.output
    assert broken["lib:vet"] is Outcome.BLOCKED
