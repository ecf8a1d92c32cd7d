"""Keys: how a message is signed, how a signature is checked, how a pair is made. Knows no entry, scope or store.

Public keys stand in the build file: `ed25519:BASE64`, or, as the lesser option, `hmac:VARIABLE`, where the environment
variable holds the secret. A private key is a file of one line, `pytest-build-ed25519 KEYID BASE64` (32 bytes) or
`pytest-build-hmac KEYID BASE64`, or an Ed25519 key in PEM, which has no key id. `cryptography` is imported where an
Ed25519 key is used and nowhere else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from build_tests.core.errors import ConfigError, Diagnostic, Place

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = "ed25519"
HMAC = "hmac"
KEY_ID = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
HMAC_PREFIX = "PYTEST_BUILD_HMAC_"
"""Variables with HMAC secrets begin so: a build file can't make a variable that anybody knows (`LANG`) a secret."""

_HMAC_VARIABLE = re.compile(HMAC_PREFIX + r"[A-Z0-9_]+")
_BYTES = 32
"""An Ed25519 seed, an Ed25519 public key, and the least length of an HMAC secret."""
_LARGEST_FILE = 1 << 14
_LINE = re.compile(r"pytest-build-(ed25519|hmac) (\S+) (\S+)\s*")
_FORMS = "neither a line that `pytest-build cache keygen` printed nor an Ed25519 key in PEM"
_INSTALL = "the package cryptography is not installed: pip install cryptography"


