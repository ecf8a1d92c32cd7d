"""The command `pytest-build schema`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def declare(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments."""
    parser.set_defaults(run=_schema)


def _schema(_options: argparse.Namespace, _extra: Sequence[str]) -> int:
    from build_tests.core.schema import schema_for
    from build_tests.registry import Registry

    print(json.dumps(schema_for(Registry()), indent=1, ensure_ascii=False))
    return 0
