"""The hot tier: this process's own copies, bounded in bytes.

`HotCache` is a cachetools cache whose eviction survives scans. It is S3-FIFO (Yang et al., "FIFO
queues are all you need for cache eviction", SOSP 2023) with a small queue that adapts, as the
pool's: new entries wait in the small queue; those used three times there go on to the main queue,
the others leave a ghost behind by which they are known when they come back. A ghost of the small
queue that comes back makes that queue larger, one of the main queue makes it smaller.

Who leaves the main queue is decided by more than the pool does: of the first six entries that were
not used since they passed last, the one goes that was used least in all its lives here (Einziger,
Friedman, Manes, "TinyLFU", 2017, decide so who comes in). What an entry was used counts a sixteenth
less each time it is spared, so what was in demand once leaves too.

Locking: readers take none. A look-up is one read of a dict, which the GIL makes atomic, and a plain
store of a counter whose loss costs nothing. Everything that changes a queue holds the lock.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import cachetools

from pmemcache.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ENTRY_OVERHEAD_BYTES", "HotCache", "HotEntry"]

ENTRY_OVERHEAD_BYTES: Final = 440
"""What an entry takes besides the bytes of its key and value: the objects and their numbers, places
in a dict and a queue, ghosts, and what is noted of keys that are not here."""

_PASSES_MAX: Final = 3
"""How often an entry passes through the main queue without being used, at most."""
_TO_MAIN_HITS: Final = 3
_COMPARED: Final = 6
"""Entries of the main queue that were not used and are compared, to evict one."""
_SPARED_LOSS: Final = 1 / 16
_USES_MAX: Final = 255
_USES_PLACES: Final = 16
_GHOST_PLACES: Final = 2
_GHOST_AGES: Final = 8
"""Ghosts are forgotten by the age. There are 255 ages before one comes again: with so few at a
time, a ghost that is forgotten has lost its place to others by then."""
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
        "hits_before",
        "hits_spent",
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
        """Counted by whoever looks it up, without a lock."""
        self.hits_before = 0
        """What is added to them to say how much it was used, with all that it was before."""
        self.hits_spent = 0
        """Those that no longer keep it in its queue."""
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


def _uses_of(entry: HotEntry) -> int:
    """Return how much *entry* was used, here and before."""
    return entry.hits_before + entry.hits


class _Ghosts:
    """Keys that were here: what came in first is forgotten first."""

    def __init__(self, capacity: float) -> None:
        self._age_bytes = capacity / _GHOST_AGES
        self._bytes = deque([0.0] * _GHOST_AGES, _GHOST_AGES)
        self._notes = Notes(_GHOST_PLACES, is_precise=True)
        self._notes.newest = 1
        self.bytes = 0.0

    def add(self, key: Any, size: float, entries: int) -> None:
        """Remember *key*, which took *size* bytes beside so many entries."""
        self._notes.fit(entries)
        self._notes.set(key, self._notes.newest)
        self._bytes[-1] += size
        self.bytes += size
        if self._bytes[-1] >= self._age_bytes:
            self._notes.newest = self._notes.newest % _USES_MAX + 1
            self._bytes.append(0.0)
            self.bytes = sum(self._bytes)

    def take(self, key: Any, size: float) -> bool:
        """Forget *key*, which takes *size* bytes; return whether it was known."""
        age = self._age(key)
        if age is None:
            return False
        self._notes.set(key, 0)
        self._bytes[-1 - age] = max(0.0, self._bytes[-1 - age] - size)
        self.bytes = sum(self._bytes)
        return True

    def __contains__(self, key: object) -> bool:
        return self._age(key) is not None

    def _age(self, key: Any) -> int | None:
        note = self._notes.get(key)
        age = (self._notes.newest - note) % _USES_MAX
        return age if note and age < _GHOST_AGES else None


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
        self._uses = Notes(_USES_PLACES)
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
        if key not in self._entries:
            self.note_use(key)
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
                entry.hits_before, entry.hits_spent = old.hits_before, old.hits_spent
                self._remove_locked(old)
            else:
                queue = self._recall_locked(entry)
                entry.hits_before = self._uses.get(entry.key)
            self._entries[entry.key] = entry
            self._uses.fit(len(self._entries))
            self._used += entry.size_bytes
            self._append_locked(entry, queue)
            self._make_room_locked()
        return True

    def note_use(self, key: Any) -> int:
        """Note a use of *key*, which has no entry; return how many are known of, 1 to 255."""
        uses = min(self._uses.get(key) + 1, _USES_MAX)
        self._uses.set(key, uses)
        return uses

    def was_used(self, key: Any) -> bool:
        """Whether a use is known of *key*, which has no entry."""
        return self._uses.get(key) > 0

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
                self._note_locked(entry)
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

    def _note_locked(self, entry: HotEntry) -> None:
        """Note how much *entry* was used, which leaves."""
        self._uses.set(entry.key, min(max(_uses_of(entry), 1), _USES_MAX))

    def _evict_locked(self) -> HotEntry | None:
        """Remove what is used least; which queue it comes from is decided once."""
        is_main_empty = self._small_count == len(self._entries)
        from_small = is_main_empty or self._small_used > self._small_target
        entry = self._leave_small_locked() if from_small else None
        ghosts = self._small_ghosts
        if entry is None:
            entry, ghosts = self._leave_main_locked(), self._main_ghosts
        if entry is not None:
            del self._entries[entry.key]
            self._used -= entry.size_bytes
            self._note_locked(entry)
            ghosts.add(entry.key, entry.size_bytes, len(self._entries))
        return entry

    def _leave_small_locked(self) -> HotEntry | None:
        """Take the first of the small queue that was not used enough to go on to the main one."""
        while self._small_count:
            entry = self._small.popleft()
            if entry.queue != _SMALL:
                self._left -= 1
                continue
            self._take_locked(entry)
            if entry.hits - entry.hits_spent < _TO_MAIN_HITS:
                return entry
            entry.hits_spent = entry.hits
            self._append_locked(entry, _MAIN)
        return None

    def _leave_main_locked(self) -> HotEntry | None:
        """Take the least used of the first of the main queue that were not used since they passed.

        The others stay in front, but for the very first, which is spared for another round.
        """
        main = self._main
        unused: list[HotEntry] = []
        while main and len(unused) < _COMPARED:
            entry = main.popleft()
            if entry.queue != _MAIN:
                self._left -= 1
                continue
            hits = entry.hits - entry.hits_spent
            if hits <= 0:
                unused.append(entry)
                continue
            entry.hits_spent = entry.hits - min(hits, _PASSES_MAX) + 1
            main.append(entry)
        if not unused:
            return None
        victim = min(unused, key=_uses_of)
        if unused[0] is not victim:
            spared = unused.pop(0)
            spared.hits_before -= math.ceil(_uses_of(spared) * _SPARED_LOSS)
            main.append(spared)
        unused.remove(victim)
        main.extendleft(reversed(unused))
        victim.queue = _GONE
        return victim

    def _recall_locked(self, entry: HotEntry) -> int:
        """Return the queue for a new entry, and adapt the small one if its ghost is here."""
        small, main = self._small_ghosts, self._main_ghosts
        step = _ADAPTION_RATE * entry.size_bytes
        if entry.key in small:
            step *= max(1.0, main.bytes / small.bytes if small.bytes else 1.0)
            small.take(entry.key, entry.size_bytes)
        elif entry.key in main:
            step *= -max(1.0, small.bytes / main.bytes if main.bytes else 1.0)
            main.take(entry.key, entry.size_bytes)
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
