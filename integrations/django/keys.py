"""What a backend makes of its arguments: the pool's key, and the time to live.

Keys are Django's, warnings included. An alias with a namespace has its generation in front.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from django.core.cache.backends.base import (
    DEFAULT_TIMEOUT,
    MEMCACHE_MAX_KEY_LENGTH,
    BaseCache,
    InvalidCacheKey,
    default_key_func,
)
from django.core.exceptions import ImproperlyConfigured

from pmemcache.integrations.django.sharing import shared_pool

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

_KEY_MAX_BYTES: Final = 65_535
# A key of so many characters has fewer bytes than that, its namespace included.
_SURELY_SHORT: Final = 16_000


class PoolKeys(BaseCache):
    """A backend's settings, and what it makes of its arguments."""

    # What keys of the default version begin with: made anew when one of its parts is set.
    _start = ""
    _key_prefix: Any = ""
    _version: Any = 1

    @property
    def key_prefix(self) -> Any:
        """What stands first in every key."""
        return self._key_prefix

    @key_prefix.setter
    def key_prefix(self, key_prefix: Any) -> None:
        self._key_prefix = key_prefix
        self._start = f"{key_prefix!s}:{self._version!s}:"

    @property
    def version(self) -> Any:
        """The version of keys that are given none."""
        return self._version

    @version.setter
    def version(self, version: Any) -> None:
        self._version = version
        self._start = f"{self._key_prefix!s}:{version!s}:"

    def __init__(self, location: str | os.PathLike[str], params: dict[str, Any]) -> None:
        """Find the pool of *location*; it is opened by the first operation."""
        super().__init__(params)
        options = params.get("OPTIONS", {})
        self._settings = (location, params)
        self._shared = shared_pool(location, options)
        self._culls = "MAX_ENTRIES" in options or "max_entries" in params
        self._loads_once = options.get("single_flight", False)
        name = options.get("namespace")
        self._namespace = None if name is None else self._shared.namespace(name)
        if self._namespace is not None and self._culls:
            message = "MAX_ENTRIES counts the whole pool, so an alias with a namespace has none"
            raise ImproperlyConfigured(message)
        kind = type(self)
        self._warns = options.get("WARN_KEYS", True)
        # Where keys are Django's own in every respect, they are made and tested here, in less time.
        is_plain = (
            kind.make_key is BaseCache.make_key and kind.validate_key is BaseCache.validate_key
        )
        self._plain_key_func = default_key_func if is_plain else None
        self._hot_key_func = self._plain_key_func if self._namespace is None else None

    def _pool_key(self, key: Any, version: int | None) -> str | bytes:
        """Return the pool's key, after the warnings that Django gives about it.

        A str is a key that has nothing to be warned of, bytes are any other.

        Raises:
            InvalidCacheKey: The key is longer than a pool can hold.
            PmemCacheError, OSError: The pool cannot tell the generation of the namespace.
        """
        start = "" if self._namespace is None else self._namespace.prefix()
        if self.key_func is self._plain_key_func:
            prefix = self._start if version is None else self._prefix_of(version)
            made = f"{prefix}{key!s}"
            # `is_harmless`, written out: this is the path of every call but hot hits.
            if (
                len(made) <= MEMCACHE_MAX_KEY_LENGTH
                and made.isascii()
                and made.isprintable()
                and " " not in made
            ):
                return start + made
            if not self._warns:
                return _checked(start + made)
        else:
            made = self.make_key(key, version)
        self.validate_key(made)
        return _encoded(start + made)

    def _pool_keys(self, keys: Iterable[Any], version: int | None) -> dict[Any, Any]:
        """Return `{pool key: key}`, as `_pool_key` makes them."""
        given = list(keys)
        if self.key_func is self._plain_key_func:
            start = "" if self._namespace is None else self._namespace.prefix()
            prefix = start + self._prefix_of(version)
            made = {f"{prefix}{key!s}": key for key in given}
            longest = max(map(len, made), default=0) - len(start)
            if longest <= MEMCACHE_MAX_KEY_LENGTH and is_harmless("".join(made)):
                return made
        return {self._pool_key(key, version): key for key in given}

    def _prefix_of(self, version: int | None) -> str:
        """Return what Django puts before each key, where the function that does so is its own."""
        return self._start if version is None else f"{self._key_prefix!s}:{version!s}:"

    def _ttl_seconds(self, timeout: Any) -> float | None:
        """Return the time to live for a `timeout` of Django: None never ends, 0 is over already."""
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        if timeout is None or timeout == math.inf:
            return None
        if timeout <= 0:
            return 0
        return timeout if type(timeout) is int else float(timeout)


def is_harmless(key: str) -> bool:
    """Whether Django has nothing to say about the characters of *key*; errs only towards no."""
    return key.isascii() and key.isprintable() and " " not in key


def _checked(key: str) -> str | bytes:
    return key if len(key) <= _SURELY_SHORT and key.isascii() else _encoded(key)


def _encoded(key: str) -> bytes:
    encoded = key.encode("utf-8", "surrogatepass")
    if len(encoded) > _KEY_MAX_BYTES:
        message = f"Cache key is longer than {_KEY_MAX_BYTES} bytes: {key[:50]!r}..."
        raise InvalidCacheKey(message)
    return encoded


def key_not_found(key: Any) -> ValueError:
    """Return the error that Django raises for a missing *key*."""
    return ValueError(f"Key '{key}' not found")
