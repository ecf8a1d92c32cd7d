"""What the programs of scripts do: where webpack, Vite, tsc, test runners and others write, what they remember."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from build_tests.core.builder import Workspace

from ._scripts import Call, Script
from ._tsconfig import Find, TsConfig, file_of, projects
from ._workspaces import Package, below, entry_points

_ENDINGS = ("js", "cjs", "mjs", "ts", "cts", "mts")
REPORT = "reports/junit.xml"
"""Where test runners write their cases, in the package's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doings:
    """What a script reads and leaves beside what can be seen of it. Paths are from the root, folders end with /."""

    outputs: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    junit: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    command: str = ""
    """In place of the script's text."""
    compiles: tuple[TsConfig, ...] = ()
    """The projects that tsc reads."""
    memory: tuple[tuple[str, bool], ...] = ()
    """What tsc remembers of the outputs it wrote, which must not outlive them; and whether it is sure to write it."""

    def __add__(self, other: Doings) -> Doings:
        both = {
            name: tuple(dict.fromkeys((*getattr(self, name), *getattr(other, name))))
            for name in ("outputs", "state", "reads", "junit", "env", "memory")
        }
        return Doings(command=other.command or self.command, compiles=(*self.compiles, *other.compiles), **both)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the rules look at."""

    package: Package
    root: Package
    workspace: Workspace
    find: Find
    only_ends: bool = False
    """A script can be given further words at its end alone: its manager runs it."""

    def path(self, text: str) -> str:
        """From the root of the repository; `text` is from the package."""
        return posixpath.normpath(posixpath.join(self.package.folder or ".", text))

    def has(self, dependency: str) -> bool:
        """Whether the package, or the workspace's own, declares a dependency."""
        return dependency in self.package.dependencies or dependency in self.root.dependencies

    def config(self, *stems: str) -> str:
        """The first `STEM.js`, `STEM.ts` … that is there, from the root, or ""."""
        names = (f"{stem}.{ending}" for stem in stems for ending in _ENDINGS)
        paths = (below(self.package.folder, name) for name in names)
        return next((path for path in paths if self.workspace.exists(path)), "")

    def config_text(self, call: Call, *stems: str) -> str:
        """The text of the configuration that a call uses, or ""."""
        said = call.option("--config", "-c")
        path = self.path(said) if said else self.config(*stems)
        return self.workspace.read_text(path) if path and self.workspace.exists(path) else ""


def doings_of(script: Script, look: Look) -> Doings:
    """All that the script's programs do. Raises ManifestError: a configuration that can't be read."""
    found = Doings(reads=tuple(_named_elsewhere(script, look)))
    for call in script.calls:
        if call.program in _RULES:
            found += _RULES[call.program](call, look)
        elif call.program in _FOLDERS:
            found += Doings(outputs=_folder(look, _FOLDERS[call.program]))
        if call.has("--coverage") or call.program in {"c8", "nyc"}:
            found += Doings(outputs=_folder(look, "coverage"))
    last = script.last
    rule = _REPORTS.get(last.program) if last is not None else None
    if rule is not None and last is not None and (told := rule(script, last, look)) is not None:
        report = look.path(REPORT)
        found += replace(told, outputs=(report,), junit=(report,))
    return found


def _named_elsewhere(script: Script, look: Look) -> Iterator[str]:
    """The files outside the package that a script names: `node ../../tools/make.mjs`."""
    for word in (word for call in script.calls for word in call.arguments if word.startswith("../")):
        path = look.path(word)
        if not path.startswith("../") and not any(char in path for char in "*?[\\") and look.workspace.exists(path):
            yield path


def fallback_outputs(look: Look) -> tuple[str, ...]:
    """Where a build leaves its results that no rule knows: the folder in which others enter the package, else dist/."""
    firsts = (text.partition("/")[0] for text in entry_points(look.package.manifest) if "/" in text)
    name = next((first for first in firsts if first not in {"src", "source", "..", "."} and "*" not in first), "dist")
    return _folder(look, name)


