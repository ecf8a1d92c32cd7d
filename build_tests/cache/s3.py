"""Blobs and records in an S3 bucket. Knows the few requests it needs and what boto3 raises.

Nothing is sent twice, but for a request that met a connection which the server had just closed.

Keys, after the prefix: `r/ab/NAME` a record, `b/ab/DIGEST` a blob, ab being the first two digits. A record is written
with `If-None-Match: *`, so that the server keeps the first of two; a bad one is replaced with `If-Match` on what was
read. Blobs need no condition: under one digest lies one content.

boto3 takes its time to start (0.1 to 0.5 s), so it is imported when a store is first asked, not when it is made. What
is used of it is botocore, the part that speaks to the server: no resources, no transfer manager and its threads.
Nothing ever expires here: a lifecycle rule of the bucket does that.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from operator import methodcaller
from typing import Any

from build_tests.cache.background import DaemonPool
from build_tests.cache.model import Blob, CorruptError, RefusedError, StoreError
from build_tests.cache.transfer import Source, receive

CONNECT_SECONDS = 0.9
ANSWER_SECONDS = 4.0
"""The longest silence of a server that has taken our connection."""
PIECE = 1 << 20
"""Bytes read at once."""
MAX_RECORD = 64 << 20
"""Bytes; more under a record's name is no record."""
ONE_REQUEST = 1 << 30
"""Bytes; a larger blob is sent in parts."""
PART = 64 << 20
LOOK_FIRST = 1 << 20
"""Bytes; a blob as large as this is not sent before asking whether it is there."""
AT_ONCE = 16
"""Questions on their way, where many are asked."""

# The server means this request or this moment; the others will fare no better with any other of these.
_FATAL = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "InvalidToken",
        "NoSuchBucket",
        "PermanentRedirect",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_ABSENT = frozenset({"NoSuchKey", "NotFound", "404", "403", "AccessDenied"})
_CONDITION = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


