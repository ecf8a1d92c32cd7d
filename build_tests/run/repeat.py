"""One line for a shell that repeats a step alone, in the environment that it has in a build. Secrets by name only."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from build_tests.core.model import Step


def repeat_command(step: Step, root: str, environ: Mapping[str, str]) -> str:
    """The line.

    Args:
        step: what is to be repeated.
        root: absolute.
        environ: the caller's, from which the step takes some.
    """
    from build_tests.run.process import strict_environment

    environment = strict_environment(
        dict(step.env), pass_env=step.pass_env, network_env=step.network_env, secrets=step.secrets, caller=environ
    )
    settings = [f"{name}={_value(name, value, step, environ)}" for name, value in environment.items()]
    settings += [f'{name}="${name}"' for name in step.secrets if name not in environment]
    argv = ["sh", "-e", "-c", step.command] if isinstance(step.command, str) else list(step.command)
    folder = f"{root}/{step.path}" if step.path else root
    return f"(cd {shlex.quote(folder)} && env -i {' '.join(settings)} {shlex.join(argv)})"


def _value(name: str, value: str, step: Step, environ: Mapping[str, str]) -> str:
    taken = environ.get(name) == value and name not in dict(step.env)
    return f'"${name}"' if taken or name in step.secrets else shlex.quote(value)
