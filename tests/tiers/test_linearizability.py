"""The checker of histories finds nothing wrong with what a register can do, only with the rest."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linearizability import MISSING, Call, violations


def call(kind: str, value: str, begin: float, end: float, **options: Any) -> Call:
    return Call(kind, "k", value, begin, end, **options)


def is_possible(calls: list[Call], *, may_lose: bool) -> bool:
    """Whether some order of *calls* that respects their times is one of a register: try all."""

    def go(left: frozenset[int], held: str) -> bool:
        if not left:
            return True
        earliest_end = min(calls[each].end for each in left)
        for each in left:
            now = calls[each]
            if now.begin > earliest_end:
                continue
            after = held
            if now.kind == "set":
                after = now.value
            elif now.kind == "delete" or (now.value == MISSING and may_lose):
                after = MISSING
            elif now.value != held:
                continue
            if go(left - {each}, after):
                return True
        return False

    return go(frozenset(range(len(calls))), MISSING)


@st.composite
def histories(draw: Any) -> list[Call]:
    """A few overlapping calls, of which the reads return anything that is written."""
    written = [f"v{number}" for number in range(draw(st.integers(1, 3)))]
    kinds = [("set", value) for value in written]
    kinds += [("get", draw(st.sampled_from([*written, MISSING]))) for _ in range(4)]
    kinds += [("delete", "")] * draw(st.integers(0, 1))
    calls = []
    for kind, value in kinds:
        begin = draw(st.integers(0, 12))
        calls.append(call(kind, value, begin, begin + draw(st.integers(1, 6)) + 0.5))
    return calls


@given(histories(), st.booleans())
@settings(max_examples=400, deadline=None)
def test_what_a_register_can_do_is_no_violation(calls: list[Call], may_lose: bool) -> None:  # noqa: FBT001
    if is_possible(calls, may_lose=may_lose):
        assert violations(calls, may_lose=may_lose) == []


@given(histories())
@settings(max_examples=400, deadline=None)
def test_every_impossible_order_of_values_is_found(calls: list[Call]) -> None:
    """Of values alone, for what is missing is checked less strictly than it could be."""
    values = [each for each in calls if each.kind == "set" or each.value in {"v0", "v1", "v2"}]
    possible = is_possible(values, may_lose=False)
    assert (violations(values, may_lose=False) == []) is possible


WRONG = {
    "read before it was written": [call("get", "v", 0, 1), call("set", "v", 2, 3)],
    "never written": [call("get", "v", 0, 1)],
    "read after it was deleted": [
        call("set", "v", 0, 1),
        call("delete", "", 2, 3),
        call("get", "v", 4, 5),
    ],
    "held at once": [
        call("set", "v", 0, 1),
        call("set", "w", 2, 3),
        call("get", "w", 4, 5),
        call("get", "v", 6, 7),
    ],
    "missing meanwhile": [
        call("set", "v", 0, 1),
        call("get", MISSING, 2, 3),
        call("get", "v", 4, 5),
    ],
}


@pytest.mark.parametrize("what", WRONG)
def test_violation_is_named_even_where_values_may_be_lost(what: str) -> None:
    (found,) = violations(WRONG[what], may_lose=True)
    assert what in found


def test_lost_value_is_a_violation_unless_it_may_be() -> None:
    calls = [call("set", "v", 0, 1), call("get", MISSING, 2, 3)]
    assert violations(calls, may_lose=True) == []
    assert violations(calls, may_lose=False) == ["k: a value was lost"]


def test_dropped_tag_deletes_the_tagged_alone() -> None:
    drop = call("drop", "", 2, 3)
    read = call("get", "v", 4, 5)
    plain, tagged = call("set", "v", 0, 1), call("set", "v", 0, 1, is_tagged=True)
    assert violations([plain, drop, read], may_lose=False) == []
    assert violations([tagged, drop, read], may_lose=False) != []


def test_call_that_never_returned_may_have_happened_or_not() -> None:
    write = call("set", "v", 0, math.inf)
    delete = call("delete", "", 3, math.inf)
    reads = [call("get", MISSING, 1, 2), call("get", "v", 4, 5), call("get", MISSING, 6, 7)]
    for some in itertools.chain([[]], itertools.combinations(reads, 1), [reads]):
        assert violations([write, delete, *some], may_lose=False) == []


def test_value_is_held_no_longer_than_its_time_to_live() -> None:
    write = call("set", "a", 0.0, 0.1, ttl_seconds=1.0)
    in_time, late = call("get", "a", 1.05, 1.2), call("get", "a", 1.2, 1.3)
    assert violations([write, in_time], may_lose=False) == []
    assert violations([write, late], may_lose=True) == ["a was read after it had expired"]
    gone, early = call("get", MISSING, 1.0, 1.1), call("get", MISSING, 0.2, 0.5)
    assert violations([write, gone], may_lose=False) == []
    assert violations([write, early], may_lose=False) == ["k: a value was lost"]
