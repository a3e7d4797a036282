"""The one door to the cache."""

from __future__ import annotations

import pytest
from places.caching import LookupCounts, cached_value, lookup_counts


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
