"""The plots of the report, as SVG to be put into an HTML page."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from compare.backends import BY_KEY
from compare.calls import OPERATIONS
from compare.percentiles import percentile
from compare.results import sustained

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

    from compare.results import Report

MIB = 1024 * 1024
INK = "#3c4043"
GRID = "#e3e6ea"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "compare",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.bottom": False,
    "ytick.left": False,
    "legend.frameon": False,
}
MARKED_PERCENTILES = (50, 75, 90, 95, 99, 99.9)


def latency_plot(report: Report) -> str:
    """Return the latency of each backend at every percentile under the open loop."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 4.0), layout="constrained")
        axes = figure.subplots()
        for result in report["backends"]:
            shares, latencies = _percentile_curve(result["open"]["latencies_us"])
            kept_up = sustained(result["open"])
            axes.plot(
                [_tail(share) for share in shares],
                [latency / 1000 for latency in latencies],
                color=BY_KEY[result["key"]].colour,
                linewidth=2.4 if result["key"] == "pmemcache" else 1.6,
                label=result["label"] + ("" if kept_up else " (could not keep up)"),
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: _minor_label(value))
        axes.tick_params(axis="y", which="minor", left=False, labelsize=8)
        axes.set_xticks(
            [_tail(mark / 100) for mark in MARKED_PERCENTILES],
            [f"p{mark:g}" for mark in MARKED_PERCENTILES],
        )
        axes.set_xlim(_tail(0.2), _tail(0.999))
        axes.set_ylabel("latency, ms (log)")
        axes.set_xlabel("share of requests answered within this time")
        all_kept_up = all(sustained(result["open"]) for result in report["backends"])
        columns = len(report["backends"]) if all_kept_up else 2
        figure.legend(loc="outside upper center", ncols=columns)
        return _svg(figure)


def call_plot(report: Report) -> str:
    """Return bars of the median cost of each call, one panel per operation."""
    costs = report["calls"]["costs"]
    payloads = list(costs)
    keys = [result["key"] for result in report["backends"] if result["key"] != "none"]
    width = 0.8 / len(keys)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 5.6), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True).flat
        for axes, operation in zip(panels, OPERATIONS, strict=True):
            for number, key in enumerate(keys):
                medians = [costs[payload][operation][key]["p50_us"] for payload in payloads]
                tails = [costs[payload][operation][key]["p99_us"] for payload in payloads]
                places = [index + (number - (len(keys) - 1) / 2) * width for index in range(4)]
                backend = BY_KEY[key]
                axes.bar(places, medians, width * 0.92, color=backend.colour, label=backend.label)
                axes.scatter(places, tails, s=14, marker="_", color=INK, linewidths=1.2)
            _finish_call_panel(axes, operation, payloads)
            fastest = min(c["p50_us"] for p in payloads for c in costs[p][operation].values())
            axes.set_ylim(bottom=10 ** math.floor(math.log10(fastest)))
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(keys))
        return _svg(figure)


def _finish_call_panel(axes: Axes, operation: str, payloads: Sequence[str]) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", left=False)
    axes.grid(visible=False, axis="x")
    axes.set_title(operation, loc="left", fontsize=10, fontweight="bold")
    axes.set_ylabel("µs (log)")
    axes.set_xticks(range(len(payloads)), payloads, fontsize=8.5)


def throughput_plot(report: Report) -> str:
    """Return the requests a second of each site when driven as fast as it goes."""
    results = report["backends"]
    values = [result["closed"]["requests_per_second"] for result in results]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.5, 2.6), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(
            [result["label"] for result in results],
            values,
            0.62,
            color=[BY_KEY[result["key"]].colour for result in results],
        )
        axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=4)
        axes.set_xlim(0, max(values) * 1.15)
        _finish_bars(axes, "requests/s, as fast as it goes")
        return _svg(figure)


def memory_plot(report: Report) -> str:
    """Return the memory of each site by owner, stacked."""
    results = report["backends"]
    labels = [result["label"] for result in results]
    parts: list[tuple[str, str, list[float]]] = [
        ("gunicorn", "#b8c4ce", [result["memory"]["site_bytes"] / MIB for result in results]),
        ("Redis", "#c8443a", [result["memory"]["server_bytes"] / MIB for result in results]),
        ("pool files", "#1f6fb2", [result["memory"]["pool_bytes"] / MIB for result in results]),
    ]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.5, 2.6), layout="constrained")
        axes = figure.subplots()
        left = [0.0] * len(results)
        for name, colour, sizes in parts:
            bars = axes.barh(labels, sizes, 0.62, left=left, color=colour, label=name)
            left = [before + size for before, size in zip(left, sizes, strict=True)]
        axes.bar_label(bars, [f"{total:,.0f}" for total in left], padding=4)
        axes.set_xlim(0, max(left) * 1.15)
        _finish_bars(axes, "MiB, shared pages counted once")
        figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, handlelength=1)
        return _svg(figure)


def _finish_bars(axes: Axes, label: str) -> None:
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)


def _tail(share: float) -> float:
    """Place a percentile so that 90, 99 and 99.9 % are equally far apart."""
    return -math.log10(1 - share)


def _percentile_curve(latencies: Sequence[int]) -> tuple[list[float], list[float]]:
    ordered = sorted(latencies)
    last = 1 - 1 / max(2, len(ordered))
    shares = [share for share in _curve_shares() if share <= last]
    return shares, [percentile(ordered, share) for share in shares]


def _curve_shares() -> Iterator[float]:
    """Yield shares of 20 % up to 99.9 %, evenly spaced in the plot."""
    steps = 120
    start, end = _tail(0.2), _tail(0.999)
    for step in range(steps + 1):
        yield 1 - 10 ** -(start + (end - start) * step / steps)


def _minor_label(value: float) -> str:
    """Label 2 and 5 between the powers of ten."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
