"""Blobs and records in a Redis server. Knows the server's commands and what they raise; retries and waits for nothing.

Keys, after the prefix: `r:NAME` a record; `b:DIGEST` a blob's header, which is `=` and the bytes themselves, or, where
they are many, `#` and their number, the bytes lying in pieces under `b:DIGEST:0`, `b:DIGEST:1` … The header is written
last and names no piece that was not there; a piece that the server has dropped since makes the blob absent.
Every write sets the time to live anew, also that of the blobs that a record written again names.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from build_tests.cache.background import ahead
from build_tests.cache.model import CHUNK, Blob, CorruptError, RefusedError, StoreError
from build_tests.cache.transfer import Source, receive

CONNECT_SECONDS = 0.4
ANSWER_SECONDS = 2.0
"""The longest silence of a server that has taken our connection."""
MAX_RECORD = 64 << 20
"""Bytes; more under a record's name is no record."""
BATCH = 500
"""Keys asked in one round trip."""

# One step for the server, so that of two who found the same bad record one replaces it.
_REPLACE = """
local there = redis.call('GET', KEYS[1])
if there and there ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return 1
"""


class RedisStore:
    """A Store in a Redis server.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`, as redis-py reads it. Its password appears in no message.
        prefix: in front of every key.
        ttl: seconds that a key lives after it was last written; 0 = until the server needs the room.
        writable: False leaves a blob that turned out to be wrong where it is.
    """

    name = "redis"

    def __init__(
        self, url: str, prefix: str = "pytest-build", ttl: float = 7 * 86400.0, *, writable: bool = True
    ) -> None:
        self._url = url
        self._prefix = prefix
        self._ttl = math.ceil(ttl)
        self._writable = writable
        self._lock = threading.Lock()
        self._made: Any = None
        self._closed = False

    def prepare(self) -> None:
        """Import what is needed, which takes time; no connection is made.

        Raises:
            StoreError: redis-py is not installed, or the URL can't be read.
        """
        with self._lock:
            if self._made is None and not self._closed:
                self._made = self._client()

    def read_record(self, name: str) -> bytes | None:
        """See Store."""
        key = self._key("r", name)
        record = self._bytes(self._ask(lambda server: server.getrange(key, 0, MAX_RECORD)))
        return record if 0 < len(record) <= MAX_RECORD else None

    def write_record(self, name: str, record: bytes, blobs: Sequence[Blob], *, over: bytes | None = None) -> bool:
        """See Store."""
        key = self._key("r", name)
        if over is None:
            written = bool(self._ask(lambda server: server.set(key, record, nx=True, ex=self._ttl or None)))
        else:
            written = bool(self._ask(lambda server: server.eval(_REPLACE, 1, key, over, record, self._ttl)))
        self._refresh([key, *(each for blob in blobs for each in self._keys(blob))])
        return written

    def missing(self, blobs: Collection[Blob]) -> set[Blob]:
        """See Store."""
        wanted = [(blob, self._keys(blob)) for blob in blobs]
        found = self._many((("EXISTS", *keys) for _, keys in wanted), (len(keys) for _, keys in wanted))
        return {blob for (blob, keys), count in zip(wanted, found, strict=True) if count != len(keys)}

    def fetch(self, blob: Blob, destination: str) -> bool:
        """See Store."""
        key = self._key("b", blob.digest)
        try:
            head = self._value(blob, key)
            if head is None:
                return False
            receive(self.name, blob, destination, self._pieces(blob, head))
        except _GoneError:
            self._discard(blob)
            return False
        except CorruptError:
            self._discard(blob)
            raise
        return True

    def store(self, blob: Blob, source: str) -> None:
        """See Store."""
        with Source(blob, source) as file:
            keys = self._keys(blob)
            if self._refresh(keys) == len(keys):
                file.verify()
                return
            if len(keys) == 1:
                self._set(keys[0], b"=" + b"".join(file))
                return
            try:
                for key, piece in zip(keys[1:], ahead(file), strict=True):
                    self._set(key, piece)
            except CorruptError:
                self._discard(blob)
                raise
            self._set(keys[0], b"#%d" % blob.size)

    def close(self) -> None:
        """Drop the connections, also those in use by threads that hang."""
        with self._lock:
            made, self._made, self._closed = self._made, None, True
        if made is not None:
            with contextlib.suppress(Exception):  # what is wrong with a connection no longer matters
                made.connection_pool.disconnect(inuse_connections=True)

    # Keys

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}:{kind}:{name}"

    def _keys(self, blob: Blob) -> list[str]:
        """The header's key, and those of the pieces."""
        head = self._key("b", blob.digest)
        pieces = 0 if blob.size <= CHUNK else -(-blob.size // CHUNK)
        return [head, *(f"{head}:{number}" for number in range(pieces))]

    # Bytes

    def _pieces(self, blob: Blob, head: bytes) -> Iterator[bytes]:
        if head[:1] == b"=" and blob.size <= CHUNK:
            yield head[1:]
            return
        if head != b"#%d" % blob.size or blob.size <= CHUNK:
            raise CorruptError(f"{self.name}: the header of {blob.digest} is damaged")
        for key in self._keys(blob)[1:]:
            piece = self._value(blob, key)
            if piece is None:
                raise _GoneError
            yield piece

    def _value(self, blob: Blob, key: str) -> bytes | None:
        """A header or a piece, no more than a byte longer than one can be."""
        value = self._bytes(self._ask(lambda server: server.getrange(key, 0, CHUNK + 1)))
        # GETRANGE, which bounds what is read, tells an empty value and none alike.
        if not value and self._ask(lambda server: server.exists(key)):
            raise CorruptError(f"{self.name}: a piece of {blob.digest} is empty")
        return value or None

    def _set(self, key: str, value: bytes) -> None:
        self._ask(lambda server: server.set(key, value, ex=self._ttl or None))

    def _discard(self, blob: Blob) -> None:
        if self._writable:
            with contextlib.suppress(StoreError):  # it counts as absent all the same: it is verified when read
                self._ask(lambda server: server.delete(*self._keys(blob)))

    def _refresh(self, keys: Sequence[str]) -> int:
        """Count as used; how many are there."""
        commands = (("EXPIRE", key, self._ttl) if self._ttl else ("EXISTS", key) for key in keys)
        return sum(self._many(commands, (1 for _ in keys)))

    def _many(self, commands: Iterable[tuple[Any, ...]], most: Iterable[int]) -> list[int]:
        """The numbers that many commands answer, each between 0 and `most`."""
        every, answers = list(commands), list[Any]()
        for start in range(0, len(every), BATCH):
            answers += self._ask(partial(_pipelined, every[start : start + BATCH]))
        for answer, limit in zip(answers, most, strict=True):
            if not isinstance(answer, int) or not 0 <= answer <= limit:
                raise StoreError(f"{self.name}: an answer that is none")
        return answers

    def _bytes(self, answer: Any) -> bytes:
        if not isinstance(answer, bytes):
            raise StoreError(f"{self.name}: an answer that is none")
        return answer

    # The server

    def _ask(self, command: Callable[[Any], Any]) -> Any:
        self.prepare()
        client = self._made
        if client is None:
            raise StoreError(f"{self.name}: closed")
        try:
            return command(client)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - what redis-py makes of an answer, be it an AttributeError, is the server's
            raise self._said(error) from None

    def _client(self) -> Any:
        try:
            redis = importlib.import_module("redis")
        except ImportError:
            raise StoreError(f"{self.name}: redis-py is not installed: pip install 'pytest-build[redis]'") from None
        try:
            options = redis.connection.parse_url(self._url)
            options |= {
                # Ours also where the URL says otherwise: a build file must not be able to make builds hang.
                "socket_connect_timeout": CONNECT_SECONDS,
                "socket_timeout": ANSWER_SECONDS,
                "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
                "retry_on_timeout": False,
                "health_check_interval": 0,
                "protocol": 2,  # 3 begins with a HELLO and turns on messages that nobody asked for
                "decode_responses": False,
            }
            options.pop("timeout", None)
            return redis.Redis(connection_pool=redis.ConnectionPool(**options))
        except Exception:  # noqa: BLE001 - the message of a bad port holds a piece of the password
            raise StoreError(f"{self.name}: the URL can't be read") from None

    def _said(self, error: Exception) -> StoreError:
        import redis

        text = " ".join(str(error).split())[:300] or type(error).__name__
        for secret in self._secrets():
            text = text.replace(secret, "***")
        answered = (redis.exceptions.ResponseError, redis.exceptions.BusyLoadingError)
        if isinstance(error, answered) and not isinstance(error, redis.exceptions.AuthenticationError):
            return RefusedError(f"{self.name}: {text}")
        if not isinstance(error, redis.RedisError | OSError):
            text = f"an answer that can't be read ({type(error).__name__})"
        return StoreError(f"{self.name}: {text}")

    def _secrets(self) -> set[str]:
        with contextlib.suppress(ValueError):
            password = urlsplit(self._url).password or ""
            return {text for text in (password, unquote(password)) if text}
        return set()


class _GoneError(Exception):
    """The server has dropped a piece."""


def _pipelined(commands: list[tuple[Any, ...]], server: Any) -> list[Any]:
    with server.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        answers = pipe.execute()
    if not isinstance(answers, list) or len(answers) != len(commands):
        raise ValueError("answers are missing")
    return answers
