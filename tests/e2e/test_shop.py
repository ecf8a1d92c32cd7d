"""The example workspace with the real tools, in a clone of its own: what the README promises, step by step.

The tests of this file stand in the order of a working day: each begins where the one before it ended.
"""

import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from build_tests.cache.artifact import listed
from build_tests.core.model import Identity
from build_tests.project import load_project
from build_tests.testing import BuildWorkspace

pytestmark = [
    pytest.mark.real(
        "protoc", "npm", "mvn", "docker", "busybox", "jlink", "gradle", "pnpm", "uv", "poetry", "go", "protoc-gen-go"
    ),
    pytest.mark.slow,
]

HERE = Path(__file__).resolve().parents[2]
BUILD_FILE = "config/build.yml"
SHOP = "examples/shop"
IMAGES = {"orders-image:image", "recommend-image:image", "web-image:image", "kiosk-image:image"}
LANGUAGES = {"proto:python", "proto:java", "proto:typescript", "proto:go", "proto:cpp", "proto:ruby"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A fresh clone of this checkout, its uncommitted changes included, with nothing built in it."""
    root = tmp_path_factory.mktemp("clone") / "repo"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=HERE, capture_output=True, check=True
    ).stdout
    for name in filter(None, os.fsdecode(listed).split("\0")):
        if (HERE / name).is_file():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((HERE / name).read_bytes())
            target.chmod((HERE / name).stat().st_mode)
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    ws = BuildWorkspace(root)
    # The tests' own environment has the plugin; the clone's sources must not hide it.
    ws.environ["PYTHONSAFEPATH"] = "1"
    return ws


def build(shop, *arguments):
    return shop.build("-n", "auto", *arguments, file=BUILD_FILE, timeout=900)


def edit(shop, path, old, new):
    text = shop.read(f"{SHOP}/{path}")
    assert old in text, f"{path} has no {old!r}"
    shop.write(f"{SHOP}/{path}", text.replace(old, new, 1))


def kinds(result, labels):
    return {result.steps[label].kind for label in labels}


def test_a_fresh_clone_builds_and_nothing_is_unavailable(shop):
    result = build(shop, "--junitxml=report.xml")
    assert result.status == 0, result.output
    assert set(result.outcomes().values()) == {"built"}, result.outcomes()
    suites = {suite.get("name") for suite in ET.parse(shop.root / "report.xml").iter("testsuite")}
    # What the tools' own tests reported stands in suites of their own.
    assert {"orders:test", "recommend:test"} <= suites


def test_again_nothing_runs_and_no_worker_starts(shop):
    result = build(shop)
    assert result.status == 0
    stale = {label: step.reasons for label, step in result.steps.items() if step.outcome.value != "fresh"}
    assert stale == {}
    assert "workers" not in result.output


def test_selection_by_kind_marker_and_node_id(shop):
    kotlin = build(shop, "-k", "kotlin")
    assert kinds(kotlin, kotlin.steps) == {"kotlin", "protobuf"}
    docker = build(shop, "-m", "docker")
    assert IMAGES <= set(docker.steps)
    assert "pytest-build:wheel" not in docker.steps
    alone = build(shop, "-m", "docker", "--build-no-deps")
    assert set(alone.steps) == IMAGES
    one = shop.build("-n", "auto", file=f"{BUILD_FILE}::web:bundle")
    assert "web:install" in one.steps
    assert not IMAGES & set(one.steps)
    backend = build(shop, "--build-target", "backend")
    assert "web:bundle" not in backend.steps
    assert "orders:package" in backend.steps


def test_hand_written_tests_use_what_was_built(shop):
    done = shop.pytest(f"{SHOP}/tests", "-n2")
    assert done.returncode == 0, done.stdout


SERVICES = {"tax:package", "stock:wheel", "mailer:wheel", "storefront:app.build"}
"""What of the shop has nothing to do with the schema."""


def test_a_comment_in_the_schema_stops_where_outputs_come_out_the_same(shop):
    edit(shop, "proto/shop.proto", "message Product {", "// What can be bought.\nmessage Product {")
    result = build(shop)
    assert result.status == 0, result.output
    assert set(result.ran) >= LANGUAGES
    for label in ("orders:package", "orders:test", "recommend:wheel", "recommend:test", "receipt:build", "orders-image:image", *SERVICES):
        assert result[label].value == "fresh", (label, result.steps[label].reasons)


def test_a_field_in_the_schema_rebuilds_all_that_has_it_and_nothing_else(shop):
    """Through every language, step by step, each after what it is made of; no edge of these is written down."""
    edit(shop, "proto/shop.proto", "string shelf = 4;", "string shelf = 4;\n  int32 in_stock = 5;")
    result = build(shop)
    assert result.status == 0, result.output
    ways = (
        ("proto:typescript", "web:bundle", "web-image:image", "kiosk-image:image"),
        ("proto:java", "orders:compile", "orders:package", "orders-image:image"),
        ("proto:python", "recommend:wheel", "recommend-image:image"),
        ("proto:go", "receipt:build", "kiosk-image:image"),
        ("orders:compile", "orders:test"),
        ("proto:python", "recommend:test"),
        ("receipt:build", "receipt:vet"),
    )
    for way in ways:
        assert [label for label in result.ran if label in way] == list(way)
    assert set(result.ran) == LANGUAGES | {"proto:generate"} | {label for way in ways for label in way}


def test_an_edit_of_the_page_rebuilds_the_bundle_and_its_images_only(shop):
    edit(shop, "web/src/Shop.tsx", "Tea shop", "The tea shop")
    assert set(build(shop).ran) == {"web:bundle", "web-image:image", "kiosk-image:image"}


def test_an_edit_in_a_workspace_of_packages_goes_through_those_that_depend_on_it(shop):
    edit(shop, "services/storefront/packages/money/src/money.js", "€", "EUR")
    edit(shop, "services/storefront/packages/cart/test/cart.test.js", "€", "EUR")
    ran = build(shop).ran
    assert set(ran) == {"storefront:money.build", "storefront:cart.build", "storefront:app.build", "storefront:cart.test", "kiosk-image:image"}
    assert ran.index("storefront:money.build") < ran.index("storefront:cart.build") < ran.index("storefront:app.build")


def test_touching_everything_rebuilds_nothing(shop):
    for path in (shop.root / SHOP).rglob("*"):
        if path.is_file() and "node_modules" not in path.parts and ".venv" not in path.parts:
            path.touch()
    assert build(shop).ran == []


def test_a_same_size_edit_with_its_time_put_back_is_noticed(shop):
    source = shop.root / SHOP / "orders/src/main/kotlin/shop/orders/Pricing.kt"
    before = source.stat()
    edit(shop, "orders/src/main/kotlin/shop/orders/Pricing.kt", "Green tea", "Greed tea")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source.stat().st_size == before.st_size
    assert "orders:package" in build(shop).ran


BREAKS = {
    "a type error in TypeScript": ("web/src/Shop.tsx", "useState(\"\")", "useState<number>(\"\")", "web:bundle", "Shop.tsx"),
    "a failing Kotlin test": (
        "orders/src/test/kotlin/shop/orders/PricingTest.kt", "assertEquals(1800", "assertEquals(1801", "orders:test", "1801",
    ),
    "a wrong import in Python": (
        "recommend/src/shop_recommend/engine.py", "from collections import Counter", "from collections import Conter",
        "recommend:test", "Conter",
    ),
    "a bad schema": ("proto/shop.proto", "int32 quantity = 2;", "int33 quantity = 2;", "proto:python", "int33"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_build_goes_on_elsewhere_names_the_culprit_and_is_mended(shop, name):
    path, old, new, culprit, told = BREAKS[name]
    assert build(shop).status == 0
    edit(shop, path, old, new)
    broken = build(shop, "--junitxml=report.xml")
    assert broken.status == 1
    assert broken[culprit].value == "failed", broken.outcomes()
    blocked = {label for label, outcome in broken.outcomes().items() if outcome == "blocked"}
    assert {broken.steps[label].culprit for label in blocked} <= set(broken.ran)
    assert not [label for label, outcome in broken.outcomes().items() if outcome in ("cancelled", "unavailable")]
    # The tool's own error, near the end of what a person sees, and in the report that CI reads.
    assert told in broken.output[-6000:]
    cases = {case.get("name"): case for case in ET.parse(shop.root / "report.xml").iter("testcase")}
    failure = cases[culprit].find("failure")
    assert told in failure.get("message") + (failure.text or "")
    edit(shop, path, new, old)
    mended = build(shop, "--lf")
    assert mended.status == 0, mended.output
    assert mended[culprit].value in ("built", "restored")
    # What the broken source had also been built into, without a failure, is not --lf's; a plain run finishes it.
    assert build(shop).status == 0
    assert build(shop).ran == []


def stored(root):
    """The steps whose outputs a cache keeps, each with its declared outputs, as (path, is a folder)."""
    graph = load_project(str(root / BUILD_FILE)).graph
    return {
        label: [(output.path, output.directory) for output in step.outputs]
        for label, step in graph.steps.items()
        if step.cache and not step.on_request and all(output.identity is Identity.CONTENT for output in step.outputs)
    }


def everything(root):
    """Every stored output's files with modes and digests."""
    return listed(str(root), [output for outputs in stored(root).values() for output in outputs])


def test_deleted_outputs_come_back_byte_for_byte(shop):
    assert build(shop).status == 0
    before, steps = everything(shop.root), stored(shop.root)
    assert len(steps) >= 8
    for outputs in steps.values():
        for path, folder in outputs:
            shutil.rmtree(shop.root / path) if folder else (shop.root / path).unlink()
    result = build(shop)
    with_outputs = {label for label, outputs in steps.items() if outputs}
    assert {label for label, step in result.steps.items() if step.outcome.value == "restored"} == with_outputs
    assert set(result.outcomes().values()) <= {"restored", "fresh"}, result.outcomes()
    assert everything(shop.root) == before
    # Those that a tool reported when the step was built.
    assert {"orders:test", "recommend:test"} <= {s.get("name") for s in ET.parse(shop.root / ".build/reports/junit.xml").iter("testsuite")} | {
        label for label, step in result.steps.items() if step.outcome.value == "fresh"
    }


def test_another_clone_restores_what_this_one_built(shop, tmp_path):
    clone = BuildWorkspace(tmp_path / "elsewhere")
    subprocess.run(["git", "clone", "-q", str(shop.root), str(clone.root)], check=True)
    for path in subprocess.run(["git", "diff", "--name-only"], cwd=shop.root, capture_output=True, text=True, check=True).stdout.split():
        (clone.root / path).write_bytes((shop.root / path).read_bytes())
    clone.environ |= {"PYTHONSAFEPATH": "1", "XDG_CACHE_HOME": shop.environ["XDG_CACHE_HOME"]}
    result = build(clone)
    assert result.status == 0, result.output
    kept = set(stored(clone.root))
    assert not kept & set(result.ran), {label: result.steps[label].reasons for label in kept & set(result.ran)}
    assert everything(clone.root) == everything(shop.root)


def test_switching_branches_runs_a_tool_once_a_branch(shop):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments], cwd=shop.root, check=True, capture_output=True)

    git("commit", "--allow-empty", "-qam", "one")
    git("switch", "-qc", "other")
    edit(shop, "recommend/src/shop_recommend/engine.py", "", "# another branch\n")
    edit(shop, "web/src/Shop.tsx", "ea shop", "ea house")
    git("commit", "-qam", "two")
    assert {"web:bundle", "recommend:wheel"} <= set(build(shop).ran)
    kept = set(stored(shop.root))
    for _ in range(5):
        for branch in ("-", "-"):
            git("switch", "-q", branch)
            result = build(shop)
            assert result.status == 0, result.output
            assert not kept & set(result.ran), result.output
