"""Which reads were stale: they started after a write was acknowledged, and showed older data."""

from __future__ import annotations


class RevisionLedger:
    """The newest revision of each city whose write was answered.

    A read asks for its floor at the moment it is sent. Whatever it returns below that
    floor is older than a write its sender already knew to be finished. Reads that
    overlap a write may return either revision and are never counted.
    """

    def __init__(self) -> None:
        self._acknowledged: dict[int, int] = {}

    def acknowledge(self, city_id: int, revision: int) -> None:
        """Note that a write of *revision* was answered; answers may arrive out of order."""
        if revision > self._acknowledged.get(city_id, 0):
            self._acknowledged[city_id] = revision

    def entries(self) -> list[tuple[int, int]]:
        """Return every city with its newest acknowledged revision."""
        return list(self._acknowledged.items())

    def floor(self, city_id: int) -> int:
        """Return the revision that a read of *city_id* sent now must at least show."""
        return self._acknowledged.get(city_id, 0)


def is_stale(revision: int, floor: int) -> bool:
    """Whether a read that showed *revision* missed a write acknowledged before it was sent."""
    return revision < floor
