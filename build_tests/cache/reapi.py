"""A server of the Remote Execution API as a store: its action cache holds our records, its storage our blobs.

A record's name becomes an action that says nothing but that name, as the protocol asks; the record is the result's
standard output, and the blobs are its output files, so that the server keeps them as long as the result, and answers
"not found" when one of them is gone. The protocol has no conditional write: `write_record` looks first, and of two
writers at the same moment the later one wins. Knows no step and no signature.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from build_tests.cache._reapi_messages import (
    ACTION_CACHE,
    BYTE_STREAM,
    CAPABILITIES,
    SHA256,
    STORAGE,
    messages,
)
from build_tests.cache.model import CHUNK, Blob, CorruptError, RefusedError, StoreError
from build_tests.cache.transfer import Source, checked, receive

SECONDS = 2.0
"""The longest that a call takes, besides the bytes that it moves."""
SLOWEST = 1_000_000
"""Bytes a second; a transfer that is slower is given up."""
EMPTY = Blob(hashlib.sha256().hexdigest(), 0)
"""Every server has it."""

_MAX_BATCH = 4_000_000
"""Of a server that does not say; gRPC's own limit on a message is 4 MiB."""
_SMALL = CHUNK
"""Blobs up to here travel in one message."""
_INLINE = CHUNK
"""Records up to here lie in the action's result itself, larger ones beside it."""
_IN_ONE_REQUEST = 10_000
"""Digests; about 75 bytes each, 150 as an output file."""
_LARGEST_MESSAGE = 64 << 20
_ABSENT = object()
_REFUSALS = frozenset({
    "FAILED_PRECONDITION", "INVALID_ARGUMENT", "OUT_OF_RANGE", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED", "UNIMPLEMENTED",
})  # fmt: skip
_NOT_FOUND = 5
_HEADER = re.compile(r"(?!grpc-)[0-9a-z_.-]+")


