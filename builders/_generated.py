"""What other steps make in a folder of a component: generated code, which no pattern takes by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from build_tests.core.builder import Component, Identity, Workspace, path_from_root


def made_inside(
    folder: str, component: Component, workspace: Workspace, *, takers: Collection[str],
    without: Collection[str] | None = None,
) -> Iterator[str]:  # fmt: skip
    """Paths of outputs as inputs that make edges; folders end with /.

    Args:
        folder: from the root; only what is made in it counts.
        component: whose folder it is.
        workspace: where the other components are found.
        takers: the component's steps, by name, whose inputs these are. What waits for one of them, as a test from
            end to end does with its reports, makes nothing for it.
        without: names of the component's own steps whose outputs do not count; None = nobody's of its own do.
    """
    late = {component.name, *(f"{component.name}:{name}" for name in takers)}
    for other in workspace.components:
        own = other.name == component.name
        if not late.isdisjoint(other.depends_on):
            continue
        made = [] if own and without is None else list(_of_steps(other, (without or ()) if own else (), late))
        for path in (*made, *(() if own else _of_languages(other))):
            if is_inside(path.rstrip("/"), folder):
                yield path


def is_inside(path: str, folder: str) -> bool:
    """Whether a path from the root is a folder's, or the folder itself."""
    return not folder or path == folder or path.startswith(f"{folder}/")


def _of_steps(other: Component, without: Collection[str], late: set[str]) -> Iterator[str]:
    """The outputs that a component's steps have in build.yml, but for those that wait for `late`."""
    for step in other.steps:
        fields = dict(step.fields)
        if not late.isdisjoint(fields.get("depends_on", ())):
            continue
        for output in (*fields.get("outputs", ()), *fields.get("extra_outputs", ())):
            if output.identity is Identity.CONTENT and step.name.rpartition(".")[2] not in without:
                yield f"{output.path}/" if output.directory else output.path


def _of_languages(other: Component) -> Iterable[str]:
    """The folders that a generator of code for several languages is told to fill."""
    languages = getattr(other.options, "languages", None)
    for language in languages.values() if isinstance(languages, dict) else ():
        if isinstance(out := getattr(language, "out", None), str) and out:
            yield path_from_root(out, other.path) + "/"
