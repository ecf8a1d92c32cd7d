"""Makefiles of different styles: what the imported build makes is what make makes."""

import os
import shutil
import subprocess

import pytest
from commands import environment, run

PATTERN = """\
CC = cc
CFLAGS := -O1 -Iinclude
OBJS = $(patsubst src/%.c,obj/%.o,$(wildcard src/*.c))
export STAMP = 42
.PHONY: all clean
all: bin/app docs.txt

bin/app: $(OBJS) | bin
\t@echo linking
\t-false
\t$(CC) -o $@ $^

obj/%.o: src/%.c | obj
\t$(CC) $(CFLAGS) -c -o $@ $<

bin obj:
\tmkdir -p $@

docs.txt: src/a.c tools/count.sh
\tcd src && sh ../tools/count.sh a.c \\
\t  > ../docs.txt; false; true
\techo $(STAMP) $$STAMP >> $@

clean:
\trm -rf bin obj docs.txt
"""
SOURCES = {
    "src/a.c": '#include "x.h"\nint main(void) { return x() - Y; }\n', "src/b.c": "int x(void) { return 3; }\n",
    "include/x.h": "#define Y 3\nint x(void);\n", "tools/count.sh": 'grep -c . "$1"\n',
}  # fmt: skip
GENERATED = """\
objects := main.o util.o
app: $(objects)
\tcc -o $@ $(objects)
%.o: %.c
\tcc -MMD -c -o $@ $<
-include $(objects:.o=.d)
"""
RECURSIVE = """\
all: lib/out.txt top.txt
lib/out.txt:
\t$(MAKE) -C lib out.txt
top.txt: lib/out.txt
\tsed s/x/y/ lib/out.txt >top.txt
"""
INCLUDES = """\
NAME ?= nobody
include settings.mk
include rules/words.mk
all: greeting.txt count.txt
greeting.txt: template.txt
\tsed "s/NAME/$(NAME)/" $< >$@
"""
PHONY = """\
.PHONY: build test
build:
\tprintf built >built.txt
test: build
\ttest -e built.txt && printf tested >tested.txt
"""
AT_ONCE = """\
SHELL = /bin/bash
all: table.c
table.c table.h: table.in
\tcat table.in >table.c; echo "// $${BASH_VERSION:+bash}" >table.h
%.tab %.log: %.y
\tcp $< $*.tab
\techo log >$*.log
both: g.tab g.log
\tcat g.tab g.log >both
"""
STYLES = {
    "pattern rules": ({"Makefile": PATTERN, **SOURCES}, ["all"], ["docs.txt", "bin/app", "obj/a.o", "obj/b.o"]),
    "generated dependencies": (
        {"Makefile": GENERATED, "main.c": '#include "u.h"\nint main(void) { return u(); }\n', "u.h": "int u(void);\n",
         "util.c": '#include "u.h"\nint u(void) { return 0; }\n'},
        ["app"], ["app", "main.o", "util.o", "main.d", "util.d"],
    ),
    "recursive": (
        {"Makefile": RECURSIVE, "lib/Makefile": "out.txt: in.txt\n\ttr a-z x <in.txt >out.txt\n", "lib/in.txt": "abc\n"},
        ["all"], ["lib/out.txt", "top.txt"],
    ),
    "includes": (
        {"Makefile": INCLUDES, "settings.mk": "NAME = world\n", "template.txt": "hello NAME\n", "words.txt": "a b c\n",
         "rules/words.mk": "count.txt: words.txt\n\twc -w <words.txt >count.txt\n"},
        ["all"], ["greeting.txt", "count.txt"],
    ),
    "phony only": ({"Makefile": PHONY}, ["test"], ["built.txt", "tested.txt"]),
    "several at once": (
        {"Makefile": AT_ONCE, "table.in": "int t;\n", "g.y": "grammar\n"},
        ["all", "both"], ["table.c", "table.h", "both", "g.tab", "g.log"],
    ),
}  # fmt: skip


@pytest.fixture
def repository(build_workspace):
    def make(files):
        for name, text in files.items():
            build_workspace.write(name, text)
        return build_workspace

    return make


