"""A byte about each of many keys, most of which are not here."""

from __future__ import annotations

from array import array
from typing import Any, Final

__all__ = ["Notes"]

_NOTE: Final = 0xFF
_CHECK: Final = 0xFF00
_LONG_CHECK: Final = 0xFFFFFF00
_CHECK_SHIFT: Final = 24
"""A check has other bits of the hash than those that say the place."""
_PLACES_MIN: Final = 64


class Notes:
    """What was noted of keys, in two bytes a place and without the keys.

    A key has two places side by side, and with the note is a check of eight bits. So a note may be
    lost to another key, and what is found may be another's (one look in 128): notes are hints.
    Safe for any number of threads, which may lose a note.

    Args:
        places: For each entry that `fit` is told of.
        is_precise: Take four bytes a place, with a check of 24 bits.
    """

    def __init__(self, places: int, *, is_precise: bool = False) -> None:
        self.newest = _NOTE
        """Of a key's two places, the one goes whose note was passed last on the way to this one, up
        from 0 and after 255 from 0 again. As it is: the lesser goes."""
        self._each = places
        self._check = _LONG_CHECK if is_precise else _CHECK
        self._table = array("I" if is_precise else "H", [0] * _PLACES_MIN)

    def fit(self, entries: int) -> None:
        """Have room for what is noted beside so many entries; no note is lost."""
        while len(self._table) < self._each * entries:
            # A place is the lower bits of a hash, one more now: it is in either half.
            # Not in its place, for other threads may be reading it.
            self._table = self._table * 2

    def get(self, key: Any) -> int:
        """Return the note of *key*, 1 to 255, or 0."""
        table, place, check = self._find(key)
        found = table[place]
        if found & ~_NOTE != check:
            found = table[place ^ 1]
            if found & ~_NOTE != check:
                return 0
        return found & _NOTE

    def set(self, key: Any, note: int) -> None:
        """Note 1 to 255 of *key*, or forget it with 0."""
        table, place, check = self._find(key)
        here, beside = table[place], table[place ^ 1]
        if here & ~_NOTE != check:
            newest = self.newest
            if beside & ~_NOTE == check or (newest - beside) & _NOTE > (newest - here) & _NOTE:
                place ^= 1
        table[place] = check | note

    def _find(self, key: Any) -> tuple[array[int], int, int]:
        """Return the table, the first of the places of *key*, and its check."""
        name = hash((key,))  # of a tuple: that of a small int is the int
        table = self._table
        return table, name & (len(table) - 1), name >> _CHECK_SHIFT & self._check
