"""The figures that backends are judged by: their names, units, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from compare.results import BackendResult, Report, hit_ratio, queries_per_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from compare.percentiles import Summary

MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure of a backend.

    Args:
        name: Heading of its column.
        load: Under which load it was measured, for headings.
        value: Takes it out of a result; `None` when there is none.
        text: Writes it.
        higher_is_better: Which way it is judged.
        spread: Its name among the spreads of a result, if it has one there.
    """

    name: str
    load: str
    value: Callable[[BackendResult], float | None]
    text: Callable[[float], str]
    higher_is_better: bool = False
    spread: str = ""

    def better(self, one: float, other: float) -> bool:
        """Whether *one* is better than *other*."""
        return one > other if self.higher_is_better else one < other


LATENCIES: tuple[Literal["p50_us", "p95_us", "p99_us"], ...] = ("p50_us", "p95_us", "p99_us")


def miss_ratio(result: BackendResult) -> float | None:
    """Return the misses per look-up of the open loop, `None` when nothing was looked up."""
    ratio = hit_ratio(result["open"])
    return None if ratio is None else 1 - ratio


def spread_text(metric: Metric, result: BackendResult) -> str:
    """Return least and most of the turns that a figure was measured in; empty when they agree."""
    if not metric.spread:
        return ""
    least, most = result["spread"][metric.spread]
    scale = 1 if metric.spread == "requests_per_second" else 1000
    texts = [metric.text(value / scale) for value in (least, most)]
    return "" if texts[0] == texts[1] else " to ".join(texts)


def site_metrics(rate: float) -> list[Metric]:
    """Return the columns of the table of sites; *rate* is that of the open loop."""
    fixed = f"at {rate:g}/s"

    def latency(which: Literal["p50_us", "p95_us", "p99_us"]) -> Callable[[BackendResult], float]:
        return lambda result: result["open"]["latency"][which] / 1000

    def milliseconds(value: float) -> str:
        return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"  # noqa: PLR2004

    return [
        Metric(
            name="requests/s",
            load="as fast as it goes",
            value=lambda result: result["closed"]["requests_per_second"],
            text=lambda value: f"{value:,.0f}",
            higher_is_better=True,
            spread="requests_per_second",
        ),
        *(
            Metric(
                name=f"{name[:3]} ms",
                load=fixed,
                value=latency(name),
                text=milliseconds,
                spread=name,
            )
            for name in LATENCIES
        ),
        Metric(
            name="miss ratio",
            load=fixed,
            value=lambda result: miss_ratio(result) if result["key"] != "none" else None,
            text=lambda value: f"{value:.3f}",
        ),
        Metric(
            name="queries a request",
            load=fixed,
            value=lambda result: queries_per_request(result["open"]),
            text=lambda value: f"{value:.2f}",
        ),
        Metric(
            name="memory MiB",
            load=fixed,
            value=lambda result: result["memory"]["total_bytes"] / MIB,
            text=lambda value: f"{value:,.1f}",
        ),
        Metric(
            name="stale reads",
            load=fixed,
            value=lambda result: result["open"]["stale_reads"],
            text=lambda value: f"{value:,.0f}",
        ),
    ]


def microseconds(value: float) -> str:
    """Write a duration of a call."""
    if value < 100:  # noqa: PLR2004
        return f"{value:.1f}"
    return f"{value:,.0f}"


def call_cells(report: Report) -> Iterator[tuple[str, str, dict[str, Summary]]]:
    """Yield payload, operation and the backends' costs of every row of the table of calls."""
    for payload, operations in report["calls"]["costs"].items():
        for operation, costs in operations.items():
            yield payload, operation, costs