_FOLDERS = {
    "astro": "dist", "docusaurus": "build", "ng": "dist", "nuxt": ".output", "nuxi": ".output", "parcel": "dist",
    "react-scripts": "build", "rollup": "dist", "rolldown": "dist", "rspack": "dist", "tsup": "dist", "tsdown": "dist",
    "unbuild": "dist", "microbundle": "dist", "typedoc": "docs",
}  # fmt: skip


def _folder(look: Look, text: str) -> tuple[str, ...]:
    path = look.path(text)
    # What leaves the package, or is all of it, can't be declared: the user must say what is meant.
    return () if path in {look.package.folder or ".", "."} or path.startswith("../") else (f"{path}/",)


# Bundlers and compilers


def _webpack(call: Call, look: Look) -> Doings:
    text = look.config_text(call, "webpack.config")
    said = re.search(r"""path:\s*(?:path\.)?(?:resolve|join)\(\s*[\w.]+\s*,\s*["']([^"']+)["']\s*\)""", text)
    out = call.option("--output-path", "-o") or (said[1] if said else "dist")
    state = (look.path("node_modules/.cache/webpack"),) if "filesystem" in text else ()
    return Doings(outputs=_folder(look, out), state=state)


def _vite(call: Call, look: Look) -> Doings:
    if "build" not in call.arguments:
        return Doings()
    text = look.config_text(call, "vite.config")
    said = re.search(r"""outDir:\s*["']([^"']+)["']""", text)
    out = _folder(look, call.option("--outDir") or (said[1] if said else "dist"))
    return Doings(outputs=out, reads=tuple(_dotenv(look)))


def _dotenv(look: Look) -> Iterator[str]:
    """Vite reads them though git ignores them."""
    for name in (".env", ".env.local", ".env.production", ".env.production.local"):
        if look.workspace.exists(path := below(look.package.folder, name)):
            yield path


def _next(_: Call, look: Look) -> Doings:
    return Doings(outputs=_folder(look, ".next"), reads=tuple(_dotenv(look)))


def _esbuild(call: Call, look: Look) -> Doings:
    if folder := call.option("--outdir"):
        return Doings(outputs=_folder(look, folder))
    file = call.option("--outfile")
    maps = call.has("--sourcemap") and call.option("--sourcemap") not in {"inline", "false"}
    return Doings(outputs=(look.path(file), *((look.path(f"{file}.map"),) if maps else ()))) if file else Doings()


def tsc_projects(call: Call, look: Look) -> tuple[list[TsConfig], bool]:
    """The projects that a call of tsc means, and whether it builds with -b."""
    together = call.has("-b", "--build")
    words = [text for text in call.arguments if not text.startswith("-")]
    named = words if together else [call.option("-p", "--project")]
    found: dict[str, TsConfig] = {}
    for text in named or [""]:
        path = file_of(look.path(text or "tsconfig.json"), look.workspace)
        if look.workspace.exists(path):
            read = projects(path, look.workspace, look.find)
            found |= {one.path: one for one in (read if together else read[:1])}
    return list(found.values()), together


def _tsc(call: Call, look: Look) -> Doings:
    found, together = tsc_projects(call, look)
    front = f"{look.package.folder}/" if look.package.folder else ""
    own = [one for one in found if one.path.startswith(front)]
    silent = call.has("--noEmit") and call.option("--noEmit") != "false"
    said = call.option("--outDir")
    outputs = [_folder(look, said)] if said else [_from_root(look, path) for one in own for path in one.outputs]
    infos = [(info, one) for one in own if (info := _build_info(call, look, one, together=together))]
    return Doings(
        outputs=() if silent else tuple(path for paths in outputs for path in paths),
        state=tuple(info for info, one in infos if silent or not one.emits),
        memory=tuple((info, _sure(call, one)) for info, one in infos if one.emits and not silent),
        reads=tuple(path for one in found for path in one.chain),
        compiles=tuple(found),
    )


def _build_info(call: Call, look: Look, config: TsConfig, *, together: bool) -> str:
    said = call.option("--tsBuildInfoFile")
    return look.path(said) if said else config.build_info(always=together or call.has("--incremental", "-i"))


def _sure(call: Call, config: TsConfig) -> bool:
    """A newer tsc -b writes one always, but one without what makes the next run shorter."""
    said = (config.options.get(name) for name in ("composite", "incremental"))
    return call.has("--incremental", "-i") or any(said)


