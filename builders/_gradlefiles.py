"""Gradle's files, read as far as a plan needs: which modules there are, and which needs which. Runs nothing.

Both languages, Groovy and Kotlin, are programs; what is read are the forms that nearly every build writes: `include`
with its names, `projectDir`, `project(":x")`, `projects.x`, `srcDir`. A settings file that computes its modules is
refused, and the component then names them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from build_tests.core.builder import ManifestError, Workspace
from build_tests.core.builder import path_from_root as at

SETTINGS = ("settings.gradle.kts", "settings.gradle")
BUILDS = ("build.gradle.kts", "build.gradle")

_STRING = r'"""(?:.|\n)*?"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
_COMMENT = re.compile(rf"({_STRING})|//[^\n]*|/\*(?:.|\n)*?\*/")
_NAMES = rf"\(?\s*((?:{_STRING})(?:\s*,\s*(?:{_STRING}))*)"
_INCLUDE = re.compile(rf"(?<![\w.])include(?!\w)\s*(?:{_NAMES})?")
_INCLUDE_BUILD = re.compile(rf"(?<![\w.])includeBuild\s*{_NAMES}")
_FOLDER = re.compile(r"""project\s*\(\s*["'](:?[^"']+)["']\s*\)\.projectDir\s*=([^\n]*)""")
_PROJECT = re.compile(r"""\bproject\s*\(\s*(?:path\s*[:=]\s*)?["'](:[^"']*)["']""")
_ACCESSOR = re.compile(r"\bprojects((?:\.\w+)+)")
_SOURCE = re.compile(rf"\bsrcDirs?\b[^\n\"']*({_STRING}(?:\s*,\s*(?:{_STRING}))*)")
_HEAD = re.compile(r"""(?:\b(?:subprojects|allprojects)\b|\bproject\s*\(\s*["'](:[^"']+)["']\s*\))\s*\{""")
_WRAPPERS = frozenset({"platform", "enforcedPlatform", "testFixtures", "project", "path", "it", "dependencies"})
_GIVEN = re.compile(r"^\$\{?(?:rootDir|projectDir|rootProject\.projectDir|settingsDir|project\.projectDir)\}?/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One project of a Gradle build."""

    path: str
    """Gradle's own, `:libs:core`; ":" is the root."""
    folder: str
    """From the repository's root."""
    needs: tuple[str, ...] = ()
    """Paths of the projects on its class path."""
    test_needs: tuple[str, ...] = ()
    """Those on its tests' class path alone."""
    sources: tuple[str, ...] = ()
    """Source folders besides src/main, as the build file writes them."""
    tests: tuple[str, ...] = ()
    words: frozenset[str] = frozenset()
    """Every word of its build file, and of what the root's says for it: plugins among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """All projects of a settings file."""

    modules: Mapping[str, Module]
    """By Gradle's path."""
    included: tuple[str, ...]
    """Folders, from the root, of buildSrc and of included builds: they hold plugins."""


def read(folder: str, workspace: Workspace, named: Sequence[str] = ()) -> Build:
    """The Gradle build whose settings lie in `folder`.

    Args:
        folder: from the root.
        workspace: the repository.
        named: the modules' folders, where the component says them itself.

    Raises:
        ManifestError: settings that can't be read, or that compute what they include.
    """
    settings = _code(folder, SETTINGS, workspace)
    folders = {":" + name.strip("/").replace("/", ":"): at(name, folder) for name in named}
    folders = {":": folder, **(folders or _folders(settings, folder, workspace))}
    root = _code(folder, BUILDS, workspace)
    shared, single, own = _root_blocks(root)
    texts = {
        path: own if path == ":" else "\n".join((_code(place, BUILDS, workspace), shared, single.get(path, "")))
        for path, place in folders.items()
    }
    accessors = {_accessor(path): path for path in folders}
    modules = {path: _module(path, folders[path], text, accessors) for path, text in texts.items()}
    return Build(modules=modules, included=tuple(_included(settings, folder, workspace)))


def settings_above(folder: str, workspace: Workspace) -> str:
    """The nearest folder above whose settings include this one, or None as "" where there is none."""
    place = folder
    while place:
        place = posixpath.dirname(place)
        settings = _code(place, SETTINGS, workspace)
        if settings:
            try:
                inside = _folders(settings, place, workspace).values()
            except ManifestError:
                return ""
            return place or "//" if folder in inside else ""
    return ""


def _code(folder: str, names: Sequence[str], workspace: Workspace) -> str:
    """The first of the files that is there, without its comments; "" where there is none."""
    for name in names:
        path = at(name, folder)
        if workspace.exists(path):
            return _COMMENT.sub(lambda match: match[1] or " ", workspace.read_text(path))
    return ""


def _strings(text: str) -> list[str]:
    return [found.strip("\"'") for found in re.findall(_STRING, text)]


def _folders(settings: str, folder: str, workspace: Workspace) -> dict[str, str]:
    """Gradle's path → folder, of everything that is included."""
    found: dict[str, str] = {}
    for match in _INCLUDE.finditer(settings):
        names = _strings(match[1] or "")
        if not names or any("$" in name for name in names):
            raise ManifestError(
                f"{at(_settings_name(folder, workspace), folder)} computes what it includes; only Gradle can tell",
                hint="name the folders in the component: modules: [app, libs/core]",
            )
        for name in names:
            # A project's parents are projects as well.
            parts = name.strip(":/").replace("/", ":").split(":")
            for depth in range(1, len(parts) + 1):
                found.setdefault(":" + ":".join(parts[:depth]), at("/".join(parts[:depth]), folder))
    for match in _FOLDER.finditer(settings):
        path, strings = ":" + match[1].strip(":"), _strings(match[2])
        if path in found and strings:
            found[path] = at(_GIVEN.sub("", strings[-1]), folder)
    return found


def _settings_name(folder: str, workspace: Workspace) -> str:
    return next((name for name in SETTINGS if workspace.exists(at(name, folder))), SETTINGS[-1])


def _included(settings: str, folder: str, workspace: Workspace) -> Iterator[str]:
    if workspace.exists(at("buildSrc", folder)):
        yield at("buildSrc", folder)
    for match in _INCLUDE_BUILD.finditer(settings):
        for name in _strings(match[1]):
            yield at(name, folder)


def _root_blocks(text: str) -> tuple[str, dict[str, str], str]:
    """The root's build file, taken apart: for all projects, for single ones, and what is left for itself."""
    shared: list[str] = []
    single: dict[str, str] = {}
    rest: list[str] = []
    done = 0
    for match in _HEAD.finditer(text):
        if match.start() < done:
            continue
        end = _closing(text, match.end())
        body = text[match.end() : end]
        if match[1]:
            single[match[1]] = single.get(match[1], "") + "\n" + body
        else:
            shared.append(body)
        rest.append(text[done : match.start()])
        if match[0].startswith("allprojects"):
            rest.append(body)
        done = end
    return "\n".join(shared), single, "".join([*rest, text[done:]])


def _closing(text: str, start: int) -> int:
    """Where the block ends whose inside begins at `start`."""
    depth = 1
    for match in re.compile(rf"{_STRING}|[{{}}]").finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if not depth:
            return match.start()
    return len(text)


def _module(path: str, folder: str, text: str, accessors: Mapping[str, str]) -> Module:
    found = [(match[1], match.start()) for match in _PROJECT.finditer(text)]
    found += [(accessors[match[1]], match.start()) for match in _ACCESSOR.finditer(text) if match[1] in accessors]
    needs = {other for other, start in found if other != path and not _for_tests(text, start)}
    tests = {other for other, start in found if other != path and _for_tests(text, start)}
    folders = list(_source_folders(text))
    return Module(
        path=path,
        folder=folder,
        needs=tuple(sorted(needs)),
        test_needs=tuple(sorted(tests - needs)),
        sources=tuple(dict.fromkeys(name for name, test in folders if not test)),
        tests=tuple(dict.fromkeys(name for name, test in folders if test)),
        words=frozenset(re.findall(r"[A-Za-z][\w.-]*", text)),
    )


def _for_tests(text: str, start: int) -> bool:
    """Whether the configuration in front of a project is one of the tests: `testImplementation(project(…))`."""
    words = [word for word in re.findall(r"\w+", text[max(0, start - 120) : start]) if word not in _WRAPPERS]
    return bool(words) and words[-1].startswith("test")


def _source_folders(text: str) -> Iterator[tuple[str, bool]]:
    for match in _SOURCE.finditer(text):
        sets = re.findall(r"\b(main|test)\b", text[: match.start()])
        for name in _strings(match[1]):
            path = _GIVEN.sub("", name)
            if "$" not in path and not path.startswith(("build/", "/", "src/main/", "src/test/")):
                yield f"{path.rstrip('/')}/", bool(sets) and sets[-1] == "test"


def _accessor(path: str) -> str:
    """`:libs:my-core` → `.libs.myCore`, as type-safe accessors are called."""
    parts = [re.sub(r"[-_.](\w)", lambda match: match[1].upper(), part) for part in path.strip(":").split(":")]
    return "." + ".".join(parts)
