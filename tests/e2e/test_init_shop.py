"""`init` on the example workspace without its build file: what it writes builds all of it, the images too."""

import re
import subprocess
import uuid
from pathlib import Path

import pytest

from build_tests.project import load_project
from build_tests.testing import BuildWorkspace

SHOP = Path(__file__).resolve().parents[2] / "examples/shop"
IMAGE = re.compile(r"\bshop(?=[-/][$\w]+:1\b)")
"""What the names of the example's images begin with."""


@pytest.fixture
def shop(tmp_path):
    """A copy with names of its own for its images, which go at the end."""
    own = f"initshop{uuid.uuid4().hex[:8]}"
    root = tmp_path / "shop"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=SHOP, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(IMAGE.sub(own, (SHOP / name).read_text()))
        target.chmod((SHOP / name).stat().st_mode)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    ws = BuildWorkspace(root)
    ws.environ["OWN"] = own
    yield ws
    names = subprocess.run(["docker", "image", "ls", "--format={{.Repository}}:{{.Tag}}"], capture_output=True, text=True, check=True).stdout
    if mine := [name for name in names.split() if name.startswith(own)]:
        subprocess.run(["docker", "image", "rm", "--force", *mine], capture_output=True, check=True)


@pytest.mark.real(
    "make", "protoc", "npm", "mvn", "docker", "busybox", "jlink", "gradle", "pnpm", "uv", "poetry", "go", "protoc-gen-go"
)
@pytest.mark.slow
def test_what_init_writes_for_the_shop_builds_all_of_it_once(shop):
    def run(*command):
        done = subprocess.run(command, cwd=shop.root, env=shop.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run("make", "-s", "base")  # the images that the team's own Makefile makes of this machine's programs
    run("pytest-build", "init", "--yes")
    first = shop.build("-n2", timeout=900)
    assert first.status == 0, first.output
    assert set(first.outcomes().values()) == {"built"}, first.outcomes()
    again = shop.build("-n2")
    assert {label: step.reasons for label, step in again.steps.items() if step.outcome.value != "fresh"} == {}
    assert components(shop.root / "build.yml", "") == by_hand(shop.environ["OWN"])
    # The old targets stay, ours are there as well.
    run("make", "build-status")


def components(path, inside):
    """What a build file makes of the folders of the shop: each step's label below its folder, with its outputs."""
    graph = load_project(str(path)).graph
    return {
        f"{step.path.removeprefix(inside)} {step.name}": sorted(output.path.removeprefix(inside) for output in step.outputs)
        for step in graph.steps.values()
        if step.path.startswith(inside)
    }


def by_hand(own):
    """The same of the example's own build file, less what its manifests could not have told."""
    told = components(SHOP.parents[1] / "config/build.yml", "examples/shop/")
    unknown = {"proto cpp", "proto ruby", "images shell", "images python", "images java"}
    assert unknown <= set(told)
    return {name: [IMAGE.sub(own, path) for path in outputs] for name, outputs in told.items() if name not in unknown}
