"""What a trace found, in words, with the line to paste into the build file. Knows steps and places; traces nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from build_tests.core.globs import escape
from build_tests.core.model import Component, Config, Step
from build_tests.run.text import scrub
from build_tests.run.trace import Traced

NAMED = 6
"""Files that one line names."""
ALIKE = 4
"""Files of one folder and ending from which on a pattern is offered in their place."""


def headline(traced: Traced) -> str:
    """What is wrong, in one line."""
    parts = [
        f"{verb} {_files(paths)} that it does not declare"
        for verb, paths in (("reads", traced.reads), ("writes", traced.writes))
        if paths
    ]
    return " and ".join(parts)


def finding(step: Step, traced: Traced, inputs: Collection[str], config: Config) -> list[str]:
    """The lines that tell of undeclared files: what, and how to declare it. `inputs`: those declared, from the root."""
    own = [path for path in traced.writes if path in inputs]
    reads = [path for path in traced.reads if path != ".git"]
    writes = [path for path in traced.writes if path not in inputs]
    lines = []
    if reads:
        lines.append(f"reads {_files(reads)} that it does not declare: {_named(reads)}")
    if writes:
        lines.append(f"writes {_files(writes)} that it does not declare: {_named(writes)}")
    if own:
        lines.append(f"changes its own inputs: {_named(own)}; what a step is made from must stay as it is")
    if ".git" in traced.reads:
        lines.append("reads .git: what it makes may depend on the commit; turn that off, or pass it in (pass_env)")
    if traced.more:
        lines.append(f"… and {traced.more} files more")
    if pasted := _to_paste(step, reads, writes, inputs):
        where, line = _at(step, pasted, config)
        lines += [f"to declare them, paste at {where}:", f"    {line}"]
    return [scrub(line) for line in lines]


def summary(results: Sequence[tuple[str, Traced]], unrun: int = 0) -> Iterator[str]:
    """The trace of a whole run, by label: how many of what, and why which could not be told; `unrun`: not traced."""
    counts = Counter(traced.status for _, traced in results)
    counts["unrun"] = unrun
    words = {
        "clean": "clean", "undeclared": "with undeclared files", "unverified": "unverified",
        "unrun": "not run and so not traced",
    }  # fmt: skip
    yield "trace: " + (", ".join(f"{counts[status]} {word}" for status, word in words.items() if counts[status]) or "-")
    unverified = [(label, traced) for label, traced in results if traced.status == "unverified"]
    by_reason: dict[str, list[str]] = {}
    for label, traced in unverified:
        by_reason.setdefault("; ".join(traced.why), []).append(label)
    for why, labels in by_reason.items():
        yield scrub(f"unverified: {_named(labels)}: {why}")


def _files(paths: Sequence[str]) -> str:
    return "1 file" if len(paths) == 1 else f"{len(paths)} files"


def _named(paths: Sequence[str]) -> str:
    rest = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(paths[:NAMED]) + rest


def _to_paste(step: Step, reads: Iterable[str], writes: Iterable[str], inputs: Collection[str]) -> dict[str, list[str]]:
    """Key → what to write under it. A name that is no text can't be written down."""
    patterns = [_written(pattern, step.path) for pattern in _patterns(reads)]
    outputs = [_written(path, step.path) for path in _folders(writes, step, inputs)]
    return {key: found for key, found in (("extra_inputs", patterns), ("extra_outputs", outputs)) if found}


def _patterns(paths: Iterable[str]) -> list[str]:
    """The paths; many of one folder and one ending as one pattern."""
    alike: dict[str, list[str]] = {}
    for path in filter(_is_text, paths):
        folder, _, name = path.rpartition("/")
        front = escape(folder) + "/" if folder else ""
        ending = name.rpartition(".")[2]
        key = f"{front}*.{ending}" if "." in name.lstrip(".") else escape(path)
        alike.setdefault(key, []).append(path)
    return [p for key, found in alike.items() for p in ([key] if len(found) >= ALIKE else [escape(f) for f in found])]


def _folders(paths: Iterable[str], step: Step, inputs: Collection[str]) -> list[str]:
    """The paths; many of one folder, in which nothing else lies that we know of, as that folder."""
    alike: dict[str, list[str]] = {}
    for path in filter(_is_text, paths):
        alike.setdefault(path.rpartition("/")[0], []).append(path)
    found = []
    for folder, files in alike.items():
        theirs = (
            not folder or f"{step.path}/".startswith(f"{folder}/") or any(p.startswith(f"{folder}/") for p in inputs)
        )
        found += files if theirs or len(files) < ALIKE else [f"{folder}/"]
    return found


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return path.isprintable()


def _written(path: str, folder: str) -> str:
    """As the component writes it."""
    if not folder:
        return path
    return path[len(folder) + 1 :] if path.startswith(f"{folder}/") else f"//{path}"


def _at(step: Step, pasted: dict[str, list[str]], config: Config) -> tuple[str, str]:
    """Where to paste, and what."""
    keys = ", ".join(f"{key}: {json.dumps(values, ensure_ascii=False)}" for key, values in pasted.items())
    component = next((c for c in config.components if c.name == step.component), None)
    entries = {override.name for override in component.steps} if component is not None else set()
    if component is None or step.name in entries:
        return f"{step.where}, under {step.name}", keys
    if entries:
        return f"{_place(component)}, under steps", f"{step.name}: {{{keys}}}"
    return f"{_place(component)}, under {component.name}", f"steps: {{{step.name}: {{{keys}}}}}"


def _place(component: Component) -> str:
    return str(component.where)
