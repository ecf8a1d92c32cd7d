"""`init` on repositories written for it: what it finds, what it writes, and that this builds at once."""

import contextlib
import os
import pty
import select
import subprocess
import sys

import pytest
from commands import COMMAND, environment, run

from build_tests.faces.makelines import block_for

GO = {
    "services/greet/go.mod": "module example/greet\n\ngo 1.18\n",
    "services/greet/main.go": 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n',
}
PYTHON = {
    "tool/pyproject.toml": '[project]\nname = "tool"\nversion = "1"\n',
    "tool/requirements.txt": "",
    "tool/src/tool/__init__.py": "X = 1\n",
}
PROTO = {"proto/shop.proto": 'syntax = "proto3";\npackage shop;\nmessage Order { string id = 1; }\n'}
MAVEN = {
    "pom.xml": "<project><modelVersion>4.0.0</modelVersion><groupId>g</groupId><artifactId>app</artifactId>"
    "<version>1</version></project>",
    "src/main/kotlin/app/Main.kt": "fun main() {}\n",
}


def repository(ws, *parts):
    for files in parts:
        for name, text in files.items():
            ws.write(name, text)
    subprocess.run(["git", "init", "-q"], cwd=ws.root, check=True)
    return ws


def found(done):
    lines = done.stdout.split("found:\n")[1].splitlines()
    return [tuple(line.split()) for line in lines if line.startswith("  ")]


def test_it_finds_what_is_there_and_nothing_twice(build_workspace):
    ws = repository(build_workspace, GO, PROTO)
    for name, text in MAVEN.items():
        ws.write(f"orders/{name}", text)
    ws.write("orders/Dockerfile", "FROM scratch\nCOPY target/lib /app/lib\n")
    ws.write("other/greet/go.mod", "module example/other\n\ngo 1.18\n")
    ws.write("other/greet/main.go", "package main\n\nfunc main() {}\n")
    ws.write("node_modules/x/package.json", "{}")
    ws.write("ignored/go.mod", "module example/ignored\n")
    ws.write(".gitignore", "ignored/\n")
    done = run(ws, "init", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert found(done) == [
        ("orders", "kotlin", "orders"), ("orders-image", "docker", "orders"), ("proto", "protobuf", "proto"),
        ("greet", "go", "other/greet"), ("services-greet", "go", "services/greet"),
    ]  # fmt: skip
    assert "  orders:\n    kind: kotlin\n    out: [target/lib/]\n" in ws.read("build.yml")
    assert run(ws, "status").returncode == 0
    assert not (ws.root / ".build.yml.new").exists()


def test_generated_code_goes_where_its_consumers_look_for_it(build_workspace):
    ws = repository(build_workspace, PROTO, PYTHON, GO)
    ws.write("services/greet/order.go", 'package main\n\nimport _ "example/greet/gen"\n')
    project = ws.read("tool/pyproject.toml") + '\n[tool.setuptools.package-dir]\n"" = "src"\nshop = "gen/shop"\n'
    ws.write("tool/pyproject.toml", project)
    assert run(ws, "init", "--yes").returncode == 0
    text = ws.read("build.yml")
    assert "    languages:\n      python: {out: //tool/gen/shop}\n" in text
    assert "    sources: [src/, gen/shop/]\n" in text
    assert "      go: {out: //services/greet/gen}\n" in text
    (line,) = [line for line in run(ws, "graph").stdout.splitlines() if " tool:wheel " in line]
    assert "proto:python" in line


def test_what_does_not_fit_is_left_out_with_the_reason(build_workspace):
    ws = repository(build_workspace, GO)
    ws.write("broken/package.json", "{")
    ws.write("broken/package-lock.json", "{}")
    done = run(ws, "init", "--yes")
    assert done.returncode == 0, done.stdout
    assert "left out: broken (typescript): " in done.stdout
    assert "  #   broken (typescript): " in ws.read("build.yml")
    assert run(ws, "status").returncode == 0


def test_it_never_touches_a_build_file_and_says_so(build_workspace):
    ws = repository(build_workspace, GO)
    ws.write("config/build.yml", "version: '2.0'\n")
    done = run(ws, "init", "--yes")
    assert done.returncode == 4
    assert "config/build.yml is there already" in done.stderr
    assert not (ws.root / "build.yml").exists()


def test_nothing_known_is_said(build_workspace):
    ws = repository(build_workspace, {"README": "x"})
    done = run(ws, "init", "--yes")
    assert done.returncode == 1
    assert "kind: command" in done.stdout
    assert not (ws.root / "build.yml").exists()


def test_without_an_answer_it_shows_and_writes_nothing(build_workspace):
    ws = repository(build_workspace, GO)
    done = run(ws, "init")
    assert done.returncode == 0
    assert 'version: "2.0"' in done.stdout
    assert "--yes writes it" in done.stdout
    assert not (ws.root / "build.yml").exists()


def test_a_folder_called_as_a_target_of_ours_gets_another_name(build_workspace):
    ws = repository(build_workspace, {"ci/go.mod": "module example.com/ci\n\ngo 1.22\n", "ci/main.go": "package main\nfunc main() {}\n"})
    done = run(ws, "init", "--yes", "--no-makefile")
    assert done.returncode == 0, done.stdout
    assert "  ci-go:\n    kind: go\n    path: ci\n" in ws.read("build.yml")


@pytest.mark.parametrize("key", [b"\x04", b"\x03"], ids=["ctrl-d", "ctrl-c"])
def test_no_answer_at_all_writes_nothing(build_workspace, key):
    ws = repository(build_workspace, GO)
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(ws.root)
        os.execve(COMMAND, [COMMAND, "init"], environment(ws))
    said = b""
    while b"write build.yml? [Y/n]" not in said and select.select([terminal], [], [], 60)[0]:
        said += os.read(terminal, 4096)
    os.write(terminal, key)
    with contextlib.suppress(OSError):
        while True:
            # Python does not see an interrupt that comes just before it begins to read: a person presses the key again.
            if not select.select([terminal], [], [], 2)[0]:
                os.write(terminal, key)
            elif more := os.read(terminal, 4096):
                said += more
            else:
                break
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    assert status == (0 if key == b"\x04" else 2), said
    assert b"Traceback" not in said
    assert not (ws.root / "build.yml").exists()


def test_on_a_terminal_it_asks(build_workspace):
    ws = repository(build_workspace, GO)
    ws.write("Makefile", "build:\n\t@echo mine\n")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "init"], cwd=ws.root, env=environment(ws), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    for question, answer in ((b"write build.yml? [Y/n]", b"\n"), (b"Makefile? [Y/n]", b"n\n")):
        while question not in said and select.select([ours], [], [], 60)[0]:
            said += os.read(ours, 4096)
        os.write(ours, answer)
    assert process.wait(60) == 0, said
    os.close(ours)
    assert (ws.root / "build.yml").exists()
    assert ws.read("Makefile") == "build:\n\t@echo mine\n"


