"""Two modules of Kotlin, of which `app` needs `lib`, and a working day with them: the same for each build tool.

The tests stand in the order of the day: each begins where the one before it ended.
"""

import shutil
import xml.etree.ElementTree as ET
import zipfile
from types import MappingProxyType

from inputs_are_right import judge

from build_tests.run.daemons import running
from build_tests.testing import BuildWorkspace

PRICE = "package shop\n\nfun price(count: Int): Int = count * 100\n"
MAIN = "package app\n\nimport shop.price\n\nfun main() = println(price(3))\n"
TEST = """package shop

import {assertions}.assertEquals
import {test}.Test

class PriceTest {{
    @Test
    fun hundred() {{
        assertEquals(100, price(1))
    }}
}}
"""
JUPITER = TEST.format(assertions="org.junit.jupiter.api.Assertions", test="org.junit.jupiter.api")
JUNIT4 = TEST.format(assertions="org.junit.Assert", test="org.junit")


def workspace(folder, build_files):
    """A repository with the two modules and one tool's build files."""
    ws = BuildWorkspace(folder / "repo")
    # A daemon of the test's own, and one that stays between builds.
    ws.environ["GRADLE_USER_HOME"] = str(folder / "gradle")
    ws.environ.pop("CI", None)
    build_files(ws)
    ws.write("shop/lib/src/main/kotlin/Price.kt", PRICE)
    ws.write("shop/app/src/main/kotlin/Main.kt", MAIN)
    return ws


def daemons(ws):
    """The processes that steps left behind as they declared, and that are still there."""
    return {pid for pid, _ in running(str(ws.root / ".build/daemons"))}


def reported(ws):
    """The cases that the tests' own runner reported, by name."""
    suites = ET.parse(ws.root / ".build/reports/junit.xml").iter("testsuite")
    return {case.get("name").removesuffix("()"): case for suite in suites if suite.get("name") == "shop:lib-test" for case in suite}


class Day:
    """From a fresh checkout on. `shop` is the workspace, made once."""

    first = ()
    """How the first build is asked for; where it is traced, every file that a step reads must be an input of it."""
    unmade = MappingProxyType({})
    """What need not be declared of the files that are looked for, with reasons."""

    def test_a_fresh_checkout_builds_module_by_module(self, shop):
        result = shop.build("-n2", *self.first)
        assert result.status == 0, result.output
        assert result.outcomes() == dict.fromkeys(
            ("shop:app-compile", "shop:app-package", "shop:lib-compile", "shop:lib-test", "shop:lib-package"), "built"
        )
        assert result.ran.index("shop:lib-package") < result.ran.index("shop:app-compile")
        assert set(reported(shop)) == {"hundred"}
        assert "declared by no step" not in result.output
        if self.first:
            judge(shop, result, "shop", steps=(label.partition(":")[2] for label in result.steps), unmade=self.unmade)

    def test_elsewhere_the_same_bytes_come_out(self, shop, tmp_path):
        """Another path, another time, an artifact cache of its own."""
        other = BuildWorkspace(tmp_path / "quite/elsewhere", shop.environ)
        shutil.copytree(shop.root, other.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("target", "build", ".*_cache", ".build"))
        result = other.build(file="build.yml::shop:lib-package")
        assert result.status == 0, result.output
        assert result.ran == ["shop:lib-compile", "shop:lib-package"]
        jars = [jar.relative_to(other.root) for jar in other.root.rglob("*.jar")]
        assert len(jars) == 1
        assert (other.root / jars[0]).read_bytes() == (shop.root / jars[0]).read_bytes()

    def test_every_file_of_a_jar_has_the_same_time(self, shop):
        jars = [path for path in (shop.root / "shop").rglob("*.jar") if path.parent.name in ("target", "libs")]
        assert len(jars) == 2
        assert len({info.date_time for jar in jars for info in zipfile.ZipFile(jar).infolist()}) == 1

    def test_again_nothing_runs(self, shop):
        assert shop.build("-n2").ran == []

    def test_a_comment_stops_at_the_classes(self, shop):
        shop.write("shop/lib/src/main/kotlin/Price.kt", PRICE + "// cheap\n")
        result = shop.build()
        assert result.status == 0, result.output
        assert result.ran == ["shop:lib-compile"]

    def test_a_mistake_is_told_in_the_compilers_words(self, shop):
        shop.write("shop/lib/src/main/kotlin/Price.kt", PRICE.replace("count * 100", '"dear"'))
        result = shop.build()
        assert result.status == 1
        failed = result.steps["shop:lib-compile"]
        assert failed.outcome.value == "failed"
        assert "Price.kt" in failed.first_error.splitlines()[0], failed.first_error
        assert result["shop:app-compile"].value == "blocked"

    def test_a_failing_test_holds_up_nobody_and_is_told_with_what_it_expected(self, shop):
        shop.write("shop/lib/src/main/kotlin/Price.kt", PRICE.replace("100", "101"))
        result = shop.build("-n2")
        assert result.status == 1
        assert result["shop:lib-test"].value == "failed"
        assert "101" in reported(shop)["hundred"].find("failure").get("message")
        built = {label for label, word in result.outcomes().items() if word == "built"}
        assert built == {"shop:lib-compile", "shop:lib-package", "shop:app-compile", "shop:app-package"}