def made_by_make(ws, goals, outputs, folder):
    """What make leaves, by name."""
    shutil.copytree(ws.root, folder, ignore=shutil.ignore_patterns("build.yml", ".build", ".pytest_cache"))
    environ = {name: value for name, value in environment(ws).items() if not name.startswith(("MAKE", "MFLAGS"))}
    subprocess.run(["make", *goals], cwd=folder, env=environ, check=True, capture_output=True)
    return {name: (folder / name).read_bytes() for name in outputs}


@pytest.mark.parametrize("style", STYLES)
def test_the_imported_build_makes_what_make_makes(repository, tmp_path, style):
    files, goals, outputs = STYLES[style]
    ws = repository(files)
    expected = made_by_make(ws, goals, outputs, tmp_path / "by-make")
    done = run(ws, "import-makefile")
    assert done.returncode == 0, done.stderr
    selectors = [goal if f"  {goal}:\n" in ws.read("build.yml").partition("targets:")[2] else f"make:{goal}" for goal in goals]
    built = run(ws, "build", *selectors, "-n", "2")
    assert built.returncode == 0, built.stdout + ws.read("build.yml")
    assert {name: (ws.root / name).read_bytes() for name in outputs} == expected
    again = run(ws, "build", *selectors)
    assert again.returncode == 0, again.stdout


def test_an_edit_runs_what_it_touches_and_headers_are_inputs(repository):
    ws = repository({"Makefile": PATTERN, **SOURCES})
    assert run(ws, "import-makefile").returncode == 0
    assert ws.build("-n0")["make:bin-app"].value == "built"
    again = ws.build("-n0")
    assert set(again.outcomes().values()) == {"fresh"}, again.output
    ws.write("include/x.h", "#define Y 3\nint x(void); // edited\n")
    edited = ws.build("-n0")
    assert edited.ran[:2] == ["make:obj-a.o", "make:obj-b.o"]
    assert edited["make:docs.txt"].value == "fresh"
    ws.write("tools/count.sh", 'wc -l <"$1"\n')
    assert ws.build("-n0").ran == ["make:docs.txt"]


def test_what_was_not_understood_calls_make_and_says_why(repository):
    ws = repository({"Makefile": PATTERN + "\ncheck: bin/app\n\t$(MAKE) -s other\nother:\n\ttest -x bin/app\n", **SOURCES})
    done = run(ws, "import-makefile")
    assert "  clean: calls make, since it is phony: make says neither what it reads nor what it writes\n" in done.stdout
    assert "  check: calls make, since it calls make again\n" in done.stdout
    assert run(ws, "build", seconds=300).returncode == 0
    assert (ws.root / "bin/app").exists()  # `clean` runs only when it is named
    assert run(ws, "build", "make:clean").returncode == 0
    assert not (ws.root / "bin/app").exists()


def test_one_target_at_a_time(repository):
    ws = repository({"Makefile": PATTERN, **SOURCES})
    assert run(ws, "import-makefile", "--only", "docs.txt").returncode == 0
    assert "bin-app" not in ws.read("build.yml")
    # The moved target goes through us, and the others are as they were.
    text = PATTERN.replace("docs.txt: src/a.c tools/count.sh\n\tcd src", ".PHONY: docs.txt\ndocs.txt:\n\tpytest-build build -q make:docs.txt\nold:\n\tcd src")
    ws.write("Makefile", text)
    environ = environment(ws)
    environ["PATH"] = f"{os.path.dirname(shutil.which('pytest-build') or '')}:{environ['PATH']}"
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        environ.pop(name, None)
    done = subprocess.run(["make", "all"], cwd=ws.root, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ws.read("docs.txt") == "2\n42 42\n"
    assert (ws.root / "bin/app").exists()


def test_nothing_is_overwritten_and_errors_are_lines(repository):
    ws = repository({"Makefile": "all:\n"})
    done = run(ws, "import-makefile")
    assert (done.returncode, "makes nothing that could be a step" in done.stderr) == (4, True)
    ws.write("Makefile", "a.txt:\n\techo >a.txt\n    broken\n")
    done = run(ws, "import-makefile")
    assert done.returncode == 4
    assert "make can't read Makefile" in done.stderr
    ws.write("Makefile", "a.txt:\n\techo >a.txt\n")
    ws.write("build.yml", "mine")
    done = run(ws, "import-makefile")
    assert (done.returncode, ws.read("build.yml")) == (4, "mine")
    assert "components:" in run(ws, "import-makefile", "-o", "-").stdout
    assert run(ws, "import-makefile", "--only", "nope", "-o", "-").returncode == 4
