"""The serializer "plain": what pickle gives back, exactly, and nothing for damaged bytes."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import itertools
import pickle
import struct
import tracemalloc
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmemcache._short import plain_dumps, plain_loads
from pmemcache.plain import TAG_PLAIN
from pmemcache.serializers import PLAIN, decode, encode, serializer_of

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR = dt.timezone(dt.timedelta(hours=1))


# What two values have to agree in, by type; for any other it is themselves.
SIGNS: dict[type, Callable[[Any], Any]] = {
    float: lambda value: struct.pack("d", value),
    dt.datetime: lambda value: (repr(value), id(value.tzinfo)),
    dt.time: repr,
    decimal.Decimal: lambda value: value.as_tuple(),
    uuid.UUID: lambda value: (value.int, value.is_safe),
}


def same(one: Any, other: Any) -> bool:
    """Whether two values cannot be told apart, but for which objects they are."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    sign = SIGNS.get(type(one), lambda value: value)
    return bool(sign(one) == sign(other))


HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**600), 2**600)
    | st.floats(width=64)
    | st.text(st.characters(exclude_categories=()))
    | st.text("abc_é清😀", max_size=200)
    | st.binary(max_size=300)
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(dt.timezone.utc))
    | st.times()
    | st.timedeltas()
    | st.decimals().filter(lambda number: not number.is_snan())  # which has no hash
    | st.uuids(),
    lambda children: st.tuples(children, children) | st.tuples(children) | st.just(()),
    max_leaves=4,
)
PLAIN_DATA = st.recursive(
    HASHABLE,
    lambda children: (
        st.lists(children, max_size=40)
        | st.lists(children, max_size=4).map(tuple)
        | st.dictionaries(HASHABLE, children, max_size=8)
        | st.dictionaries(st.text(max_size=40), children, max_size=40)
    ),
    max_leaves=40,
)


@settings(max_examples=200, deadline=None)
@given(PLAIN_DATA)
def test_value_comes_back_exactly(value: Any) -> None:
    payload = PLAIN.dumps(value)

    assert same(PLAIN.loads(payload), value)
    assert same(PLAIN.loads(payload), pickle.loads(pickle.dumps(value)))


@pytest.mark.parametrize(
    "value",
    [
        *(0, -1, 127, 128, -128, -129, 2**31 - 1, 2**31, -(2**31) - 1, 2**63 - 1, 2**63, -(2**63)),
        *(-(2**63) - 1, 2**4000, True, False, None),
        *(0.0, -0.0, float("inf"), struct.unpack("d", b"\x01\0\0\0\0\0\xf8\xff")[0]),
        *("", "a" * 127, "a" * 128, "é" * 70, "a\0b", "😀", b"", b"\0" * 300),
        *([], (), {}, [[]], [()], ((),), {(): {}}),
        *(list(range(31)), list(range(32)), tuple(range(32)), dict.fromkeys(range(32))),
        {"a": 1, "b": {"a": 2, "b": {"a": 3}}},
        {f"key{i}": {f"key{i}": i} for i in range(300)},
        {"k" * 32: 1, "k" * 33: 2, "k" * 127: 3, "k" * 128: 4},
        {1: "int", "1": "str", b"1": "bytes", (1,): "tuple", None: "none"},
        dt.datetime(2026, 10, 25, 2, 30, fold=1),  # noqa: DTZ001 - a zone is the next
        dt.datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=dt.timezone.utc),
        *(dt.datetime.max, dt.datetime.min),  # noqa: DTZ901 - without a zone
        *(dt.date.max, dt.date.min, dt.time(2, fold=1)),
        *(dt.timedelta.max, dt.timedelta.min, dt.timedelta(microseconds=-1)),
        *(decimal.Decimal("-0E+5"), decimal.Decimal("sNaN12"), decimal.Decimal("1.10")),
        uuid.UUID(int=2**128 - 1),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_plain_value_is_not_pickled_and_comes_back_exactly(value: Any) -> None:
    payload = plain_dumps(value)

    assert payload is not None
    assert same(plain_loads(payload), value)


class Text(str):
    __slots__ = ()


class Real(float):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


Pair = collections.namedtuple("Pair", "one two")  # noqa: PYI024 - what users have


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def _deep(depth: int) -> list[Any]:
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    "value",
    [
        *(
            Text("text"),
            Real(1),
            Colour.RED,
            Pair(1, 2),
            {1, 2},
            frozenset({1}),
            bytearray(b"x"),
            1j,
        ),
        *(collections.OrderedDict(a=1), collections.defaultdict(int), range(3), Text),
        *("\ud800", {"\ud800": 1}),
        *(dt.datetime(2026, 1, 1, tzinfo=HOUR), dt.time(1, tzinfo=dt.timezone.utc), HOUR),
        uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe),
        {"deep": [1, (2, {3: Text("x")})]},
    ],
    ids=repr,
)
def test_anything_else_is_pickled(value: Any) -> None:
    assert plain_dumps(value) is None
    back = PLAIN.loads(PLAIN.dumps(value))
    assert back == value
    assert type(back) is type(value)


