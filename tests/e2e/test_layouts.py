"""Three repositories as one meets them, each built from a build file of a few lines; see layouts.py."""

import os
import subprocess
import uuid
import zipfile

import layouts
import pytest

from build_tests.core import assemble
from build_tests.registry import Registry

FERRY, STATIONS, SHOP = layouts.ferry("1"), layouts.stations(), layouts.shop()
SERVICES = ("gateway", "seats", "fares", "bookings", "notices", "board")


def lay(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


@pytest.fixture
def needs(tmp_path, monkeypatch):
    """Lays a layout out and plans it; there is no tool that could be asked."""

    def needs(files):
        monkeypatch.setenv("PATH", os.devnull)
        lay(tmp_path, files)
        _, graph = assemble.read(str(tmp_path / "build.yml"), registry=Registry())
        return {label: set(graph.needs[label]) for label in graph.order}

    return needs


@pytest.mark.parametrize("files", [FERRY, STATIONS, SHOP], ids=["ferry", "stations", "shop"])
def test_the_build_file_is_short_and_names_no_edge(files):
    assert len(files["build.yml"].splitlines()) < 25
    assert "depends_on" not in files["build.yml"]


def test_six_services_in_four_languages_and_their_images(needs):
    found = needs(FERRY)
    steps = {
        "knots": "build vet", "tides": "venv wheel sdist", "gateway": "build vet", "seats": "build vet",
        "bookings": "venv site wheel sdist", "notices": "venv site wheel sdist", "fares": "build test",
        "board": "install build", "app": "gateway seats fares bookings notices board",
    }  # fmt: skip
    assert set(found) == {f"{component}:{step}" for component, names in steps.items() for step in names.split()}
    assert across(found) == {
        "app:gateway": {"gateway:build"},
        "app:seats": {"seats:build"},
        "app:fares": {"fares:build"},
        "app:bookings": {"bookings:wheel"},
        "app:notices": {"notices:wheel"},
        "app:board": {"board:build"},
        "bookings:site": {"tides:wheel"},
        "notices:site": {"tides:wheel"},
    }


def test_schemas_come_before_all_who_speak_them(needs):
    assert across(needs(STATIONS)) == {
        "python:wheel": {"schemas:python"},
        "python:sdist": {"schemas:python"},
        "almanac:compile": {"schemas:java"},
        "ingest:build": {"schemas:go"},
        "ingest:vet": {"schemas:go"},
        "web:build": {"schemas:typescript"},
        "edge:headers": {"schemas:cpp"},
    }


def test_thirty_packages_are_built_after_those_that_they_are_made_of(needs):
    found = needs(SHOP)
    builds = [label for label in found if label.endswith(".build")]
    assert len(builds) == 30
    assert all("web:install" in found[label] for label in builds)
    assert below(found, "web:returns.build") == {
        "web:install", *(f"web:{name}.build" for name in ("menu", "table", "tabs", "http", "money", "tokens", "icon")),
    }  # fmt: skip
    order = list(found)
    assert all(order.index(need) < order.index(label) for label in builds for need in found[label])


def across(found):
    """The edges between components."""
    others = {label: {need for need in needs if need.partition(":")[0] != label.partition(":")[0]} for label, needs in found.items()}
    return {label: needs for label, needs in others.items() if needs}


def below(found, label):
    return found[label].union(*(below(found, need) for need in found[label]))


@pytest.fixture
def tag():
    """Of images, which are removed in the end."""
    tag = uuid.uuid4().hex[:12]
    yield tag
    names = [f"ferry-test/{name}:{tag}" for name in SERVICES]
    subprocess.run(["docker", "image", "rm", "--force", *names], check=False, capture_output=True)


@pytest.mark.slow
@pytest.mark.real("docker", "go", "cargo", "python3", "node", "npm")
def test_the_ferry_is_built(build_workspace, tag):
    ws = build_workspace
    lay(ws.root, layouts.ferry(tag))
    first = ws.build("-n2")
    assert first.status == 0, first.output
    assert {f"app:{name}" for name in SERVICES} <= set(first.ran)
    assert subprocess.run([ws.root / "services/fares/bin/fares"], capture_output=True, check=True).stdout == b"360\n"
    # A library of Go's is no step's output: its module is an input of those that need it.
    ws.write("libs/knots/knots.go", ws.read("libs/knots/knots.go").replace("1852", "1853"))
    ws.write("services/board/src/title.txt", "Arrivals\n")
    second = ws.build("-n2")
    assert second.status == 0, second.output
    assert set(second.ran) == {"gateway:build", "seats:build", "board:build", "app:gateway", "app:seats", "app:board"}
    assert set(ws.build("-n2").outcomes().values()) == {"fresh"}


@pytest.mark.slow
@pytest.mark.real("protoc", "protoc-gen-go", "protoc-gen-es", "python3", "go", "mvn", "java", "node", "npm", "tar")
def test_the_stations_schemas_are_in_what_is_made_of_them(build_workspace):
    ws = build_workspace
    protoc = subprocess.run(["protoc", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    lay(ws.root, layouts.stations(java_runtime=f"4.{protoc}"))
    first = ws.build("-n2")
    assert first.status == 0, first.output
    assert set(first.ran) == {
        *(f"schemas:{name}" for name in ("python", "go", "java", "typescript", "cpp", "generate")),
        "python:venv", "python:wheel", "ingest:build", "ingest:vet", "almanac:compile", "almanac:package",
        "web:install", "web:build", "edge:headers",
    }  # fmt: skip
    (wheel,) = (ws.root / "clients/python/dist").iterdir()
    assert "weather/api/weather/report/v1/report_pb2.py" in zipfile.ZipFile(wheel).namelist()
    assert "example/weather/report/ReportOuterClass.class" in zipfile.ZipFile(ws.root / "services/almanac/target/almanac-1.jar").namelist()
    programs = {"services/ingest": ["bin/weather.example"], "web": ["node", "dist/map.js"]}
    for folder, command in programs.items():
        said = subprocess.run(command, cwd=ws.root / folder, capture_output=True, text=True, check=True).stdout
        assert said == "weather.report.v1.Report\n"
    assert ws.build("-n2").ran == []
    schema = "schemas/weather/unit/v1/unit.proto"
    ws.write(schema, ws.read(schema).replace("tenths", "tenth"))
    second = ws.build("-n2")
    assert second.status == 0, second.output
    assert set(second.ran) == set(first.ran) - {"python:venv", "web:install"}


@pytest.mark.slow
@pytest.mark.real("node", "npm")
def test_one_app_of_the_shop_is_built_with_what_it_needs_and_then_the_rest(build_workspace):
    ws = build_workspace
    lay(ws.root, SHOP)
    first = ws.build("-n2", file="build.yml::web:admin.build")
    assert first.status == 0, first.output
    names = "account admin checkout dates dialog field grid http icon money tokens"
    assert first.ran[0] == "web:install"
    assert set(first.ran[1:]) == {f"web:{name}.build" for name in names.split()}
    assert ws.read("apps/admin/dist/names.txt") == names
    ws.write("features/account/src/index.js", ws.read("features/account/src/index.js") + "// of somebody\n")
    assert set(ws.build("-n2", file="build.yml::web:admin.build").ran) == {"web:account.build", "web:admin.build"}
    whole = ws.build("-n2")
    assert whole.status == 0, whole.output
    assert len(whole.ran) == 30 - len(names.split())
    assert ws.build("-n2").ran == []
