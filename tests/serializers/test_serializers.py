"""What goes into a pool comes back the same, and what cannot be read says so."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import pickle
from typing import Any

import pytest

from pmemcache.errors import PmemCacheError
from pmemcache.serializers import (
    JSON,
    TAG_BYTES,
    TAG_INT,
    TAG_JSON,
    TAG_PICKLE,
    TAG_STR,
    DecodeError,
    decode,
    encode,
)


class Text(str):
    __slots__ = ()


class Number(enum.IntEnum):
    ONE = 1


VALUES = [
    (b"", TAG_BYTES),
    (b"\x00\xff", TAG_BYTES),
    ("", TAG_STR),
    ("Iñtërnâtiônàlizætiøn", TAG_STR),
    ("city:12", TAG_STR),
    ("12 cities", TAG_STR),
    (0, TAG_INT),
    (-7, TAG_INT),
    (2**63 - 1, TAG_INT),
    (-(2**63), TAG_INT),
    (2**63, TAG_PICKLE),
    (-(2**63) - 1, TAG_PICKLE),
    ("7", TAG_PICKLE),
    ("-7", TAG_PICKLE),
    ("+7", TAG_PICKLE),
    (" 7", TAG_PICKLE),
    ("07".zfill(23), TAG_PICKLE),
    (b"7", TAG_PICKLE),
    (b"-9223372036854775808", TAG_PICKLE),
    ("\ud800", TAG_PICKLE),
    (True, TAG_PICKLE),
    (Number.ONE, TAG_PICKLE),
    (Text("text"), TAG_PICKLE),
    (bytearray(b"b"), TAG_PICKLE),
    (None, TAG_PICKLE),
    (1.5, TAG_PICKLE),
    (decimal.Decimal("1.10"), TAG_PICKLE),
    (dt.datetime(2024, 2, 29, tzinfo=dt.timezone.utc), TAG_PICKLE),
    ({"a": [1, (2, 3)], "b": {4}}, TAG_PICKLE),
]


@pytest.mark.parametrize(("value", "tag"), VALUES, ids=[repr(value) for value, _ in VALUES])
def test_value_comes_back_equal_and_of_the_same_type(value: Any, tag: int) -> None:
    payload, given = encode(value)

    assert type(payload) is bytes
    assert given == tag
    assert decode(payload, given) == value
    assert type(decode(payload, given)) is type(value)


@pytest.mark.parametrize("value", [v for v, tag in VALUES if tag != TAG_INT], ids=repr)
def test_only_ints_have_a_payload_that_counts(value: Any) -> None:
    payload, _ = encode(value)

    with pytest.raises(ValueError, match="invalid literal"):
        int(payload)


def test_pickle_is_of_the_highest_protocol() -> None:
    payload, _ = encode([1])

    assert payload[:2] == bytes([0x80, pickle.HIGHEST_PROTOCOL])


@pytest.mark.parametrize("value", [None, True, 1.5, [1, "zwei", {"drei": None}], 2**70], ids=repr)
def test_json_value_comes_back(value: Any) -> None:
    payload, tag = encode(value, JSON)

    assert tag == TAG_JSON
    assert decode(payload, tag) == value


def test_json_leaves_text_and_ints_raw() -> None:
    assert encode("é", JSON) == ("é".encode(), TAG_STR)
    assert encode(5, JSON) == (b"5", TAG_INT)


def test_json_refuses_what_it_cannot_say() -> None:
    with pytest.raises(TypeError):
        encode({1, 2}, JSON)


@pytest.mark.parametrize(
    ("payload", "tag"),
    [
        (b"\xff", TAG_STR),
        (b"seven", TAG_INT),
        (b"", TAG_PICKLE),
        (b"\x80\x05garbage", TAG_PICKLE),
        (b"cno_such_module\nName\n.", TAG_PICKLE),
        (b"{", TAG_JSON),
        (b"\xff", TAG_JSON),
        (b"anything", 77),
        (b"compressed", 0x80 | TAG_PICKLE),
    ],
)
def test_unreadable_payload_is_a_decode_error(payload: bytes, tag: int) -> None:
    with pytest.raises(DecodeError, match=rf"tag {tag}"):
        decode(payload, tag)


def test_decode_error_belongs_to_the_tree() -> None:
    assert issubclass(DecodeError, PmemCacheError)
