"""Pointers: the newest keys, as values and as bytes."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_tests.cache.pointer import KEPT, LARGEST, body_of, keys_of, with_key

KEYS = [f"{number:032x}" for number in range(12)]


def test_the_newest_eight_are_kept_newest_first():
    keys = ()
    for key in KEYS:
        keys = with_key(keys, key)
    assert keys == tuple(reversed(KEYS[-KEPT:]))
    assert with_key(keys, keys[3]) == (keys[3], *keys[:3], *keys[4:])
    assert keys_of(body_of(keys)) == keys
    assert len(body_of(keys)) < LARGEST


def test_no_keys_are_no_keys():
    assert keys_of(body_of([])) == ()
    assert with_key([], KEYS[0]) == (KEYS[0],)


def test_more_than_eight_are_cut():
    assert keys_of(body_of(KEYS)) == tuple(KEYS[:KEPT])


@pytest.mark.parametrize("key", ["", "A", "a b", "é", "x" * 129, "-a", "a\n"])
def test_what_is_no_key_is_refused_on_both_ways(key):
    with pytest.raises(ValueError, match="not a key"):
        body_of([key])
    with pytest.raises(ValueError, match="not a key"):
        keys_of(json.dumps({"keys": [key], "version": 1}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b"\xff", b'{"keys":[],"version":2}', b'{"keys":[],"version":1,"more":1}', b"[" * 4000,
        b'{"keys":{},"version":1}', b'{"keys":[1],"version":1}', b'{"keys":["a","a"],"version":1}',
        json.dumps({"keys": KEYS, "version": 1}).encode(), b" " * LARGEST + b'{"keys":[],"version":1}',
    ],
)  # fmt: skip
def test_what_is_no_pointer_is_refused(body):
    with pytest.raises(ValueError, match=r".") as error:
        keys_of(body)
    assert "\n" not in str(error.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_pointer_or_a_value_error(body):
    with contextlib.suppress(ValueError):
        assert isinstance(keys_of(body), tuple)