def test_targets_of_a_makefile_stay_and_ours_have_other_names(build_workspace):
    ws = repository(build_workspace, GO)
    ws.write("Makefile", "CC := cc\nall build: ; @echo mine\nbuild-log:\n\t@echo log\n")
    assert run(ws, "init", "--yes").returncode == 0
    environ = {name: value for name, value in ws.environ.items() if not name.startswith("MAKE")}
    environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environ["PATH"]

    def make(target):
        return subprocess.run(["make", "-s", target], cwd=ws.root, env=environ, capture_output=True, text=True, check=True)

    assert make("build").stdout == "mine\n"
    assert make("build-log").stdout == "log\n"
    assert "services/greet" in make("build-status").stdout or "greet" in make("build-status").stdout
    assert run(ws, "init", "--yes").returncode == 4  # once is enough


def test_the_makefile_block():
    block, renamed = block_for("")
    assert renamed == []
    assert "build: ## build what changed\n\t@pytest-build build\n" in block
    block, renamed = block_for("build test: x\n")
    assert renamed == ["build is yours, so ours is build-all"]
    assert "\nbuild-all: " in block


@pytest.mark.real("go", "protoc")
@pytest.mark.parametrize("parts", [(GO,), (PROTO,), (GO, PROTO, PYTHON)], ids=["go", "schema", "three kinds"])
def test_what_it_wrote_builds_at_once(build_workspace, parts):
    ws = repository(build_workspace, *parts)
    assert run(ws, "init", "--yes").returncode == 0
    first = run(ws, "build", seconds=600)
    assert first.returncode == 0, first.stdout
    assert " failed" not in first.stdout
    assert "unavailable" not in first.stdout
    again = run(ws, "build")
    assert again.returncode == 0
    assert " built" not in again.stdout.splitlines()[-1]
