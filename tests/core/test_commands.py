"""Which tools a command starts."""

import pytest

from build_tests.core.commands import with_started
from build_tests.core.model import Tool


@pytest.mark.parametrize(
    ("command", "tools"),
    [
        ("gcc -c a.c && ar r lib.a a.o", ["gcc"]),
        ("cd web; CI=1 NODE_ENV=prod npm test | tee log", ["npm"]),
        ("set -x\n  python3 gen.py >out\n(node x.js)", ["python3", "node"]),
        ("if ! git diff --quiet; then docker build .; fi", ["git", "docker"]),
        ("echo gcc; ./node x; mygcc; gcc-12 a.c; cat make", []),
        (("gcc", "-c", "a.c"), ["gcc"]),
        (("/opt/gen",), ["/opt/gen"]),
        (("sh", "x"), []),
        (("./gen",), []),
    ],
)
def test_what_a_command_starts_is_a_tool_of_its_step(command, tools):
    found = with_started((), command)
    assert [tool.name for tool in found] == tools
    assert all(tool.optional == isinstance(command, str) for tool in found)


@pytest.mark.parametrize("command", ["node x.js", ("node", "x.js")])
def test_a_tool_that_is_named_is_what_it_is_named(command):
    named = (Tool(name="tsc"), Tool(name="node", version=">=20"))
    assert with_started(named, command) == named
