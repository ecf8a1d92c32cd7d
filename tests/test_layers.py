import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from subprocess import run
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PYTEST = {"pytest", "_pytest", "xdist", "execnet", "pluggy", "pytest_dependency"}

LAYERS = {
    # layer: what it may import of ours, beside itself
    "core": set(),
    "cache": {"core"},
    "run": {"core", "cache"},
    "registry": {"core"},
    "parsed": {"core", "run", "registry"},
    "project": {"core", "registry", "parsed"},
    "checkout": {"core", "run", "project"},
    "pytestside": {"core", "run"},
    "cacheapi": {"core", "run", "cache", "project"},
    "api": {"core", "run", "registry", "project", "checkout", "pytestside", "cacheapi"},
    "session": {"core", "run", "registry", "project", "checkout", "pytestside"},
    "plugin": {"session"},
    "testing": {"core", "run"},
    "faces": {"core", "cache", "run", "registry", "project", "checkout", "pytestside", "session", "api"},
    "builders": {"core.builder"},
}
MEET_PYTEST = {"session", "plugin", "testing"}
"""Who may import pytest at all; a face may inside a function, to start it."""
THIRD_PARTY = {
    "core": {"yaml", "xxhash"},
    "cache": {"redis", "boto3", "botocore", "grpc", "google", "cryptography", "yaml"},
    "run": {"xxhash", "docker"},
    "parsed": {"xxhash"},
    "faces": {"watchfiles"},
    "builders": {"tomli", "yaml"},  # tomllib of Python 3.10; Compose files
}
"""Of these, inside functions: they cost time that most runs need not spend."""


class Import(NamedTuple):
    by: str
    of: str
    lazy: bool
    """Inside a function."""
    typing: bool
    """Only for type checkers."""


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("build_tests", *parts) if parts[0] == "builders" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path for folder in ("build_tests", "builders") for path in sorted((ROOT / folder).rglob("*.py"))
}


def imports_of(module, text, known=frozenset(SOURCES)):
    """Every import in a module's text, as the modules that they load."""

    def visit(node, lazy, typing):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for name in child.names:
                    yield Import(module, name.name, lazy, typing)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    package = module.split(".")[: -child.level]
                    base = ".".join([*package, base] if base else package)
                for name in child.names:
                    whole = f"{base}.{name.name}"
                    yield Import(module, whole if whole in known else base, lazy, typing)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from visit(ast.Module(body=child.body, type_ignores=[]), lazy, True)
                yield from visit(ast.Module(body=child.orelse, type_ignores=[]), lazy, typing)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, lazy or function, typing)

    yield from visit(ast.parse(text), False, False)


def layer_of(module):
    return module.split(".")[1] if "." in module else ""


def faults(found):
    """What is wrong with an import; "" = nothing."""
    layer, top = layer_of(found.by), found.of.partition(".")[0]
    if top == "build_tests":
        within = found.of.partition(".")[2]
        allowed = LAYERS.get(layer, set()) | {layer} if layer else set()
        # The package itself holds the version number only.
        if within and not any(within == name or within.startswith(name + ".") for name in allowed):
            return f"{layer or 'the package'} may not import {within}"
    elif top in PYTEST:
        if layer not in MEET_PYTEST and not (layer == "faces" and found.lazy):
            return f"{layer} may not import {top}"
        if top != "pytest" and not (found.lazy or found.typing):
            return f"{top} is imported with the module"
    elif top not in sys.stdlib_module_names:
        if top not in THIRD_PARTY.get(layer, ()):
            return f"{layer} may not import {top}"
        if not (found.lazy or found.typing):
            return f"{top} is imported with the module"
    return ""


def all_imports():
    return [found for module, path in SOURCES.items() for found in imports_of(module, path.read_text())]


def test_arrows_point_down_only():
    wrong = [f"{found.by}: {fault}" for found in all_imports() if (fault := faults(found))]
    assert wrong == []


