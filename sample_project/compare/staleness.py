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
        self._moments: dict[int, dict[int, float]] = {}

    def acknowledge(self, city_id: int, revision: int, moment: float = 0.0) -> None:
        """Note that a write of *revision* was answered; answers may arrive out of order.

        Args:
            moment: When, in seconds of any clock; `age` counts from it.
        """
        self._moments.setdefault(city_id, {})[revision] = moment
        if revision > self._acknowledged.get(city_id, 0):
            self._acknowledged[city_id] = revision

    def entries(self) -> list[tuple[int, int, float]]:
        """Return the arguments of every acknowledgement."""
        return [
            (city_id, revision, moment)
            for city_id, moments in self._moments.items()
            for revision, moment in moments.items()
        ]

    def age(self, city_id: int, shown: int, now: float) -> float:
        """Return for how long what *shown* lacks had been acknowledged by *now*."""
        missed = [at for newer, at in self._moments[city_id].items() if newer > shown]
        return now - min(missed)

    def floor(self, city_id: int) -> int:
        """Return the revision that a read of *city_id* sent now must at least show."""
        return self._acknowledged.get(city_id, 0)


def is_stale(revision: int, floor: int) -> bool:
    """Whether a read that showed *revision* missed a write acknowledged before it was sent."""
    return revision < floor