class UnusableKeyError(Exception):
    """A key of the build file that can't be used here: its secret or the library is missing. Says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A private key."""

    algorithm: str
    """ED25519 or HMAC."""
    secret: bytes = field(repr=False)
    key_id: str = ""
    """"" = it is found by the public key (PEM)."""

    @property
    def public(self) -> str:
        """As it stands in the build file; "" for HMAC, which has none."""
        if self.algorithm == HMAC:
            return ""
        return f"{ED25519}:{_text(_private(self.secret).public_key().public_bytes_raw())}"

    def sign(self, message: bytes) -> bytes:
        """64 bytes for Ed25519, 32 for HMAC."""
        if self.algorithm == HMAC:
            return hmac.digest(self.secret, message, "sha256")
        return _private(self.secret).sign(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A new key, to be kept and pasted."""

    key_id: str
    private: str = field(repr=False)
    """The private key file's text, one line."""
    public: str
    """What stands in the build file under the scope and the key id."""
    line: str
    """To paste below `build_system.cache`."""
    variable: tuple[str, str] | None = field(default=None, repr=False)
    """HMAC: the variable that every reader needs, and its value, a secret."""


def algorithm_of(public: str) -> str:
    """ED25519 or HMAC."""
    return public.partition(":")[0]


def holds(public: str, message: bytes, proof: bytes, secrets: Mapping[str, bytes]) -> bool:
    """Whether a signature is that of a key of the build file over a message.

    Args:
        public: `ed25519:BASE64` or `hmac:VARIABLE`.
        message: what was signed.
        proof: the signature.
        secrets: HMAC secrets by variable.

    Raises:
        UnusableKeyError: this key can't be used here.
    """
    algorithm, _, value = public.partition(":")
    if algorithm == HMAC:
        if value not in secrets:
            raise UnusableKeyError(f"{value} holds no secret of {_BYTES} bytes in base64")
        return hmac.compare_digest(hmac.digest(secrets[value], message, "sha256"), proof)
    try:
        key = _public(value)
    except ImportError as error:
        raise UnusableKeyError(_INSTALL) from error
    except ValueError as error:
        raise UnusableKeyError(f"{public} is no public key") from error
    return _verifies(key, message, proof)


def same(public: str, other: str) -> bool:
    """Whether two public keys are one: base64 has more than one text for some bytes."""
    return public == other or (
        algorithm_of(public) == algorithm_of(other) == ED25519
        and _bytes(public.partition(":")[2]) == _bytes(other.partition(":")[2])
    )


def hmac_secrets(publics: Iterable[str], environ: Mapping[str, str]) -> dict[str, bytes]:
    """The secrets that the environment holds for the HMAC keys of a build file, by variable."""
    variables = {public.partition(":")[2] for public in publics if algorithm_of(public) == HMAC}
    found = {name: _bytes(environ.get(name, "")) for name in variables if _HMAC_VARIABLE.fullmatch(name)}
    return {name: secret for name, secret in found.items() if len(secret) >= _BYTES}


def read_signer(path: str) -> tuple[Signer, tuple[str, ...]]:
    """The private key in a file, and warnings about the file.

    Raises:
        ConfigError: no such file, or not a private key of ours. The message shows nothing of the content.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LARGEST_FILE)
    except OSError as error:
        raise _error(path, f"the signing key can't be read: {error.strerror}") from error
    try:
        signer = _signer(content)
    except ImportError as error:
        raise _error(path, f"the signing key can't be used: {_INSTALL}") from error
    except ValueError as error:
        raise _error(path, str(error)) from None
    return signer, (_open_to_others(path, mode),) if mode & (stat.S_IRWXG | stat.S_IRWXO) else ()


def keygen(scope: str, key_id: str, algorithm: str = ED25519) -> NewKey:
    """Make a key. Nothing is written.

    Raises:
        ValueError: not a key id.
        ImportError: `cryptography` is not installed (Ed25519 only).
    """
    if KEY_ID.fullmatch(key_id) is None:
        raise ValueError(f"{key_id!r} is no key id: letters, digits, _ . and -, beginning with a letter")
    signer = Signer(algorithm=algorithm, secret=os.urandom(_BYTES), key_id=key_id)
    private = f"pytest-build-{algorithm} {key_id} {_text(signer.secret)}\n"
    variable = HMAC_PREFIX + re.sub(r"[^A-Z0-9]", "_", f"{scope}_{key_id}".upper())
    public = signer.public or f"{HMAC}:{variable}"
    return NewKey(
        key_id=key_id,
        private=private,
        public=public,
        line=f'keys: {{{scope}: {{{key_id}: "{public}"}}}}',
        variable=None if signer.public else (variable, _text(signer.secret)),
    )


def next_key_id(used: Iterable[str]) -> str:
    """`k1`, or the one after the highest that is used."""
    numbers = [int(found[1]) for name in used if (found := re.fullmatch(r"k(\d{1,9})", name))]
    return f"k{max(numbers, default=0) + 1}"


def write_private(path: str, text: str) -> None:
    """Write a private key to a new file that its owner alone can read.

    Raises:
        OSError: it can't be written, or something lies there already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(text)


def _signer(content: bytes) -> Signer:
    """Raises ValueError (fit for users, without the content), ImportError."""
    if content.lstrip().startswith(b"-----BEGIN "):
        return _from_pem(content)
    found = _LINE.fullmatch(content.decode("ascii", "replace"))
    if found is None:
        raise ValueError(f"the signing key is {_FORMS}")
    algorithm, key_id, secret = found[1], found[2], _bytes(found[3])
    if KEY_ID.fullmatch(key_id) is None:
        raise ValueError("the signing key's id is no name")
    if len(secret) < _BYTES or (algorithm == ED25519 and len(secret) > _BYTES):
        raise ValueError(f"the signing key must hold {_BYTES} bytes in base64: it was cut or edited")
    signer = Signer(algorithm=algorithm, secret=secret, key_id=key_id)
    if algorithm == ED25519:
        _private(secret)  # an ImportError here, not at the first write
    return signer


def _from_pem(content: bytes) -> Signer:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise ValueError("the signing key has a passphrase: nobody is there to type it") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"the signing key is {_FORMS}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("the signing key in PEM is of another kind than Ed25519")  # noqa: TRY004
    return Signer(algorithm=ED25519, secret=key.private_bytes_raw())


@cache
def _private(secret: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(secret)


@cache
def _public(text: str) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return Ed25519PublicKey.from_public_bytes(_bytes(text))


def _verifies(key: Ed25519PublicKey, message: bytes, proof: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(proof, message)
    except InvalidSignature:
        return False
    return True


def fingerprint(public: str) -> str:
    """A public key, short, for messages."""
    return f"{algorithm_of(public)} {hashlib.sha256(public.encode()).hexdigest()[:12]}"


def _bytes(text: str) -> bytes:
    """Of base64; b"" where it is none."""
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _open_to_others(path: str, mode: int) -> str:
    return f"{path}: the signing key can be read or written by others (mode {stat.S_IMODE(mode):o}): chmod 600 it"


def _error(path: str, message: str) -> ConfigError:
    return ConfigError([Diagnostic(place=Place(file=path), message=message)])
