"""Kind kotlin with the real Gradle: Debian's, from Debian's own repository, through a wrapper that runs it."""

import contextlib
import os
import select
import signal

import pytest
from inputs_are_right import JVM, judge
from kotlin_day import JUNIT4, PRICE, Day, daemons, workspace

pytestmark = [pytest.mark.real("gradle", "kotlinc", "java", "strace"), pytest.mark.slow]

DEBIAN = "maven { url '/usr/share/maven-repo' }"
GRADLE = f"""buildscript {{
    repositories {{ {DEBIAN} }}
    dependencies {{ classpath 'org.jetbrains.kotlin:kotlin-gradle-plugin:1.3.31' }}
}}
subprojects {{
    apply plugin: 'kotlin'
    repositories {{ {DEBIAN} }}
    dependencies {{
        compile 'org.jetbrains.kotlin:kotlin-stdlib:1.3.31'
        testCompile 'junit:junit:4.13.2'
    }}
}}
"""


def gradle(ws):
    ws.write("shop/settings.gradle", "rootProject.name = 'shop'\ninclude 'app', 'lib'\n")
    ws.write("shop/build.gradle", GRADLE)
    # Kotlin 1.3's own daemon does not come up under a JDK of today.
    ws.write("shop/gradle.properties", "systemProp.kotlin.compiler.execution.strategy=in-process\n")
    ws.write("shop/app/build.gradle", "dependencies { compile project(':lib') }\n")
    ws.write("shop/lib/build.gradle", "")
    ws.write("shop/gradlew", '#!/bin/sh\nexec gradle "$@"\n', executable=True)
    ws.write("shop/lib/src/test/kotlin/PriceTest.kt", JUNIT4)
    ws.components(shop={"kind": "kotlin", "offline": True})


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    ws = workspace(tmp_path_factory.mktemp("gradle"), gradle)
    yield ws
    for pid in daemons(ws):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


class TestGradle(Day):
    def test_the_daemon_stays_between_builds_and_ends_with_a_run_in_ci(self, shop):
        watched = [os.pidfd_open(pid) for pid in daemons(shop)]
        assert watched
        shop.environ["CI"] = "true"
        shop.write("shop/lib/src/main/kotlin/Price.kt", PRICE)
        result = shop.build()
        assert result.status == 0, result.output
        for descriptor in watched:
            assert select.select([descriptor], [], [], 60)[0], "a daemon is still there"
            os.close(descriptor)

    def test_without_its_daemon_every_file_that_it_reads_is_an_input(self, shop):
        shop.components(shop={"kind": "kotlin", "offline": True, "daemon": False})
        steps = ("lib-test", "app-compile")
        nodes = [f"build.yml::shop:{step}" for step in steps]
        result = shop.build(nodes[1], "-n2", "--build-trace", "--build-no-deps", file=nodes[0])
        assert result.status == 0, result.output
        unmade = {
            "shop/*/build/**": "what Gradle itself makes there",
            "shop/*/src/main/java": "a folder of sources that another step compiles, whose classes are an input",
            "shop/*/src/test": "a folder of sources that another step compiles",
            "shop/*/src/test/*": "a folder of sources that another step compiles",
        }
        judge(shop, result, "shop", steps=steps, unmade=JVM | unmade)