def test_what_is_reached_twice_stays_one_object() -> None:
    shared: list[Any] = []
    pair = ([],)
    for value in ([shared, shared], {"a": shared, "b": [shared]}, [(pair,), pair]):
        assert plain_dumps(value) is None
    one, other = PLAIN.loads(PLAIN.dumps([shared, shared]))
    assert one is other

    back = PLAIN.loads(PLAIN.dumps(_cycle()))
    assert back[0] is back


def test_what_others_refer_to_is_plain_when_it_is_reached_once() -> None:
    rows = [{"number": number} for number in range(100)]
    value = {"rows": rows, "last": [rows[-1]["number"]]}

    assert plain_dumps(value) is not None
    assert same(PLAIN.loads(PLAIN.dumps(value)), value)


def test_depth_is_bounded_both_ways() -> None:
    assert plain_dumps(_deep(60)) is not None
    assert plain_dumps(_deep(100)) is None
    assert PLAIN.loads(PLAIN.dumps(_deep(100))) == _deep(100)
    with pytest.raises(ValueError, match="too deep"):
        plain_loads(b"\x01" + b"\x21" * 100_000 + b"\x00")


@pytest.mark.parametrize("holder", [list, dict], ids=["list", "dict"])
def test_a_value_that_changes_while_it_is_written_is_not_plain(
    holder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = uuid.UUID(int=1)
    value: Any = [number, [2]] if holder is list else {"a": number, "b": [2]}

    def bytes_of(_number: uuid.UUID) -> bytes:  # as if another thread had its turn
        value.clear()
        return bytes(16)

    monkeypatch.setattr(uuid.UUID, "bytes", property(bytes_of))
    assert plain_dumps(value) is None
    assert plain_dumps([value]) is not None


def test_an_error_on_the_way_is_raised() -> None:
    class Unpicklable:
        def __reduce__(self) -> Any:
            message = "never"
            raise pickle.PicklingError(message)

    with pytest.raises(pickle.PicklingError, match="never"):
        PLAIN.dumps([Unpicklable()])


SAMPLE = {
    "user": 12,
    "cart": [{"sku": "A-1", "price": decimal.Decimal("12.50")}, {"sku": "B-2", "price": None}],
    "seen": (dt.datetime(2026, 5, 1, 12, tzinfo=dt.timezone.utc), dt.date(2026, 5, 1)),
    "at": dt.time(12, 30),
    "for": dt.timedelta(days=1),
    "id": uuid.UUID(int=7),
    "big": 2**80,
    "raw": b"bytes",
    "ratio": -0.5,
    "long": "x" * 200,
}


def test_damaged_bytes_are_an_error_or_another_value() -> None:
    payload = PLAIN.dumps(SAMPLE)
    assert payload[:1] == b"\x01"
    for size in range(len(payload)):
        with pytest.raises(Exception):  # noqa: B017, PT011 - of whatever kind, but one
            plain_loads(payload[:size])
    with pytest.raises(ValueError, match="more than one"):
        plain_loads(payload + b"\x00")
    for place in range(1, len(payload)):
        for byte in (0x00, 0x0D, 0x0F, 0x1F, 0x3F, 0x5F, 0x7F, 0x80, 0xFF):
            _read_damaged(payload[:place] + bytes([byte]) + payload[place + 1 :])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_error_or_a_value(payload: bytes) -> None:
    _read_damaged(b"\x01" + payload)


def _read_damaged(payload: bytes) -> None:
    try:
        value = plain_loads(payload)
    except Exception:  # noqa: BLE001 - whatever a constructor raises
        return
    repr(value)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x01",
        b"\x02\x00",
        b"\x01\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x01\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
        b"\x01\x0d\x00",
        b"\x01\x61\x0d\x00\x00",
        b"\x01\x61\x20\x00",
        b"\x01\x82\xff\xff",
        b"\x01\x10\x07\xea\x02\x1d",
        b"\x01\x11\x07\xea\x02\x1c\x18\x00\x00\x00\x00\x00",
        b"\x01\x13\x17\x3c\x00\x00\x00\x00",
        b"\x01\x14\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x01\x15\x01x",
        b"\x01\x06\x01g",
    ],
)
def test_bytes_that_nobody_wrote_are_refused(payload: bytes) -> None:
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        plain_loads(payload)


def test_reading_and_writing_leave_no_memory_behind() -> None:
    numbers = itertools.count()

    def work() -> None:
        for _ in range(60):
            value = {f"key {next(numbers)}": [0.5, "text", {"a": (i,)}] for i in range(50)}
            payload = PLAIN.dumps(value)
            PLAIN.loads(payload)
            PLAIN.dumps([value, value])
            _read_damaged(payload[:-5])
            _read_damaged(payload + b"\x00")

    work()
    tracemalloc.start()
    try:
        work()
        before, _ = tracemalloc.get_traced_memory()
        work()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 50_000


def test_it_is_a_serializer_by_name_with_a_tag_of_its_own() -> None:
    assert serializer_of("plain") is PLAIN
    payload, tag = encode([1], PLAIN)

    assert tag == TAG_PLAIN
    assert decode(payload, tag) == [1]
    assert encode("text", PLAIN) == encode("text")
    assert decode(pickle.dumps({1}), TAG_PLAIN) == {1}
