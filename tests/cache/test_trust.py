"""Whose entries are believed: every refusal, and what an attacker can't do with each thing that he may hold."""

import base64
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_tests.cache.keys import ED25519, HMAC, Signer, keygen, write_private
from build_tests.cache.local import LocalStore
from build_tests.cache.permissions import Permissions
from build_tests.cache.trust import LARGEST, Address, Refusal, Trust, UntrustedError, exposures, sealed, trust_of
from build_tests.core.errors import ConfigError
from build_tests.core.model import CacheSettings

BODY = b'{"outputs":[],"version":1}'
STEP = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2


class Job:
    """A CI job or a person: what it holds, and the trust that follows."""

    def __init__(self, folder, scope, *, keys=(), read_scopes=(), private=None, environ=None):
        path = None
        if private is not None:
            path = str(folder / f"key-{len(list(folder.iterdir()))}")
            write_private(path, private)
        self.environ = environ or {}
        self.settings = CacheSettings(keys=tuple(keys), read_scopes=tuple(read_scopes))
        self.trust = trust_of(self.settings, Permissions(scope=scope, signing_key_file=path), self.environ)

    def publish(self, store, body=BODY, key=STEP):
        """Write the step's record as itself; whether it was written."""
        address = Address("action", self.trust.scope, key)
        return store.write_record(address.lookup, self.trust.sealed(address, body), [])

    def read(self, store, *, remote, key=STEP):
        """The first record that it believes, or None; and why others were refused."""
        refusals = []
        for address in self.trust.actions(key, remote=remote):
            envelope = store.read_record(address.lookup)
            if envelope is not None:
                try:
                    return self.trust.opened(address, envelope, remote=remote), refusals
                except UntrustedError as error:
                    refusals.append(error.refusal)
        return None, refusals


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "keys"
    path.mkdir()
    return path


@pytest.fixture
def store(tmp_path):
    store = LocalStore(str(tmp_path / "store"))
    yield store
    store.close()


MAIN, MAIN2, PR, RELEASE, STRANGER = (keygen(scope, key_id) for scope, key_id in [
    ("main", "k1"), ("main", "k2"), ("pr", "k1"), ("release", "k1"), ("main", "k1"),
])  # fmt: skip
KEYS = (("main", (("k1", MAIN.public),)), ("pr", (("k1", PR.public),)), ("release", (("k1", RELEASE.public),)))


@pytest.fixture
def main(folder):
    return Job(folder, "main", keys=KEYS, private=MAIN.private)


@pytest.fixture
def pull_request(folder):
    return Job(folder, "pr.7", keys=KEYS, read_scopes=["main"], private=PR.private)


def refused(trust, address, envelope, *, remote=True):
    with pytest.raises(UntrustedError) as error:
        trust.opened(address, envelope, remote=remote)
    assert "\n" not in str(error.value)
    return error.value.refusal


ACTION = Address("action", "main", STEP)


# What is believed


def test_a_signed_entry_is_believed_in_every_tier(main, pull_request):
    envelope = main.trust.sealed(ACTION, BODY)
    for job in (main, pull_request):
        for remote in (True, False):
            assert job.trust.opened(ACTION, envelope, remote=remote) == BODY


@pytest.mark.parametrize("body", [b"", b"\n", b"a\nb", bytes(range(256)), b"x" * 3_000_000], ids=len)
def test_any_body_comes_back(main, body):
    assert main.trust.opened(ACTION, main.trust.sealed(ACTION, body), remote=True) == body


def test_a_laptop_believes_itself_and_only_in_its_local_tier(folder):
    laptop = Trust()
    address = Address("action", "local", STEP)
    envelope = laptop.sealed(address, BODY)
    assert laptop.opened(address, envelope, remote=False) == BODY
    assert refused(laptop, address, envelope) is Refusal.UNSIGNED
    assert laptop.scopes(remote=False) == ("local",)
    assert laptop.scopes(remote=True) == ()


def test_an_unsigned_scope_is_read_by_itself_only():
    envelope = Trust(scope="alice").sealed(Address("action", "alice", STEP), BODY)
    reader = Trust(scope="bob", read_scopes=("alice",))
    assert reader.scopes(remote=False) == ("bob",)
    assert refused(reader, Address("action", "alice", STEP), envelope, remote=False) is Refusal.UNSIGNED


def test_the_order_is_its_own_scope_then_the_others(pull_request):
    trust = pull_request.trust
    assert [address.scope for address in trust.actions(STEP, remote=True)] == ["pr.7", "main"]
    assert [(address.kind, address.name) for address in trust.pointers("web:bundle", remote=False)] == [
        ("pointer", "web:bundle")
    ] * 2
    assert Trust(scope="main", read_scopes=("main",), keys=KEYS).scopes(remote=True) == ("main",)


