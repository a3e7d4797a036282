"""The one door to the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from places import cityfacts
from places.caching import LookupCounts, cached_value, forget_city, lookup_counts
from places.models import City

if TYPE_CHECKING:
    from collections.abc import Callable


def test_value_is_computed_once() -> None:
    calls: list[int] = []
    assert [cached_value("key", lambda: calls.append(1), 60) for _ in range(3)] == [None] * 3
    assert calls == [1]


def test_error_is_passed_on_and_nothing_stored() -> None:
    with pytest.raises(ZeroDivisionError):
        cached_value("key", lambda: 1 // 0, 60)
    assert cached_value("key", lambda: 7, 60) == 7


def test_lookups_of_a_request_are_counted() -> None:
    counts = LookupCounts()
    token = lookup_counts.set(counts)
    for _ in range(3):
        cached_value("key", lambda: 7, 60)
    lookup_counts.reset(token)
    cached_value("key", lambda: 7, 60)
    assert (counts.hits, counts.misses) == (2, 1)


@pytest.mark.usefixtures("_world", "pmemcache_site")
@pytest.mark.parametrize(
    "read_late", [cityfacts.city_facts, lambda city_id: cityfacts.facts_of([city_id])[city_id]]
)
def test_facts_that_were_edited_while_they_were_computed_are_not_stored(
    read_late: Callable[[int], cityfacts.CityFacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = cityfacts._facts

    def make_and_be_late(city: City) -> cityfacts.CityFacts:
        City.objects.filter(pk=city.pk).update(revision=city.revision + 1)
        forget_city(city.pk)
        return make(city)

    monkeypatch.setattr(cityfacts, "_facts", make_and_be_late)
    late = read_late(1)
    monkeypatch.undo()
    assert cityfacts.city_facts(1).revision == late.revision + 1
