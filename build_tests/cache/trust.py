r"""Whose entries are believed: the envelope around a record, and the rules by which it is opened.

An entry has an address: its kind, the scope that it belongs to, and the key (of an action) or label (of a pointer). The
signature covers the whole address, so an entry that is moved to another step, key or scope does not verify. Knows no
store and not what a record says.

    pytest-build entry 1 main k1 ed25519 BASE64(signature)\n
    body
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal, NamedTuple

from build_tests.cache.keys import (
    HMAC,
    Signer,
    UnusableKeyError,
    algorithm_of,
    fingerprint,
    hmac_secrets,
    holds,
    read_signer,
    same,
)
from build_tests.cache.model import pointer_name, record_name
from build_tests.cache.permissions import Permissions
from build_tests.core.errors import ConfigError, Diagnostic, Place
from build_tests.core.model import CacheSettings

PULL_REQUEST = "pr"
"""Scopes `pr` and `pr.ANYTHING` are pull requests': nobody but themselves reads them."""
LARGEST = 64 << 20
"""Bytes of the largest envelope that is looked at."""

_DOMAIN = b"pytest-build entry 1"
_UNSIGNED = "none"
"""In place of the algorithm; the proof is then a checksum, against accidents only."""
_NO_KEY = "-"
_HEADER = re.compile(
    rb"pytest-build entry (\d{1,9}) ([!-~]{1,256}) ([!-~]{1,64}) ([a-z0-9]{1,16}) ([A-Za-z0-9+/=]{1,128})\n"
)
_LONGEST_HEADER = 600
_MAGIC = re.compile(rb"pytest-build entry (\d{1,9}) ")


class Refusal(str, Enum):
    """Why an entry is not believed. A closed set, for counting."""

    DAMAGED = "damaged"
    """Cut, empty, or never an envelope."""
    VERSION = "version"
    """Another release wrote it, in another form."""
    UNSIGNED = "unsigned"
    """It would need a signature."""
    KEY = "key"
    """Signed with a key that is not among the scope's."""
    SIGNATURE = "signature"
    """Changed after it was signed, signed by somebody else, or another address's entry."""
    SCOPE = "scope"
    """Another scope's entry, or of a scope that this job does not read."""
    UNVERIFIABLE = "unverifiable"
    """The key is right, and can't be used here."""

    @property
    def suspicious(self) -> bool:
        """Whether somebody may have meant it: worth a security warning."""
        return self in {Refusal.UNSIGNED, Refusal.KEY, Refusal.SIGNATURE, Refusal.SCOPE}


