"""What was built, looked at from outside: each test runs after the steps that it names."""

import re
import subprocess
import zipfile

import pytest


def only(paths, pattern):
    """The one file among them, or in a folder among them, that matches."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    (found,) = [file for file in files if file.match(pattern)]
    return found


@pytest.mark.build_step("web:bundle")
def test_the_bundle_knows_the_fields_of_the_schema(build_outputs):
    script = only(build_outputs("web:bundle"), "shop.js").read_text(encoding="utf-8")
    assert "priceCents" in script
    assert "totalCents" in script


@pytest.mark.build_step("web:bundle")
def test_the_page_loads_the_bundle(build_outputs):
    page = only(build_outputs("web:bundle"), "index.html")
    (source,) = re.findall(r'<script src="([^"]+)">', page.read_text(encoding="utf-8"))
    assert (page.parent / source).is_file()


@pytest.mark.build_step("recommend:wheel")
@pytest.mark.dependency(depends=["recommend:wheel"], scope="session")
def test_the_wheel_brings_the_generated_module(build_outputs):
    with zipfile.ZipFile(only(build_outputs("recommend:wheel"), "*.whl")) as wheel:
        names = wheel.namelist()
    assert "shop_proto/shop_pb2.py" in names
    assert "shop_recommend/engine.py" in names


@pytest.mark.build_step("orders:package")
def test_the_jar_has_the_generated_classes_and_a_main_class(build_outputs):
    with zipfile.ZipFile(only(build_outputs("orders:package"), "orders.jar")) as jar:
        assert "shop/proto/Order.class" in jar.namelist()
        manifest = jar.read("META-INF/MANIFEST.MF").decode()
    assert "Main-Class: shop.orders.MainKt" in manifest


@pytest.mark.build_step("orders:package")
def test_the_jar_finds_its_libraries(build_outputs):
    jar = only(build_outputs("orders:package"), "orders.jar")
    run = subprocess.run(
        ["java", "-jar", str(jar)], env={"PORT": "no number"}, capture_output=True, text=True, check=False, timeout=60
    )
    # Kotlin's own library is loaded by then, and main() has read its port.
    assert "NumberFormatException" in run.stderr
