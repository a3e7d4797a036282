"""The one door to the cache."""

from __future__ import annotations

import pytest
from places import cityfacts
from places.caching import LookupCounts, cached_value, forget_city, lookup_counts
from places.models import City


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
def test_facts_that_were_edited_while_they_were_computed_are_not_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = cityfacts._read_facts

    def read_and_be_late(city_id: int) -> cityfacts.CityFacts:
        facts = read(city_id)
        City.objects.filter(pk=city_id).update(revision=facts.revision + 1)
        forget_city(city_id)
        return facts

    monkeypatch.setattr(cityfacts, "_read_facts", read_and_be_late)
    late = cityfacts.city_facts(1)
    monkeypatch.undo()
    assert cityfacts.city_facts(1).revision == late.revision + 1
