"""buf's part of a `protobuf` component: `lint`, `breaking`, and code by buf.gen.yaml. Knows no protoc flag."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from build_tests.core.builder import Component, ManifestError, Output, Step, Tool, Workspace, path_from_root

from ._manifests import from_component, path_of, script
from ._protolanguages import LANGUAGES, NODE, PROTOC

BUF = Tool(
    name="buf", hint="npm install @bufbuild/buf and name it under buf:, or go install github.com/bufbuild/buf/cmd/buf"
)
GIT = Tool(name="git", hint="apt install git")
NETWORK = ("BUF_*",)
MANIFESTS = ("buf.yaml", "buf.work.yaml")
GENERATION = "buf.gen.yaml"
_READ = (*MANIFESTS, "buf.lock", "buf.work", "buf.mod")
"""The last two are what older releases called the first two."""
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_KNOWN = {
    generator.program: generator
    for language in LANGUAGES.values()
    for generator in (language.messages, language.services)
    if generator is not None and generator.program
}


def lint_step(component: Component, workspace: Workspace, files: Iterable[str]) -> Step:
    """`buf lint`."""
    return _step(component, workspace, "lint", script([_buf(component), "lint"]), files)


def breaking_step(component: Component, workspace: Workspace, files: Iterable[str], ref: str) -> Step:
    """`buf breaking` against the schema as a git ref has it.

    The commit that the ref means is in the key. Where it can't be read off git's files, the step always runs.
    """
    commit = _commit(workspace, ref)
    command = script(
        f"ref={script([ref])}",
        'git rev-parse --verify --quiet "$ref^{commit}" >/dev/null || {\n'
        '  echo "git knows no commit $ref here; a shallow clone has to fetch it" >&2; exit 1; }',
        'if ! git rev-parse --verify --quiet "$ref:./" >/dev/null; then\n'
        '  echo "$ref has no such folder yet: nothing to compare with"; exit 0; fi',
        "tmp=$(mktemp -d)",
        """trap 'rm -rf "$tmp"' EXIT""",
        'git archive --format=tar --output="$tmp/old.tar" "$ref" .',
        'mkdir "$tmp/old"',
        'tar -xf "$tmp/old.tar" -C "$tmp/old"',
        script([_buf(component), "breaking", ".", "--against"]) + ' "$tmp/old"',
    )
    fields: dict[str, Any] = {"facts": ((f"git {ref}", commit),)} if commit else {"cache": False}
    return _step(component, workspace, "breaking", command, files, tools=(GIT, Tool(name="tar")), **fields)


def generation_steps(component: Component, workspace: Workspace, files: list[str]) -> Iterator[Step]:
    """A step for each folder that buf.gen.yaml fills, named after the first plugin that does.

    Raises:
        ManifestError: it can't be read, or wants what lies elsewhere.
    """
    path = path_of(component, GENERATION)
    template = _yaml(workspace.read_text(path), path)
    by_out: dict[str, list[dict[str, Any]]] = {}
    for plugin in template.get("plugins") or ():
        if not isinstance(plugin, dict) or not isinstance(plugin.get("out"), str):
            raise ManifestError(f"{path}: each of plugins: is a mapping with out:", file=path)
        by_out.setdefault(path_of(component, plugin["out"]), []).append(plugin)
    if not by_out:
        raise ManifestError(f"{path} has no plugins", file=path)
    if any(not isinstance(one, dict) or "directory" not in one for one in template.get("inputs") or ()):
        raise ManifestError(f"{path}: only inputs that are folders are supported", file=path)
    for out, plugins in by_out.items():
        own = json.dumps({**template, "plugins": plugins}, default=str)
        local = [_program(plugin) for plugin in plugins]
        yield _step(
            component,
            workspace,
            _name(local[0]),
            script([_buf(component), "generate", "--template", own]),
            [*files, *(path_of(component, name) for name in local if "/" in name)],
            outputs=(Output(path=out, directory=True),),
            tools=tuple(_tools(local)),
        )


def _step(
    component: Component, workspace: Workspace, name: str, command: str, files: Iterable[str], **fields: Any
) -> Step:
    read = [path for path in (path_of(component, name) for name in _READ) if workspace.exists(path)]
    buf = component.options.buf
    own = (path_of(component, buf),) if "/" in buf else ()
    tools = (NODE,) if "node_modules/" in buf else () if own else (Tool(name=buf) if buf else BUF,)
    return Step(
        component=component.name,
        name=name,
        kind=component.kind,
        path=component.path,
        command=command,
        inputs=(*files, *read, *own),
        network_env=NETWORK,
        tools=(*tools, *fields.pop("tools", ())),
        **fields,
    )


def _buf(component: Component) -> str:
    buf: str = component.options.buf
    if "/" not in buf:
        return buf or BUF.name
    near = from_component(component, path_of(component, buf))
    return near if "/" in near else f"./{near}"


def _yaml(text: str, path: str) -> Mapping[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it can't be read"
        raise ManifestError(f"{path} is no YAML: {problem}", file=path, line=mark.line + 1 if mark else 0) from None
    if not isinstance(found, dict):
        raise ManifestError(f"{path} is no mapping", file=path)
    return found


def _program(plugin: Mapping[str, Any]) -> str:
    """The plugin's program, path or (of the registry, or protoc's own) name, in all forms that buf.gen.yaml has."""
    local = plugin.get("local", plugin.get("path"))
    if local:
        return str(local[0] if isinstance(local, list) else local)
    if "protoc_builtin" in plugin:
        return str(plugin["protoc_builtin"])
    named = str(plugin.get("plugin", plugin.get("name", plugin.get("remote", ""))))
    remote = "/" in named
    # A plain name is protoc's own language, or a plugin on PATH.
    builtin = named in LANGUAGES and not LANGUAGES[named].messages.program
    return named.rpartition("/")[2].partition(":")[0] if remote else named if builtin else f"protoc-gen-{named}"


def _tools(programs: Iterable[str]) -> Iterator[Tool]:
    for program in programs:
        if program in _KNOWN:
            yield _KNOWN[program].tool
        elif program.startswith("protoc-gen-"):
            yield Tool(name=program)
        elif program in LANGUAGES:
            yield PROTOC


def _name(program: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", program.rpartition("/")[2].removeprefix("protoc-gen-"))
    return name if name[:1].isalpha() else f"gen-{name}"


def _commit(workspace: Workspace, ref: str) -> str:
    """The commit or tag object that a ref means, read off git's own files; "" where they do not say."""
    if _HASH.fullmatch(ref):
        return ref
    for name in (ref, f"refs/{ref}", f"refs/tags/{ref}", f"refs/heads/{ref}", f"refs/remotes/{ref}"):
        found = _ref(workspace, name)
        if found:
            return found
    return ""


def _ref(workspace: Workspace, name: str, depth: int = 5) -> str:
    try:
        loose = workspace.read_text(path_from_root(f".git/{name}", "")).strip()
    except (ManifestError, ValueError):
        return _packed(workspace, name)
    if loose.startswith("ref: ") and depth:
        return _ref(workspace, loose.removeprefix("ref: "), depth - 1)
    return loose if _HASH.fullmatch(loose) else ""


def _packed(workspace: Workspace, name: str) -> str:
    try:
        lines = workspace.read_text(".git/packed-refs").splitlines()
    except ManifestError:
        return ""
    found = (line.partition(" ") for line in lines if not line.startswith(("#", "^")))
    return next((commit for commit, _, packed in found if packed == name), "")
