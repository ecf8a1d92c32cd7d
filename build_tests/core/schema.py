"""The JSON schema of the build file, made from the types that read it, so that editors and the reader agree.

JSON Schema, draft 2020-12. Descriptions are the text below each field in the source. Where an editor's YAML 1.1 reads
something else than we do (1.10 is a number, on a truth value), the schema lets it pass. What a schema can't say, names
that must exist for instance, it leaves to the reader.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from itertools import pairwise
from typing import Annotated, Any, get_args, get_origin

from build_tests.core import spec
from build_tests.core.binding import ONE_OR_MANY, RAW, keys_of, marks, members, pairs_of, rest_of, scalar_of
from build_tests.core.config import BuilderSource
from build_tests.core.discover import AUTO, AutoOptions


def schema_for(registry: BuilderSource) -> dict[str, Any]:
    """The schema of a build file whose components may be of every kind that the registry can load.

    Raises:
        BuilderError: a builder can't be loaded.
    """
    top = _object(spec.FileSpec)
    top["properties"]["components"] |= {"additionalProperties": {"$ref": "#/$defs/component"}}
    top["patternProperties"] = {"^x-": {}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Build file of pytest-build",
        **top,
        "$defs": {"component": _component(registry)},
    }


def _component(registry: BuilderSource) -> dict[str, Any]:
    """A component: its keys depend on its kind. A kind we do not know may be a repository's own, with any keys."""
    builders = {kind: registry.get(kind) for kind in registry.kinds()}
    common = _object(spec.ComponentSpec)
    kind = {**common["properties"]["kind"], "examples": [AUTO, *builders]}
    return {
        "type": "object",
        "description": common["description"],
        "required": ["kind"],
        "properties": {**common["properties"], "kind": kind},
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
                "then": _object(spec.ComponentSpec, options),
            }
            for name, options in [(AUTO, AutoOptions), *((n, b.options) for n, b in builders.items() if b is not None)]
        ],
    }


def _object(*classes: type[Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    rest: Any = False
    for cls in classes:
        texts, defaults = _descriptions(cls), _defaults(cls)
        for f in keys_of(cls):
            described = {"description": texts[f.name]} if f.name in texts else {}
            properties[f.key] = {**described, **_schema(f.type), **defaults.get(f.name, {})}
            if f.required:
                required.append(f.key)
        if other := rest_of(cls):
            pairs = pairs_of(get_args(other.type)[0])
            rest = _schema(pairs[1]) if pairs else True
    found: dict[str, Any] = {"type": "object", "description": inspect.getdoc(classes[-1]) or ""}
    if required:
        found["required"] = required
    return {**found, "properties": properties, "additionalProperties": rest}


def _schema(type_: Any) -> dict[str, Any]:
    parts = members(type_)
    if len(parts) > 1:
        return {"anyOf": [_schema(part) for part in parts]}
    (type_,) = parts
    if scalar := scalar_of(type_):
        return dict(scalar.schema)
    if get_origin(type_) is Annotated:
        return _annotated(type_)
    if pairs := pairs_of(type_):
        return _mapping(*pairs)
    if get_origin(type_) in {tuple, list}:
        return {"type": "array", "items": _schema(get_args(type_)[0])}
    return _class(type_)


def _annotated(type_: Any) -> dict[str, Any]:
    if RAW in marks(type_):
        return {}
    inner = _schema(get_args(type_)[0])
    return {"anyOf": [inner["items"], inner]} if ONE_OR_MANY in marks(type_) else inner


def _mapping(key: Any, value: Any) -> dict[str, Any]:
    names = scalar_of(key)
    found: dict[str, Any] = {"type": "object", "additionalProperties": _schema(value)}
    pattern = names.schema.get("pattern") if names else None
    return {**found, "propertyNames": {"pattern": pattern}} if pattern else found


def _class(cls: Any) -> dict[str, Any]:
    found = _object(cls)
    shorthand = getattr(cls, "shorthand", None)
    if shorthand is None:
        return found
    short = next(f.type for f in keys_of(cls) if f.name == shorthand)
    return {"anyOf": [_schema(short), found]}


def _defaults(cls: type[Any]) -> dict[str, dict[str, Any]]:
    """Defaults that are plain values; the others (None, empty) say nothing to a reader."""
    return {
        f.name: {"default": f.default}
        for f in fields(cls)
        if f.default is not MISSING and isinstance(f.default, (bool, str)) and f.default != "" and f.init
    }


def _descriptions(cls: type[Any]) -> dict[str, str]:
    """The text below each field, from the class's source; {} where there is none to be had."""
    if not is_dataclass(cls):
        return {}
    try:
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError):
        return {}
    found: dict[str, str] = {}
    statements = body.body if isinstance(body, ast.ClassDef) else []
    for field, text in pairwise(statements):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = inspect.cleandoc(str(text.value.value))
    return found