class S3Store:
    """A Store in a bucket. Credentials are found as boto3 finds them.

    Without the permission to list the bucket S3 answers 403 for a key that is not there: that is "absent" when reading.

    Args:
        bucket: its name.
        prefix: in front of every key, without a slash at its end.
        region: None = as boto3 is configured.
        endpoint_url: another server than AWS; the bucket then is a part of the path.
        writable: False leaves a blob that turned out to be wrong where it is.
    """

    name = "s3"

    def __init__(
        self,
        bucket: str,
        prefix: str = "pytest-build",
        region: str | None = None,
        endpoint_url: str | None = None,
        *,
        writable: bool = True,
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._region = region
        self._endpoint_url = endpoint_url
        self._writable = writable
        self._lock = threading.Lock()
        self._session: Any = None
        self._made: Any = None
        self._closed = False
        self._pool = DaemonPool("cache-s3-ask", AT_ONCE)

    def prepare(self) -> None:
        """Import what is needed and read boto3's tables: tenths of a second. No connection is made.

        Raises:
            StoreError: boto3 is not installed, or its configuration can't be read.
        """
        with self._lock:
            if self._session is None:
                self._session = self._new_session()

    def read_record(self, name: str) -> bytes | None:
        """See Store."""
        return self._record(name)[0]

    def write_record(
        self,
        name: str,
        record: bytes,
        blobs: Sequence[Blob],  # noqa: ARG002 - they lie beside it
        *,
        over: bytes | None = None,
    ) -> bool:
        """See Store."""
        condition = {"IfNoneMatch": "*"}
        if over is not None:
            there, tag = self._record(name)
            if tag is not None:
                if there != over:
                    return False
                condition = {"IfMatch": tag}
        written = self._ask(
            lambda s3: s3.put_object(Bucket=self._bucket, Key=self._key("r", name), Body=record, **condition),
            _CONDITION | {"NoSuchKey", "404"},
        )
        return written is not None

    def missing(self, blobs: Collection[Blob]) -> set[Blob]:
        """See Store. A request for each, 16 at once: cheaper than a listing, which names everybody's blobs too."""
        every = list(blobs)
        if not every:
            return set()
        self._client()
        if len(every) == 1:
            return set() if self._there(every[0]) else set(every)
        return {blob for blob, there in zip(every, self._pool.map(self._there, every), strict=True) if not there}

    def fetch(self, blob: Blob, destination: str) -> bool:
        """See Store."""
        answer = self._ask(lambda s3: s3.get_object(Bucket=self._bucket, Key=self._key("b", blob.digest)), _ABSENT)
        if answer is None:
            return False
        with contextlib.closing(answer["Body"]) as body:
            try:
                if answer.get("ContentLength") != blob.size:
                    raise CorruptError(f"{self.name}: not {blob.size} bytes under {blob.digest}")  # noqa: TRY301
                receive(self.name, blob, destination, self._pieces(body))
            except CorruptError:
                self._discard(blob)
                raise
        return True

    def store(self, blob: Blob, source: str) -> None:
        """See Store."""
        with Source(blob, source) as file:
            if blob.size >= LOOK_FIRST and self._there(blob):
                file.verify()
                return
            if blob.size == 0:
                file.verify()
            try:
                if blob.size > ONE_REQUEST:
                    self._store_in_parts(blob, file)
                else:
                    self._store_at_once(blob, file)
            except StoreError:
                # What boto3 made of the error that ended the upload.
                if file.changed:
                    raise CorruptError(f"{source} does not hold {blob.digest}: it was edited") from None
                raise

    def close(self) -> None:
        """Drop the connections."""
        with self._lock:
            made, self._made, self._closed = self._made, None, True
        self._pool.close()
        if made is not None:
            with contextlib.suppress(Exception):  # what is wrong with a connection no longer matters
                made.close()

    # Objects

    def _key(self, kind: str, name: str) -> str:
        return "/".join(part for part in (self._prefix, kind, name[:2], name) if part)

    def _record(self, name: str) -> tuple[bytes | None, str | None]:
        """A record and its tag. A tag without a record: what lies there is none."""
        answer = self._ask(lambda s3: s3.get_object(Bucket=self._bucket, Key=self._key("r", name)), _ABSENT)
        if answer is None:
            return None, None
        with contextlib.closing(answer["Body"]) as body:
            if not 0 < answer.get("ContentLength", 0) <= MAX_RECORD:
                return None, answer.get("ETag", "")
            return b"".join(self._pieces(body)), answer.get("ETag", "")

    def _there(self, blob: Blob) -> bool:
        answer = self._ask(lambda s3: s3.head_object(Bucket=self._bucket, Key=self._key("b", blob.digest)), _ABSENT)
        return answer is not None and answer.get("ContentLength") == blob.size

    def _pieces(self, body: Any) -> Iterator[bytes]:
        while True:
            piece = self._guard(lambda: body.read(PIECE))
            if not piece:
                return
            yield piece

    def _store_at_once(self, blob: Blob, file: Source) -> None:
        def put(s3: Any) -> Any:
            file.seek(0)
            return s3.put_object(
                Bucket=self._bucket,
                Key=self._key("b", blob.digest),
                Body=file if blob.size else b"",
                ContentLength=blob.size,
                # The server refuses what arrives otherwise. One that knows no checksums ignores it.
                ChecksumSHA256=base64.b64encode(bytes.fromhex(blob.digest)).decode(),
            )

        self._ask(put)

    def _store_in_parts(self, blob: Blob, file: Source) -> None:
        where = {"Bucket": self._bucket, "Key": self._key("b", blob.digest)}
        upload = self._ask(lambda s3: s3.create_multipart_upload(**where))["UploadId"]
        try:
            parts = []
            for number in range(1, -(-blob.size // PART) + 1):
                part = dict(where, UploadId=upload, PartNumber=number, Body=file.read(PART))
                sent = self._ask(methodcaller("upload_part", **part))
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            self._ask(
                lambda s3: s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
            )
        except BaseException:
            with contextlib.suppress(StoreError):  # what is left of it the bucket's rule removes
                self._ask(lambda s3: s3.abort_multipart_upload(**where, UploadId=upload))
            raise

    def _discard(self, blob: Blob) -> None:
        if self._writable:
            with contextlib.suppress(StoreError):  # it counts as absent all the same: it is verified when read
                self._ask(lambda s3: s3.delete_object(Bucket=self._bucket, Key=self._key("b", blob.digest)))

    # The server

    def _ask(self, request: Callable[[Any], Any], nothing: frozenset[str] = frozenset()) -> Any:
        """The answer, or None for the error codes that mean "not there"."""
        client = self._client()
        try:
            try:
                return self._guard(lambda: request(client))
            except _ClosedError:
                # The server had closed a connection that was idle, and the news crossed our request.
                return self._guard(lambda: request(client))
        except _CodeError as error:
            if error.code in nothing:
                return None
            kind = StoreError if error.code in _FATAL else RefusedError
            raise kind(f"{self.name}: {error}") from None

    def _guard(self, action: Callable[[], Any]) -> Any:
        """Whatever boto3 and those below it raise, as a StoreError."""
        from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, NoCredentialsError

        try:
            return action()
        except (StoreError, _CodeError):
            raise
        except ClientError as error:
            raise _code(error) from None
        except ConnectionClosedError as error:
            raise _ClosedError(f"{self.name}: {_line(error)}") from None
        except NoCredentialsError:
            raise StoreError(f"{self.name}: no credentials were found") from None
        except BotoCoreError as error:
            raise StoreError(f"{self.name}: {_line(error)}") from None
        except Exception as error:  # noqa: BLE001 - what is made of an answer, be it an AttributeError, is the server's
            raise StoreError(f"{self.name}: {type(error).__name__}: {_line(error)}") from None

    def _client(self) -> Any:
        self.prepare()
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.name}: closed")
            if self._made is None:
                self._made = self._guard(self._new_client)
            return self._made

    def _new_session(self) -> Any:
        try:
            module = importlib.import_module("botocore.session")
        except ImportError:
            raise StoreError(f"{self.name}: boto3 is not installed: pip install 'pytest-build[s3]'") from None
        session = module.get_session()
        # What takes the time in making a client, kept by the session's loader.
        loader = session.get_component("data_loader")
        for table in ("service-2", "endpoint-rule-set-1"):
            self._guard(partial(loader.load_service_model, "s3", table))
        return session

    def _new_client(self) -> Any:
        from botocore.config import Config

        wanted: dict[str, Any] = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": ANSWER_SECONDS,
            "retries": {"total_max_attempts": 1},
            "max_pool_connections": 2 * AT_ONCE,
            "signature_version": "s3v4",
            "s3": {"addressing_style": "path" if self._endpoint_url else "auto"},
            # The default, a checksum trailer on every request, is more than many servers understand.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        region = self._region or self._session.get_config_variable("region")
        return self._session.create_client(
            "s3",
            region_name=region or ("us-east-1" if self._endpoint_url else None),
            endpoint_url=self._endpoint_url,
            config=Config(**wanted),
        )


class _ClosedError(StoreError):
    """The server closed the connection before it said anything."""


class _CodeError(Exception):
    """The server answered with an error."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def _code(error: Any) -> _CodeError:
    response = error.response
    code = str(response.get("Error", {}).get("Code") or "")
    status = str(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or "")
    # A HEAD has no body to say more.
    return _CodeError(code or status, _line(error))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
