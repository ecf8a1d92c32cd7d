"""What a job may do: the environment, the user's file and the option against each other, and every wrong setting."""

import os

import pytest

from build_tests.cache.permissions import Permissions, permissions, user_file
from build_tests.core.errors import ConfigError

LEVELS = ["off", "ro", "rw"]


@pytest.fixture
def home(tmp_path):
    return {"HOME": str(tmp_path)}


def write(environ, text):
    path = user_file(environ)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def test_by_default_the_local_store_is_written_and_remote_ones_are_read(home):
    assert permissions(home) == Permissions(local=True, remote="ro", scope="local", signing_key_file=None)


@pytest.mark.parametrize("option", [None, *LEVELS])
@pytest.mark.parametrize("in_file", [None, *LEVELS])
@pytest.mark.parametrize("variable", [None, "", *LEVELS])
def test_the_option_only_narrows_what_the_user_allows(home, variable, in_file, option):
    environ = home if variable is None else {**home, "PYTEST_BUILD_CACHE": variable}
    if in_file:
        write(home, f"cache: {in_file}\n")
    granted = permissions(environ, option)
    allowed = variable or in_file or "ro"
    expected = allowed if option is None else LEVELS[min(LEVELS.index(option), LEVELS.index(allowed))]
    assert granted.remote == expected
    assert granted.local == (expected != "off")
    assert bool(granted.notes) == (option is not None and option != expected)


def test_a_note_says_who_does_not_allow_it(home):
    assert "ro unless PYTEST_BUILD_CACHE says rw" in permissions(home, "rw").notes[0]
    assert "PYTEST_BUILD_CACHE says off" in permissions({**home, "PYTEST_BUILD_CACHE": "off"}, "ro").notes[0]
    path = write(home, "\ncache: ro\n")
    assert f"{path}:2:1 says ro" in permissions(home, "rw").notes[0]


def test_the_users_file_says_the_rest(home, tmp_path):
    path = write(home, "# mine\n\ncache: rw   # of mine\nscope: 'alice'\nsigning_key_file: \"~/keys/a b\"\n")
    assert permissions(home) == Permissions(remote="rw", scope="alice", signing_key_file=f"{tmp_path}/keys/a b")
    write(home, "signing_key_file: key\n")
    assert permissions(home).signing_key_file == f"{os.path.dirname(path)}/key"
    write(home, "signing_key_file: /etc/key#1 # a comment\n")
    with pytest.raises(ConfigError, match="form"):
        permissions(home)


def test_variables_win_over_the_file(home):
    write(home, "scope: alice\nsigning_key_file: key\n")
    environ = {**home, "PYTEST_BUILD_SCOPE": "pr.7", "PYTEST_BUILD_SIGNING_KEY_FILE": "here/key"}
    assert permissions(environ) == Permissions(scope="pr.7", signing_key_file="here/key")
    # An empty one is what CI services make of a secret that a job may not see.
    assert permissions({**home, "PYTEST_BUILD_SCOPE": ""}).scope == "alice"


def test_the_file_lies_in_the_xdg_folder(home, tmp_path):
    assert user_file(home) == f"{tmp_path}/.config/pytest-build/config.yml"
    assert user_file({**home, "XDG_CONFIG_HOME": "/elsewhere"}) == "/elsewhere/pytest-build/config.yml"
    assert user_file({**home, "XDG_CONFIG_HOME": "relative"}) == user_file(home)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cash: rw", "'cash' is not known"),
        ("Cache: rw", "'Cache' is not known"),
        ("cache:rw", "not a line"),
        ("cache", "not a line"),
        ("cache: rw ro", "'rw ro' is not off, ro or rw"),
        ("cache: [rw]", "not a line"),
        ("cache: 'rw", "not a line"),
        ('cache: "r\\w"', "not a line"),
        ("cache: *rw", "not a line"),
        ("  cache: rw", "not a line"),
        ("cache:", "has no value"),
        ("cache: ''", "has no value"),
        ("cache: read-write", "'read-write' is not off, ro or rw"),
        ("scope: two words", "'two words' is no scope"),
        ("scope: ../main", "'../main' is no scope"),
        ("scope: " + "a" * 101, "is no scope"),
        ("---", "not a line"),
        ("scope: main", "'scope' is there twice"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place(home, line, message):
    path = write(home, f"# mine\nscope: main\n{line}\n" if line.startswith("scope: main") else f"# mine\n\n{line}\n")
    with pytest.raises(ConfigError) as error:
        permissions(home)
    assert str(error.value).startswith(f"{path}:3:1: ")
    assert message in str(error.value).splitlines()[0]


def test_all_wrong_settings_are_told_at_once(home):
    write(home, "cash: rw\nscope: ''\nkeys: x\n")
    with pytest.raises(ConfigError) as error:
        permissions({**home, "PYTEST_BUILD_CACHE": "yes", "PYTEST_BUILD_SCOPE": "-"})
    assert len(error.value.diagnostics) == 5
    assert "PYTEST_BUILD_CACHE: 'yes' is not off, ro or rw" in str(error.value)
    assert "PYTEST_BUILD_SCOPE: '-' is no scope" in str(error.value)


def test_a_file_that_can_not_be_read_is_an_error_and_an_absent_one_is_not(home):
    path = write(home, "cache: rw\n")
    with open(path, "wb") as file:
        file.write(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        permissions(home)
    os.unlink(path)
    os.mkdir(path)
    with pytest.raises(ConfigError, match="can't be read"):
        permissions(home)
    os.rmdir(path)
    assert permissions(home) == Permissions()