class ReapiStore:
    """A store behind a URL such as grpcs://host:8980. The connection is made when it is first used."""

    def __init__(
        self,
        url: str,
        instance: str = "",
        headers: Mapping[str, str] | None = None,
        *,
        ca_file: str | None = None,
        seconds: float = SECONDS,
    ) -> None:
        """Check the settings; nothing is connected.

        Args:
            url: `grpc://host:port`, or `grpcs://host:port` for TLS.
            instance: the server's name for its part that we use.
            headers: sent with every call, tokens for example.
            ca_file: certificates in PEM that the server's must come from; None = `$SSL_CERT_FILE`, else gRPC's own.
            seconds: the longest that a call takes, besides the bytes that it moves.

        Raises:
            StoreError: a setting is wrong.
        """
        self._target, self._tls = _parsed(url)
        self._instance = instance.strip("/")
        self._headers = _checked(headers or {})
        self._ca_file = ca_file or os.environ.get("SSL_CERT_FILE")
        self._seconds = seconds
        self._lock = threading.Lock()
        self._made: _Connection | None = None
        self._batch: int | None = None
        # What the server gave for these was wrong, and there is no way to remove it: to this client they are absent.
        self._corrupt: set[Blob] = set()

    @property
    def name(self) -> str:
        """`reapi`."""
        return "reapi"

    def read_record(self, name: str) -> bytes | None:
        """The record under a name, or None; None too where the server lacks one of its blobs."""
        new = messages()
        request = new.GetActionResultRequest(
            instance_name=self._instance,
            action_digest=_digest(_action(name).action),
            inline_stdout=True,
            digest_function=SHA256,
        )
        result = self._call(f"{ACTION_CACHE}/GetActionResult", request, new.ActionResult)
        if result is _ABSENT:
            return None
        if result.stdout_raw or not result.HasField("stdout_digest"):
            return bytes(result.stdout_raw)
        return self._read_beside(Blob(result.stdout_digest.hash, result.stdout_digest.size_bytes))

    def write_record(self, name: str, record: bytes, blobs: Sequence[Blob], *, over: bytes | None = None) -> bool:
        """Keep a record; whether it was written. Looks first: two clients at the same moment may both write."""
        there = self.read_record(name)
        if there is not None and there != over:
            return False
        new, action = messages(), _action(name)
        result, beside = _result(record, blobs)
        self._upload([action.action, action.command, *beside])
        request = new.UpdateActionResultRequest(
            instance_name=self._instance,
            action_digest=_digest(action.action),
            action_result=result,
            digest_function=SHA256,
        )
        if self._call(f"{ACTION_CACHE}/UpdateActionResult", request, new.ActionResult) is _ABSENT:
            raise RefusedError(f"{self.name}: the server lacks something that the record needs")
        return True

    def missing(self, blobs: Collection[Blob]) -> set[Blob]:
        """Those of the blobs that are not there."""
        wanted = [blob for blob in set(blobs) if blob != EMPTY]
        absent = self._corrupt.intersection(wanted)
        for begin in range(0, len(wanted), _IN_ONE_REQUEST):
            absent |= self._missing(wanted[begin : begin + _IN_ONE_REQUEST])
        return absent

    def fetch(self, blob: Blob, destination: str) -> bool:
        """Write a blob to a path; whether it was there."""
        if blob in self._corrupt:
            return False
        try:
            receive(self.name, blob, destination, self._pieces(blob))
        except _AbsentError:
            return False
        except CorruptError:
            self._corrupt.add(blob)
            raise
        return True

    def store(self, blob: Blob, source: str) -> None:
        """Keep the bytes of a file."""
        with Source(blob, source) as file:
            if blob.size > self._largest_in_batch():
                self._write(blob, file)
            else:
                data = b"".join(file)
                self._upload([] if blob == EMPTY else [_Bytes(blob, data)])
        # A server that checks has taken the new bytes for what it held of this blob.
        self._corrupt.discard(blob)

    def close(self) -> None:
        """Give back the connection."""
        with self._lock:
            if self._made is not None:
                self._made.channel.close()
                self._made = None

    def _read_beside(self, blob: Blob) -> bytes | None:
        """A record that lies in the storage. One that does not hold its digest counts as absent: it is replaced."""
        if blob.size > _LARGEST_MESSAGE:
            return None
        try:
            return b"".join(checked(self.name, blob, self._pieces(blob)))
        except (_AbsentError, CorruptError):
            return None

    def _missing(self, blobs: list[Blob]) -> set[Blob]:
        new = messages()
        request = new.FindMissingBlobsRequest(
            instance_name=self._instance, blob_digests=[_digest(blob) for blob in blobs], digest_function=SHA256
        )
        answer = self._call(f"{STORAGE}/FindMissingBlobs", request, new.FindMissingBlobsResponse)
        if answer is _ABSENT:
            return set(blobs)
        return {Blob(digest.hash, digest.size_bytes) for digest in answer.missing_blob_digests}.intersection(blobs)

    def _pieces(self, blob: Blob) -> Iterator[bytes]:
        """Raises _AbsentError."""
        if blob == EMPTY:
            return iter(())
        return self._read(blob) if blob.size > self._largest_in_batch() else self._read_small(blob)

    def _read_small(self, blob: Blob) -> Iterator[bytes]:
        new = messages()
        request = new.BatchReadBlobsRequest(
            instance_name=self._instance, digests=[_digest(blob)], digest_function=SHA256
        )
        answer = self._call(f"{STORAGE}/BatchReadBlobs", request, new.BatchReadBlobsResponse, moved=blob.size)
        if answer is _ABSENT or len(answer.responses) != 1:
            raise _AbsentError
        self._check(answer.responses[0].status)
        yield bytes(answer.responses[0].data)

    def _read(self, blob: Blob) -> Iterator[bytes]:
        new = messages()
        request = new.ReadRequest(resource_name=f"{self._place()}blobs/{blob.digest}/{blob.size}")
        connection = self._connection()
        call = connection.stream(f"{BYTE_STREAM}/Read", new.ReadResponse)(
            request, timeout=self._timeout(blob.size), metadata=self._headers
        )
        try:
            for response in call:
                yield bytes(response.data)
        except connection.errors as error:
            if _code(error) == "NOT_FOUND":
                raise _AbsentError from None
            if _code(error) == "DATA_LOSS":
                raise CorruptError(f"{self.name}: the server lost bytes of {blob.digest}") from error
            raise self._error(error) from error
        finally:
            call.cancel()

    def _upload(self, contents: Sequence[_Bytes]) -> None:
        """Store bytes: in as few messages as the server's limit allows."""
        batch: list[_Bytes] = []
        for content in contents:
            if content.blob.size > self._largest_in_batch():
                self._write(content.blob, _cut(content.data))
                continue
            if batch and sum(other.blob.size for other in batch) + content.blob.size > self._largest_in_batch():
                self._upload_batch(batch)
                batch = []
            batch.append(content)
        if batch:
            self._upload_batch(batch)

    def _upload_batch(self, contents: Sequence[_Bytes]) -> None:
        new = messages()
        request = new.BatchUpdateBlobsRequest(
            instance_name=self._instance,
            requests=[new.BlobToWrite(digest=_digest(content.blob), data=content.data) for content in contents],
            digest_function=SHA256,
        )
        moved = sum(content.blob.size for content in contents)
        answer = self._call(f"{STORAGE}/BatchUpdateBlobs", request, new.BatchUpdateBlobsResponse, moved=moved)
        if answer is _ABSENT or len(answer.responses) != len(contents):
            raise StoreError(f"{self.name}: the server answered for other blobs than it was given")
        for response in answer.responses:
            self._check(response.status)

    def _write(self, blob: Blob, pieces: Iterable[bytes]) -> None:
        """Store bytes as a stream. Raises what the pieces raise."""
        connection, upload = self._connection(), _Upload(f"{self._place()}uploads", blob, pieces)
        method = connection.upload(f"{BYTE_STREAM}/Write", messages().WriteResponse)
        call = method.future(upload.requests(), timeout=self._timeout(blob.size), metadata=self._headers)
        upload.start(call)
        try:
            committed = call.result().committed_size
        except connection.errors as error:
            raise upload.error or self._error(error) from error
        # An answer may come before the last piece was asked for: the server has had the blob already.
        if committed != blob.size:
            raise upload.error or StoreError(f"{self.name}: the server kept {committed} of {blob.size} bytes")

    def _largest_in_batch(self) -> int:
        """Bytes of the largest blob that travels in one message."""
        if self._batch is None:
            self._batch = min(_SMALL, self._max_batch() - 1000)
        return self._batch

    def _max_batch(self) -> int:
        new = messages()
        request = new.GetCapabilitiesRequest(instance_name=self._instance)
        try:
            answer = self._call(f"{CAPABILITIES}/GetCapabilities", request, new.ServerCapabilities)
        except RefusedError:
            return _MAX_BATCH
        if answer is _ABSENT:
            return _MAX_BATCH
        known = answer.cache_capabilities.digest_functions
        if known and SHA256 not in known:
            raise StoreError(f"{self.name}: the server does not know SHA-256")
        return answer.cache_capabilities.max_batch_total_size_bytes or _MAX_BATCH

    def _place(self) -> str:
        return f"{self._instance}/" if self._instance else ""

    def _timeout(self, moved: int) -> float:
        return self._seconds + moved / SLOWEST

    def _call(self, method: str, request: Any, answer: type[Any], *, moved: int = 0) -> Any:
        """Call; _ABSENT for NOT_FOUND. Raises StoreError."""
        connection = self._connection()
        try:
            return connection.call(method, answer)(request, timeout=self._timeout(moved), metadata=self._headers)
        except connection.errors as error:
            if _code(error) == "NOT_FOUND":
                return _ABSENT
            raise self._error(error) from error

    def _check(self, status: Any) -> None:
        if status.code == _NOT_FOUND:
            raise _AbsentError
        if status.code:
            raise RefusedError(f"{self.name}: {_one_line(status.message) or f'status {status.code}'}")

    def _error(self, error: Exception) -> StoreError:
        code = _code(error)
        details = getattr(error, "details", lambda: "")() or type(error).__name__
        kind = RefusedError if code in _REFUSALS else StoreError
        return kind(f"{self.name}: {self._target}: {code.lower().replace('_', ' ')}: {_one_line(details)}")

    def _connection(self) -> _Connection:
        with self._lock:
            if self._made is None:
                self._made = _Connection(self._target, self._ca() if self._tls else None, self.name)
            return self._made

    def _ca(self) -> bytes:
        if not self._ca_file:
            return b""
        try:
            with open(self._ca_file, "rb") as file:
                return file.read()
        except OSError as error:
            raise StoreError(f"{self.name}: {self._ca_file} can't be read: {error.strerror}") from error


