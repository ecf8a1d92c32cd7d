"""The container engine: is it there, and what are these images? Builds nothing; the docker CLI does that, in a step.

Importing the docker SDK takes a sixth of a second, so this module is imported only where an image is in play, and the
SDK only when an engine is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import docker

T = TypeVar("T")

KNOCK_SECONDS = 0.7
"""How long an address may take to accept a connection: a black hole must not hold up a build."""
CONNECT_SECONDS = 2
"""How long an engine may take, once reached, to say that it is there."""
ANSWER_SECONDS = 20
"""How long it may take for all questions of one call; a busy engine is slow, not dead."""

CONFIG_FIELDS = (
    "Env",
    "Entrypoint",
    "Cmd",
    "WorkingDir",
    "User",
    "ExposedPorts",
    "Labels",
    "Volumes",
    "Healthcheck",
    "StopSignal",
    "Shell",
    "OnBuild",
)
"""What of an image's configuration a container can notice; the rest is times, ids and leftovers of the building."""
PLATFORM_FIELDS = ("Architecture", "Os", "Variant")
MADE_BY_US = "pytest-build.component"
"""The label of images that a step of kind `docker` made."""
_HOST_AND_PORT = re.compile(r"(?:\[([^\]]+)\]|([^:/]+)):(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """No engine can be asked: why, and what to do about it."""

    reason: str
    hint: str = "start the Docker daemon, or set DOCKER_HOST to one that runs"


class Engine:
    """One running engine. Make it with `connect`."""

    def __init__(self, client: docker.APIClient, address: str) -> None:
        self._client = client
        self.address = address
        self.problem = ""
        """Why the last call of `identities` got no answer, or ""."""

    @classmethod
    def connect(cls, environ: Mapping[str, str]) -> Engine | Unavailable:
        """Reach the engine that the docker CLI would use in `environ`; takes `CONNECT_SECONDS` at most."""
        try:
            address, tls = _endpoint(environ)
        except _BadSettingsError as error:
            return Unavailable(reason=str(error))
        import docker

        answer = _within(CONNECT_SECONDS, lambda: _client(docker.APIClient, address, tls))
        if isinstance(answer, _NoAnswer):
            return Unavailable(reason=f"at {address} {answer.why}")
        return cls(answer, address)

    def identities(self, references: Iterable[str]) -> dict[str, str | None]:
        """What each image is: a digest over its layers and configuration, without times and ids.

        None: the engine has no such image, or went away (then `problem` says why). Equal digests mean images that no
        container can tell apart, whoever built them.
        """
        wanted = list(references)
        found: dict[str, str | None] = dict.fromkeys(wanted)
        answer = _within(ANSWER_SECONDS, lambda: self._inspect(wanted))
        if isinstance(answer, _NoAnswer):
            self.problem = f"the container engine at {self.address} {answer.why}"
            return found
        self.problem = ""
        found.update(zip(wanted, answer, strict=True))
        return found

    def _inspect(self, references: list[str]) -> list[str | None]:
        _knock(self.address)
        try:
            return [self._identity(reference) for reference in references]
        finally:
            # Closes the connections, not the client: asked seldom, it need not hold a socket between two questions.
            self._client.close()

    def dangling(self) -> list[tuple[str, int]]:
        """Images that steps of ours made and that no name means any more: id and bytes; none where it can't tell."""
        wanted = {"dangling": True, "label": MADE_BY_US}
        answer = _within(ANSWER_SECONDS, lambda: self._client.images(filters=wanted))
        return [] if isinstance(answer, _NoAnswer) else [(image["Id"], int(image["Size"])) for image in answer]

    def discard(self, image: str) -> str:
        """Remove an image. Returns why it could not be done (a container uses it), or ""."""
        from docker.errors import DockerException

        try:
            self._client.remove_image(image)
        except DockerException as error:
            return str(getattr(error, "explanation", None) or error)
        return ""

    def _identity(self, reference: str) -> str | None:
        from docker.errors import APIError

        try:
            return identity_of(self._client.inspect_image(reference))
        except APIError as error:
            if error.is_client_error():  # not found, or no possible name of an image
                return None
            raise


def identity_of(inspected: Mapping[str, Any]) -> str:
    """The identity of an image from what the engine tells of it (`docker image inspect`).

    Raises:
        KeyError, TypeError: that is no description of an image.
    """
    config = inspected.get("Config") or {}
    facts = {
        "layers": inspected["RootFS"].get("Layers") or [],
        # Engines disagree on whether what is not set is left out, null or empty.
        "config": {name: config[name] for name in CONFIG_FIELDS if config.get(name)},
        "platform": {name: inspected[name] for name in PLATFORM_FIELDS if inspected.get(name)},
    }
    return "sha256:" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class _BadSettingsError(Exception):
    """The settings of the docker CLI can't be followed."""


@dataclass(frozen=True, slots=True)
class _NoAnswer:
    why: str


def _within(seconds: float, ask: Callable[[], T]) -> T | _NoAnswer:
    """What `ask` returns, unless it fails or takes longer.

    A thread of its own, since no setting of the HTTP client bounds the whole: not name resolution, not an engine that
    sends a byte now and then.
    """
    answers: list[T | _NoAnswer] = []

    def answer() -> None:
        try:
            answers.append(ask())
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in there is the engine's being unavailable
            answers.append(_NoAnswer(_in_a_line(error)))

    thread = threading.Thread(target=answer, name="container engine", daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else _NoAnswer(f"gave no answer within {seconds:g} s")


def _in_a_line(error: BaseException) -> str:
    """The innermost reason: `ConnectionRefusedError` rather than four layers of HTTP client round it."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    if isinstance(cause, TimeoutError) or (isinstance(cause, OSError) and cause.strerror):
        return f"can't be reached: {cause.strerror or 'timed out'}"
    text = " ".join(str(cause).split()) or type(cause).__name__
    return f"did not answer as an engine does: {text[:200]}"


def _client(make: type[docker.APIClient], address: str, tls: Any) -> docker.APIClient:
    """A client that speaks the engine's own version of the API, with no connection open."""
    from docker.constants import DEFAULT_DOCKER_API_VERSION

    _knock(address)
    # Two clients: one that finds out the version by itself leaves its socket open when that fails.
    first = make(base_url=address, tls=tls, timeout=CONNECT_SECONDS, version=DEFAULT_DOCKER_API_VERSION)
    try:
        version = str(first.version(api_version=False)["ApiVersion"])
    finally:
        first.close()
    return make(base_url=address, tls=tls, timeout=ANSWER_SECONDS, version=version)


def _knock(address: str) -> None:
    """Fail at once where nobody listens: the SDK would leave the socket that it tried open, and wait for longer."""
    scheme, _, place = address.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.settimeout(KNOCK_SECONDS)
            listener.connect(place)
    elif scheme in {"tcp", "http", "https"} and (found := _HOST_AND_PORT.match(place)):
        socket.create_connection((found[1] or found[2], int(found[3])), timeout=KNOCK_SECONDS).close()


def _endpoint(environ: Mapping[str, str]) -> tuple[str, Any]:
    """Address and TLS settings, by the CLI's order: DOCKER_HOST, DOCKER_CONTEXT, its current context, its default."""
    if host := environ.get("DOCKER_HOST"):
        return _checked(host), _tls(environ)
    folder = environ.get("DOCKER_CONFIG") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".docker")
    context = environ.get("DOCKER_CONTEXT") or _read_json(os.path.join(folder, "config.json")).get("currentContext")
    if context and context != "default":
        return _checked(_context_host(folder, str(context))), None
    return "unix:///var/run/docker.sock", None


def _checked(host: str) -> str:
    if host.startswith("ssh://"):
        raise _BadSettingsError(f"at {host}: ssh:// is not supported; forward the socket with ssh -L and name that")
    return host


def _tls(environ: Mapping[str, str]) -> Any:
    if not environ.get("DOCKER_TLS_VERIFY") and not environ.get("DOCKER_CERT_PATH"):
        return None
    from docker.errors import TLSParameterError
    from docker.utils import kwargs_from_env

    try:
        return kwargs_from_env(environment=dict(environ)).get("tls")
    except TLSParameterError as error:
        raise _BadSettingsError(f"DOCKER_TLS_VERIFY, DOCKER_CERT_PATH: {error.msg}") from error


def _context_host(folder: str, context: str) -> str:
    name = hashlib.sha256(context.encode()).hexdigest()
    described = _read_json(os.path.join(folder, "contexts", "meta", name, "meta.json"))
    with contextlib.suppress(KeyError, TypeError):
        return str(described["Endpoints"]["docker"]["Host"])
    raise _BadSettingsError(f"docker context {context!r} is not defined under {folder}")


def _read_json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _BadSettingsError(f"{path} can't be read: {error}") from error
    return data if isinstance(data, dict) else {}
