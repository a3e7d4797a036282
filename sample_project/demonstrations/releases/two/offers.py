"""What is offered in a city, as the second release knows it: every class is another than before."""

from __future__ import annotations

from typing import NamedTuple

from opinions import Review


class Stay(NamedTuple):
    """A night in a hotel; the currency is new, and has no default."""

    city: str
    price: int
    currency: str


class Score:
    """How much it was liked; it was called `Rating`."""

    def __init__(self, points: int) -> None:
        self.points = points


def make(kind: str) -> object:
    """Return an object of each of the classes."""
    return {"stay": Stay("Lisbon", 80, "EUR"), "rating": Score(8), "review": Review("quiet")}[kind]


def show(offer: object) -> str:
    """Return the page of an offer."""
    return f"release two: {type(offer).__name__}"
