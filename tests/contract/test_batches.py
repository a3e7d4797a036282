from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_many_are_put_got_and_deleted(pool: pmemcache.Pool) -> None:
    entries = {f"k{number}".encode(): b"v%d" % number for number in range(500)}
    assert pool.put_many(entries) == []
    assert pool.get_many(entries) == entries
    assert pool.delete_many(list(entries)[:200]) == 200
    assert pool.delete_many(entries) == 300
    assert pool.get_many(entries) == {}


def test_get_many_gives_those_found_under_the_keys_given(pool: pmemcache.Pool) -> None:
    pool.put("a", b"1")
    pool.put(b"b", b"2")
    keys: list[bytes | str] = ["a", b"b", "c"]
    assert pool.get_many(keys) == {"a": b"1", b"b": b"2"}
    assert pool.get_many([b"a"]) == {b"a": b"1"}
    keys = ["a", b"a"]
    assert pool.get_many(keys) == {"a": b"1", b"a": b"1"}


def test_empty_batches_do_nothing(pool: pmemcache.Pool) -> None:
    assert pool.get_many([]) == {}
    assert pool.get_many_tagged(()) == {}
    assert pool.put_many({}) == []
    assert pool.delete_many(set()) == 0


def test_any_iterable_and_mapping_will_do(pool: pmemcache.Pool) -> None:
    assert pool.put_many(ChainMap({"a": b"1"}, {"b": b"2"})) == []
    assert pool.get_many(key for key in "ab") == {"a": b"1", "b": b"2"}
    assert pool.delete_many({"a": 0, "b": 0}.keys()) == 2


def test_same_key_twice(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"v")
    assert pool.get_many([b"k", b"k"]) == {b"k": b"v"}
    assert pool.delete_many([b"k", b"k"]) == 1


def test_put_many_with_tags(pool: pmemcache.Pool) -> None:
    assert pool.put_many({"a": (b"1", 3), "b": b"2", "c": (bytearray(b"3"), 255)}) == []
    assert pool.get_many_tagged(["a", "b", "c", "d"]) == {
        "a": (b"1", 3),
        "b": (b"2", 0),
        "c": (b"3", 255),
    }


def test_put_many_with_time_to_live(pool: pmemcache.Pool, advance: Callable[[float], None]) -> None:
    pool.put_many({"a": b"1", "b": b"2"}, ttl_seconds=10)
    advance(11)
    assert pool.get_many(["a", "b"]) == {}


def test_put_many_with_no_time_left_deletes(pool: pmemcache.Pool) -> None:
    pool.put("a", b"1")
    assert pool.put_many({"a": b"2"}, ttl_seconds=0) == []
    assert pool.get("a") is None


def test_large_and_small_values_in_one_batch(pool: pmemcache.Pool) -> None:
    entries = {f"k{number}": bytes([number]) * (number * 9_000) for number in range(12)}
    limit = pool.geometry().value_max_bytes - 10
    entries = {key: value[:limit] for key, value in entries.items()}
    assert pool.put_many(entries) == []
    assert pool.get_many(entries) == entries


def test_value_that_can_never_fit_is_reported_after_the_others(pool: pmemcache.Pool) -> None:
    too_large = b"v" * (pool.geometry().value_max_bytes + 1)
    with pytest.raises(pmemcache.ValueTooLargeError):
        pool.put_many({"a": b"1", "b": too_large, "c": b"3"})
    assert pool.get_many(["a", "b", "c"]) == {"a": b"1", "c": b"3"}


@pytest.mark.parametrize("keys", ["abc", b"abc"])
def test_one_key_is_no_batch(pool: pmemcache.Pool, keys: Any) -> None:
    with pytest.raises(TypeError, match="keys must be an iterable of keys"):
        pool.get_many(keys)
    with pytest.raises(TypeError, match="keys must be an iterable of keys"):
        pool.delete_many(keys)


@pytest.mark.parametrize("mapping", [[("a", b"1")], "ab", None, 7])
def test_put_many_takes_a_mapping(pool: pmemcache.Pool, mapping: Any) -> None:
    with pytest.raises(TypeError, match="mapping must be a mapping"):
        pool.put_many(mapping)


class OddPairs(Mapping[str, bytes]):
    """A mapping whose items are no pairs."""

    def __init__(self, *pairs: Any) -> None:
        self.pairs = pairs

    def items(self) -> Any:
        return self.pairs

    def __getitem__(self, key: str) -> bytes:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("pair", ["ab", ("a",), ("a", b"1", 2), None, 7])
def test_mapping_with_items_that_are_no_pairs_is_refused(pool: pmemcache.Pool, pair: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        pool.put_many(OddPairs(("b", b"1"), pair))
    assert not pool.exists("a")


@pytest.mark.parametrize(
    ("name", "mapping"),
    [
        ("value", {"a": b"1", "b": "text"}),
        ("key", {"a": b"1", 2: b"2"}),
        ("tag", {"a": b"1", "b": (b"2", "3")}),
        ("value", {"a": b"1", "b": (b"2", 3, 4)}),
    ],
)
def test_wrong_argument_raises_before_anything_is_stored(
    pool: pmemcache.Pool, name: str, mapping: Any
) -> None:
    with pytest.raises(TypeError, match=f"{name} must be"):
        pool.put_many(mapping)
    assert pool.get("a") is None


def test_batch_counts_each_look_up(pool: pmemcache.Pool) -> None:
    pool.put_many({"a": b"1", "b": b"2"})
    before = pool.stats()
    pool.get_many(["a", "b", "c"])
    after = pool.stats()
    assert after.get - before.get == 3
    assert after.hit - before.hit == 2
    assert after.miss - before.miss == 1
