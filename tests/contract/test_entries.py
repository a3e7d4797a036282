from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY_MAX = 65_535


def test_put_value_is_got(pool: pmemcache.Pool) -> None:
    assert pool.put(b"k", b"v") is True
    assert pool.get(b"k") == b"v"


def test_missing_key_gives_default(pool: pmemcache.Pool) -> None:
    default = object()
    assert pool.get(b"k") is None
    assert pool.get(b"k", default) is default
    assert pool.get(b"k", default=default) is default


def test_put_replaces(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"old" * 100)
    pool.put(b"k", b"new")
    assert pool.get(b"k") == b"new"
    assert pool.stats().entries == 1


def test_str_and_its_utf8_are_one_key(pool: pmemcache.Pool) -> None:
    pool.put("straße", b"v")
    assert pool.get("straße".encode()) == b"v"
    assert pool.delete("straße".encode()) is True
    assert pool.get("straße") is None


@pytest.mark.parametrize("key", [b"", "", b"\0", b"\0\0", b"a\0b", bytes(range(256))])
def test_any_bytes_are_a_key(pool: pmemcache.Pool, key: bytes | str) -> None:
    assert pool.put(key, b"v")
    assert pool.get(key) == b"v"
    assert pool.exists(key)
    assert pool.delete(key)


@pytest.mark.parametrize("value", [b"", b"x", b"\0", bytes(range(256)) * 7, b"v" * 65_535])
def test_any_bytes_are_a_value(pool: pmemcache.Pool, value: bytes) -> None:
    assert pool.put(b"k", value)
    assert pool.get(b"k") == value


@pytest.mark.parametrize("size", [65_536, 65_537, 100_000, 131_072])
def test_large_value_comes_back_whole(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path, size: int
) -> None:
    pool = make_pool(pool_path, "64MiB")
    value = bytes(range(251)) * (size // 251 + 1)
    value = value[:size]
    assert pool.put(b"k", value)
    assert pool.get(b"k") == value
    assert pool.get_tagged(b"k") == (value, 0)
    assert pool.get_many([b"k", b"missing"]) == {b"k": value}


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda data: memoryview(data)[::2]])
def test_value_may_be_anything_with_a_buffer(
    pool: pmemcache.Pool, kind: Callable[[bytes], object]
) -> None:
    value = kind(b"0123456789")
    assert pool.put(b"k", value)
    assert pool.get(b"k") == bytes(value)  # type: ignore[call-overload]
    assert pool.put_many({b"m": value}) == []
    assert pool.get(b"m") == bytes(value)  # type: ignore[call-overload]


def test_subclass_of_bytes_and_str_is_taken(pool: pmemcache.Pool) -> None:
    class Text(str):
        __slots__ = ()

    class Data(bytes):
        pass

    assert pool.put(Text("k"), Data(b"v"))
    assert pool.get(Data(b"k")) == b"v"


def test_delete_says_whether_it_was_there(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"v")
    assert pool.delete(b"k") is True
    assert pool.delete(b"k") is False
    assert pool.get(b"k") is None
    assert pool.exists(b"k") is False


def test_longest_key(pool: pmemcache.Pool) -> None:
    key = b"k" * KEY_MAX
    assert pool.put(key, b"v")
    assert pool.get(key) == b"v"
    assert pool.get(key[:-1]) is None
    assert list(pool.keys()) == [key]
    assert pool.evict() == key


def test_key_one_byte_too_long_is_refused(pool: pmemcache.Pool) -> None:
    key = b"k" * (KEY_MAX + 1)
    calls: list[Callable[[], object]] = [
        lambda: pool.put(key, b"v"),
        lambda: pool.get(key),
        lambda: pool.get_tagged(key),
        lambda: pool.get_into(key, bytearray(1)),
        lambda: pool.delete(key),
        lambda: pool.exists(key),
        lambda: pool.touch(key, 1),
        lambda: pool.incr(key),
        lambda: pool.info(key),
        lambda: pool.get_many([key]),
        lambda: pool.put_many({key: b"v"}),
        lambda: pool.delete_many([key]),
        lambda: pool.evict(key),
    ]
    for call in calls:
        with pytest.raises(pmemcache.KeyTooLongError, match="65,536 bytes"):
            call()