class _AbsentError(Exception):
    """The server does not have it."""


@dataclass(frozen=True, slots=True)
class _Bytes:
    blob: Blob
    data: bytes


@dataclass(frozen=True, slots=True)
class _Action:
    action: _Bytes
    command: _Bytes


class _Upload:
    """The requests of one stream to the server; gRPC asks for them in a thread of its own."""

    def __init__(self, place: str, blob: Blob, pieces: Iterable[bytes]) -> None:
        self.error: Exception | None = None
        """What the pieces raised."""
        self._name = f"{place}/{uuid.uuid4()}/blobs/{blob.digest}/{blob.size}"
        self._size = blob.size
        self._pieces = pieces
        self._started = threading.Event()
        self._call: Any = None

    def start(self, call: Any) -> None:
        """Tell which call it is that the requests are for."""
        self._call = call
        self._started.set()

    def requests(self) -> Iterator[Any]:
        """The requests; where the pieces end early, the call is cancelled, and the server keeps nothing."""
        new, offset = messages(), 0
        try:
            for piece in self._pieces:
                end = offset + len(piece)
                name = "" if offset else self._name
                yield new.WriteRequest(
                    resource_name=name, write_offset=offset, finish_write=end == self._size, data=piece
                )
                offset = end
        # ValueError: the file was closed, since the answer is there already.
        except (CorruptError, OSError, ValueError) as error:
            self.error = error
            self._started.wait()
            self._call.cancel()


