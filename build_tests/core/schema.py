"""The JSON schema of a build file, made from the types that the loader binds to, so that editors complete what we read."""

from __future__ import annotations

from typing import Any

from build_tests.core import spec
from build_tests.core.binding import NAME, schema_of
from build_tests.core.config import BuilderSource


def schema_for(registry: BuilderSource) -> dict[str, Any]:
    """JSON schema, draft 2020-12, with the options of every builder that can be loaded."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pytest-build: build.yml",
        "type": "object",
        "required": ["version", "components"],
        "additionalProperties": False,
        "properties": {
            "version": {"enum": ["2.0", 2.0]},
            "build_system": schema_of(spec.SystemSpec),
            "components": _named({"oneOf": [_component(registry, kind) for kind in registry.kinds()]}),
            "targets": _named(schema_of(spec.TargetSpec)),
            "default_target": {"type": "string"},
            "builders": _named({"type": "string", "pattern": r"^[\w.]+:\w+$"}),
        },
    }


def _named(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "propertyNames": {"pattern": f"^{NAME.pattern}$"}, "additionalProperties": values}


def _component(registry: BuilderSource, kind: str) -> dict[str, Any]:
    """A component of one kind: the common keys, and its builder's own."""
    made = schema_of(spec.ComponentSpec)
    builder = registry.get(kind)
    if builder is not None:
        made["properties"] = {**made["properties"], **schema_of(builder.options)["properties"]}
    made["properties"]["kind"] = {"const": kind}
    return made