def test_largest_value_fits_and_one_byte_more_does_not(pool: pmemcache.Pool) -> None:
    largest = pool.geometry().value_max_bytes - 1
    assert pool.put(b"k", b"v" * largest)
    assert pool.get(b"k") == b"v" * largest
    with pytest.raises(pmemcache.ValueTooLargeError, match=f"{largest + 1:,} bytes"):
        pool.put(b"k", b"w" * (largest + 1))
    assert pool.get(b"k") == b"v" * largest


def test_get_into_copies_and_truncates(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"0123456789")
    buffer = bytearray(b"----")
    assert pool.get_into(b"k", buffer) == 4
    assert buffer == b"0123"
    assert pool.get_into(b"k", buffer, offset=8) == 2
    assert buffer == b"8923"
    assert pool.get_into(b"k", buffer, 10) == 0
    assert pool.get_into(b"k", buffer, 11) == 0
    assert pool.get_into(b"k", bytearray()) == 0
    assert pool.get_into(b"missing", buffer) is None
    assert buffer == b"8923"


def test_get_into_needs_a_writable_buffer(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"v")
    with pytest.raises((TypeError, BufferError)):
        pool.get_into(b"k", b"readonly")
    with pytest.raises(ValueError, match="offset"):
        pool.get_into(b"k", bytearray(1), -1)


def test_only_if_absent_stores_once(pool: pmemcache.Pool) -> None:
    assert pool.put(b"k", b"first", only_if="absent") is True
    assert pool.put(b"k", b"second", only_if="absent") is False
    assert pool.get(b"k") == b"first"


def test_only_if_present_does_not_create(pool: pmemcache.Pool) -> None:
    assert pool.put(b"k", b"v", only_if="present") is False
    assert pool.get(b"k") is None
    pool.put(b"k", b"v")
    assert pool.put(b"k", b"w", only_if="present") is True
    assert pool.get(b"k") == b"w"


def test_generation_stores_only_when_nobody_wrote_since(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"v")
    info = pool.info(b"k")
    assert info is not None
    assert pool.put(b"k", b"w", only_if=info.generation) is True
    assert pool.put(b"k", b"x", only_if=info.generation) is False
    assert pool.get(b"k") == b"w"
    pool.delete(b"k")
    assert pool.put(b"k", b"y", only_if=info.generation) is False


def test_generation_of_a_key_made_anew_differs(pool: pmemcache.Pool) -> None:
    seen = set()
    for _ in range(5):
        pool.put(b"k", b"v")
        info = pool.info(b"k")
        assert info is not None
        assert info.generation != 0
        seen.add(info.generation)
        pool.delete(b"k")
    assert len(seen) == 5


def test_info_describes_the_entry(pool: pmemcache.Pool) -> None:
    pool.put(b"key", b"v" * 100, ttl_seconds=6000, tag=7)
    info = pool.info(b"key")
    assert info is not None
    assert info.value_size == 100
    assert 103 <= info.stored_bytes <= 103 + 64
    assert info.ttl_seconds is not None
    assert 5900 < info.ttl_seconds <= 6000
    assert info.tag == 7
    assert pool.info(b"missing") is None


def test_info_of_an_entry_without_deadline(pool: pmemcache.Pool) -> None:
    pool.put(b"k", b"v")
    info = pool.info(b"k")
    assert info is not None
    assert info.ttl_seconds is None


def test_keys_by_prefix(pool: pmemcache.Pool) -> None:
    names = {f"user:{number}".encode() for number in range(1000)}
    pool.put_many(dict.fromkeys(names, b"v"))
    pool.put(b"other", b"v")
    found = list(pool.keys(b"user:"))
    assert len(found) == 1000
    assert set(found) == names
    assert set(pool.keys("oth")) == {b"other"}
    assert set(pool.keys()) == names | {b"other"}
    assert list(pool.keys(b"nothing")) == []