class _Connection:
    """A channel, and its calls by method, each made once."""

    def __init__(self, target: str, ca: bytes | None, name: str) -> None:
        """`ca`: None = no TLS, b"" = gRPC's own certificates. Raises StoreError where grpcio is not installed."""
        try:
            with _quiet():
                import grpc
        except ImportError as error:
            raise StoreError(f"{name}: grpcio is not installed: pip install 'pytest-build[reapi]'") from error
        options = (
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
            ("grpc.enable_retries", 0),
            # A server that was away for a moment is tried again at the next call, not after gRPC's minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 1000),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.use_local_subchannel_pool", 1),
        )
        self.errors: tuple[type[Exception], ...] = (grpc.RpcError, grpc.FutureCancelledError, ValueError)
        self.channel: Any = (
            grpc.insecure_channel(target, options)
            if ca is None
            else grpc.secure_channel(target, grpc.ssl_channel_credentials(ca or None), options)
        )
        self._calls: dict[str, Any] = {}

    def call(self, method: str, answer: type[Any]) -> Any:
        """One message there and one back."""
        return self._one(method, answer, self.channel.unary_unary)

    def stream(self, method: str, answer: type[Any]) -> Any:
        """One message there and many back."""
        return self._one(method, answer, self.channel.unary_stream)

    def upload(self, method: str, answer: type[Any]) -> Any:
        """Many messages there and one back."""
        return self._one(method, answer, self.channel.stream_unary)

    def _one(self, method: str, answer: type[Any], make: Callable[..., Any]) -> Any:
        found = self._calls.get(method)
        if found is None:
            found = make(method, request_serializer=_serialized, response_deserializer=answer.FromString)
            self._calls[method] = found
        return found


