"""The pytest11 entry point: options, and the decision whether this run has anything to do with a build.

Imported in every pytest run of everyone who has us installed, so it imports nothing of ours until a build file is
there, and leaves a run without one as it was.
"""

from __future__ import annotations

import os

import pytest

# The same as core.locate's, which this module must not import in runs that have no build file.
CANDIDATES = ("build.yml", os.path.join("config", "build.yml"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Our options, in one group."""
    add = parser.getgroup("build", "builds as tests (pytest-build)").addoption
    add("--build", action="store_true", help="collect the build file of this folder, beside what else is named")
    add("--build-file", metavar="PATH", help="collect this build file")
    add("--build-target", metavar="NAME", help="the target of the build file to build (default: its default_target)")
    add("--build-env", metavar="NAME", help="the environment overlay, config/environments/NAME.yml")
    add(
        "--build-select", metavar="SELECTOR", action="append", default=[],
        help="build this target, component or step (may be given again)",
    )  # fmt: skip
    add(
        "--build-affected", metavar="REF", nargs="?", const="", default=None,
        help="only what the changes since REF touch (default: where the branch left the main branch), and what depends "
        "on it; --build-affected=REF",
    )  # fmt: skip
    add("--build-no-deps", action="store_true", help="build exactly the selection, not what it needs")
    add("--build-dry-run", action="store_true", help="print the plan with its reasons and run nothing")
    add("--build-force", action="store_true", help="run the selection (not what it needs) whatever the caches say")
    add(
        "--build-accept", action="store_true",
        help="keep present outputs where only the way fingerprints are made has changed",
    )  # fmt: skip
    add("--build-cache", choices=("off", "ro", "rw"), help="override the artifact cache")
    add("--build-shuffle", metavar="SEED", type=int, help="shuffle ties in the order of steps")
    add(
        "--build-trace",
        action="store_true",
        help="watch which files each step opens and writes; report what it does not declare",
    )
    add(
        "--build-output", choices=("errors", "all", "none"), default="errors",
        help="whose output reaches the terminal: failed steps' (default), every step's as it comes, or nobody's",
    )  # fmt: skip
    add("--build-lanes", action="store_true", help="run steps from threads of one process, and never in workers")
    add("--build-no-wait", action="store_true", help="do not wait for another build in this checkout")


def pytest_load_initial_conftests(args: list[str]) -> None:
    """`--build-affected` takes a value behind = only: the word that follows it is not its own."""
    args[:] = [f"{argument}=" if argument == "--build-affected" else argument for argument in args]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """A worker parses `--cache-clear` again, and would wipe what the controller has begun to use."""
    if _worker_input(config) is not None:
        config.option.cacheclear = False


def pytest_configure(config: pytest.Config) -> None:
    """Take part where a build file is at hand; otherwise only make the marker known."""
    config.addinivalue_line(
        "markers", "build_step(label, ...): run after these build steps, and bring them into the run (pytest-build)"
    )
    if _worker_input(config) is not None:
        from build_tests.session.worker import Worker

        config.pluginmanager.register(Worker(config), "build-worker")
    elif not hasattr(config, "workerinput") and not config.option.help and not config.option.version:
        _configure_controller(config)


def _configure_controller(config: pytest.Config) -> None:
    file = build_file(config)
    if file is None:
        return
    named = _is_named(config, file)
    from build_tests.session.controller import Controller

    config.pluginmanager.register(Controller(config, file, named=named), "build-controller")


def _worker_input(config: pytest.Config) -> object | None:
    found: object | None = getattr(config, "workerinput", {}).get("pytest_build")
    return found


def build_file(config: pytest.Config) -> str | None:
    """The build file that this run is about: the one named, else the root's if there is one. Absolute.

    Raises:
        pytest.UsageError: `--build` or `--build-file` names none.
    """
    invoked = str(config.invocation_params.dir)
    if named := config.option.build_file:
        path = os.path.abspath(os.path.join(invoked, named))
        if not os.path.isfile(path):
            raise pytest.UsageError(f"--build-file {named}: no such file")
        return path
    for argument in config.args:
        path = os.path.abspath(os.path.join(invoked, str(argument).partition("::")[0]))
        if os.path.basename(path) in ("build.yml", "build.yaml") and os.path.isfile(path):
            return path
    for folder in dict.fromkeys((invoked, str(config.rootpath))):
        for candidate in CANDIDATES:
            path = os.path.join(folder, candidate)
            if os.path.isfile(path):
                return path
    if config.option.build:
        raise pytest.UsageError(f"--build: neither {' nor '.join(CANDIDATES)} is in {invoked}")
    return None


def _is_named(config: pytest.Config, file: str) -> bool:
    """Whether the run is asked to build, and then the build file is among its arguments."""
    invoked = str(config.invocation_params.dir)
    named = any(os.path.abspath(os.path.join(invoked, str(arg).partition("::")[0])) == file for arg in config.args)
    if not named and (config.option.build or config.option.build_file):
        # Alone, the build replaces pytest's walk of the current folder; beside paths, it adds to them.
        alone = config.args_source is not pytest.Config.ArgsSource.ARGS
        config.args = [file] if alone else [*config.args, file]
        named = True
    return named


@pytest.fixture
def build_outputs(request: pytest.FixtureRequest) -> object:
    """`build_outputs("web:bundle")`: the absolute paths of that step's declared outputs, as a list of `pathlib.Path`.

    Without an argument, those of the steps that the test's own `build_step` markers name.
    """
    from build_tests.session.outputs import BuildOutputs

    return BuildOutputs(request)
