"""Text search over the names of cities, in every language they are known by.

The names are in an FTS5 table of SQLite, which folds case and accents: `sao paulo` finds São
Paulo. The last word of a query may be the beginning of a name.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from django.db import connection
from django.db.models import Case, When
from django.db.models.expressions import RawSQL

from places.caching import CITIES, cached_value
from places.models import City

if TYPE_CHECKING:
    from collections.abc import Iterable

TIMEOUT_SECONDS = 3600
RESULTS_SHOWN = 30
QUERY_LENGTH = 60
SHORTEST_QUERY = 2


class FoundCity(NamedTuple):
    """One result of a search."""

    id: int
    name: str
    region: str
    country_iso: str
    country_name: str
    population: int


def search_cities(query: str) -> tuple[FoundCity, ...]:
    """Return the cities that have all words of *query* in their names, exact names first.

    At most 30, the largest. A query under two characters finds nothing; what it has beyond 60 is
    ignored. From the cache when the same question was asked before.
    """
    question = " ".join(query[:QUERY_LENGTH].casefold().split())
    if len(question) < SHORTEST_QUERY:
        return ()
    # A key may not hold spaces or be too long, a question may.
    key = f"search:{sha256(question.encode()).hexdigest()}"
    return cached_value(key, lambda: _find(question), TIMEOUT_SECONDS, tags=(CITIES,))


def index_names(names_by_city: Iterable[tuple[int, str]]) -> None:
    """Add cities to the search: pairs of their id and all their names."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO places_citysearch(rowid, names) VALUES (%s, %s)", list(names_by_city)
        )


def clear_index() -> None:
    """Make every search find nothing, until names are added again."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO places_citysearch(places_citysearch) VALUES ('delete-all')")


def _find(question: str) -> tuple[FoundCity, ...]:
    expression = _match_expression(question)
    if not expression:
        return ()
    matching = RawSQL(
        "SELECT rowid FROM places_citysearch WHERE places_citysearch MATCH %s", [expression]
    )
    cities = (
        City.objects.filter(pk__in=matching)
        .select_related("country")
        .order_by(Case(When(name__iexact=question, then=0), default=1), "-population")
    )
    return tuple(
        FoundCity(
            id=city.id,
            name=city.name,
            region=city.region,
            country_iso=city.country.iso,
            country_name=city.country.name,
            population=city.population,
        )
        for city in cities[:RESULTS_SHOWN]
    )


def _match_expression(question: str) -> str:
    """Return *question* in the language of FTS5: quoted words, the last one a prefix."""
    words = [
        '"{}"'.format(word.replace('"', '""'))
        for word in question.split()
        if any(character.isalnum() for character in word)
    ]
    return " ".join(words) + "*" if words else ""
