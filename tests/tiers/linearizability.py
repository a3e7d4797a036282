"""Checks that a history of calls on a cache is linearizable, key by key.

Every value is written once. A value was certainly held from the first end of a call that wrote or
read it until the last beginning of one; so a history is wrong when

*   a read returns what was never written, or not yet;
*   two values were certainly held at once, or one was written wholly within the time that another
    was held (Gibbons and Korach, "Testing shared memories", SIAM J. Comput. 1997);
*   a value is read after a delete that began after its write had ended, or after its time to live;
*   a read finds nothing while a value was held, or, where nothing may be lost, although nothing
    was deleted.

A call that never returned, for its process was killed, has an infinite end: it may have happened at
any time after its beginning, or not at all.
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MISSING = "missing"
CLOCK_GRAIN_SECONDS = 0.05
"""How much too late, or early, a value may expire: the engine's clock ticks coarsely, and late
on a busy virtual machine."""


@dataclass(frozen=True)
class Call:
    """One call on one key: `get` returned *value*, `set` wrote it, `delete` and `drop` wrote none.

    A `drop` deletes the values that are tagged.
    """

    kind: str
    key: str
    value: str
    begin: float
    end: float
    is_tagged: bool = False
    ttl_seconds: float = math.inf

    @property
    def expiry(self) -> Call:
        """When the value of a `set` goes by itself."""
        earliest = self.begin + self.ttl_seconds - CLOCK_GRAIN_SECONDS
        return Call("delete", self.key, "", earliest, self.end + self.ttl_seconds)


def violations(history: Iterable[Call], *, may_lose: bool) -> list[str]:
    """Return what in *history* no single register per key could have done.

    Args:
        may_lose: A value may go at any time, as by eviction or by the repair after a crash; but it
            does not come back.
    """
    by_key: dict[str, list[Call]] = {}
    for call in history:
        by_key.setdefault(call.key, []).append(call)
    found = []
    for calls in by_key.values():
        found += _violations_of_key(calls, may_lose=may_lose)
    return found


def _violations_of_key(calls: list[Call], *, may_lose: bool) -> list[str]:
    clusters = {call.value: [call] for call in calls if call.kind == "set"}
    deletes = [call for call in calls if call.kind == "delete"]
    drops = [call for call in calls if call.kind == "drop"]
    missing, found = [], []
    for call in calls:
        if call.kind != "get":
            continue
        if call.value == MISSING:
            missing.append(call)
        elif call.value in clusters:
            clusters[call.value].append(call)
        else:
            found.append(f"{call.value} was read and never written")
    found += _read_too_early_or_late(clusters, deletes, drops)
    found += _held_at_once(clusters, missing)
    if not may_lose:
        writes = [write for write, *_reads in clusters.values()]
        expiries = [write.expiry for write in writes if write.ttl_seconds < math.inf]
        gone = [*deletes, *drops, *expiries]
        found += _lost(writes, [*gone, *_dead_on_arrival(writes, gone)], missing)
    return found


def _read_too_early_or_late(
    clusters: dict[str, list[Call]], deletes: list[Call], drops: list[Call]
) -> list[str]:
    found = []
    deleted_after = _earliest_end_after(deletes)
    dropped_after = _earliest_end_after([*deletes, *drops])
    for value, (write, *reads) in clusters.items():
        gone_after = dropped_after if write.is_tagged else deleted_after
        last = max((read.begin for read in reads), default=-math.inf)
        if any(read.end < write.begin for read in reads):
            found.append(f"{value} was read before it was written")
        if gone_after(write.end) < last:
            found.append(f"{value} was read after it was deleted")
        if write.expiry.end + CLOCK_GRAIN_SECONDS < last:
            found.append(f"{value} was read after it had expired")
    return found


def _held_at_once(clusters: dict[str, list[Call]], missing: list[Call]) -> list[str]:
    forward, backward, found = [], [], []
    for value, calls in clusters.items():
        low = min(call.end for call in calls)
        high = max(call.begin for call in calls)
        (forward if low < high else backward).append((min(low, high), max(low, high), value))
    forward.sort()
    for (_low, high, value), (next_low, _high, other) in itertools.pairwise(forward):
        if next_low < high:
            found.append(f"{value} and {other} were held at once")
    lows = [low for low, _high, _value in forward]
    backward += [(read.begin, read.end, MISSING) for read in missing]
    for low, high, value in backward:
        before = bisect.bisect_left(lows, low) - 1
        if before >= 0 and high < forward[before][1]:
            held = forward[before][2]
            found.append(
                f"{held} was held, and was missing meanwhile"
                if value == MISSING
                else f"{value} was written while {held} was held"
            )
    return found


def _dead_on_arrival(writes: list[Call], gone: list[Call]) -> list[Call]:
    """Return the tagged writes during which the tag was dropped: each may be a delete in effect.

    Its tag is read before it replaces what there is.
    """
    dropped_after = _earliest_end_after(gone)
    begins = sorted(call.begin for call in gone)
    return [
        write
        for write in writes
        if write.is_tagged
        and (
            (
                dropped_after(write.begin) < math.inf
                and begins[bisect.bisect_right(begins, write.begin)] < write.end
            )
            or any(call.begin <= write.begin < call.end for call in gone)
        )
    ]


def _lost(writes: list[Call], deletes: list[Call], missing: list[Call]) -> list[str]:
    """A read may find nothing if some delete before it was not certainly overwritten."""
    overwritten = _earliest_end_after(writes)
    beginning = Call("delete", "", "", -math.inf, -math.inf)
    gone = sorted((call.begin, overwritten(call.end)) for call in [beginning, *deletes])
    begins = [begin for begin, _until in gone]
    until = list(itertools.accumulate((until for _begin, until in gone), max))
    return [
        f"{read.key}: a value was lost"
        for read in missing
        if until[bisect.bisect_left(begins, read.end) - 1] < read.begin
    ]


def _earliest_end_after(calls: list[Call]) -> Callable[[float], float]:
    """Return a function: of the calls that begin after a moment, when the first one ends."""
    ordered = sorted(calls, key=lambda call: call.begin)
    begins = [call.begin for call in ordered]
    ends = [*itertools.accumulate((call.end for call in reversed(ordered)), min)][::-1]
    ends.append(math.inf)
    return lambda moment: ends[bisect.bisect_right(begins, moment)]
