"""Where the time of one request goes: a city's page whose values are all in the cache."""

from __future__ import annotations

import functools
import statistics
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from compare import tasks
from compare.client import ask
from compare.figures import Figure, panel, series
from compare.stage import Setting
from compare.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from compare.backends import Backend
    from compare.experiments.bench import Bench

PARTS = ("cache", "database", "templates", "Django", "gunicorn and socket")
"""Django is what is left of a request inside the site: URLs, middleware, views, headers."""
CACHE_METHODS = ("get", "set", "add", "get_many", "set_many", "get_or_set", "delete", "touch")
WARM_REQUESTS = 10
PAGES = 10
BUDGET_BYTES = 32 << 20


def measure(bench: Bench) -> Figure:
    """Return the figure."""
    sites = {site.backend.key: site for site in bench.sites}
    parts: dict[str, dict[str, float]] = {}
    for backend in bench.backends:
        inside = _inside(bench, backend)
        whole = _over_http_us(bench, sites[backend.key].web_server)
        rest = max(0.0, whole - sum(inside.values()))
        parts[backend.key] = {**inside, PARTS[-1]: rest}
    labels = {backend.key: backend.label for backend in bench.backends}
    bars = panel(
        "a city's page that hits, one request at a time",
        x="microseconds of one request",
        y="",
        kind="stacked",
        ticks=[labels[key] for key in parts],
        series=[
            series(
                "none",
                {float(place): [found[part]] for place, found in enumerate(parts.values())},
                label=part,
            )
            for part in PARTS
        ],
    )
    return Figure(
        name="request_parts",
        title="Where the time of one request goes",
        lead=(
            f"Medians of {bench.plan.parts_requests} requests for {PAGES} pages that were asked "
            "for before: no misses, but for the site without a cache, which computes all. "
            "Measured inside one process without a server; gunicorn and socket is what a request "
            "to the running site takes beyond that."
        ),
        notes=[
            f"{labels[key]}: {found['cache']:,.0f} of {sum(found.values()):,.0f} µs in the cache."
            for key, found in parts.items()
        ],
        columns=1,
        panels=[bars],
    )


def _paths(bench: Bench) -> list[str]:
    return [f"/city/{city.geonameid}/" for city in bench.cities[:PAGES]]


def _inside(bench: Bench, backend: Backend) -> dict[str, float]:
    with ExitStack() as stack:
        store = open_store(backend, bench.pool_parent, budget_bytes=BUDGET_BYTES, stack=stack)
        setting = Setting(
            cache=backend.key, location=store.location, cache_bytes=BUDGET_BYTES, workers=1
        )
        found = tasks.run_task(
            "compare.experiments.request_parts",
            {"paths": _paths(bench), "count": bench.plan.parts_requests},
            environment=setting.variables(bench.database),
        )
    return dict(found)


def _over_http_us(bench: Bench, server: Any) -> float:
    """Return the median microseconds of a page over the socket, asked for one at a time."""
    taken = []
    paths = _paths(bench)
    for number in range(bench.plan.parts_requests):
        started = time.perf_counter_ns()
        ask(server, paths[number % PAGES])
        taken.append((time.perf_counter_ns() - started) / 1000)
    return statistics.median(taken)


class Stopwatch:
    """Divides time among parts; a part inside another one is taken out of that."""

    def __init__(self, *, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        """Start with nothing spent; *clock* counts nanoseconds."""
        self._clock = clock
        self.spent: Counter[str] = Counter()
        self._open: list[tuple[str, int]] = []

    def time(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return *function* with its time going to *part*."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._switch(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._back()

        return timed

    def _switch(self, part: str) -> None:
        now = self._clock()
        if self._open:
            outer, since = self._open[-1]
            self.spent[outer] += now - since
        self._open.append((part, now))

    def _back(self) -> None:
        now = self._clock()
        part, since = self._open.pop()
        self.spent[part] += now - since
        if self._open:
            self._open[-1] = (self._open[-1][0], now)


def run(argument: dict[str, Any]) -> dict[str, float]:
    """Return the median microseconds of each part, in this process, which becomes a site."""
    import django  # noqa: PLC0415 - Django is set up in this process only

    django.setup()
    watch = Stopwatch()
    answer = _instrumented(watch)
    samples: dict[str, list[float]] = {part: [] for part in PARTS[:-1]}
    for number, path in enumerate(_repeat(argument["paths"], argument["count"])):
        watch.spent.clear()
        answer(path)
        if number >= WARM_REQUESTS:
            for part, taken in samples.items():
                taken.append(watch.spent[part] / 1000)
    return {part: statistics.median(taken) for part, taken in samples.items()}


def _repeat(paths: list[str], count: int) -> Iterator[str]:
    for number in range(count + WARM_REQUESTS):
        yield paths[number % len(paths)]


def _instrumented(watch: Stopwatch) -> Callable[[str], None]:
    """Return a function that answers a path as the site does, with all parts timed."""
    from django.core.cache import cache  # noqa: PLC0415
    from django.core.handlers.base import BaseHandler  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415
    from django.template.base import Template  # noqa: PLC0415
    from django.test import RequestFactory  # noqa: PLC0415

    for method in CACHE_METHODS:
        # Django hands out one backend object for each thread: this is the one that views will use.
        setattr(cache, method, watch.time("cache", getattr(cache, method)))
    Template.render = watch.time("templates", Template.render)  # type: ignore[method-assign]
    handler, factory = BaseHandler(), RequestFactory(headers={"host": "localhost"})
    handler.load_middleware()

    def count(execute: Callable[..., Any], *args: Any) -> Any:
        return watch.time("database", execute)(*args)

    def answer(path: str) -> None:
        request = factory.get(path)
        with connection.execute_wrapper(count):
            response = watch.time("Django", handler.get_response)(request)
        if response.status_code != 200:  # noqa: PLR2004 - HTTP
            message = f"{path} is answered with status {response.status_code}"
            raise RuntimeError(message)

    return answer


if __name__ == "__main__":
    tasks.report_result(run(tasks.read_argument()))
