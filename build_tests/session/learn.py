"""Notes for the next `pytest-build` what this pytest was like: must it see a build in which nothing runs?

It must where anything could make a difference that we do not know to make none: an option in addopts, a setting, a
plugin, a hook of a conftest. Then the note says so, and pytest is started each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from build_tests import pytestside

INI = frozenset({
    "addopts", "cache_dir", "collect_imported_tests", "console_output_style", "consider_namespace_packages",
    "disable_test_id_escaping_and_forfeit_all_rights_to_community_support", "doctest_encoding", "doctest_optionflags",
    "empty_parameter_set_mark", "enable_assertion_pass_hook", "faulthandler_timeout", "filterwarnings",
    "junit_duration_report", "junit_family", "junit_log_passing_tests", "junit_logging", "junit_suite_name",
    "log_cli", "log_cli_date_format", "log_cli_format", "log_cli_level", "log_date_format", "log_format", "log_level",
    "markers", "minversion", "norecursedirs", "python_classes", "python_files", "python_functions", "pythonpath",
    "required_plugins", "strict", "strict_config", "strict_markers", "strict_parametrization_ids", "strict_xfail",
    "testpaths", "tmp_path_retention_count", "tmp_path_retention_policy", "truncation_limit_chars",
    "truncation_limit_lines", "usefixtures", "verbosity_assertions", "verbosity_subtests", "verbosity_test_cases",
    "xfail_strict", "asyncio_mode", "asyncio_default_fixture_loop_scope", "asyncio_default_test_loop_scope", "timeout",
    "timeout_method", "timeout_func_only",
})  # fmt: skip
"""Settings that say nothing about a session in which no item runs, or that pytest has obeyed before us."""
OPTIONS = frozenset({
    "-q", "--quiet", "-v", "-vv", "-vvv", "--verbose", "-l", "--showlocals", "--strict", "--strict-markers",
    "--strict-config", "--disable-warnings", "--disable-pytest-warnings", "--no-header",
})  # fmt: skip
BEGINNINGS = ("-r", "--tb=", "--durations=", "--durations-min=", "--import-mode=", "--maxfail=", "-pno:")
NEEDED = ("terminal", "terminalreporter", "build_tests", "xdist", "no:")
"""Without these the session is another one."""
PLUGINS = (
    "_pytest.", "xdist.", "build_tests.", "pytest_dependency", "_hypothesis_", "hypothesis.", "anyio.",
    "pytest_asyncio", "pytest_timeout", "pytest_mock", "pytest_cov", "pytest_rerunfailures", "pytest_randomly",
    "pytest_html", "pytest_metadata", "pytest_benchmark", "faker.", "typeguard.", "pluggy.",
)  # fmt: skip
"""Plugins that do something only to items that run, or when an option of theirs says so."""
HOOKS = frozenset({
    "pytest_assertion_pass", "pytest_assertrepr_compare", "pytest_exception_interact", "pytest_fixture_post_finalizer",
    "pytest_fixture_setup", "pytest_generate_tests", "pytest_make_parametrize_id", "pytest_markeval_namespace",
    "pytest_pycollect_makeitem", "pytest_pycollect_makemodule", "pytest_pyfunc_call", "pytest_runtest_call",
    "pytest_runtest_makereport", "pytest_runtest_protocol", "pytest_runtest_setup", "pytest_runtest_teardown",
})  # fmt: skip
"""Hooks that pytest calls only for items that run, or for Python files."""


class Learner:
    """A plugin of one session, made before it begins.

    Args:
        folder: `.build`.
        file: the build file.
        own_verbosity: what the command itself asked for.
        auto: whether `-n auto` was asked for.
    """

    def __init__(self, *, folder: str, file: str, own_verbosity: int, auto: bool) -> None:
        self._folder = folder
        self._grounds = pytestside.grounds(file)
        self._own_verbosity = own_verbosity
        self._auto = auto
        self._variables = _variables()

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """The session has shown that all is well with its settings."""
        controller = config.pluginmanager.get_plugin("build-controller")
        if controller is None or controller.checkout is None or self._grounds is None:
            return
        why = next(self._reasons(config), "")
        note = {
            "why": why, "state": controller.checkout.state_folder, "auto": controller.tx_count if self._auto else None,
            "verbosity": config.get_verbosity() - self._own_verbosity,
        }  # fmt: skip
        pytestside.record(self._folder, self._grounds, note)

    def _reasons(self, config: pytest.Config) -> Iterator[str]:
        """Why pytest must see each build."""
        settings = getattr(config, "_inicfg", None)
        settings = getattr(config, "inicfg", None) if settings is None else settings
        if not isinstance(settings, Mapping):
            yield "its settings can't be read"
            return
        yield from (f"setting {name}" for name in sorted(settings.keys() - INI))
        if unknown := unknown_option([*config.getini("addopts"), *os.environ.get("PYTEST_ADDOPTS", "").split()]):
            yield f"option {unknown}"
        for name, plugin in config.pluginmanager.list_name_plugin():
            if plugin is not None and plugin is not self and (hook := _hook_of(config, plugin)):
                yield f"plugin {name}: {hook}"
        if _variables() != self._variables:
            yield "a conftest or plugin changes variables"


def _variables() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}


def _hook_of(config: pytest.Config, plugin: Any) -> str:
    """A hook of a plugin that we do not know to be harmless, or ""."""
    module = getattr(plugin, "__name__", None) or type(plugin).__module__
    if f"{module}.".startswith(PLUGINS):
        return ""
    hooks = {caller.name for caller in config.pluginmanager.get_hookcallers(plugin) or ()}
    return next(iter(sorted(hooks - HOOKS)), "")


def unknown_option(tokens: Sequence[str]) -> str:
    """The first of pytest's options that may make a difference where nothing runs, or ""."""
    left = list(tokens)
    while left:
        option = left.pop(0)
        paired = option == "-W" or (option == "-p" and _is_left_out(left[:1]))
        if paired and left:
            left.pop(0)
        elif option not in OPTIONS and not option.startswith(BEGINNINGS):
            return option
    return ""


def _is_left_out(names: Sequence[str]) -> bool:
    """Whether `-p` takes away a plugin that the session does not live by."""
    return any(name.startswith("no:") and not name[3:].startswith(NEEDED) for name in names)
