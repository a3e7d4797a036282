"""The visitor's favourite cities, kept in the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from places.models import City

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

SESSION_KEY = "favourite_cities"
MOST_FAVOURITES = 50


def favourite_ids(session: SessionBase) -> list[int]:
    """Return the ids of the visitor's favourite cities, the newest first."""
    ids: list[int] = session.get(SESSION_KEY, [])
    return ids


def favourite_cities(session: SessionBase) -> list[City]:
    """Return the visitor's favourite cities, the newest first."""
    ids = favourite_ids(session)
    if not ids:
        return []
    cities = City.objects.select_related("country").in_bulk(ids)
    return [cities[city_id] for city_id in ids if city_id in cities]


def add_favourite(session: SessionBase, city_id: int) -> None:
    """Put a city first; the oldest favourite beyond fifty is forgotten."""
    others = [other for other in favourite_ids(session) if other != city_id]
    session[SESSION_KEY] = [city_id, *others][:MOST_FAVOURITES]


def remove_favourite(session: SessionBase, city_id: int) -> None:
    """Take a city out; nothing happens when it is not a favourite."""
    session[SESSION_KEY] = [other for other in favourite_ids(session) if other != city_id]