def test_lookup_names_differ_by_kind_scope_and_name():
    addresses = [Address(kind, scope, name) for kind in ("action", "pointer") for scope in "ab" for name in "cd"]
    assert len({address.lookup for address in addresses}) == len(addresses)


# Every refusal


def test_an_unsigned_entry_of_a_scope_with_keys_is_refused_everywhere(main):
    for remote in (True, False):
        assert refused(main.trust, ACTION, sealed(ACTION, BODY, None), remote=remote) is Refusal.UNSIGNED


def test_a_signature_of_a_key_that_is_not_the_scopes_is_refused(main, pull_request, folder):
    stranger = Job(folder, "main", keys=[("main", (("k9", STRANGER.public),))], private=STRANGER.private)
    assert refused(main.trust, ACTION, stranger.trust.sealed(ACTION, BODY)) is Refusal.KEY
    # The same, under an id that is known.
    assert refused(main.trust, ACTION, sealed(ACTION, BODY, signer_of(STRANGER))) is Refusal.SIGNATURE
    # A key is good for its own scope only.
    assert refused(main.trust, ACTION, sealed(ACTION, BODY, pull_request.trust.signer)) is Refusal.SIGNATURE


@pytest.mark.parametrize(
    "elsewhere",
    [
        Address("action", "main", OTHER),
        Address("pointer", "main", STEP),
        Address("action", "main.x", STEP),
        Address("action", "pr.7", STEP),
        Address("action", "release", STEP),
    ],
    ids=str,
)
def test_an_entry_is_believed_at_its_own_address_only(folder, main, elsewhere):
    envelope = main.trust.sealed(ACTION, BODY)
    everywhere = Job(folder, elsewhere.scope, keys=KEYS, read_scopes=["main", "main.x", "release"])
    assert refused(everywhere.trust, elsewhere, envelope) in {Refusal.SIGNATURE, Refusal.SCOPE}
    # Nor when the scope in the envelope is made to fit.
    renamed = envelope.replace(b" main ", f" {elsewhere.scope} ".encode(), 1)
    assert refused(everywhere.trust, elsewhere, renamed) is Refusal.SIGNATURE


def test_a_scope_that_this_job_does_not_read_is_refused(main, pull_request):
    theirs = Address("action", "pr.7", STEP)
    assert refused(main.trust, theirs, pull_request.trust.sealed(theirs, BODY)) is Refusal.SCOPE
    neighbour = Address("action", "pr.8", STEP)
    assert refused(pull_request.trust, neighbour, sealed(neighbour, BODY, pull_request.trust.signer)) is Refusal.SCOPE


def test_another_algorithm_is_no_way_round_the_key(main):
    """The public key is public: it must not do as the secret of an HMAC."""
    for secret in (MAIN.public.encode(), base64.b64decode(MAIN.public.partition(":")[2])):
        forged = sealed(ACTION, BODY, Signer(algorithm=HMAC, secret=secret, key_id="k1"))
        assert refused(main.trust, ACTION, forged) is Refusal.KEY


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_an_entry_cut_at_every_length_is_refused(main, signed):
    trust, address = (main.trust, ACTION) if signed else (Trust(), Address("action", "local", STEP))
    envelope = trust.sealed(address, BODY)
    refusals = {refused(trust, address, envelope[:length], remote=False) for length in range(len(envelope))}
    assert refusals == {Refusal.DAMAGED, Refusal.SIGNATURE} if signed else {Refusal.DAMAGED}
    for more in (b"\0", b"\n", envelope):
        refused(trust, address, envelope + more, remote=False)
        refused(trust, address, more + envelope, remote=False)


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_every_flipped_bit_is_refused(main, signed):
    trust, address = (main.trust, ACTION) if signed else (Trust(), Address("action", "local", STEP))
    envelope = trust.sealed(address, BODY)
    for at in range(len(envelope)):
        for bit in range(8):
            flipped = bytearray(envelope)
            flipped[at] ^= 1 << bit
            refused(trust, address, bytes(flipped), remote=False)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_edit_of_an_entry_is_believed(data):
    trust = Trust(scope="main", keys=KEYS)
    envelope = sealed(ACTION, BODY, signer_of(MAIN))
    begin = data.draw(st.integers(0, len(envelope)))
    end = data.draw(st.integers(begin, len(envelope)))
    edited = envelope[:begin] + data.draw(st.binary(max_size=20)) + envelope[end:]
    if edited != envelope:
        refused(trust, ACTION, edited)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300) | st.binary(max_size=100).map(lambda tail: b"pytest-build entry 1 main k1 ed25519 " + tail)
)
def test_nothing_made_up_is_believed(envelope):
    refused(Trust(scope="main", keys=KEYS), ACTION, envelope)


