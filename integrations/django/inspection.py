"""What django-redis offers beyond Django's own cache API: lifetimes, and keys by pattern."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Any, Final

from django.core.cache.backends.base import BaseCache, default_key_func

from pmemcache.integrations.django.loading import Loading
from pmemcache.integrations.django.sharing import FAILURES

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

# What a glob of Redis is made of: an escaped character, a set, or one of its two wildcards.
_GLOB_PARTS: Final = re.compile(r"\\(.)|\[(\^?)((?:\\.|[^\]])+)\]|([*?])", re.DOTALL)
_CHOICES: Final = re.compile(r"\\(.)|(.)-(.)|(.)", re.DOTALL)
_MILLISECONDS: Final = 1000


class Inspection(Loading):
    """Lifetimes, and keys by pattern, without the public names."""

    def _pttl(self, key: Any, version: int | None) -> int | None:
        """Return the milliseconds that *key* has left; None without an end, 0 when missing."""
        try:
            left = self._shared.cache().ttl(self._pool_key(key, version))
        except FAILURES as error:
            self._shared.failed("ttl", error)
            return 0
        if left is None:
            return 0
        return None if left == math.inf else math.ceil(left * _MILLISECONDS)

    def _ttl(self, key: Any, version: int | None) -> int | None:
        left_ms = self._pttl(key, version)
        return None if left_ms is None else math.ceil(left_ms / _MILLISECONDS)

    def _persist(self, key: Any, version: int | None) -> bool:
        return bool(self._pttl(key, version)) and self._touch(key, None, version)

    def _expire_at(self, key: Any, when: dt.datetime | float, version: int | None) -> bool:
        moment = when if isinstance(when, int | float) else when.timestamp()
        return self._touch(key, max(0.0, moment - time.time()), version)

    # Keys

    def _iter_keys(self, pattern: str, version: int | None) -> Iterator[str]:
        """Return the keys that match *pattern*, each as it was given to `set`."""
        prefix = self._prefix(version).encode("utf-8", "surrogatepass")
        matches = _glob(pattern).fullmatch
        pool = self._shared.pool()
        for made in pool.keys(prefix):
            key = made[len(prefix) :].decode("utf-8", "surrogatepass")
            if not matches(key):
                continue
            info = pool.info(made)
            if info is not None and self._counts(made, info.tag):
                yield key

    def _keys(self, pattern: str, version: int | None) -> list[str]:
        try:
            return list(self._iter_keys(pattern, version))
        except FAILURES as error:
            self._shared.failed("keys", error)
            return []

    def _delete_pattern(self, pattern: str, version: int | None) -> int:
        prefix = self._prefix(version)
        found = [f"{prefix}{key}" for key in self._iter_keys(pattern, version)]
        made = [key.encode("utf-8", "surrogatepass") for key in found]
        return self._shared.pool().delete_many(made)

    def _prefix(self, version: int | None) -> str:
        """Return what Django puts before each key.

        Raises:
            NotImplementedError: The keys are made in another way, which cannot be undone.
        """
        is_own = type(self).make_key is BaseCache.make_key and self.key_func is default_key_func
        if not is_own:
            message = "keys can be listed only where KEY_FUNCTION is Django's own"
            raise NotImplementedError(message)
        start = "" if self._namespace is None else self._namespace.prefix()
        return start + self._prefix_of(version)


def _glob(pattern: str) -> re.Pattern[str]:
    r"""Return the expression of a glob as Redis has it: `*`, `?`, `[abc]`, `[^a-c]` and `\\*`."""
    parts, end = [], 0
    for match in _GLOB_PARTS.finditer(pattern):
        parts.append(re.escape(pattern[end : match.start()]))
        parts.append(_expression(match))
        end = match.end()
    return re.compile("".join(parts) + re.escape(pattern[end:]), re.DOTALL)


def _expression(part: re.Match[str]) -> str:
    escaped, negation, choices, wildcard = part.groups()
    if escaped is not None:
        return re.escape(escaped)
    if wildcard is not None:
        return ".*" if wildcard == "*" else "."
    listed = "".join(map(_choice, _CHOICES.finditer(choices)))
    return f"[{negation}{listed}]"


def _choice(choice: re.Match[str]) -> str:
    """Return one character of a set, or a range, whose ends Redis takes in either order."""
    escaped, first, last, single = choice.groups()
    if first is None:
        return re.escape(escaped or single)
    return "-".join(map(re.escape, sorted((first, last))))
