"""The same table in examples/shop: its build file, its files, every builder; what the tools would make is pretended.

A pretended step writes to each of its outputs what it was made from, so that results differ as the real ones would. Images
are left out: tests/e2e/test_shop.py builds them.
"""

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from stories import GIT, Story, assert_golden, cut_off, told_of

from build_tests.core.model import Identity

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden_explain_shop.txt")
SHOP = "examples/shop"
WITHOUT_COMMENTS = {"proto:python", "proto:java", "proto:go"}
"""Of the proto: what protoc makes for Python has none, and for the others build.yml says so."""
TOOLS = (
    "gcc", "go", "gradle", "java", "mvn", "node", "npm", "pnpm", "poetry", "protoc", "protoc-gen-go", "python3",
    "sha256sum", "uv",
)  # fmt: skip


class Shop(Story):
    file = "config/build.yml"

    def __init__(self, folder):
        super().__init__(folder)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "config", SHOP],
            cwd=ROOT, capture_output=True, check=True,
        ).stdout  # fmt: skip
        for name in filter(None, os.fsdecode(listed).split("\0")):
            (self.ws.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.ws.root / name)
        text = self.ws.read(self.file)
        # This project's own wheel and pages are no part of the shop.
        self.ws.write(self.file, text[: text.index("  pytest-build:\n")] + text[text.index("targets:\n") :])
        self.ws.write(".gitignore", ".pytest_cache\n.build\n")
        for name in ("sh", "git", "mkdir"):
            (self.ws.bin / name).symlink_to(shutil.which(name))
        for name in TOOLS:
            self.tool(name, "3.12" if name == "python3" else "1.0")
        self.environ = {
            **GIT, "XDG_CACHE_HOME": self.ws.environ["XDG_CACHE_HOME"], "PATH": str(self.ws.bin), "HOME": str(folder),
        }  # fmt: skip
        self.git("init", "-q", "-b", "main")
        self.commit("first")

    def tool(self, name, version):
        self.ws.tool(name, f"echo {version}")

    def shop(self, path, old, new):
        self.edit(f"{SHOP}/{path}", old, new)

    def build_file(self, old, new):
        self.edit(self.file, old, new)

    def labels(self, project):
        steps = project.graph.steps
        chosen, _ = project.chosen((), target_named=False)
        images = {label for label in chosen if steps[label].kind == "docker" or steps[label].component == "base"}
        return [label for label in project.graph.order if label in chosen - images]

    def done(self, order, graph):
        step = graph.steps[order.label]
        files = [Path(path) for path, *_ in order.inputs]
        for need in graph.needs[order.label]:
            for output in graph.steps[need].outputs if need not in step.after else ():
                if output.identity is Identity.CONTENT:
                    top = self.ws.root / output.path
                    found = sorted(top.rglob("*")) if output.directory else [top]
                    files += [path.relative_to(self.ws.root) for path in found if path.is_file()]
        seen = [line for path in files for line in (self.ws.root / path).read_text(errors="replace").splitlines()]
        if any("BROKEN" in line for line in seen):
            return replace(order, argv=["sh", "-c", "echo 'error: something is BROKEN'; exit 1"])
        if order.label in WITHOUT_COMMENTS:
            seen = [line for line in seen if not line.lstrip().startswith("//")]
        made = hashlib.sha256("\n".join([*map(str, files), *order.argv, *seen]).encode()).hexdigest()
        lines = ["set -e", *(line for output in step.outputs for line in pretended(self.ws.root / output.path, output, made))]
        return replace(order, argv=["sh", "-c", "\n".join(lines)])


def pretended(path, output, made):
    folder = path if output.directory else path.parent
    yield f"mkdir -p '{folder}'"
    yield f"echo '<testsuites><!-- {made} --></testsuites>' >'{folder / 'made' if output.directory else path}'"
    if output.identity is Identity.INSTALLED:
        yield f"mkdir -p '{folder}/bin'; : >'{folder}/bin/python'"


