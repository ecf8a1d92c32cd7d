"""For this repository's own tests; holds no state."""

from __future__ import annotations

import os
import shutil

import pytest

pytest_plugins = ["build_tests.testing"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that needs a real tool is skipped on a laptop without it, and fails in CI."""
    for marker in item.iter_markers("real"):
        for tool in marker.args:
            if shutil.which(tool) is None:
                message = f"{tool} is not installed"
                pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