def signer_of(key):
    return Signer(algorithm=ED25519, secret=base64.b64decode(key.private.split()[2]), key_id=key.key_id)


def test_another_version_is_refused_and_not_suspicious(main):
    envelope = main.trust.sealed(ACTION, BODY)
    for version in (b"0", b"2", b"10", b"999999999"):
        refusal = refused(main.trust, ACTION, envelope.replace(b"entry 1 ", b"entry %s " % version))
        assert refusal is Refusal.VERSION
        assert not refusal.suspicious


def test_an_entry_without_bounds_is_refused(main):
    assert refused(main.trust, ACTION, main.trust.sealed(ACTION, bytes(LARGEST))) is Refusal.DAMAGED


def test_base64_has_one_form(main):
    header, _, body = main.trust.sealed(ACTION, BODY).partition(b"\n")
    # 64 bytes end in a letter of which four bits do not count.
    assert header.endswith(b"==")
    spelled = {header[:-3] + bytes([letter]) + b"==" for letter in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"}
    accepted = [text for text in spelled - {header} if believed(main.trust, text + b"\n" + body)]
    assert accepted == []


def believed(trust, envelope):
    try:
        trust.opened(ACTION, envelope, remote=True)
    except UntrustedError:
        return False
    return True


# Writing


def test_a_job_writes_its_own_scope_only(main, pull_request):
    for job, address in ((pull_request, ACTION), (main, Address("action", "pr.7", STEP))):
        with pytest.raises(UntrustedError) as error:
            job.trust.sealed(address, BODY)
        assert error.value.refusal is Refusal.SCOPE


def test_a_job_without_the_private_key_writes_nothing_into_a_scope_with_keys(folder):
    reader = Job(folder, "main", keys=KEYS).trust
    assert "no private key" in reader.why_not(remote=False)
    assert "no private key" in reader.why_not(remote=True)
    with pytest.raises(UntrustedError):
        reader.sealed(ACTION, BODY)


def test_a_scope_without_public_keys_writes_locally_only(folder):
    alice = Job(folder, "alice", keys=KEYS, read_scopes=["main"]).trust
    assert alice.why_not(remote=False) == ""
    assert "no public key" in alice.why_not(remote=True)


def test_a_private_key_of_another_scope_is_said_and_not_used(folder):
    lost = Job(folder, "main", keys=KEYS, private=PR.private).trust
    assert lost.signer is None
    assert "none of the public keys of scope main" in " ".join(lost.notes)
    assert PR.private.split()[2] not in " ".join(lost.notes)


def test_a_renamed_key_is_still_the_key(folder, main):
    keys = (("main", (("spring-2026", MAIN.public),)),)
    envelope = Job(folder, "main", keys=keys, private=MAIN.private).trust.sealed(ACTION, BODY)
    assert Job(folder, "main", keys=keys).trust.opened(ACTION, envelope, remote=True) == BODY
    assert refused(main.trust, ACTION, envelope) is Refusal.KEY


def test_no_secret_shows_in_a_repr(main, folder):
    job = Job(folder, "main", keys=HMAC_KEYS, environ=HMAC_ENVIRON)
    shown = repr(main.trust) + repr(job.trust) + repr(MAIN) + repr(SHARED)
    secrets = [MAIN.private.split()[2], SHARED.private.split()[2]]
    assert not any(secret in shown or repr(base64.b64decode(secret)) in shown for secret in secrets)


# Rotation


def test_keys_rotate_without_losing_the_cache(folder, main):
    old = main.trust.sealed(ACTION, BODY)
    both = (("main", (("k1", MAIN.public), ("k2", MAIN2.public))),)
    new = Job(folder, "main", keys=both, private=MAIN2.private).trust
    assert new.signer.key_id == "k2"
    assert new.opened(ACTION, old, remote=True) == BODY
    assert new.opened(ACTION, new.sealed(ACTION, BODY), remote=True) == BODY
    # A job that still has the old key goes on while both are there.
    assert new.opened(
        ACTION, Job(folder, "main", keys=both, private=MAIN.private).trust.sealed(ACTION, BODY), remote=True
    )
    # The old one is withdrawn: what it signed counts as absent.
    after = Job(folder, "main", keys=[("main", (("k2", MAIN2.public),))]).trust
    assert refused(after, ACTION, old) is Refusal.KEY
    assert after.opened(ACTION, new.sealed(ACTION, BODY), remote=True) == BODY


def test_the_keys_of_a_family_stand_for_its_members_until_one_has_its_own(folder):
    keys = (*KEYS, ("pr.9", (("k1", STRANGER.public),)))
    seven, nine = Address("action", "pr.7", STEP), Address("action", "pr.9", STEP)
    assert Job(folder, "pr.7", keys=keys).trust.opened(seven, sealed(seven, BODY, signer_of(PR)), remote=True) == BODY
    assert refused(Job(folder, "pr.9", keys=keys).trust, nine, sealed(nine, BODY, signer_of(PR))) is Refusal.SIGNATURE


# HMAC, the lesser option

SHARED = keygen("main", "k1", "hmac")
HMAC_KEYS = (("main", (("k1", SHARED.public),)),)
HMAC_ENVIRON = dict([SHARED.variable])


def test_hmac_works_with_the_secret_and_refuses_without(folder):
    writer = Job(folder, "main", keys=HMAC_KEYS, private=SHARED.private)
    envelope = writer.trust.sealed(ACTION, BODY)
    reader = Job(folder, "pr.7", keys=HMAC_KEYS, read_scopes=["main"], environ=HMAC_ENVIRON)
    assert writer.trust.opened(ACTION, envelope, remote=True) == BODY
    assert reader.trust.opened(ACTION, envelope, remote=True) == BODY
    assert refused(reader.trust, Address("action", "main", OTHER), envelope) is Refusal.SIGNATURE
    blind = Job(folder, "pr.7", keys=HMAC_KEYS, read_scopes=["main"])
    assert refused(blind.trust, ACTION, envelope) is Refusal.UNVERIFIABLE


@pytest.mark.parametrize("value", ["", "x", "c2hvcnQ=", "!" * 44])
def test_a_poor_hmac_secret_is_none(folder, value):
    reader = Job(folder, "main", keys=HMAC_KEYS, environ={SHARED.variable[0]: value})
    assert reader.trust.secrets == ()
    assert reader.trust.why_not(remote=True)


def test_a_build_file_can_not_make_a_known_variable_a_secret(folder):
    public = base64.b64encode(b"a text that everybody can read...").decode()
    keys = (("main", (("k1", "hmac:LANG"),)),)
    assert Job(folder, "main", keys=keys, environ={"LANG": public}).trust.secrets == ()


# The poisoning matrix

EVIL = b'{"outputs":["evil"],"version":1}'


def test_write_access_to_the_bucket_gets_no_byte_into_a_build(store, main, pull_request, folder):
    """The attacker writes whatever he likes under every name; he has no key."""
    attacker = Job(folder, "main", keys=[("main", (("k1", STRANGER.public),))], private=STRANGER.private)
    genuine = main.trust.sealed(Address("action", "main", OTHER), BODY)
    for number, planted in enumerate([
        b"", EVIL, sealed(ACTION, EVIL, None), attacker.trust.sealed(ACTION, EVIL), genuine,
        main.trust.sealed(ACTION, BODY).replace(BODY, EVIL), main.trust.sealed(ACTION, BODY)[:-1],
    ]):  # fmt: skip
        key = f"{number:032x}"
        address = Address("action", "main", key)
        store.write_record(address.lookup, planted or b"\0", [])
        for job in (main, pull_request):
            assert job.read(store, remote=True, key=key)[0] is None
            assert job.read(store, remote=False, key=key)[0] is None
        # The name that he squats is not lost.
        assert store.write_record(address.lookup, main.trust.sealed(address, BODY), [], over=planted or b"\0")
        assert main.read(store, remote=True, key=key)[0] == BODY


def test_a_pull_requests_key_and_all_public_keys_get_no_byte_into_main(store, main, pull_request):
    """The attacker runs in a pull request's job: he may sign whatever he likes as `pr`, and write under every name."""
    signer = pull_request.trust.signer
    theirs = Address("action", "pr.7", STEP)
    for envelope in (
        sealed(ACTION, EVIL, signer),
        sealed(theirs, EVIL, signer),
        sealed(theirs, EVIL, signer).replace(b" pr.7 ", b" main ", 1),
        sealed(theirs, EVIL, None),
    ):
        store.write_record(ACTION.lookup, envelope, [], over=store.read_record(ACTION.lookup))
        assert store.read_record(ACTION.lookup) == envelope
        for remote in (True, False):
            found, refusals = main.read(store, remote=remote)
            assert found is None
            assert all(refusal.suspicious for refusal in refusals)
            assert len(refusals) == 1
    assert pull_request.publish(store, EVIL)
    assert main.read(store, remote=True)[0] is None
    assert pull_request.read(store, remote=True)[0] == EVIL


@pytest.mark.parametrize("holds_key", [True, False], ids=["with its key", "without a key"])
@pytest.mark.parametrize("scope", ["pr.7", "fork", "local"])
def test_nothing_of_a_pull_request_enters_main_on_a_kept_runner(store, main, folder, scope, holds_key):
    """Both jobs share the local store; the pull request's goes first."""
    private = PR.private if holds_key and scope == "pr.7" else None
    first = Job(folder, scope, keys=KEYS, read_scopes=["main"], private=private)
    if not first.trust.why_not(remote=False):
        first.publish(store, EVIL)
        assert first.read(store, remote=False)[0] == EVIL
    # It may as well call itself main.
    store.write_record(ACTION.lookup, sealed(ACTION, EVIL, None), [])
    assert main.read(store, remote=False) == (None, [Refusal.UNSIGNED])
    assert store.write_record(ACTION.lookup, main.trust.sealed(ACTION, BODY), [], over=store.read_record(ACTION.lookup))
    assert main.read(store, remote=False)[0] == BODY
    # And a pull request's job reads what main made: that is what the cache is for.
    assert Job(folder, "pr.8", keys=KEYS, read_scopes=["main"]).read(store, remote=False)[0] == BODY


def test_an_entry_of_a_scope_signed_for_one_tier_is_verified_again_in_the_next(store, main, pull_request):
    """What fills a nearer tier keeps its envelope, so that tier is not trusted either."""
    envelope = main.trust.sealed(ACTION, BODY)
    store.write_record(ACTION.lookup, envelope, [])
    assert pull_request.trust.opened(ACTION, store.read_record(ACTION.lookup), remote=False) == BODY
    store.write_record(ACTION.lookup, envelope.replace(BODY, EVIL), [], over=envelope)
    assert pull_request.read(store, remote=False) == (None, [Refusal.SIGNATURE])


def test_nobody_may_read_a_pull_requests_scope(folder):
    for scope in ("pr", "pr.7"):
        with pytest.raises(ConfigError, match="pull request's scope"):
            Job(folder, "main", keys=KEYS, read_scopes=["main", scope])
    Job(folder, "pr.7", keys=KEYS, read_scopes=["pr.7", "main", "private"])


def test_a_pull_request_that_could_write_main_is_told_of(folder):
    github = {"GITHUB_EVENT_NAME": "pull_request"}
    holder = Job(folder, "main", keys=KEYS, private=MAIN.private)
    assert "scope main (k1, ed25519)" in " ".join(exposures(holder.trust, github))
    assert exposures(holder.trust, {"GITHUB_EVENT_NAME": "pull_request_target"})
    assert exposures(holder.trust, {"CI_MERGE_REQUEST_IID": "7"})
    assert exposures(holder.trust, {"GITHUB_EVENT_NAME": "push"}) == ()
    assert exposures(Job(folder, "pr.7", keys=KEYS, private=PR.private).trust, github) == ()
    # It writes nothing with a key that is not of its scope, but whoever runs in it could.
    assert "scope main (k1, ed25519)" in " ".join(exposures(Job(folder, "pr.7", keys=KEYS, private=MAIN.private).trust, github))
    reader = Job(folder, "pr.7", keys=HMAC_KEYS, read_scopes=["main"], environ=HMAC_ENVIRON)
    assert "scope main (k1, hmac)" in " ".join(exposures(reader.trust, {}))


# What it costs


def test_a_laptop_without_keys_imports_no_cryptography():
    code = """
        import sys
        from build_tests.cache.permissions import permissions
        from build_tests.cache.trust import Address, trust_of
        from build_tests.core.model import CacheSettings
        trust = trust_of(CacheSettings(), permissions({"HOME": "/nowhere"}), {})
        address = Address("action", "local", "0" * 32)
        assert trust.opened(address, trust.sealed(address, b"body"), remote=False) == b"body"
        heavy = ("cryptography", "yaml", "ssl", "pytest", "subprocess")
        print(*[name for name in heavy if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_without_the_library_a_signed_entry_is_absent(main):
    envelope = main.trust.sealed(ACTION, BODY)
    code = f"""
        import sys
        sys.modules["cryptography"] = None
        from build_tests.cache.trust import Address, Trust, UntrustedError
        try:
            Trust(scope="main", keys={KEYS!r}).opened(Address(*{tuple(ACTION)!r}), {envelope!r}, remote=True)
        except UntrustedError as error:
            print(error.refusal.value, error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("unverifiable ")
    assert "pip install cryptography" in done.stdout