class UntrustedError(Exception):
    """An entry that is not believed: it counts as absent. The text is one line fit for users."""

    def __init__(self, refusal: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.refusal = refusal
        self.reason = reason


class Address(NamedTuple):
    """What an entry is about."""

    kind: Literal["action", "pointer"]
    scope: str
    name: str
    """The key of an action, or the label that a pointer belongs to."""

    @property
    def lookup(self) -> str:
        """The name that it lies under in every store."""
        return (record_name if self.kind == "action" else pointer_name)(self.scope, self.name)

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of scope {self.scope}"


class _Seal(NamedTuple):
    scope: str
    key_id: str
    algorithm: str
    proof: bytes


def sealed(address: Address, body: bytes, signer: Signer | None) -> bytes:
    """The envelope. Without a signer it holds a checksum, and only its own scope's local tier will believe it."""
    if signer is None:
        algorithm, key_id, proof = _UNSIGNED, _NO_KEY, _checksum(address, body)
    else:
        algorithm, key_id = signer.algorithm, signer.key_id
        proof = signer.sign(_message(address, algorithm, key_id, body))
    header = f"pytest-build entry 1 {address.scope} {key_id} {algorithm} {base64.b64encode(proof).decode()}\n"
    return header.encode() + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whom this job believes, and as whom it writes."""

    scope: str = "local"
    """Its own: read first, and the only one that it writes."""
    read_scopes: tuple[str, ...] = ()
    """Read after its own, in this order."""
    keys: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    """Public keys by scope and key id, as `CacheSettings.keys`."""
    signer: Signer | None = None
    held: Signer | None = field(default=None, compare=False)
    """The private key that the job was given, whether or not it is one of its scope."""
    secrets: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    """HMAC secrets by variable."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What the user should know; a sentence each."""

    def keys_of(self, scope: str) -> tuple[tuple[str, str], ...]:
        """Key ids and public keys of a scope; `pr.7` has those of `pr` unless it has its own."""
        known = dict(self.keys)
        return known.get(scope) or known.get(family(scope), ())

    def scopes(self, *, remote: bool) -> tuple[str, ...]:
        """Where to look, in order: of the scopes without keys only its own is read, and only in the local tier."""
        wanted = dict.fromkeys((self.scope, *self.read_scopes))
        return tuple(scope for scope in wanted if self.keys_of(scope) or (scope == self.scope and not remote))

    def actions(self, key: str, *, remote: bool) -> Iterator[Address]:
        """Where a step's record may lie, in order."""
        return (Address("action", scope, key) for scope in self.scopes(remote=remote))

    def pointers(self, label: str, *, remote: bool) -> Iterator[Address]:
        """Where the last keys of a step may lie, in order."""
        return (Address("pointer", scope, label) for scope in self.scopes(remote=remote))

    def why_not(self, *, remote: bool) -> str:
        """Why this job can't write entries that a later one would believe; "" = it can."""
        signed = bool(self.keys_of(self.scope))
        if signed and self.signer is None:
            return f"scope {self.scope} has public keys, and this job has no private key of it"
        if remote and not signed:
            return f"scope {self.scope} has no public key in build_system.cache.keys: nobody would believe its entries"
        return ""

    def sealed(self, address: Address, body: bytes) -> bytes:
        """The envelope of an entry of its own scope.

        Raises:
            UntrustedError: another scope's, or this job can't write believable entries (see `why_not`).
        """
        if address.scope != self.scope:
            raise UntrustedError(Refusal.SCOPE, f"this job writes scope {self.scope} only, not {address.scope}")
        if why := self.why_not(remote=False):
            raise UntrustedError(Refusal.UNSIGNED, why)
        return sealed(address, body, self.signer if self.keys_of(self.scope) else None)

    def opened(self, address: Address, envelope: bytes, *, remote: bool) -> bytes:
        """The body of an envelope that was found at an address.

        Args:
            address: what was asked for.
            envelope: what was found.
            remote: whether a tier that others can write gave it.

        Raises:
            UntrustedError: it is not to be used; the entry counts as absent.
        """
        if address.scope not in self.scopes(remote=remote):
            raise self._unread(address, remote)
        seal, body = _parsed(envelope)
        if seal.scope != address.scope:
            raise UntrustedError(Refusal.SCOPE, f"{address}: what lies there is scope {_plain(seal.scope)}'s")
        keys = self.keys_of(address.scope)
        if keys:
            self._verify(address, seal, body, dict(keys))
        elif seal.algorithm != _UNSIGNED:
            raise UntrustedError(Refusal.KEY, f"{address}: signed, and the scope has no public keys")
        elif seal.key_id != _NO_KEY or not hmac.compare_digest(_checksum(address, body), seal.proof):
            raise UntrustedError(Refusal.DAMAGED, f"{address}: the checksum does not hold")
        return body

    def _verify(self, address: Address, seal: _Seal, body: bytes, keys: Mapping[str, str]) -> None:
        if seal.algorithm == _UNSIGNED:
            raise UntrustedError(Refusal.UNSIGNED, f"{address}: not signed")
        public = keys.get(seal.key_id)
        if public is None or algorithm_of(public) != seal.algorithm:
            asked = f"{_plain(seal.key_id)} ({seal.algorithm})"
            raise UntrustedError(Refusal.KEY, f"{address}: signed with {asked}, not a key of the scope")
        message = _message(address, seal.algorithm, seal.key_id, body)
        try:
            good = holds(public, message, seal.proof, dict(self.secrets))
        except UnusableKeyError as error:
            raise UntrustedError(
                Refusal.UNVERIFIABLE, f"{address}: key {seal.key_id} can't be used: {error}"
            ) from error
        if not good:
            raise UntrustedError(Refusal.SIGNATURE, f"{address}: the signature of {seal.key_id} does not hold")

    def _unread(self, address: Address, remote: bool) -> UntrustedError:
        if address.scope in (self.scope, *self.read_scopes):
            where = "a remote tier" if remote else "another job"
            return UntrustedError(Refusal.UNSIGNED, f"{address}: without public keys nothing of {where} is believed")
        return UntrustedError(Refusal.SCOPE, f"{address}: a job of scope {self.scope} does not read it")


def family(scope: str) -> str:
    """`pr.7` → `pr`."""
    return scope.partition(".")[0]


def trust_of(settings: CacheSettings, permissions: Permissions, environ: Mapping[str, str]) -> Trust:
    """What the build file says of trust, with what the environment and the user's file allow this job.

    Raises:
        ConfigError: the private key can't be read, or `read_scopes` names a pull request's scope.
    """
    wrong = [scope for scope in settings.read_scopes if family(scope) == PULL_REQUEST and scope != permissions.scope]
    if wrong:
        raise ConfigError([
            Diagnostic(
                place=Place(file="build_system.cache.read_scopes"),
                message=f"{wrong[0]} is a pull request's scope, which nobody else may read",
            )
        ])  # fmt: skip
    publics = [public for _, keys in settings.keys for _, public in keys]
    trust = Trust(
        scope=permissions.scope,
        read_scopes=settings.read_scopes,
        keys=settings.keys,
        secrets=tuple(sorted(hmac_secrets(publics, environ).items())),
    )
    if permissions.signing_key_file is None:
        return trust
    signer, notes = read_signer(permissions.signing_key_file)
    return replace(_with_signer(trust, signer), held=signer, notes=(*notes, *_unmatched(trust, signer)))


def exposures(trust: Trust, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What this job holds and should not: a pull request's job with what can write another scope. A sentence each."""
    if family(trust.scope) != PULL_REQUEST and not is_pull_request(environ):
        return ()
    return tuple(
        f"this is a pull request's job, and it holds what can write scope {scope} ({key_id}, {algorithm_of(public)})"
        for scope, keys in trust.keys
        if family(scope) != PULL_REQUEST
        for key_id, public in keys
        if _can_write(trust, key_id, public)
    )


def is_pull_request(environ: Mapping[str, str]) -> bool:
    """Whether the CI service says so (GitHub, GitLab)."""
    return environ.get("GITHUB_EVENT_NAME", "").startswith("pull_request") or bool(environ.get("CI_MERGE_REQUEST_IID"))


def _can_write(trust: Trust, key_id: str, public: str) -> bool:
    if algorithm_of(public) == HMAC:
        known = public.partition(":")[2] in dict(trust.secrets)
        return known or (trust.held is not None and (trust.held.algorithm, trust.held.key_id) == (HMAC, key_id))
    return trust.held is not None and same(trust.held.public, public)


def _with_signer(trust: Trust, signer: Signer) -> Trust:
    """With the signer under the id that the scope knows it by; without one where it knows none."""
    key_id = _matching(trust, signer)
    if key_id is None:
        return trust
    secrets = dict(trust.secrets)
    if signer.algorithm == HMAC:
        variable = dict(trust.keys_of(trust.scope))[key_id].partition(":")[2]
        secrets.setdefault(variable, signer.secret)
    return replace(trust, signer=replace(signer, key_id=key_id), secrets=tuple(sorted(secrets.items())))


def _matching(trust: Trust, signer: Signer) -> str | None:
    keys = dict(trust.keys_of(trust.scope))
    if signer.algorithm == HMAC:
        return signer.key_id if algorithm_of(keys.get(signer.key_id, "")) == HMAC else None
    # By value first: a key that was renamed in the build file is still the key.
    return next((key_id for key_id, public in keys.items() if same(public, signer.public)), None)


def _unmatched(trust: Trust, signer: Signer) -> tuple[str, ...]:
    if _matching(trust, signer) is not None:
        return ()
    mine = fingerprint(signer.public) if signer.public else f"hmac {signer.key_id}"
    where = f"the public keys of scope {trust.scope}"
    return (f"the signing key ({mine}) is none of {where}: nothing is written where a signature is needed",)


def _parsed(envelope: bytes) -> tuple[_Seal, bytes]:
    """Raises UntrustedError."""
    magic = _MAGIC.match(envelope)
    if magic is not None and magic[1] != b"1":
        raise UntrustedError(Refusal.VERSION, f"an entry of version {magic[1].decode()}: this release reads version 1")
    found = _HEADER.match(envelope, 0, _LONGEST_HEADER)
    if found is None:
        raise UntrustedError(Refusal.DAMAGED, "not an entry of ours, or cut")
    if len(envelope) > LARGEST:
        raise UntrustedError(Refusal.DAMAGED, f"an entry of {len(envelope)} bytes: more than {LARGEST}")
    seal = _Seal(found[2].decode(), found[3].decode(), found[4].decode(), _proof(found[5]))
    return seal, envelope[found.end() :]


def _proof(text: bytes) -> bytes:
    try:
        proof = base64.b64decode(text, validate=True)
    except binascii.Error:
        proof = b""
    # One text for one proof: what was changed in any bit is not what was written.
    if not proof or base64.b64encode(proof) != text:
        raise UntrustedError(Refusal.DAMAGED, "an entry whose signature is not base64")
    return proof


def _message(address: Address, algorithm: str, key_id: str, body: bytes) -> bytes:
    """What is signed. Lengths before the parts, so that no two lists of parts make the same bytes."""
    texts = (algorithm, key_id, address.kind, address.scope, address.name)
    parts = (_DOMAIN, *(text.encode() for text in texts), body)
    return b"".join(length_and_part for part in parts for length_and_part in (len(part).to_bytes(8, "big"), part))


def _checksum(address: Address, body: bytes) -> bytes:
    return hashlib.sha256(_message(address, _UNSIGNED, _NO_KEY, body)).digest()


def _plain(text: str) -> str:
    """What a stranger wrote, short enough for a message."""
    return text if len(text) <= 40 else text[:37] + "..."  # noqa: PLR2004
