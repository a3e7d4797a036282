"""The hot tier: this process's own copies, bounded in bytes.

`HotCache` is a cachetools cache whose eviction survives scans. It is S3-FIFO (Yang et al., "FIFO
queues are all you need for cache eviction", SOSP 2023) with a small queue that adapts, as the
pool's: new entries wait in the small queue; those used twice there go on to the main queue, the
others leave a ghost behind by which they are known when they come back. A ghost of the small queue
that comes back makes that queue larger, one of the main queue makes it smaller.

Locking: readers take none. A look-up is one read of a dict, which the GIL makes atomic, and a plain
store of a counter whose loss costs nothing. Everything that changes a queue holds the lock.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import cachetools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ENTRY_OVERHEAD_BYTES", "HotCache", "HotEntry"]

ENTRY_OVERHEAD_BYTES: Final = 560
"""What an entry takes besides the bytes of its key and value: the objects and their numbers, places
in a dict and a queue, and a ghost."""

_HITS_MAX: Final = 3
_TO_MAIN_HITS: Final = 2
_SMALL_SHARE: Final = 0.1
_SMALL_SHARE_MIN: Final = 0.05
_SMALL_SHARE_MAX: Final = 0.9
_SMALL_GHOSTS_SHARE: Final = 0.9
_MAIN_GHOSTS_SHARE: Final = 0.5
_ADAPTION_RATE: Final = 4.0
_LEFT_MIN: Final = 64
_GONE: Final = 0
_SMALL: Final = 1
_MAIN: Final = 2
_NO_VERSION: Final = -1
_MISSING: Final = object()


class HotEntry:
    """One entry: what a look-up returns, and under what it is good.

    The fields from `tag` on are for the tiered cache, see `copies`.
    """

    __slots__ = (
        "deadline",
        "dependencies",
        "envelope",
        "generation",
        "hits",
        "key",
        "queue",
        "size_bytes",
        "tag",
        "value",
        "version",
        "version_index",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - one call on the path of every copy
        self,
        key: Any,
        value: Any,
        size_bytes: float,
        tag: int = -1,
        version_index: int = 0,
        version: int = 0,
        generation: int = 0,
        dependencies: tuple[tuple[int, int], ...] = (),
        deadline: float | None = None,
        envelope: Any = None,
    ) -> None:
        self.key = key
        self.value = value
        self.size_bytes = size_bytes
        self.hits = 0
        self.queue = _GONE
        self.tag = tag
        """-1: `value` is the value itself; else the tag to decode it by."""
        self.version_index = version_index
        self.version = version
        self.generation = generation
        self.dependencies = dependencies
        """(index, version) of each tag."""
        self.deadline = deadline
        self.envelope = envelope


class _Ghosts:
    """Keys that were here, by their hashes: what came in first is forgotten first."""

    def __init__(self, capacity: float) -> None:
        self._capacity = capacity
        self._sizes: dict[int, float] = {}
        self._order: deque[int] = deque()
        self.bytes = 0.0

    def add(self, key: Any, size: float) -> None:
        """Remember *key*, which took *size* bytes."""
        name = hash(key)
        self.bytes += size - self._sizes.pop(name, 0)
        self._sizes[name] = size
        self._order.append(name)
        while self._order and (
            self.bytes > self._capacity or len(self._order) > 2 * len(self._sizes) + _LEFT_MIN
        ):
            self.bytes -= self._sizes.pop(self._order.popleft(), 0)

    def take(self, key: Any) -> bool:
        """Forget *key*; return whether it was known."""
        size = self._sizes.pop(hash(key), None)
        if size is None:
            return False
        self.bytes -= size
        return True

    def __contains__(self, key: object) -> bool:
        return hash(key) in self._sizes


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
        self._empty()
        _EVERY_CACHE[id(self)] = self

    def _empty(self) -> None:
        self._entries.clear()
        # Entries in the order of their coming. One whose `queue` says otherwise has left it.
        self._small: deque[HotEntry] = deque()
        self._main: deque[HotEntry] = deque()
        self._left = 0
        self._small_ghosts = _Ghosts(self._capacity * _SMALL_GHOSTS_SHARE)
        self._main_ghosts = _Ghosts(self._capacity * _MAIN_GHOSTS_SHARE)
        self._used = 0.0
        self._small_used = 0.0
        self._small_count = 0
        self._small_target = self._capacity * _SMALL_SHARE

    # The mapping

    @property
    def lock(self) -> threading.RLock:
        """Held by whoever changes a queue; whoever holds it changes several things at once."""
        return self._lock

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
            self._empty()

    # Entries

    def admit(self, entry: HotEntry) -> bool:
        """Take *entry* in, in place of its key's; return whether there is room for it at all.

        One that takes the place of another is as well known as that was.
        """
        if entry.size_bytes > self._capacity:
            self.drop(entry.key)
            return False
        with self._lock:
            old = self._entries.get(entry.key)
            if old is not None:
                queue = old.queue
                entry.hits = old.hits
                self._remove_locked(old)
            else:
                queue = self._recall_locked(entry)
            self._entries[entry.key] = entry
            self._used += entry.size_bytes
            self._append_locked(entry, queue)
            self._make_room_locked()
        return True

    def is_ghost(self, key: Any) -> bool:
        """Whether *key* was here not long ago."""
        return key in self._small_ghosts or key in self._main_ghosts

    def rewrite(  # noqa: PLR0913, PLR0917 - what a copy is good under
        self,
        entry: HotEntry,
        value: Any,
        size_bytes: float,
        version: int,
        generation: int,
        deadline: float | None,
    ) -> bool:
        """Give *entry* a newer value in its place; return False when it has left.

        A reader sees the old version with the old value or with the new one, which was stored
        already, or no version, or the new version with the new value.
        """
        with self._lock:
            if entry.queue == _GONE:
                return False
            if generation < entry.generation:
                return True  # another thread was faster, and stored after this one
            entry.version = _NO_VERSION
            entry.value = value
            entry.generation = generation
            entry.deadline = deadline
            entry.version = version
            grown = size_bytes - entry.size_bytes
            entry.size_bytes = size_bytes
            self._used += grown
            if entry.queue == _SMALL:
                self._small_used += grown
            self._make_room_locked()
        return True

    def revalidate(
        self,
        entry: HotEntry,
        generation: int,
        version: int,
        deadline: float | None,
        dependencies: tuple[tuple[int, int], ...],
    ) -> None:
        """Note that *entry* is good under *version* too, if its value is still of *generation*."""
        with self._lock:
            if entry.generation == generation:
                entry.version = _NO_VERSION
                entry.deadline = deadline
                entry.dependencies = dependencies
                entry.version = version

    def drop(self, key: Any) -> HotEntry | None:
        """Remove the entry of *key* and return it, or None."""
        if key not in self._entries:
            return None
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._remove_locked(entry)
            return entry

    def _make_room_locked(self) -> None:
        while self._used > self._capacity:
            evicted = self._evict_locked()
            if evicted is not None and self._on_evict is not None:
                self._on_evict(evicted)

    def _append_locked(self, entry: HotEntry, queue: int) -> None:
        entry.queue = queue
        if queue == _SMALL:
            self._small.append(entry)
            self._small_used += entry.size_bytes
            self._small_count += 1
        else:
            self._main.append(entry)

    def _take_locked(self, entry: HotEntry) -> None:
        """Count *entry* out of its queue."""
        if entry.queue == _SMALL:
            self._small_used -= entry.size_bytes
            self._small_count -= 1
        entry.queue = _GONE

    def _remove_locked(self, entry: HotEntry) -> None:
        del self._entries[entry.key]
        self._used -= entry.size_bytes
        self._take_locked(entry)
        self._left += 1
        if self._left > len(self._entries) + _LEFT_MIN:
            self._left = 0
            self._small = deque(each for each in self._small if each.queue == _SMALL)
            self._main = deque(each for each in self._main if each.queue == _MAIN)

    def _evict_locked(self) -> HotEntry | None:
        """Remove what is used least; which queue it comes from is decided once."""
        is_main_empty = self._small_count == len(self._entries)
        from_small = is_main_empty or self._small_used > self._small_target
        while self._entries:
            if from_small and self._small_count:
                entry = self._small.popleft()
                if entry.queue != _SMALL:
                    self._left -= 1
                    continue
                self._take_locked(entry)
                if entry.hits >= _TO_MAIN_HITS:
                    entry.hits = 0
                    self._append_locked(entry, _MAIN)
                    continue
                self._small_ghosts.add(entry.key, entry.size_bytes)
            else:
                entry = self._main.popleft()
                if entry.queue != _MAIN:
                    self._left -= 1
                    continue
                if entry.hits:
                    entry.hits = min(entry.hits, _HITS_MAX) - 1
                    self._main.append(entry)
                    continue
                entry.queue = _GONE
                self._main_ghosts.add(entry.key, entry.size_bytes)
            del self._entries[entry.key]
            self._used -= entry.size_bytes
            return entry
        return None

    def _recall_locked(self, entry: HotEntry) -> int:
        """Return the queue for a new entry, and adapt the small one if its ghost is here."""
        small, main = self._small_ghosts, self._main_ghosts
        step = _ADAPTION_RATE * entry.size_bytes
        if entry.key in small:
            step *= max(1.0, main.bytes / small.bytes if small.bytes else 1.0)
            small.take(entry.key)
        elif entry.key in main:
            step *= -max(1.0, small.bytes / main.bytes if main.bytes else 1.0)
            main.take(entry.key)
        else:
            return _SMALL
        target = self._small_target + step
        least, most = self._capacity * _SMALL_SHARE_MIN, self._capacity * _SMALL_SHARE_MAX
        self._small_target = min(most, max(least, target))
        return _MAIN

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
