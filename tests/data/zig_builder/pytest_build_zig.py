"""Kind `zig`: build.zig → one step, `build`, that fills zig-out/."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from build_tests.core import builder as api

ZIG = api.Tool(name="zig", version_command=("zig", "version"), hint="install zig from your distribution")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZigOptions:
    """Keys of a `zig` component."""

    optimize: str = "ReleaseSafe"
    """Zig's -Doptimize."""


class ZigBuilder:
    """`build`."""

    kind: ClassVar[str] = "zig"
    options: ClassVar[type[ZigOptions]] = ZigOptions

    @staticmethod
    def detect(path: str, workspace: api.Workspace) -> bool:
        """For `kind: auto`: there is a build.zig."""
        return workspace.exists(api.path_from_root("build.zig", path))

    def plan(self, component: api.Component, workspace: api.Workspace) -> Iterable[api.Step]:
        """Raises ManifestError: there is no build.zig."""
        manifest = api.path_from_root("build.zig", component.path)
        if not workspace.exists(manifest):
            raise api.ManifestError(f"{manifest} is missing", hint="zig init")
        yield api.Step(
            component=component.name,
            name="build",
            kind=component.kind,
            path=component.path,
            command=("zig", "build", f"-Doptimize={component.options.optimize}"),
            inputs=tuple(api.pattern_from_root(text, component.path) for text in ("build.zig*", "src/")),
            outputs=(api.Output(path=api.path_from_root("zig-out", component.path), directory=True),),
            state=(api.path_from_root(".zig-cache", component.path),),
            tools=(ZIG,),
        )
