# The short door: native/binding/short_door.c.

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from typing_extensions import Self

from pmemcache.types import BytesLike, Key, OnlyIf, Versioned, Written

_T = TypeVar("_T")
_K = TypeVar("_K", bound=bytes | str)

class ShortDoor:
    # See pmemcache.binding.Door.
    def __new__(
        cls,
        table_address: int,
        handle_address: int,
        owner: object,
        raise_status: Callable[[int, int, int], NoReturn],
        refuse: Callable[[str, object], NoReturn],
        /,
    ) -> Self: ...
    def get(self, key: Key, default: _T, /) -> bytes | _T: ...
    def get_tagged(self, key: Key, /) -> tuple[bytes, int] | None: ...
    def get_versioned(self, key: Key, known: int, /) -> Versioned: ...
    def bump(self, key: Key, /) -> bool: ...
    def put(
        self,
        key: Key,
        value: BytesLike,
        ttl_seconds: float | None,
        only_if: OnlyIf,
        tag: int,
        /,
    ) -> bool: ...
    def put_versioned(
        self, key: Key, value: BytesLike, ttl_seconds: float | None, tag: int, /
    ) -> Written | None: ...
    def delete(self, key: Key, /) -> bool: ...
    def exists(self, key: Key, /) -> bool: ...
    def touch(self, key: Key, ttl_seconds: float | None, /) -> bool: ...
    def incr(
        self,
        key: Key,
        delta: int,
        initial: int | None,
        ttl_seconds: float | None,
        tag: int,
        /,
    ) -> int | None: ...
    def get_many(self, keys: Iterable[_K], /) -> dict[_K, bytes]: ...
    def get_many_tagged(self, keys: Iterable[_K], /) -> dict[_K, tuple[bytes, int]]: ...
    def put_many(
        self,
        mapping: Mapping[_K, BytesLike | tuple[BytesLike, int]],
        ttl_seconds: float | None,
        /,
    ) -> list[_K]: ...
    def delete_many(self, keys: Iterable[Key], /) -> int: ...
    def thread_waits(self, waits: bool, /) -> None: ...
    def close(self) -> None: ...

def plain_dumps(value: Any, /) -> bytes | None: ...
def plain_loads(payload: bytes, /) -> Any: ...
