from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import pmemcache


def calls_with_key(pool: pmemcache.Pool, key: Any) -> list[Callable[[], object]]:
    return [
        lambda: pool.get(key),
        lambda: pool.get_tagged(key),
        lambda: pool.get_into(key, bytearray(1)),
        lambda: pool.put(key, b"v"),
        lambda: pool.delete(key),
        lambda: pool.exists(key),
        lambda: pool.touch(key, 1),
        lambda: pool.incr(key),
        lambda: pool.info(key),
        lambda: pool.get_many([key]),
        lambda: pool.delete_many([key]),
    ]


@pytest.mark.parametrize(
    "key", [None, 7, 1.5, (b"k",), bytearray(b"k"), memoryview(b"k"), object()]
)
def test_key_of_another_type_is_refused(pool: pmemcache.Pool, key: Any) -> None:
    for call in calls_with_key(pool, key):
        with pytest.raises(TypeError, match=f"key must be bytes or str, not {type(key).__name__}"):
            call()


def test_key_with_a_lone_surrogate_is_refused(pool: pmemcache.Pool) -> None:
    for call in calls_with_key(pool, "k\udc80"):
        with pytest.raises(ValueError, match="lone surrogate: encode it"):
            call()


@pytest.mark.parametrize("value", [None, 7, 1.5, "text", [1, 2], {"a": 1}, object()])
def test_value_of_another_type_is_refused(pool: pmemcache.Pool, value: Any) -> None:
    with pytest.raises(TypeError, match=f"value must be bytes .* not {type(value).__name__}"):
        pool.put(b"k", value)
    assert pool.exists(b"k") is False


@pytest.mark.parametrize("only_if", ["never", "", -1, 2**64])
def test_condition_that_does_not_exist_is_refused(pool: pmemcache.Pool, only_if: Any) -> None:
    with pytest.raises(ValueError, match="only_if must be None"):
        pool.put(b"k", b"v", only_if=only_if)
    assert pool.exists(b"k") is False


@pytest.mark.parametrize("only_if", [True, b"absent", object()])
def test_condition_of_another_type_is_refused(pool: pmemcache.Pool, only_if: Any) -> None:
    with pytest.raises(TypeError, match="only_if must be None"):
        pool.put(b"k", b"v", only_if=only_if)


@pytest.mark.parametrize("tag", [-1, 256, 10**30])
def test_tag_out_of_range_is_refused(pool: pmemcache.Pool, tag: int) -> None:
    with pytest.raises(ValueError, match="tag must be an int from 0 to 255"):
        pool.put(b"k", b"v", tag=tag)


@pytest.mark.parametrize("tag", [True, None, 1.0, "1"])
def test_tag_of_another_type_is_refused(pool: pmemcache.Pool, tag: Any) -> None:
    with pytest.raises(TypeError, match="tag must be an int"):
        pool.put(b"k", b"v", tag=tag)


def test_tags_come_back(pool: pmemcache.Pool) -> None:
    assert pool.get_tagged(b"k") is None
    for tag in (0, 1, 127, 128, 255):
        pool.put(b"k", b"v", tag=tag)
        assert pool.get_tagged(b"k") == (b"v", tag)
        assert pool.get(b"k") == b"v"


def test_wrong_number_of_arguments_is_a_type_error(pool: pmemcache.Pool) -> None:
    untyped: Any = pool._door
    with pytest.raises(TypeError):
        untyped.get(b"k")
    with pytest.raises(TypeError):
        untyped.put(b"k", b"v")
