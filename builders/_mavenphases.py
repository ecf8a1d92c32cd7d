"""Maven's phases, what it binds to them by itself, and the phases that well-known goals choose. Tables, no code."""

from __future__ import annotations

from collections.abc import Mapping

PHASES = (
    "validate", "initialize", "generate-sources", "process-sources", "generate-resources", "process-resources",
    "compile", "process-classes", "generate-test-sources", "process-test-sources", "generate-test-resources",
    "process-test-resources", "test-compile", "process-test-classes", "test", "prepare-package", "package",
)  # fmt: skip
"""As far as a plan goes, in Maven's order."""
LATER = frozenset({"none", "pre-integration-test", "integration-test", "post-integration-test", "verify", "install",
                   "deploy", "site", "clean"})  # fmt: skip
APACHE = "org.apache.maven.plugins"

Binding = tuple[str, str, str]
"""Plugin, goal, phase."""
_TESTED: tuple[Binding, ...] = (
    (f"{APACHE}:maven-resources-plugin", "resources", "process-resources"),
    (f"{APACHE}:maven-compiler-plugin", "compile", "compile"),
    (f"{APACHE}:maven-resources-plugin", "testResources", "process-test-resources"),
    (f"{APACHE}:maven-compiler-plugin", "testCompile", "test-compile"),
    (f"{APACHE}:maven-surefire-plugin", "test", "test"),
)
LIFECYCLES: Mapping[str, tuple[Binding, ...]] = {
    "pom": (),
    "jar": (*_TESTED, (f"{APACHE}:maven-jar-plugin", "jar", "package")),
    "war": (*_TESTED, (f"{APACHE}:maven-war-plugin", "war", "package")),
}
"""What Maven itself binds, by packaging; the execution's id is `default-GOAL`."""
KOTLIN = "org.jetbrains.kotlin:kotlin-maven-plugin"
WITH_KOTLIN: tuple[Binding, ...] = (
    (KOTLIN, "kapt", "process-sources"),
    (KOTLIN, "compile", "compile"),
    (KOTLIN, "test-kapt", "process-test-sources"),
    (KOTLIN, "test-compile", "test-compile"),
    *LIFECYCLES["jar"],
)
"""What is bound for a jar where Kotlin's plugin is an extension of Maven."""
OWN_PHASE: Mapping[str, str] = {
    "build-helper-maven-plugin:add-resource": "generate-resources",
    "build-helper-maven-plugin:add-source": "generate-sources",
    "build-helper-maven-plugin:add-test-resource": "generate-test-resources",
    "build-helper-maven-plugin:add-test-source": "generate-test-sources",
    "detekt-maven-plugin:check": "verify",
    "flatten-maven-plugin:clean": "clean",
    "flatten-maven-plugin:flatten": "process-resources",
    "jacoco-maven-plugin:check": "verify",
    "jacoco-maven-plugin:prepare-agent": "initialize",
    "jacoco-maven-plugin:report": "verify",
    "kotlin-maven-plugin:compile": "compile",
    "kotlin-maven-plugin:kapt": "generate-sources",
    "kotlin-maven-plugin:test-compile": "test-compile",
    "kotlin-maven-plugin:test-kapt": "generate-test-sources",
    "ktlint-maven-plugin:check": "verify",
    "maven-checkstyle-plugin:check": "verify",
    "maven-compiler-plugin:compile": "compile",
    "maven-compiler-plugin:testCompile": "test-compile",
    "maven-dependency-plugin:analyze-only": "verify",
    "maven-dependency-plugin:copy": "process-sources",
    "maven-dependency-plugin:copy-dependencies": "process-sources",
    "maven-enforcer-plugin:enforce": "validate",
    "maven-failsafe-plugin:integration-test": "integration-test",
    "maven-failsafe-plugin:verify": "verify",
    "maven-jar-plugin:jar": "package",
    "maven-jar-plugin:test-jar": "package",
    "maven-javadoc-plugin:jar": "package",
    "maven-resources-plugin:resources": "process-resources",
    "maven-resources-plugin:testResources": "process-test-resources",
    "maven-shade-plugin:shade": "package",
    "maven-source-plugin:jar": "package",
    "maven-source-plugin:jar-no-fork": "package",
    "maven-source-plugin:test-jar-no-fork": "package",
    "maven-surefire-plugin:test": "test",
    "maven-war-plugin:war": "package",
    "protobuf-maven-plugin:compile": "generate-sources",
    "protobuf-maven-plugin:compile-custom": "generate-sources",
    "protobuf-maven-plugin:generate": "generate-sources",
    "spring-boot-maven-plugin:build-info": "generate-resources",
    "spring-boot-maven-plugin:repackage": "package",
    "spotless-maven-plugin:check": "verify",
}
"""The phase of a goal whose execution names none."""
