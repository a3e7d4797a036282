"""How many entries and bytes of a pool belong to what, by the beginnings of the keys."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pmemcache.keys import INTERNAL_PREFIX

if TYPE_CHECKING:
    from pmemcache.pool import Pool

__all__ = ["Census", "Namespace", "group_of", "take_census"]

DEFAULT_LIMIT: Final = 20_000

# Key prefix and version, as Django's own KEY_FUNCTION writes them, after a namespace's generation.
_MADE: Final = re.compile(r"(?:[0-9a-f]{16}:)?(?P<alias>[^:]*:\d+):(?P<key>.*)", re.DOTALL)
# What Django writes before the part that differs from entry to entry.
_DJANGO: Final = re.compile(
    r"django\.contrib\.sessions\.\w+?(?=[a-z0-9]{32}$)"
    r"|template\.cache\.[^.]+"
    r"|views\.decorators\.cache\.cache_(?:page|header)"
)
# Of other keys: all up to the first separator, or the first digit.
_BEGINNING: Final = re.compile(r"[^:/#?|@\d]+")
_NAME_MAX: Final = 60
_INTERNAL_NAME: Final = "(pmemcache's own)"
_OTHER_NAME: Final = "(other)"


@dataclass(frozen=True)
class Namespace:
    """Entries whose keys begin alike."""

    name: str
    entries: int
    bytes: int
    """What they take of the heap: keys, headers and rounding included."""


@dataclass(frozen=True)
class Census:
    """The namespaces of a pool, the largest first."""

    namespaces: tuple[Namespace, ...]
    looked_at: int
    """Entries that were looked at."""
    is_sample: bool
    """Whether there are more, and the figures are estimates from those that were looked at."""


def take_census(pool: Pool, limit: int = DEFAULT_LIMIT) -> Census:
    """Return what the entries of *pool* are, in ten microseconds for each.

    Args:
        limit: Look at no more entries than this. Those of a larger pool are estimated from them:
            keys come in the order of their hashes, so the first ones are a fair sample.

    Raises:
        PmemCacheError: The pool cannot be read.
    """
    counted: dict[str, tuple[int, int]] = {}
    looked_at = 0
    keys = pool.keys()
    for key in itertools.islice(keys, limit):
        looked_at += 1
        info = pool.info(key)
        if info is not None:
            entries, size = counted.get(name := group_of(key), (0, 0))
            counted[name] = (entries + 1, size + info.stored_bytes)
    is_sample = next(keys, None) is not None
    scale = pool.stats().entries / looked_at if is_sample and looked_at else 1.0
    namespaces = [
        Namespace(name, round(entries * scale), round(size * scale))
        for name, (entries, size) in counted.items()
    ]
    namespaces.sort(key=lambda each: (-each.bytes, each.name))
    return Census(tuple(namespaces), looked_at, is_sample)


def group_of(key: bytes) -> str:
    """Return the namespace of a key of the pool.

    That is what is the same in all keys of a kind: `:1:city` of `:1:city:7`, `template.cache.menu`
    of a fragment, the function's name of a cached function's result.
    """
    if key.startswith(INTERNAL_PREFIX):
        return _INTERNAL_NAME
    text = key.decode("utf-8", "replace")
    made = _MADE.fullmatch(text)
    alias, rest = (made["alias"] + ":", made["key"]) if made else ("", text)
    beginning = _DJANGO.match(rest) or _BEGINNING.match(rest)
    return alias + (beginning[0][:_NAME_MAX] if beginning else _OTHER_NAME)
