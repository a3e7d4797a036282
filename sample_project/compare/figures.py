"""What a figure of the report is made of, as it stands in `report.json`.

A figure has panels, a panel has a series for each backend. Each point is the median of its
repetitions, with the least and the most of them beside it.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Literal, TypedDict

from compare.backends import BY_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Scale = Literal["linear", "log", "log2"]
Better = Literal["lower", "higher", "neither"]
Kind = Literal["lines", "bars", "stacked", "steps"]


class Series(TypedDict):
    """The points of one backend; a `None` is one that could not be measured."""

    key: str
    label: str
    x: list[float]
    y: list[float | None]
    low: list[float | None]
    high: list[float | None]


class Panel(TypedDict):
    """One pair of axes; with `ticks`, x counts places that have these names."""

    title: str
    x_label: str
    y_label: str
    x_scale: Scale
    y_scale: Scale
    kind: Kind
    better: Better
    ticks: list[str]
    series: list[Series]


class Figure(TypedDict):
    """A section of the report."""

    name: str
    title: str
    lead: str
    notes: list[str]
    columns: int
    panels: list[Panel]


def series(
    key: str, points: Mapping[float, Sequence[float]], *, label: str | None = None
) -> Series:
    """Return the series of repeated measurements by x; none of them is a gap."""
    ordered = sorted(points)

    def each(choose: object) -> list[float | None]:
        return [choose(points[x]) if points[x] else None for x in ordered]  # type: ignore[operator]

    return Series(
        key=key,
        label=label or BY_KEY[key].label,
        x=list(ordered),
        y=each(statistics.median),
        low=each(min),
        high=each(max),
    )


def panel(  # noqa: PLR0913 - a panel has that many parts
    title: str,
    *,
    x: str,
    y: str,
    series: list[Series],
    x_scale: Scale = "linear",
    y_scale: Scale = "linear",
    kind: Kind = "lines",
    better: Better = "neither",
    ticks: Sequence[str] = (),
) -> Panel:
    """Return a panel; what is not said is linear, drawn as lines, and has numbers on its axes."""
    return Panel(
        title=title,
        x_label=x,
        y_label=y,
        x_scale=x_scale,
        y_scale=y_scale,
        kind=kind,
        better=better,
        ticks=list(ticks),
        series=series,
    )
