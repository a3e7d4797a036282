"""Namespaces: aliases that share a pool, and of which each can be cleared alone, in one step.

The keys of a namespace begin with its generation, eight random bytes under a key of their own in
the pool. Clearing deletes that key: from then on every process makes keys with another generation,
and never comes to the old entries again, which the pool gives up as it needs the room.

A process remembers the generation under the version of its key, so looking whether it is still the
one costs a load from shared memory. A generation that the pool lost counts as cleared.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pmemcache.errors import LockTimeoutError
from pmemcache.keys import INTERNAL_PREFIX, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pmemcache.pool import Pool

_KEY_PREFIX: Final = INTERNAL_PREFIX + b"n:"
_GENERATION_BYTES: Final = 8
_ATTEMPTS: Final = 8
_BUMP_MASK: Final = 63


class Namespace:
    """One namespace of a pool, in this process.

    Safe for any number of threads: what two of them read at once is the same.

    Args:
        name: The same in every process.
        pool: Returns the open pool; raises what the pool does.
    """

    def __init__(self, name: str, pool: Callable[[], Pool]) -> None:
        self._key = _KEY_PREFIX + digest(name.encode(), b"alias")
        self._pool = pool
        # (versions, index, version, prefix), replaced as a whole.
        self._known: tuple[memoryview, int, int, str] | None = None
        self._uses = 0

    def prefix(self) -> str:
        """Return what the keys of this namespace begin with now.

        Raises:
            PmemCacheError, OSError: The pool cannot tell.
        """
        known = self._known
        if known is not None:
            versions, index, version, prefix = known
            try:
                if versions[index] == version:
                    self._uses += 1
                    if not self._uses & _BUMP_MASK:  # the pool sees nothing of these looks
                        self._pool().bump(self._key)
                    return prefix
            except ValueError:  # the pool was closed
                pass
        return self._read()

    def clear(self) -> None:
        """Make all entries of this namespace misses, in every process.

        Raises:
            PmemCacheError: They may still be hits.
        """
        self._pool().delete(self._key)

    def _read(self) -> str:
        pool = self._pool()
        for _ in range(_ATTEMPTS):
            payload, _tag, index, version = pool.get_versioned(self._key)[:4]
            if payload is None:
                pool.put(self._key, os.urandom(_GENERATION_BYTES), only_if="absent")
                continue
            prefix = f"{payload.hex()}:"
            if not version & 1:  # nobody is changing it just now
                self._known = (pool.versions, index, version, prefix)
            return prefix
        message = "the generation of a namespace cannot be stored: the pool may be full"
        raise LockTimeoutError(message)