@contextmanager
def _quiet() -> Iterator[None]:
    """gRPC's library, which reads this when it starts, writes to the terminal what it tells us as an error as well."""
    variable = "GRPC_VERBOSITY"
    if variable in os.environ:
        yield
        return
    os.environ[variable] = "NONE"
    try:
        yield
    finally:
        del os.environ[variable]


def _serialized(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def _action(name: str) -> _Action:
    """The action that stands for a name: a command that is never run, on an empty folder."""
    new = messages()
    command = _bytes(_serialized(new.Command(arguments=["pytest-build", name])))
    action = new.Action(command_digest=_digest(command.blob), input_root_digest=_digest(EMPTY))
    return _Action(_bytes(_serialized(action)), command)


def _result(record: bytes, blobs: Sequence[Blob]) -> tuple[Any, list[_Bytes]]:
    """The result that holds a record and names its blobs, and what has to be stored for it."""
    new = messages()
    result, beside = new.ActionResult(), []
    unique = sorted({*blobs} - {EMPTY}, key=lambda blob: blob.digest)  # not every server says that it has it
    if len(unique) <= _IN_ONE_REQUEST:
        for blob in unique:
            result.output_files.add(path=blob.digest, digest=_digest(blob))
    else:
        files = [new.FileNode(name=blob.digest, digest=_digest(blob)) for blob in unique]
        tree = _bytes(_serialized(new.Tree(root=new.Directory(files=files))))
        result.output_directories.add(path="blobs", tree_digest=_digest(tree.blob))
        beside.append(tree)
    if len(record) <= _INLINE:
        result.stdout_raw = record
    else:
        held = _bytes(record)
        result.stdout_digest.CopyFrom(_digest(held.blob))
        beside.append(held)
    return result, beside


def _bytes(data: bytes) -> _Bytes:
    return _Bytes(Blob(hashlib.sha256(data).hexdigest(), len(data)), data)


def _digest(of: Blob | _Bytes) -> Any:
    blob = of.blob if isinstance(of, _Bytes) else of
    return messages().Digest(hash=blob.digest, size_bytes=blob.size)


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[begin : begin + CHUNK] for begin in range(0, len(data), CHUNK))


def _parsed(url: str) -> tuple[str, bool]:
    """`grpcs://host:8980` → the target, and whether TLS is wanted."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise StoreError(f"reapi: {url!r} is no URL") from None
    if parts.scheme not in {"grpc", "grpcs"} or not parts.hostname or parts.path.strip("/") or parts.query:
        raise StoreError(f"reapi: {url!r} is not of the form grpcs://host:port")
    if parts.username is not None:
        raise StoreError("reapi: a password in the URL: give it as a header, through an environment variable")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port or (443 if parts.scheme == 'grpcs' else 80)}", parts.scheme == "grpcs"


def _checked(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Raises StoreError, without the value: it is a secret."""
    for name, value in headers.items():
        if _HEADER.fullmatch(name.lower()) is None:
            raise StoreError(f"reapi: {name!r} can't be a header")
        if not (value.isascii() and value.isprintable()):
            raise StoreError(f"reapi: the value of the header {name!r} is not printable ASCII")
    return tuple((name.lower(), value) for name, value in headers.items())


def _code(error: Exception) -> str:
    code = getattr(error, "code", None)
    return str(code().name) if callable(code) and code() is not None else "CANCELLED"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
