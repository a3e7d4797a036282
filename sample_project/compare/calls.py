"""The cost of single cache calls through Django's cache API, in one process.

Run as its own process. The backends take turns in short rounds, so that a noisy moment of the
host falls on all of them alike. Each call is timed by itself; the cost of reading the clock is
measured, reported and not subtracted.
"""

from __future__ import annotations

import itertools
import random
import string
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypedDict, cast

from compare import tasks
from compare.opening import open_cache
from compare.percentiles import Summary, summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from django.core.cache.backends.base import BaseCache

KEYS = 200
MANY = 100
OPERATIONS = ("get hit", "get miss", "set", "get_many(100)")
TIMEOUT_SECONDS = 3600


class CallCosts(TypedDict):
    """Summaries by payload, operation and backend key."""

    timer_us: float
    costs: dict[str, dict[str, dict[str, Summary]]]


@dataclass(frozen=True, kw_only=True)
class CallPlan:
    """What to measure.

    Args:
        locations: LOCATION of each backend to measure, by backend key.
        budget_bytes: The budget of each cache.
        rounds: How often each backend has its turn.
        calls_per_round: Calls of each kind in one turn; a tenth of it for `get_many`.
    """

    locations: Mapping[str, str]
    budget_bytes: int
    rounds: int
    calls_per_round: int


def payloads() -> dict[str, object]:
    """Return the values by name; the same on every run."""
    source = random.Random(7)

    def text(size: int) -> str:
        return "".join(source.choices(string.ascii_letters + " ", k=size))

    row = '<tr><td class="name"><a href="/city/{}/">{}</a></td><td class="number">{}</td></tr>\n'
    rows = (row.format(number, text(12), source.randrange(10**7)) for number in range(10**4))
    html = ""
    while len(html) < 10 * 1024:
        html += next(rows)
    session = {
        "_auth_user_id": str(source.randrange(10**6)),
        "_auth_user_hash": text(64),
        "csrf_token": text(64),
        "language": "en-gb",
        "favourites": [source.randrange(10**7) for _ in range(40)],
        "recent": [{"city": source.randrange(10**7), "name": text(14)} for _ in range(24)],
        "basket": {f"article-{number}": source.randrange(9) for number in range(30)},
        "messages": [text(70) for _ in range(3)],
    }
    return {
        "50 B str": text(50),
        "1 KiB bytes": source.randbytes(1024),
        "2 KiB session dict": session,
        "10 KiB html": html[: 10 * 1024],
    }


def measure(plan: CallPlan) -> CallCosts:
    """Return the cost of every operation on every payload on every backend of *plan*.

    Raises:
        RuntimeError: A backend does not return what was stored in it.
    """
    caches = {
        key: open_cache(key, location, budget_bytes=plan.budget_bytes)
        for key, location in plan.locations.items()
    }
    values = payloads()
    for key, cache in caches.items():
        _fill(key, cache, values)
    samples: dict[tuple[str, str, str], list[float]] = {}
    for number in range(plan.rounds):
        first = number % len(caches)
        turns = [*list(caches)[first:], *list(caches)[:first]]
        for (payload, value), backend in itertools.product(values.items(), turns):
            for operation, call, count in _operations(caches[backend], payload, value, plan):
                timed = samples.setdefault((payload, operation, backend), [])
                timed += _time_calls(call, count)
        tasks.report_progress(number + 1)
    for cache in caches.values():
        cache.clear()
    costs: dict[str, dict[str, dict[str, Summary]]] = {}
    for (payload, operation, backend), timed in samples.items():
        costs.setdefault(payload, {}).setdefault(operation, {})[backend] = summarise(timed)
    return CallCosts(timer_us=summarise(_time_calls(lambda _: None, 10_000))["p50_us"], costs=costs)


def _fill(backend: str, cache: BaseCache, values: Mapping[str, object]) -> None:
    for payload, value in values.items():
        cache.set_many(dict.fromkeys(_keys(payload), value), TIMEOUT_SECONDS)
        cache.set_many(dict.fromkeys(_written(payload), value), TIMEOUT_SECONDS)
    for payload, value in values.items():
        if cache.get_many(_keys(payload)) != dict.fromkeys(_keys(payload), value):
            message = f"{backend} does not return every {payload} that was stored in it"
            raise RuntimeError(message)


def _keys(payload: str) -> list[str]:
    name = payload.replace(" ", "-")
    return [f"calls:{name}:{number}" for number in range(KEYS)]


def _written(payload: str) -> list[str]:
    """Return the keys that are written all the time, which are not those that are read."""
    return [f"{key}:written" for key in _keys(payload)]


def _operations(
    cache: BaseCache, payload: str, value: object, plan: CallPlan
) -> Iterator[tuple[str, Callable[[int], object], int]]:
    """Yield name, call (given a running number) and number of calls of each operation."""
    keys = _keys(payload)
    absent = [f"{key}:absent" for key in keys]
    written = _written(payload)
    many = keys[:MANY]
    yield "get hit", lambda number: cache.get(keys[number % KEYS]), plan.calls_per_round
    yield "get miss", lambda number: cache.get(absent[number % KEYS]), plan.calls_per_round
    yield (
        "set",
        lambda number: cache.set(written[number % KEYS], value, TIMEOUT_SECONDS),
        plan.calls_per_round,
    )
    yield "get_many(100)", lambda _: cache.get_many(many), max(1, plan.calls_per_round // 10)


def _time_calls(call: Callable[[int], object], count: int) -> Sequence[float]:
    """Return the microseconds of each of *count* calls, after a few that are not counted."""
    clock = time.perf_counter_ns
    for number in range(3):
        call(number)
    timed = []
    for number in range(count):
        started = clock()
        call(number)
        timed.append((clock() - started) / 1000)
    return timed


def measure_in_own_process(
    plan: CallPlan, *, on_progress: Callable[[int], None] | None = None
) -> CallCosts:
    """Return what `measure` finds in a process of its own.

    Raises:
        TaskError: A backend failed.
    """
    result = tasks.run_task("compare.calls", asdict(plan), on_progress=on_progress)
    return cast("CallCosts", result)


if __name__ == "__main__":
    tasks.report_result(measure(CallPlan(**tasks.read_argument())))
