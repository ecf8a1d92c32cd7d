"""Kind kotlin: which tool builds a folder."""

import pytest
from build_tests.builders.kotlin import KotlinBuilder

from build_tests.core.builder import ManifestError
from build_tests.core.workspace import FileWorkspace


@pytest.fixture
def detected(tmp_path):
    def detected(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("include 'money'" if "settings" in name else "")
        return KotlinBuilder.detect("app", FileWorkspace(str(tmp_path)))

    return detected


@pytest.mark.parametrize("name", ["pom.xml", "settings.gradle", "settings.gradle.kts", "build.gradle", "build.gradle.kts", "Main.kt", "src/main/kotlin/A.kt"])
def test_a_build_file_makes_a_component(detected, name):
    assert detected(f"app/{name}")


@pytest.mark.parametrize("names", [["app/package.json"], ["app/README.md"], ["settings.gradle", "app/readme"]])
def test_other_folders_are_none(detected, names):
    assert not detected(*names)


def test_a_module_of_a_build_above_is_none(tmp_path, detected):
    assert detected("settings.gradle", "app/build.gradle")
    (tmp_path / "settings.gradle").write_text("include 'app'")
    assert not detected("app/build.gradle")
    assert not detected("app/src/main/kotlin/A.kt")


def test_a_folder_with_nothing_to_build(planned):
    with pytest.raises(ManifestError, match=r"pom\.xml is missing"):
        planned(KotlinBuilder, {"app/x": ""})
