"""The command line itself: a table of modules, of which only the named one is imported."""

import os
import subprocess
import sys

import pytest
from commands import run

from build_tests.faces import cli


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_has_a_help_of_its_own(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: pytest-build {name}")


def test_the_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert [name for name in cli.COMMANDS if f"\n  {name} " not in out] == []


@pytest.mark.parametrize("arguments", [[], ["biuld"], ["status", "--nonsense"]])
def test_a_wrong_line_is_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: pytest-build" in capsys.readouterr().err


def test_options_that_build_does_not_know_are_pytests_wherever_they_stand(build_workspace):
    ws = build_workspace
    ws.components(**{name: {"steps": {"fail": {"command": "false"}}} for name in ("a", "b", "c")})
    done = run(ws, "build", "-n", "0", "a", "--maxfail=1", "b", "-vv")
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert "c:fail" not in done.stdout
    done = run(ws, "build", "-qx", "-n", "0", "-p", "no:doctest", "a", "-o", "addopts=--maxfail=2 -vv", "b", "-W", "error")
    assert (done.returncode, done.stderr) == (1, "")
    assert "1 failed" in done.stdout
    done = run(ws, "build", "-n", "0", "--override-ini=addopts=-q --maxfail=1", "-p", "no:doctest")
    assert "1 failed" in done.stdout
    done = run(ws, "build", "--nonsense")
    assert done.returncode == 4
    assert "unrecognized arguments: --nonsense" in done.stderr


def test_a_command_in_a_folder_below_says_where_the_build_file_is(build_workspace, monkeypatch, capsys):
    ws = build_workspace
    ws.write("config/build.yml", "components: {}\n")
    ws.write("web/src/a.txt", "")
    monkeypatch.chdir(ws.root / "web/src")
    assert cli.main(["status"]) == 4
    assert capsys.readouterr().err.endswith(": go to ../.., or name it, --build-file ../../config/build.yml\n")


def test_a_reader_that_has_seen_enough_is_no_error(build_workspace):
    ws = build_workspace
    ws.components(a={"steps": {"make": {"command": "true"}}})
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        command = [sys.executable, "-m", "build_tests.faces.cli", "status"]
        done = subprocess.run(command, cwd=ws.root, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (cli.PIPE_CLOSED, "")
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(command, cwd=ws.root, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_older_locale_gets_what_it_can_show(build_workspace):
    ws = build_workspace
    ws.components(a={"steps": {"make": {"command": "echo 1 >out", "outputs": ["out"]}}})
    ws.build()
    ws.components(a={"steps": {"make": {"command": "echo 2 >out", "outputs": ["out"]}}})
    done = run(ws, "explain", "a", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0
    assert "\\u2192" in done.stdout


def test_only_the_named_commands_module_is_imported(tmp_path):
    code = (
        "import sys; from build_tests.faces import cli\n"
        "try: cli.main(['clean', '--help'])\n"
        "except SystemExit: pass\n"
        "print('LOADED', *(name for name in sys.modules if name.startswith('build_tests.faces.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("LOADED")[2].split()
    assert sorted(loaded) == ["build_tests.faces.cleancli", "build_tests.faces.cli", "build_tests.faces.common"]