def test_keys_of_any_length_are_all_given(pool: pmemcache.Pool) -> None:
    # Buckets of eight of them hold more bytes than the buffer that keys() begins with.
    names = {f"{number:04}".encode() + b"k" * (KEY_MAX - 4) for number in range(100)}
    pool.put_many(dict.fromkeys(names, b""))
    found = list(pool.keys())
    assert len(found) == 100
    assert set(found) == names


def test_clear_removes_everything(pool: pmemcache.Pool) -> None:
    pool.put_many({f"k{number}": b"v" for number in range(100)})
    pool.clear()
    assert list(pool.keys()) == []
    assert pool.get("k1") is None
    assert pool.stats().entries == 0
    assert pool.put("k1", b"v")


def test_evict_gives_up_one_entry(pool: pmemcache.Pool) -> None:
    assert pool.evict() is None
    pool.put_many({b"a": b"1", b"b": b"2"})
    first = pool.evict()
    assert first in {b"a", b"b"}
    assert not pool.exists(first)
    assert {first, pool.evict()} == {b"a", b"b"}
    assert pool.evict() is None


def test_evict_of_a_named_entry(pool: pmemcache.Pool) -> None:
    pool.put_many({b"a": b"1", b"b": b"2"})
    assert pool.evict(b"b") == b"b"
    assert pool.evict(b"b") is None
    assert pool.exists(b"a")


@pytest.mark.parametrize("eviction", ["s3fifo", "lru"])
def test_full_pool_evicts(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path, eviction: str
) -> None:
    pool = make_pool(pool_path, "256KiB", shards=1, eviction=eviction)
    for number in range(1000):
        assert pool.put(f"k{number}", b"v" * 1000)
    stats = pool.stats()
    assert stats.evict > 0
    assert 0 < stats.entries < 262
    assert pool.get("k999") == b"v" * 1000
    assert pool.check() == []


def test_full_pool_without_eviction_refuses(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path
) -> None:
    pool = make_pool(pool_path, "256KiB", shards=1, eviction="none")

    def fill() -> None:
        for number in range(1000):
            pool.put(f"k{number}", b"v" * 1000)

    with pytest.raises(pmemcache.PoolFullError, match="delete entries"):
        fill()
    assert pool.get("k0") == b"v" * 1000
    with pytest.raises(pmemcache.PoolFullError):
        pool.put_many({f"m{number}": b"v" * 1000 for number in range(10)})
    pool.delete("k0")
    assert pool.put("k0", b"v" * 1000)


def test_geometry_tells_what_was_asked_for(pool: pmemcache.Pool) -> None:
    geometry = pool.geometry()
    assert geometry.size_bytes == 8 * 1024 * 1024
    assert geometry.created
    assert geometry.eviction == "s3fifo"
    assert geometry.lifetime == "volatile"
    assert geometry.memory == "default"


def test_memory_is_taken_as_the_pool_fills(
    make_pool: Callable[..., pmemcache.Pool], pool_path: Path
) -> None:
    pool = make_pool(pool_path, "64MiB")
    empty = pool.stats().allocated_bytes
    assert empty < 16 * 1024**2
    for number in range(800):
        assert pool.put(f"k{number}", b"v" * 50_000)
    full = pool.stats()
    assert full.entries == 800
    # Each of the two shards takes parts of 2 MiB, as many as the keys that fall to it need.
    assert 44 * 1024**2 > full.allocated_bytes - empty > 16 * 1024**2


def test_pool_without_size_may_grow_with_its_file_system(
    make_pool: Callable[..., pmemcache.Pool],
) -> None:
    pool = make_pool()
    assert pool.geometry().size_bytes is None
    assert pool.put(b"k", b"v")
    stats = pool.stats()
    assert stats.allocated_bytes < stats.capacity_bytes


def test_check_finds_nothing_wrong(pool: pmemcache.Pool) -> None:
    pool.put_many({f"k{number}": b"v" * number for number in range(300)})
    pool.delete_many([f"k{number}" for number in range(0, 300, 3)])
    assert pool.check() == []
