"""What is offered in a city, as the first release knows it."""

from __future__ import annotations

from typing import NamedTuple

from reviews import Review


class Stay(NamedTuple):
    """A night in a hotel."""

    city: str
    price: int


class Rating:
    """How much it was liked."""

    def __init__(self, stars: int) -> None:
        self.stars = stars


def make(kind: str) -> object:
    """Return an object of each of the classes."""
    return {"stay": Stay("Lisbon", 80), "rating": Rating(4), "review": Review("quiet")}[kind]


def show(offer: object) -> str:
    """Return the page of an offer."""
    return f"release one: {type(offer).__name__}"
