"""Secrets are masked in every form and however they are cut; ordinary text is left alone."""

import base64
import itertools
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_tests.run.masking import Masker

SECRET = b"s3cr3t-token/Value+1234 56?"


def masked(masker, text, size):
    parts = [masker.feed(text[i : i + size]) for i in range(0, len(text), size)]
    return b"".join(parts) + masker.finish()


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_the_value_is_masked_however_it_is_split(size):
    text = b"before " + SECRET + b" between " + SECRET + SECRET + b" after\n"
    assert masked(Masker([SECRET]), text, size) == b"before *** between ****** after\n"


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"user:", b"user: "])
@pytest.mark.parametrize("after", [b"", b"\n", b" and more of it"])
def test_base64_of_a_text_that_holds_it_is_masked_at_every_alignment(encode, before, after):
    encoded = encode(before + SECRET + after)
    result = Masker([SECRET]).mask_text(f"<{encoded.decode()}>")
    assert "***" in result
    kept = max(result.strip("<>").split("***"), key=len)
    # What stays are the neighbours' own characters, a quarter more than they are long, and those on the borders.
    assert len(kept) <= 4 * (max(len(before), len(after)) + 2) / 3 + 4
    assert encoded.decode()[8:20] not in result


def test_base64_wrapped_into_lines_is_masked():
    secret = b"a-long-secret-0123456789-" * 5
    wrapped = base64.encodebytes(secret)
    assert wrapped.count(b"\n") > 2
    assert masked(Masker([secret]), b"x\n" + wrapped + b"y\n", 10) == b"x\n***\ny\n"


@pytest.mark.parametrize(
    "form",
    [
        urllib.parse.quote(SECRET, safe=""),
        urllib.parse.quote(SECRET, safe="").lower().replace("s3cr3t-token%2fvalue", "s3cr3t-token%2fValue"),
        urllib.parse.quote(SECRET),
        urllib.parse.quote_plus(SECRET),
        "".join(f"%{byte:02X}" for byte in SECRET),
        json.dumps(SECRET.decode())[1:-1].replace("/", "\\/"),
    ],
)
def test_percent_encoded_and_json_escaped_forms_are_masked(form):
    assert Masker([SECRET]).mask_text(f"https://host/?t={form}&x=1") == "https://host/?t=***&x=1"


def test_json_escapes_of_quotes_and_line_breaks_are_masked():
    secret = 'pass"word\\with\nall\tkinds'
    assert Masker([secret]).mask_text(json.dumps({"k": secret})) == '{"k": "***"}'


def test_each_line_of_a_secret_with_several_lines_is_masked():
    masker = Masker(["-----BEGIN KEY-----\nMIIEabcdef0123\n}\n-----END KEY-----\n"])
    assert masker.mask_text("got:\n    MIIEabcdef0123\n    }\n") == "got:\n    ***\n    }\n"


def test_a_value_from_a_file_is_masked_without_its_line_break():
    assert Masker(["hunter2-hunter2\n"]).mask_text("is 'hunter2-hunter2'") == "is '***'"


@pytest.mark.parametrize("value", [b"", b"12345", b" 12345\n", "ääääå".encode()])
def test_a_short_value_is_refused_without_naming_it(value):
    with pytest.raises(ValueError, match="fewer than 6 characters") as caught:
        Masker([b"long enough", value])
    assert not value.strip() or value.strip().decode() not in str(caught.value)


def test_without_secrets_everything_passes():
    masker = Masker([])
    assert masker.feed(b"plain") + masker.finish() == b"plain"
    assert masker.mask_text("plain") == "plain"
    assert not masker.finds([b"plain"])


def test_text_with_lone_surrogates_and_foreign_letters_survives():
    masker = Masker(["geheim-ä-geheim"])
    assert masker.mask_text("\udcff plain ü") == "\udcff plain ü"
    assert masker.mask_text("é geheim-ä-geheim é") == "é *** é"


def test_the_longer_of_two_secrets_wins():
    assert Masker(["abcdefgh", "abcdefgh-ijklmnop"]).mask_text("abcdefgh-ijklmnop abcdefgh") == "*** ***"


def test_a_secret_is_found_across_chunks():
    masker = Masker([SECRET])
    assert masker.finds([b"x" * 100 + SECRET[:5], SECRET[5:9], SECRET[9:] + b"y"])
    assert not masker.finds([SECRET[:5], b" ", SECRET[5:]])


def test_one_endless_line_is_masked_in_bounded_memory():
    masker, held = Masker([SECRET]), 0
    for _ in range(200):
        fed = masker.feed(b"x" * 10_000)
        held += 10_000 - len(fed)
        assert held < 1000


SECRETS = st.lists(st.text("ab/+", min_size=6, max_size=9).map(str.encode), min_size=1, max_size=3)


@given(SECRETS, st.text("ab/+%2fYWJi=\n", max_size=120), st.lists(st.integers(0, 120), max_size=6), st.integers(0, 120))
def test_cutting_the_stream_anywhere_changes_nothing(secrets, noise, cuts, at):
    text = noise.encode()[:at] + secrets[0] + noise.encode()[at:]
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    masker = Masker(secrets)
    pieces = [masker.feed(text[a:b]) for a, b in itertools.pairwise(bounds)]
    result = b"".join(pieces) + masker.finish()
    whole = Masker(secrets)
    assert result == whole.feed(text) + whole.finish()
    assert not any(secret in result for secret in secrets)
