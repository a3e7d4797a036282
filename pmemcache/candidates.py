"""Which keys may get a copy in the hot tier: those that were wanted lately."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["Candidates"]


class Candidates:
    """Counts the uses of keys that have no copy, in a byte or two each.

    One row of a count-min sketch (Cormode and Muthukrishnan, 2005) in two generations: the older is
    forgotten once the newer has met *window* keys. Keys may share a counter, and threads may lose a
    count: a copy more or less, and nothing else. Safe for any number of threads.
    """

    _MOST: Final = 255

    def __init__(self, window: int) -> None:
        self._window = max(1, window)
        size = 1 << (2 * self._window - 1).bit_length()
        self._mask = size - 1
        self._new = bytearray(size)
        self._old = bytearray(size)
        self._met = 0

    def asked(self, key: Any) -> None:
        """Note that *key* was wanted and was not there."""
        place = hash(key) & self._mask
        if not self._new[place]:
            self._note(place, max(1, self._old[place]))

    def used(self, key: Any) -> int:
        """Note that *key* was found in the pool; return how often it was."""
        place = hash(key) & self._mask
        count = self._new[place] or self._old[place] or 1
        self._note(place, min(count + 1, self._MOST))
        return count

    def __contains__(self, key: object) -> bool:
        """Whether *key* was wanted or found lately."""
        place = hash(key) & self._mask
        return bool(self._new[place] or self._old[place])

    def _note(self, place: int, count: int) -> None:
        new = self._new
        if not new[place]:
            self._met += 1
            if self._met > self._window:
                self._met = 0
                self._old, self._new = new, bytearray(len(new))
                new = self._new
        new[place] = count