def _from_root(look: Look, path: str) -> tuple[str, ...]:
    return () if path in {look.package.folder, "."} or path.startswith("../") else (f"{path}/",)


def _eslint(call: Call, look: Look) -> Doings:
    if not call.has("--cache"):
        return Doings()
    return Doings(state=(look.path(call.option("--cache-location") or ".eslintcache"),))


_RULES: dict[str, Callable[[Call, Look], Doings]] = {
    "webpack": _webpack,
    "vite": _vite,
    "next": _next,
    "esbuild": _esbuild,
    "tsc": _tsc,
    "vue-tsc": _tsc,
    "tsgo": _tsc,
    "eslint": _eslint,
}


_LINTERS = frozenset({"eslint", "oxlint", "biome", "prettier", "stylelint"})
_FOLLOWS = (
    "typescript-eslint", "@typescript-eslint/parser", "eslint-plugin-import", "eslint-plugin-import-x",
    "eslint-plugin-n", "eslint-plugin-node",
)  # fmt: skip
"""With one of these, ESLint goes where an import leads."""


def keeps_to_itself(script: Script, look: Look) -> bool:
    """Whether a script looks at the files it is given and follows no import out of the package: a linter."""
    programs = {call.program for call in script.calls}
    return bool(programs) and programs <= _LINTERS and not ("eslint" in programs and any(map(look.has, _FOLLOWS)))


# Test runners: their cases as JUnit XML, beside what they print


def _vitest(script: Script, call: Call, _: Look) -> Doings | None:
    if call.has("--reporter", "--outputFile", "--cache", "--no-cache"):
        return None
    # Its cache orders tests by the last run's times, and lies where install's outputs are.
    flags = f"--no-cache --reporter=default --reporter=junit --outputFile.junit={REPORT}"
    return Doings(command=f"{script.text} {flags}")


def _jest(script: Script, call: Call, look: Look) -> Doings | None:
    if call.has("--reporters") or not look.has("jest-junit"):
        return None
    folder, _, name = REPORT.rpartition("/")
    return Doings(
        command=f"{script.text} --reporters=default --reporters=jest-junit",
        env=(("JEST_JUNIT_OUTPUT_DIR", folder), ("JEST_JUNIT_OUTPUT_NAME", name)),
    )


def _node(script: Script, call: Call, look: Look) -> Doings | None:
    if look.only_ends or not call.has("--test") or call.has("--test-reporter", "--test-reporter-destination"):
        return None
    # Behind the first file name they would be that file's own arguments.
    flags = (
        "--test-reporter=spec --test-reporter-destination=stdout "
        f"--test-reporter=junit --test-reporter-destination={REPORT}"
    )
    front, found, rest = script.text.rpartition("--test")
    return Doings(command=f"{front}{flags} {found}{rest}")


def _bun(script: Script, call: Call, _: Look) -> Doings | None:
    if call.arguments[:1] != ("test",) or call.has("--reporter"):
        return None
    return Doings(command=f"{script.text} --reporter=junit --reporter-outfile={REPORT}")


_REPORTS: dict[str, Callable[[Script, Call, Look], Doings | None]] = {
    "vitest": _vitest,
    "jest": _jest,
    "node": _node,
    "bun": _bun,
}


def implied_scripts(look: Look) -> dict[str, str]:
    """Scripts that nobody wrote, where a program's own configuration is there: name → text."""
    found: dict[str, str] = {}
    package = look.package
    if look.config("vite.config") and look.has("vite"):
        found["build"] = "vite build"
    elif look.workspace.exists(path := below(package.folder, "tsconfig.json")) and look.has("typescript"):
        shown = projects(path, look.workspace, look.find)
        found["build" if any(one.outputs for one in shown) else "typecheck"] = "tsc -b"
    if look.config("eslint.config") and look.has("eslint"):
        found["lint"] = "eslint ."
    if look.config("vitest.config") and look.has("vitest"):
        found["test"] = "vitest run"
    elif look.config("jest.config") and look.has("jest"):
        found["test"] = "jest"
    return found


def webpack_command(mode: str) -> str:
    """What stands where webpack's configuration is there and no script calls it."""
    return shlex.join(["webpack", "--mode", mode])