CHANGES = {
    "nothing was built yet": lambda s: None,
    "nothing changed": lambda s: None,
    "Kotlin: a source is edited": lambda s: s.append(f"{SHOP}/orders/src/main/kotlin/shop/orders/Pricing.kt", "// more\n"),
    "and edited back": lambda s: s.shop("orders/src/main/kotlin/shop/orders/Pricing.kt", "// more\n", ""),
    "a file is only touched": lambda s: (s.ws.root / SHOP / "web/src/Shop.tsx").touch(),
    "Kotlin: a test is edited": lambda s: s.append(f"{SHOP}/orders/src/test/kotlin/shop/orders/PricingTest.kt", "// more\n"),
    "Maven: the pom changes": lambda s: s.shop("orders/pom.xml", "4.36.2</protobuf", "4.36.3</protobuf"),
    "Python: a source is edited": lambda s: s.append(f"{SHOP}/recommend/src/shop_recommend/engine.py", "# more\n"),
    "Python: a requirement moves": lambda s: s.shop("recommend/requirements.txt", "pytest==9.2.0", "pytest==9.2.1"),
    "Python: a project that another one needs is edited": lambda s: s.append(
        f"{SHOP}/services/stock/src/shop_stock/__init__.py", "# more\n"
    ),
    "uv: the lock changes": lambda s: s.shop("services/stock/uv.lock", "revision = 5", "revision = 6"),
    "Poetry: the lock changes": lambda s: s.append(f"{SHOP}/services/mailer/poetry.lock", "# more\n"),
    "TypeScript: a file is added": lambda s: s.ws.write(f"{SHOP}/web/src/Cart.tsx", "export {}\n"),
    "TypeScript: a file is renamed": lambda s: (s.ws.root / SHOP / "web/src/Cart.tsx").rename(
        s.ws.root / SHOP / "web/src/Basket.tsx"
    ),
    "TypeScript: a file is removed": lambda s: s.remove(f"{SHOP}/web/src/Basket.tsx"),
    "TypeScript: the settings change": lambda s: s.shop("web/tsconfig.json", "es2022", "es2023"),
    "npm: a package moves in the lockfile": lambda s: s.shop(
        "web/package-lock.json", '"node_modules/react": {\n      "version": "19.3.1"', '"node_modules/react": {\n      "version": "19.3.2"'
    ),
    "pnpm: a package of the workspace is edited": lambda s: s.append(
        f"{SHOP}/services/storefront/packages/money/src/money.js", "// more\n"
    ),
    "pnpm: a test is edited": lambda s: s.append(f"{SHOP}/services/storefront/packages/cart/test/cart.test.js", "// more\n"),
    "Go: a source is edited": lambda s: s.append(f"{SHOP}/services/receipt/main.go", "// more\n"),
    "Go: a module moves": lambda s: s.shop("services/receipt/go.mod", "v1.31.0", "v1.31.1"),
    "Gradle: the build file changes": lambda s: s.append(f"{SHOP}/services/tax/build.gradle", "// more\n"),
    "a file's mode changes": lambda s: (s.ws.root / SHOP / "services/storefront/packages/app/build.js").chmod(0o755),
    "the schema: a comment": lambda s: s.append(f"{SHOP}/proto/shop.proto", "// A comment.\n"),
    "the schema: a field": lambda s: s.shop("proto/shop.proto", "string shelf = 4;", "string shelf = 4;\n  string row = 5;"),
    "a variable is set": lambda s: s.environ.update(GOFLAGS="-race"),
    "a variable has another value": lambda s: s.environ.update(GOFLAGS="-v"),
    "a variable is gone": lambda s: s.environ.pop("GOFLAGS"),
    "a compiler has another version": lambda s: s.tool("protoc", "2.0"),
    "an interpreter has another version": lambda s: s.tool("node", "2.0"),
    "a tool is not there": lambda s: (s.ws.bin / "gradle").rename(s.ws.bin / "gone"),
    "the tool is back": lambda s: (s.ws.bin / "gone").rename(s.ws.bin / "gradle"),
    "build.yml: an output moves": lambda s: s.build_file("ruby: gen/ruby", "ruby: gen/rb"),
    "build.yml: a key of a component": lambda s: s.build_file("sources: [src/main/, gen/]", "sources: [src/main/, gen/]\n    offline: true"),
    "build.yml: a step's timeout": lambda s: s.build_file(
        "sources: [src/, gen/]\n", "sources: [src/, gen/]\n    steps: {bundle: {timeout: 5m}}\n"
    ),
    "build.yml: a step's variable": lambda s: s.build_file("{timeout: 5m}", "{timeout: 5m, env: {NODE_ENV: production}}"),
    "an output is deleted": lambda s: s.remove(f"{SHOP}/orders/target/orders.jar"),
    "an output is deleted, and the cache as well": lambda s: (
        s.remove(f"{SHOP}/web/dist"), shutil.rmtree(s.environ["XDG_CACHE_HOME"])
    ),
    "an environment is deleted": lambda s: s.remove(f"{SHOP}/recommend/.venv"),
    "an output is edited by hand": lambda s: s.ws.write(f"{SHOP}/orders/target/orders.jar", "by hand\n"),
    "a file is put into an output": lambda s: s.ws.write(f"{SHOP}/web/gen/extra.ts", "mine\n"),
    "another branch is checked out": lambda s: (
        s.commit("so far"), s.git("checkout", "-q", "-b", "other"),
        s.append(f"{SHOP}/services/receipt/main.go", "// of the other branch\n"), s.commit("other"),
    ),
    "and the first one again": lambda s: s.git("checkout", "-q", "main"),
    "the hashes are cleared": lambda s: s.remove(".pytest_cache"),
    "a step comes to fail": lambda s: s.append(f"{SHOP}/recommend/src/shop_recommend/engine.py", "BROKEN\n"),
    "a step failed": lambda s: None,
    "the step is mended": lambda s: s.shop("recommend/src/shop_recommend/engine.py", "BROKEN\n", "# mended\n"),
    "a run was cut off": lambda s: cut_off(s, "web:bundle"),
    "another target, which reads everything again": lambda s: setattr(s, "target", "ci-build"),
}  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    told = told_of(Shop(tmp_path_factory.mktemp("story")), CHANGES)
    # What the shop's commit is called, and the commands that the builders write, are not what this is about.
    return re.sub(r"the command changed: .*", "the command changed: …", re.sub(r"since [0-9a-f]{7,}", "since COMMIT", told))


def test_every_word(told):
    assert_golden(told, GOLDEN)


def test_there_are_at_least_thirty_kinds_of_change():
    assert len(CHANGES) >= 30
