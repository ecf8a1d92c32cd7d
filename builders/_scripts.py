"""Scripts of package.json as text → the programs that they start. Runs nothing, and knows no program by its doings."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MANAGERS = frozenset({"npm", "npx", "pnpm", "pnpx", "yarn", "bun", "bunx"})
_WRAPPERS = frozenset({"cross-env", "cross-env-shell", "dotenv", "env", "time", "npx", "bunx", "pnpx", "exec"})
_EXEC = frozenset({"exec", "dlx", "x"})
_RUN = frozenset({"run", "run-script"})
_ALL = frozenset({"-r", "--recursive", "--workspaces", "-ws", "--filter", "-F", "-w", "--workspace", "workspace",
                  "workspaces", "--prefix", "-C", "--cwd"})  # fmt: skip
_ORCHESTRATORS = frozenset({"turbo", "nx", "lerna", "wsrun", "wireit", "rush", "ultra", "moon"})
_BETWEEN = frozenset({"&&", "||", ";", "|", "&", "|&", "(", ")", "\n"})
_DEPTH = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One program with its arguments."""

    program: str
    arguments: tuple[str, ...] = ()

    def option(self, *names: str) -> str:
        """The value of `--name value` or `--name=value`, or ""."""
        for i, text in enumerate(self.arguments):
            name, equals, value = text.partition("=")
            if name in names:
                return value if equals else next(iter(self.arguments[i + 1 : i + 2]), "")
        return ""

    def has(self, *names: str) -> bool:
        """Whether a flag is there."""
        return any(text.partition("=")[0] in names for text in self.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a script comes to."""

    text: str
    calls: tuple[Call, ...] = ()
    """Those of the scripts that it runs stand in their place."""
    last: Call | None = None
    """Where words added at the end of the text go; None where that is a script of its own."""
    managers: tuple[str, ...] = ()
    """Package managers that it starts itself."""
    simple: bool = False
    """It is one program with its arguments, and nothing of the shell."""
    elsewhere: bool = False
    """It builds other packages: what their own steps do."""


def script_of(text: str, scripts: Mapping[str, str]) -> Script:
    """A script's text; `scripts` are all of its package."""
    own = list(_calls(text))
    found = list(_expanded(own, scripts, _DEPTH))
    plain = not any(char in text for char in "&|;<>()$`\n*?~#") and "=" not in text.partition(" ")[0]
    return Script(
        text=text,
        calls=tuple(_unwrapped(call) for call in found),
        last=_unwrapped(own[-1]) if own and not _runs(own[-1], scripts) else None,
        managers=tuple(dict.fromkeys(call.program for call in own if call.program in MANAGERS)),
        simple=len(own) == 1 and plain,
        elsewhere=any(_elsewhere(call) for call in found),
    )


def _calls(text: str) -> Iterator[Call]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return  # an open quote: sh will say so
    call: list[str] = []
    for word in [*words, ";"]:
        if word in _BETWEEN:
            if call:
                yield Call(program=call[0].rpartition("/")[2], arguments=tuple(call[1:]))
            call = []
        elif call or not _assignment(word):
            call.append(word)


def _assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier()


def _expanded(calls: list[Call], scripts: Mapping[str, str], depth: int) -> Iterator[Call]:
    for call in calls:
        name = _runs(call, scripts)
        if name and depth:
            yield from _expanded(list(_calls(scripts[name])), scripts, depth - 1)
        else:
            yield call


def _runs(call: Call, scripts: Mapping[str, str]) -> str:
    """The script of this package that a call runs, or ""."""
    if call.program == "node" and call.option("--run") in scripts:
        return call.option("--run")
    if call.program not in MANAGERS or _elsewhere(call):
        return ""
    words = [word for word in call.arguments if not word.startswith("-")]
    if words and words[0] in _RUN:
        words = words[1:]
    elif words[:1] == ["test"] and call.program == "bun":
        return ""  # its own test runner
    elif call.program == "npm" and words[:1] not in (["test"], ["start"]):
        return ""
    return words[0] if words and words[0] in scripts else ""


def _elsewhere(call: Call) -> bool:
    if call.program in _ORCHESTRATORS:
        return True
    return call.program in MANAGERS and call.has(*_ALL)


def _unwrapped(call: Call) -> Call:
    """`cross-env A=b vite build`, `npx vite build`, `pnpm exec vite build` → `vite build`."""
    words = [call.program, *call.arguments]
    while words and (words[0] in _WRAPPERS or (words[0] in MANAGERS and words[1:2] and words[1] in _EXEC)):
        words = words[2:] if words[0] not in _WRAPPERS else words[1:]
        while words and (_assignment(words[0]) or words[0] in {"-y", "--yes", "--no-install", "--", "-e"}):
            words = words[1:]
    return Call(program=words[0].rpartition("/")[2], arguments=tuple(words[1:])) if words else call
