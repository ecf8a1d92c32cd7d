"""Builders for the kinds in build.yml, as a repository would have them."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    out: str = "gen"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtobufOptions:
    languages: dict[str, Language] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    pass


class Protobuf:
    kind = "protobuf"
    options = ProtobufOptions

    def plan(self, component, workspace):
        return ()


class TypeScript:
    kind = "typescript"
    options = Nothing

    def plan(self, component, workspace):
        return ()
