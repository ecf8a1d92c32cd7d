"""Making, keeping and reading keys."""

import base64
import os
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from build_tests.cache.keys import (
    UnusableKeyError,
    hmac_secrets,
    holds,
    keygen,
    next_key_id,
    read_signer,
    same,
    write_private,
)
from build_tests.core.errors import ConfigError
from build_tests.core.scalars import PublicKey


@pytest.mark.parametrize("algorithm", ["ed25519", "hmac"])
def test_a_new_key_signs_what_its_other_half_verifies(tmp_path, algorithm):
    new = keygen("main", "k1", algorithm)
    write_private(str(tmp_path / "key"), new.private)
    signer, warnings = read_signer(str(tmp_path / "key"))
    assert warnings == ()
    assert (signer.key_id, signer.algorithm) == ("k1", algorithm)
    secrets = hmac_secrets([new.public], dict([new.variable] if new.variable else []))
    proof = signer.sign(b"message")
    assert holds(new.public, b"message", proof, secrets)
    assert not holds(new.public, b"messagf", proof, secrets)
    assert not holds(new.public, b"message", proof[:-1], secrets)
    assert not holds(new.public, b"message", b"", secrets)


def test_the_line_to_paste_is_one_of_the_build_file():
    new = keygen("main", "k1")
    assert new.line == f'keys: {{main: {{k1: "{new.public}"}}}}'
    (scalar,) = PublicKey.__metadata__
    for public in (new.public, keygen("main", "k1", "hmac").public):
        assert scalar.parse(public) == public
    assert keygen("pr.x-1", "a.b", "hmac").public == "hmac:PYTEST_BUILD_HMAC_PR_X_1_A_B"


def test_two_keys_differ():
    assert keygen("main", "k1").private != keygen("main", "k1").private


def test_a_key_id_is_a_name():
    for name in ("", "1", "a b", "a\nb", "-", "x" * 65):
        with pytest.raises(ValueError, match="no key id"):
            keygen("main", name)


def test_the_next_key_id_was_never_used():
    assert next_key_id([]) == "k1"
    assert next_key_id(["k1"]) == "k2"
    assert next_key_id(["k3", "spring", "k10", "kx"]) == "k11"


def test_a_private_key_is_its_owners_alone_and_never_written_over(tmp_path):
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        write_private(str(path), "text\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_private(str(path), "another\n")
    assert path.read_text() == "text\n"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_key_that_others_can_read_is_warned_of(tmp_path, mode):
    path = tmp_path / "key"
    path.write_text(keygen("main", "k1").private)
    path.chmod(mode)
    _, (warning,) = read_signer(str(path))
    assert warning == f"{path}: the signing key can be read or written by others (mode {mode:o}): chmod 600 it"


def pem(key, encryption=None):
    encryption = encryption or serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def test_a_key_in_pem_has_no_id_and_the_same_public_key(tmp_path):
    key = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "key").write_bytes(pem(key))
    signer, _ = read_signer(str(tmp_path / "key"))
    assert signer.key_id == ""
    assert signer.public == "ed25519:" + base64.b64encode(key.public_key().public_bytes_raw()).decode()
    assert holds(signer.public, b"message", signer.sign(b"message"), {})


LINE = keygen("main", "k1").private
SECRET = LINE.split()[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither a line"),
        (b"\0\xff" * 9000, "neither a line"),
        (SECRET.encode(), "neither a line"),
        (LINE.encode() * 2, "neither a line"),
        (LINE.replace("ed25519", "rsa").encode(), "neither a line"),
        (LINE.replace(" k1 ", " -k ").encode(), "id is no name"),
        (LINE.replace(SECRET, SECRET[:20]).encode(), "cut or edited"),
        (LINE.replace(SECRET, base64.b64encode(bytes(33)).decode()).encode(), "cut or edited"),
        (LINE.replace("ed25519", "hmac").replace(SECRET, "c2hvcnQ=").encode(), "cut or edited"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "neither a line"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "another kind"),
        (pem(ed25519.Ed25519PrivateKey.generate(), serialization.BestAvailableEncryption(b"x")), "passphrase"),
        (pem(ed25519.Ed25519PrivateKey.generate())[:-40], "neither a line"),
    ],
    # Keys are new in each process, and may be in no name.
    ids=lambda value: "key" if isinstance(value, bytes) else value,
)
def test_what_is_no_private_key_is_one_line_that_shows_nothing(tmp_path, content, message):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as error:
        read_signer(str(path))
    text = str(error.value)
    assert text.startswith(f"{path}: the signing key")
    assert message in text
    assert "\n" not in text
    assert SECRET[:12] not in text


def test_an_absent_key_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="none: the signing key can't be read: No such file"):
        read_signer(str(tmp_path / "none"))


def test_a_public_key_that_is_none_can_not_be_used():
    for public in ("ed25519:", "ed25519:AAAA", "ed25519:" + "!" * 44, "hmac:X", "rsa:x"):
        with pytest.raises(UnusableKeyError):
            holds(public, b"message", b"proof", {})


def test_one_key_may_be_spelled_in_several_ways():
    public = "ed25519:" + base64.b64encode(bytes(32)).decode()
    assert public.endswith("AAA=")
    assert same(public, public[:-2] + "B=")
    assert not same(public, "ed25519:" + base64.b64encode(bytes(31) + b"\1").decode())
    assert not same(public, "")
