"""The steps that make a Python project's environment: `requirements`, `venv`, `site`.

`venv` holds what others publish, `site` what this repository makes: the wheels of the projects that this one needs by
path, and its own metadata. So an edit of a neighbour never installs anything again.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from build_tests.core.builder import Identity, ManifestError, Output, Resources, Step, Tool

from . import _pylocal
from ._manifests import DOWNLOAD, from_component, path_of, script
from ._pybackend import EPOCH, SCRIPT
from ._pycontext import Context, metadata, sources
from ._pylock import FLATTEN, NAMES
from ._pyproject import CHECK_GROUPS, Project, distribution, load, local_requirement, needs_of, poetry_needs

Around = tuple[str, str]
UV = Tool(name="uv", hint="pip install uv")
POETRY = Tool(name="poetry", hint="pipx install poetry")
NETWORK = ("PIP_*", "UV_*", "POETRY_*")
EXPORT = ("uv", "export", "--quiet", "--locked", "--no-emit-local", "--no-header", "--no-annotate", "--python")
NO_SETTINGS = frozenset(
    {
        "build-backend", "conflicts", "default-groups", "dependency-groups", "dev-dependencies", "environments",
        "managed", "package", "required-environments", "required-version", "sources", "workspace",
    }
)  # fmt: skip
"""Keys of `[tool.uv]` that say nothing to `uv venv` and `uv pip`."""
PLAIN = [
    *("-e", "s/^[[:space:]]*//"),
    *("-e", "s/^#.*//"),
    *("-e", "s/[[:space:]]#.*//"),
    *("-e", "s/[[:space:]]*$//"),
    *("-e", "/^-r/d", "-e", "/^-c/d", "-e", "/^--requirement/d", "-e", "/^--constraint/d"),
]
"""sed: requirement lines as `_pyrequirements` reads them, without those that include other files."""
UV_ENV = (("UV_NO_PROGRESS", "1"), ("UV_PYTHON_DOWNLOADS", "never"))
"""The interpreter is the one whose version is in the key."""
MIRROR = """\
[ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"
[ -z "${PIP_EXTRA_INDEX_URL:-}" ] || export UV_INDEX="${UV_INDEX:-$PIP_EXTRA_INDEX_URL}"
[ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}\""""
"""uv does not read pip's settings; those of the network are the same for both."""


def environment_steps(context: Context) -> Iterator[Step]:
    """`requirements` where a lock has to be read, `venv`, and `site` where this repository adds something."""
    if context.lock.endswith("uv.lock"):
        yield _exported(context)
    elif context.lock.endswith(NAMES):
        yield _flattened(context)
    yield _venv(context)
    if context.site:
        yield _site(context)


def _exported(context: Context) -> Step:
    """The part of uv.lock that concerns this project: another's entry, or another edit of pyproject.toml, ends here."""
    lock = posixpath.dirname(context.lock)
    beside = (posixpath.join(lock, name) for name in ("uv.toml", ".python-version"))
    manifests = [
        context.project.file,
        *(project.file for project in context.neighbours),
        *_pylocal.members(context.workspace, lock),
        *filter(context.workspace.exists, beside),
    ]
    groups = context.project.groups()
    chosen = [("--extra", name) for name in _chosen(context, context.project.extras())]
    chosen += [("--group", name) for name in _chosen(context, groups)]
    export, listed = [*EXPORT, context.options.python], _list(context)
    commands: list[list[str] | str] = [[*export, *chain(*chosen), "--output-file", listed]]
    if context.shared_groups:
        shared = chain(*(("--only-group", name) for name in context.shared_groups))
        root = from_component(context.component, lock)
        commands.append(f"{shlex.join([*export, '--project', root, *shared])} >>{shlex.quote(listed)}")
    return context.step(
        "requirements",
        command=script(*commands),
        inputs=tuple(dict.fromkeys((context.lock, *filter(None, manifests)))),
        outputs=(Output(path=context.at(_list(context))),),
        tools=(context.interpreter, UV),
        env=UV_ENV,
        network_env=NETWORK,
        retries=DOWNLOAD,
    )


def _flattened(context: Context) -> Step:
    """What a pylock.toml or a pdm.lock says as requirement lines, which uv and pip read alike."""
    wanted = CHECK_GROUPS if context.options.extras is None else context.options.extras
    flatten = [context.options.python, "-c", FLATTEN, from_component(context.component, context.lock), *wanted]
    return context.step(
        "requirements",
        command=f"{shlex.join(flatten)} >{shlex.quote(_list(context))}",
        inputs=(context.lock,),
        outputs=(Output(path=context.at(_list(context))),),
    )


def _chosen(context: Context, there: Iterable[str]) -> list[str]:
    wanted = CHECK_GROUPS if context.options.extras is None else context.options.extras
    return [name for name in wanted if name in there]


def _list(context: Context) -> str:
    return f"{context.venv}-requirements.txt"


def _venv(context: Context) -> Step:
    if context.lock.endswith("uv.lock"):
        return _venv_step(context, ["-r", _list(context)], (context.at(_list(context)),), tools=(UV,))
    if context.lock.endswith(NAMES):
        return _venv_step(context, ["-r", _list(context)], (context.at(_list(context)),))
    if context.lock:
        return _poetry(context)
    if context.requirement_files:
        return _from_files(context)
    return _venv_step(context, _named(context), ())


def _poetry(context: Context) -> Step:
    """Poetry itself installs, into an environment made for it; the project's folder is given by the lock's."""
    extras = {**context.project.extras(), **context.project.tool("poetry").get("extras", {})}
    groups = context.project.tool("poetry").get("group", {})
    optional = [name for name, group in groups.items() if isinstance(group, dict) and group.get("optional")]
    chosen = [f"--extras={name}" for name in _chosen(context, extras)]
    chosen += [f"--with={name}" for name in _chosen(context, optional)]
    files = [context.lock, context.project.file, *(project.file for project in context.neighbours)]
    files += [context.at("poetry.toml")] if context.has("poetry.toml") else []
    install = script(
        f'export VIRTUAL_ENV="$PWD/{context.venv}" PATH="$PWD/{context.venv}/bin:$PATH"',
        ["poetry", "install", "--no-root", "--no-directory", "--no-interaction", "--no-ansi", *chosen],
    )
    return _venv_step(context, [], tuple(filter(None, files)), tools=(POETRY,), around=("", install))


def _from_files(context: Context) -> Step:
    found = context.requirements
    files = [from_component(context.component, path) for path in found.files]
    arguments: list[str] = ["--require-hashes"] if found.hashed else []
    before = ""
    if found.projects:
        # pip would take its neighbours from their sources, and leave files there; what they need is named instead.
        dropped = [word for line in dict.fromkeys(found.local_lines) for word in ("-e", line)]
        before = script(
            f'sed {shlex.join(PLAIN)} {shlex.join(files)} >"$TMP/all"',
            f'grep -vxF {shlex.join(dropped)} "$TMP/all" >"$TMP/requirements.txt" || true',
        )
        arguments += ["-r", "$TMP/requirements.txt"]
        arguments += [word for path in found.constraints for word in ("-c", from_component(context.component, path))]
        arguments += [] if found.hashed else _needs_of_neighbours(context)
    else:
        named = [path_of(context.component, name) for name in context.requirement_files]
        arguments += [word for path in named for word in ("-r", from_component(context.component, path))]
    return _venv_step(context, arguments, (*found.files, *found.constraints), around=(before, ""))


def _needs_of_neighbours(context: Context) -> list[str]:
    """What the projects named by path need of others; the project itself may be among those (`-e .[test]`)."""
    needs: list[str] = []
    own = context.requirements.projects.get(context.component.path)
    if own is not None:
        needs += needs_of(context.project, [name.strip() for name in own.strip("[]").split(",")])
    for project in context.neighbours:
        needs += [*project.requires, *poetry_needs(project, checks=False)]
    local = {distribution(project.name) for project in (context.project, *context.neighbours)}
    return [need for need in dict.fromkeys(needs) if not local_requirement(need) and distribution(need) not in local]


def _named(context: Context) -> list[str]:
    """What pyproject.toml asks for: to build, and where there is something to check also to run and to check."""
    project = context.project
    build = [*project.build_requires]
    if not context.checks:
        return build
    needs = [*build, *needs_of(project, context.options.extras), *poetry_needs(project, checks=True)]
    needs += _needs_of_neighbours(context)
    local = {distribution(neighbour.name) for neighbour in context.neighbours}
    needs = [need for need in needs if not local_requirement(need) and distribution(need) not in local]
    named = {distribution(need) for need in needs}
    checkers = [name for name in ("mypy", "ruff") if context.wants(name)]
    return [*dict.fromkeys((*needs, *(name for name in (*_runners(context), *checkers) if name not in named)))]


def _runners(context: Context) -> list[str]:
    return ["pytest"] if context.tests else []


def overlay(context: Context) -> str:
    """Where what builds the project lies, apart from what it runs with; "" = in the environment itself."""
    needs = {distribution(need) for need in context.project.build_requires}
    named = context.requirements.names if not context.lock else context.project.mentions()
    return f"{context.venv}/build-requires" if context.is_locked and not needs <= named else ""


def _venv_step(
    context: Context,
    arguments: list[str],
    inputs: tuple[str, ...],
    *,
    tools: tuple[Tool, ...] = (),
    around: Around = ("", ""),
) -> Step:
    """Made by uv where it is there (or must be), else by venv and pip; `around` is shell text before and behind."""
    make, makers = _made(context, arguments, needs_uv=UV in tools)
    folder = 'TMP=$(mktemp -d)\ntrap \'rm -rf "$TMP"\' EXIT' if around[0] else ""
    return context.step(
        "venv",
        command="\n".join(filter(None, (folder, around[0], make, around[1]))),
        inputs=tuple(dict.fromkeys((*inputs, *(_uv_settings(context) if makers else ())))),
        outputs=(Output(path=context.at(context.options.venv), directory=True, identity=Identity.INSTALLED),),
        tools=(context.interpreter, *makers, *(tool for tool in tools if tool is not UV)),
        env=UV_ENV,
        network_env=NETWORK,
        retries=DOWNLOAD,
    )


def _made(context: Context, arguments: list[str], *, needs_uv: bool) -> tuple[str, tuple[Tool, ...]]:
    """How the environment is made and filled, and what does it."""
    build = context.project.build_requires if overlay(context) else ()
    with_uv, with_pip = _with_uv(context, arguments, build), _with_pip(context, arguments, build)
    if needs_uv or context.options.installer == "uv":
        return with_uv, (UV,)
    if context.options.installer == "pip":
        return with_pip, ()
    choice = f"if command -v uv >/dev/null 2>&1; then\n{with_uv}\nelse\n{with_pip}\nfi"
    return choice, (replace(UV, optional=True),)


def _uv_settings(context: Context) -> tuple[str, ...]:
    """The files that uv takes settings of the repository from (indexes, overrides); () = none has any."""
    own, manifests = _above(context, "uv.toml"), _above(context, "pyproject.toml")
    tables = (load(context.workspace, posixpath.dirname(path)).tool("uv") for path in manifests)
    # It looks into every manifest on the way.
    return (*manifests, *own) if own or any(table.keys() - NO_SETTINGS for table in tables) else ()


def _above(context: Context, name: str) -> list[str]:
    """The files of this name in the project's folder and above."""
    paths = (posixpath.join(folder, name) for folder in _pylocal.ancestors(context.component.path))
    return [path for path in paths if context.workspace.exists(path)]


def _with_uv(context: Context, arguments: list[str], build: tuple[str, ...]) -> str:
    # Else it reads pyproject.toml, and every edit of that would install everything again.
    uv = ["uv"] if _uv_settings(context) else ["uv", "--project", "/"]
    install = [*uv, "pip", "install", "--quiet", "--python", context.python]
    lines = [MIRROR, script([*uv, "venv", "--quiet", "--python", context.options.python, context.venv])]
    lines += [_joined([*install, *arguments])] if arguments else []
    lines += [script([*install, "--target", overlay(context), *build])] if build else []
    return "\n".join(lines)


def _with_pip(context: Context, arguments: list[str], build: tuple[str, ...]) -> str:
    install = [context.python, "-m", "pip", "install", "--quiet", "--no-input"]
    lines = [script([context.options.python, "-m", "venv", "--clear", context.venv])]
    lines += [_joined([*install, *arguments])] if arguments else []
    lines += [script([*install, "--target", overlay(context), *build])] if build else []
    return "\n".join(lines)


def _joined(words: Iterable[str]) -> str:
    """As `shlex.join`, but a file below $TMP is the shell's to find."""
    return " ".join(f'"{word}"' if word.startswith("$TMP/") else shlex.quote(word) for word in words)


def backend_call(context: Context, kind: str, out: str, *arguments: str, backend: bool = True) -> str:
    """A call of SCRIPT, as shell text."""
    project, apart = context.project, overlay(context)
    path = f"$PWD/{context.venv}/bin:$PATH"
    lines = [f'export PATH="$PWD/{apart}/bin:{path}" PYTHONPATH="$PWD/{apart}"' if apart else f'export PATH="{path}"']
    named = (project.backend, ":".join(project.backend_path)) if backend else ("", "")
    lines.append(script([context.python, "-c", SCRIPT, kind, out, *named, *arguments]))
    return "\n".join(lines)


def alone(context: Context) -> Resources:
    """pdm-backend works in `.pdm-build` beside the manifest: one of its calls at a time."""
    shares = context.project.backend.startswith("pdm.")
    return Resources(locks=(f"{context.component.name}.pdm-build",)) if shares else Resources()


def _site(context: Context) -> Step:
    """Wheels by path, unpacked, and the project's own metadata, so that its entry points and version are found."""
    wheels = [folder for project in context.neighbours if (folder := _wheels(context, project))]
    own = bool(context.project.backend) and not context.options.installed
    if context.options.installed:
        wheels.append(context.at(context.options.out))
    meta = metadata(context) if own else ()
    if own and ("dynamic" in context.project.metadata or context.project.legacy):
        # Only the backend knows what it looks at: `attr: app.__version__` is a line of the code.
        meta = (*meta, *sources(context))
    arguments = [from_component(context.component, folder) for folder in wheels]
    return context.step(
        "site",
        command=backend_call(context, "site", context.site, *arguments, backend=own),
        inputs=(*(f"{folder}/" for folder in wheels), *meta),
        outputs=(Output(path=context.at(context.site), directory=True),),
        depends_on=(context.label("venv"),),
        env=(("SOURCE_DATE_EPOCH", EPOCH),),
        resources=alone(context),
    )


def _wheels(context: Context, project: Project) -> str:
    """The folder, from the root, into which a neighbour's wheel goes; "" = it is never packaged."""
    alike = (c for c in context.workspace.components if c.kind == context.component.kind)
    there = next((component for component in alike if component.path == project.folder), None)
    if there is None:
        folder = project.folder or "//"
        name = posixpath.basename(project.folder) or "root"
        raise ManifestError(
            f"{context.project.file or context.component.path} depends on {folder}, which is no component",
            hint=f"add {name}: {{kind: python, path: {folder}}} under components:",
            file=context.project.file,
        )
    return path_of(there, there.options.out) if project.backend else ""


