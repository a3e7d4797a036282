"""The hot tier: this process's own copies, bounded in bytes.

`HotCache` is a cachetools cache whose eviction survives scans. It is S3-FIFO (Yang et al., "FIFO
queues are all you need for cache eviction", SOSP 2023): new entries wait in a small queue, a tenth
of the bytes; those used again go on to the main queue, the others leave a ghost behind by which
they are known when they come back.

Locking: readers take none. A look-up is one read of a dict, which the GIL makes atomic, and a plain
store of a counter whose loss costs nothing. Everything that changes a queue holds the lock.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import cachetools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["HotCache", "HotEntry"]

ENTRY_OVERHEAD_BYTES: Final = 320
"""What an entry takes besides its key and value: the object, and its places in three dicts."""

_SMALL_SHARE: Final = 0.1
_MOVE_TO_MAIN_HITS: Final = 1
_HITS_MAX: Final = 3
_GHOSTS_MIN: Final = 64
_MISSING: Final = object()


class HotEntry:
    """One entry: what a look-up returns, and under what it is good.

    The fields from `version_index` on are for the tiered cache; see its coherence protocol.
    """

    __slots__ = (
        "deadline",
        "dependencies",
        "envelope",
        "hits",
        "key",
        "size_bytes",
        "tag",
        "value",
        "version",
        "version_index",
    )

    def __init__(self, key: Any, value: Any, size_bytes: float) -> None:
        self.key = key
        self.value = value
        self.size_bytes = size_bytes
        self.hits = 0
        self.tag = -1
        """-1: `value` is the value itself; else the tag to decode it by."""
        self.version_index = 0
        self.version = 0
        self.dependencies: tuple[tuple[int, int], ...] = ()
        """(index, version) of each tag."""
        self.deadline: float | None = None
        self.envelope: Any = None


class HotCache(cachetools.Cache[Any, Any]):
    """A mapping bounded in bytes, for use wherever a cachetools cache is.

    Safe for any number of threads without a lock of their own. In a child made by fork it is empty.

    Args:
        maxsize: Most bytes of keys, values and overhead.
        getsizeof: Bytes of a value; None: what `sys.getsizeof` says of key and value, which leaves
            out what they refer to, and the overhead of an entry.
        on_evict: Called with each entry that leaves to make room, under the lock.
    """

    def __init__(
        self,
        maxsize: float,
        getsizeof: Callable[[Any], float] | None = None,
        *,
        on_evict: Callable[[HotEntry], object] | None = None,
    ) -> None:
        super().__init__(maxsize, getsizeof)
        self._capacity = maxsize
        self._measure = getsizeof
        self._on_evict = on_evict
        self._lock = threading.RLock()
        self._entries: dict[Any, HotEntry] = {}
        self._small: OrderedDict[Any, HotEntry] = OrderedDict()
        self._main: OrderedDict[Any, HotEntry] = OrderedDict()
        self._ghosts: OrderedDict[Any, None] = OrderedDict()
        self._used = 0.0
        self._small_used = 0.0
        _EVERY_CACHE[id(self)] = self

    # The mapping

    @property
    def entries(self) -> dict[Any, HotEntry]:
        """The entries by key, always the same dict; to be read only."""
        return self._entries

    @property
    def maxsize(self) -> float:
        """Most bytes."""
        return self._capacity

    @property
    def currsize(self) -> float:
        """Bytes in use."""
        return self._used

    def __getitem__(self, key: Any) -> Any:
        """Return the value of *key*, which is then known as used."""
        entry = self._entries.get(key)
        if entry is None:
            return self.__missing__(key)
        if entry.hits < _HITS_MAX:
            entry.hits += 1
        return entry.value

    def __setitem__(self, key: Any, value: Any) -> None:
        """Store *value*.

        Raises:
            ValueError: It is larger than the cache.
        """
        size = self._size_of(key, value)
        if size > self._capacity:
            message = "value too large"
            raise ValueError(message)
        self.admit(HotEntry(key, value, size))

    def __delitem__(self, key: Any) -> None:
        """Remove *key*."""
        if self.drop(key) is None:
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        """Whether *key* is present; this is no use of it."""
        return key in self._entries

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the keys of this moment."""
        return iter(list(self._entries))

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*, or *default*."""
        entry = self._entries.get(key)
        if entry is None:
            return default
        if entry.hits < _HITS_MAX:
            entry.hits += 1
        return entry.value

    def pop(self, key: Any, default: Any = _MISSING) -> Any:
        """Remove *key* and return its value, or *default*."""
        entry = self.drop(key)
        if entry is not None:
            return entry.value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of *key*, which is *default* from now on if it had none."""
        with self._lock:
            if key not in self._entries:
                self[key] = default
            return self[key] if key in self._entries else default

    def popitem(self) -> tuple[Any, Any]:
        """Remove what is used least and return its key and value.

        Raises:
            KeyError: The cache is empty.
        """
        with self._lock:
            entry = self._evict_locked()
        if entry is None:
            message = "the cache is empty"
            raise KeyError(message)
        return entry.key, entry.value

    def clear(self) -> None:
        """Remove everything."""
        with self._lock:
            for queue in (self._entries, self._small, self._main, self._ghosts):
                queue.clear()
            self._used = self._small_used = 0.0

    # Entries

    def admit(self, entry: HotEntry) -> bool:
        """Take *entry* in, in place of its key's; return whether there is room for it at all."""
        if entry.size_bytes > self._capacity:
            self.drop(entry.key)
            return False
        with self._lock:
            known = self._remove_locked(entry.key) is not None or entry.key in self._ghosts
            self._ghosts.pop(entry.key, None)
            self._entries[entry.key] = entry
            self._used += entry.size_bytes
            if known:
                self._main[entry.key] = entry
            else:
                self._small[entry.key] = entry
                self._small_used += entry.size_bytes
            while self._used > self._capacity:
                evicted = self._evict_locked()
                if evicted is not None and self._on_evict is not None:
                    self._on_evict(evicted)
        return True

    def drop(self, key: Any) -> HotEntry | None:
        """Remove the entry of *key* and return it, or None."""
        if key not in self._entries:
            return None
        with self._lock:
            return self._remove_locked(key)

    def _remove_locked(self, key: Any) -> HotEntry | None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._used -= entry.size_bytes
            if self._small.pop(key, None) is not None:
                self._small_used -= entry.size_bytes
            else:
                self._main.pop(key, None)
        return entry

    def _evict_locked(self) -> HotEntry | None:
        while self._entries:
            if self._small and (
                self._small_used >= self._capacity * _SMALL_SHARE or not self._main
            ):
                key, entry = self._small.popitem(last=False)
                self._small_used -= entry.size_bytes
                if entry.hits >= _MOVE_TO_MAIN_HITS:
                    entry.hits = 0
                    self._main[key] = entry
                    continue
                self._remember_locked(key)
            else:
                key, entry = self._main.popitem(last=False)
                if entry.hits:
                    entry.hits = min(entry.hits, _HITS_MAX) - 1
                    self._main[key] = entry
                    continue
            del self._entries[key]
            self._used -= entry.size_bytes
            return entry
        return None

    def _remember_locked(self, key: Any) -> None:
        self._ghosts[key] = None
        while len(self._ghosts) > max(_GHOSTS_MIN, len(self._entries)):
            self._ghosts.popitem(last=False)

    def _size_of(self, key: Any, value: Any) -> float:
        if self._measure is not None:
            return self._measure(value)
        return sys.getsizeof(key) + sys.getsizeof(value) + ENTRY_OVERHEAD_BYTES

    def _forked(self) -> None:
        """Begin anew in a child process, where another thread may have held the lock."""
        self._lock = threading.RLock()
        self.clear()


_EVERY_CACHE: Final[weakref.WeakValueDictionary[int, HotCache]] = weakref.WeakValueDictionary()


def _after_fork_in_child() -> None:
    for cache in list(_EVERY_CACHE.values()):
        cache._forked()  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_after_fork_in_child)
