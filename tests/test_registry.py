import subprocess
import sys

import pytest

from build_tests.core.errors import BuilderError
from build_tests.registry import Registry

BUILDER = """
from dataclasses import dataclass
from {package}.util import WORD

@dataclass(frozen=True)
class Options:
    pass

class Zig:
    kind = "zig"
    options = Options
    word = WORD
    def plan(self, component, workspace):
        return ()
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs a distribution that has builders."""

    def installed(name, module, text, **points):
        info = tmp_path / "site" / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"{kind} = {path}\n" for kind, path in points.items())
        (info / "entry_points.txt").write_text(f"[pytest_build.builders]\n{lines}")
        (tmp_path / "site" / f"{module}.py").write_text(text)

    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return installed


def zig(root, word, package):
    (root / package).mkdir(parents=True)
    (root / package / "__init__.py").touch()
    (root / package / "util.py").write_text(f"WORD = {word!r}\n")
    (root / package / "zig.py").write_text(BUILDER.format(package=package))


def test_command_is_there_without_looking_through_the_distributions():
    code = (
        "import sys; from build_tests.registry import Registry\n"
        "assert Registry().get('command').kind == 'command'\n"
        "assert 'importlib.metadata' not in sys.modules"
    )
    subprocess.run([sys.executable, "-S", "-E", "-c", _with_path(code)], check=True)


def _with_path(code):
    return f"import sys; sys.path[:0] = {sys.path!r}\n{_finders()}{code}"


def _finders():
    # Without site, an editable install's finder is not there: it maps build_tests.builders to the folder builders/.
    import build_tests.builders

    import build_tests

    return (
        "import types; import build_tests; m = types.ModuleType('build_tests.builders')\n"
        f"m.__path__ = {list(build_tests.builders.__path__)!r}; sys.modules['build_tests.builders'] = m\n"
    )


def test_our_own_kinds_are_entry_points():
    assert {"command", "docker", "kotlin", "protobuf", "python", "typescript"} <= set(Registry().kinds())


def test_a_third_party_builder(installed):
    text = BUILDER.replace("from {package}.util import WORD", "WORD = 1").replace("zig", "nim")
    installed("pytest-build-nim", "nim_builder", text, nim="nim_builder:Zig")
    registry = Registry()
    assert registry.get("nim").kind == "nim"
    assert registry.get("nim") is registry.get("nim")
    assert "nim" in registry.kinds()
    assert registry.get("nothing") is None


def test_an_installed_builder_that_is_broken_is_told_only_when_it_is_used(installed):
    installed("pytest-build-odin", "odin_builder", "import no_such_module", odin="odin_builder:Odin")
    registry = Registry()
    assert registry.get("command") is not None
    assert "odin" in registry.kinds()
    with pytest.raises(BuilderError) as raised:
        registry.get("odin")
    assert "odin" in str(raised.value)
    assert "pytest-build-odin 1.0" in str(raised.value)
    assert "no_such_module" in str(raised.value)
    assert raised.value.hint == "install pytest-build-odin again, or remove it"


def test_two_distributions_with_one_kind(installed):
    installed("pytest-build-v1", "v_one", "", vlang="v_one:V")
    installed("pytest-build-v2", "v_two", "", vlang="v_two:V")
    with pytest.raises(BuilderError, match=r"pytest-build-v1 1\.0 and pytest-build-v2 1\.0"):
        Registry().get("vlang")


def test_a_repositorys_own_builder_goes_first_and_leaves_the_path_alone(tmp_path):
    zig(tmp_path, "own", "own_builders")
    registry = Registry()
    before = list(sys.path)
    registry.add_private("zig", "own_builders.zig:Zig", str(tmp_path))
    assert registry.get("zig").word == "own"
    assert sys.path == before


def test_two_repositories_with_a_folder_of_one_name(tmp_path):
    for word in ("one", "two"):
        zig(tmp_path / word, word, "shared_builders")
        registry = Registry()
        registry.add_private("zig", "shared_builders.zig:Zig", str(tmp_path / word))
        assert registry.get("zig").word == word