def test_every_module_has_a_layer():
    assert {layer_of(module) for module in SOURCES} - {""} == set(LAYERS)


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("build_tests.core.graph", "from build_tests.run import state", "core may not import run.state"),
        ("build_tests.core.graph", "def f():\n    import pytest", "core may not import pytest"),
        ("build_tests.core.graph", "import yaml", "yaml is imported with the module"),
        ("build_tests.core.graph", "import requests", "core may not import requests"),
        ("build_tests.run.step", "from build_tests.session.items import StepItem", "run may not import session.items"),
        ("build_tests.checkout", "import build_tests.session.worker", "checkout may not import session.worker"),
        ("build_tests.session.live", "from ..faces import cli", "session may not import faces.cli"),
        ("build_tests.session.live", "from xdist import dsession", "xdist is imported with the module"),
        ("build_tests.faces.cli", "import pytest", "faces may not import pytest"),
        ("build_tests.builders.rust", "from build_tests.core.model import Step", "builders may not import core.model"),
        (
            "build_tests.builders.rust",
            "from build_tests.core import builder, graph",
            "builders may not import core.graph",
        ),
        ("build_tests.builders.rust", "from ._manifests import path_of", ""),
        ("build_tests.core.graph", "if TYPE_CHECKING:\n    import yaml", ""),
        ("build_tests.faces.cli", "def f():\n    import pytest", ""),
    ],
)
def test_a_wrong_arrow_is_found(module, text, fault):
    known = {*SOURCES, "build_tests.builders._manifests"}
    found = [faults(one) for one in imports_of(module, text, known)]
    assert [text for text in found if text] == ([fault] if fault else [])


def cycle_among(imports, modules):
    """The modules of an import cycle, or none. Only what is imported with a module can close one."""
    needs = {module: set() for module in modules}
    for found in imports:
        if not (found.lazy or found.typing) and found.of in needs and found.of != found.by:
            needs[found.by].add(found.of)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other():
    assert cycle_among(all_imports(), SOURCES) == []


def test_a_cycle_is_found():
    there, back = Import("a", "b", False, False), Import("b", "a", False, False)
    assert set(cycle_among([there, back], ["a", "b"])) == {"a", "b"}
    assert cycle_among([there, back._replace(lazy=True)], ["a", "b"]) == []


def python(code, folder, *options):
    done = run([sys.executable, *options, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def foreign(names):
    """Without the standard library, which differs from release to release."""
    return sorted(name for name in names if name.partition(".")[0] not in sys.stdlib_module_names)


def test_the_plugin_brings_no_module_but_itself(tmp_path):
    code = "import sys, pytest; before = set(sys.modules); import build_tests.plugin; print(*set(sys.modules) - before)"
    done = python(code, tmp_path, "-X", "importtime")
    assert foreign(done.stdout.split()) == ["build_tests", "build_tests.plugin"]
    for line in done.stderr.splitlines():
        if "| build_tests" in line:
            print(line)  # microseconds, of the module alone and with what it imports: a figure, not a limit


def test_a_run_without_a_build_file_loads_the_plugin_only(tmp_path):
    (tmp_path / "test_one.py").write_text("def test_one(): pass\n")
    code = (
        "import sys, pytest; status = pytest.main(['-q', '-p', 'no:cacheprovider', 'test_one.py']); "
        "print('LOADED', *(name for name in sys.modules if name.partition('.')[0] == 'build_tests')); sys.exit(status)"
    )
    loaded = python(code, tmp_path).stdout.rpartition("LOADED")[2].split()
    assert sorted(loaded) == ["build_tests", "build_tests.plugin"]


@pytest.mark.parametrize("layer", ["core", "run"])
def test_a_layer_loads_nothing_but_the_standard_library(layer, tmp_path):
    modules = [module for module in SOURCES if layer_of(module) == layer]
    code = f"import sys; before = set(sys.modules); import {', '.join(modules)}; print(*set(sys.modules) - before)"
    loaded = foreign(python(code, tmp_path).stdout.split())
    assert [name for name in loaded if name.partition(".")[0] != "build_tests"] == []
    assert {layer_of(name) for name in loaded} <= {"", layer, *LAYERS[layer]}
