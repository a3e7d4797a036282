"""The plots of the report, as SVG to be put into an HTML page."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from compare.backends import BY_KEY
from compare.calls import OPERATIONS
from compare.metrics import call_cells
from compare.percentiles import percentile
from compare.results import hit_ratio, sustained

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

    from compare.figures import Figure as FigureData
    from compare.figures import Panel, Scale, Series
    from compare.results import BackendResult, Report

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
PART_COLOURS = ("#1f6fb2", "#c8443a", "#e0a32e", "#9aa0a6", "#cfd5db")
"""Of what a request is made of: cache, database, templates, Django, server."""
TITLE: dict[str, Any] = {"loc": "left", "fontsize": 10, "fontweight": "bold"}
WIDTH = 9.2
OURS_WIDTH, LINE_WIDTH = 2.4, 1.5
MANY_TICKS = 5
FEW_POINTS = 25
"""Lines of more points are drawn without marking each."""


def latency_plot(report: Report) -> str:
    """Return the latency of each backend at every percentile under the open loop."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 4.0), layout="constrained")
        _draw_latencies(figure.subplots(), report)
        figure.legend(loc="outside upper center", ncols=3, fontsize=9)
        return _svg(figure)


def _draw_latencies(axes: Axes, report: Report) -> None:
    for result in report["backends"]:
        shares, latencies = _percentile_curve(result["open"]["latencies_us"])
        axes.plot(
            [_tail(share) for share in shares],
            [latency / 1000 for latency in latencies],
            **_line_style(result["key"]),
            label=_latency_label(result),
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: _number(value))
    axes.yaxis.set_minor_formatter(lambda value, _: _minor_label(value))
    axes.tick_params(axis="y", which="minor", left=False, labelsize=8)
    axes.set_xticks(
        [_tail(mark / 100) for mark in MARKED_PERCENTILES],
        [f"p{mark:g}" for mark in MARKED_PERCENTILES],
    )
    axes.set_xlim(_tail(0.2), _tail(0.999))
    axes.set_ylabel("latency, ms (log)")
    axes.set_xlabel("share of requests answered within this time")


def _latency_label(result: BackendResult) -> str:
    """Return the name of a line, with what its latencies cannot be read without."""
    ratio = hit_ratio(result["open"])
    notes = [] if ratio is None or result["key"] == "none" else [f"misses {1 - ratio:.2f}"]
    if not sustained(result["open"]):
        notes.append("could not keep up")
    return result["label"] + (f" ({', '.join(notes)})" if notes else "")


def _line_style(key: str) -> dict[str, Any]:
    ours = key.startswith("pmemcache")
    backend = BY_KEY[key]
    return {
        "color": backend.colour,
        "linestyle": backend.dash,
        "linewidth": OURS_WIDTH if ours else LINE_WIDTH,
        "zorder": 3 if ours else 2,
    }


def figure_plot(data: FigureData) -> str:
    """Return a figure of the report: its panels, and one legend when they agree on it."""
    columns = min(data["columns"], len(data["panels"]))
    rows = math.ceil(len(data["panels"]) / columns)
    names = [[one["label"] for one in panel["series"]] for panel in data["panels"]]
    shared = all(name in names[0] for others in names for name in others)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.1 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(data["panels"]) :]:
            axes.set_visible(False)
        for axes, panel in zip(grid.flat, data["panels"], strict=False):
            _draw_panel(axes, panel)
            if not shared and panel["series"]:
                axes.legend(fontsize=8.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        if shared and names[0]:
            handles, labels = grid.flat[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=9)
        return _svg(figure)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    if panel["kind"] == "stacked":
        _draw_stacked(axes, panel)
    elif panel["kind"] == "bars":
        _draw_bars(axes, panel)
    else:
        for one in panel["series"]:
            _draw_line(axes, one, steps=panel["kind"] == "steps")
        _finish_numbers(axes, panel)
    if not panel["series"]:
        axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes)
    axes.set_title(panel["title"], **TITLE)
    axes.set_xlabel(panel["x_label"])
    axes.set_ylabel(panel["y_label"])


def _draw_line(axes: Axes, data: Series, *, steps: bool) -> None:
    style = _line_style(data["key"])
    if data["label"] != BY_KEY[data["key"]].label and "@" in data["label"]:
        style |= {"linestyle": "--", "color": INK}
    y = [math.nan if value is None else value for value in data["y"]]
    low = [math.nan if value is None else value for value in data["low"]]
    high = [math.nan if value is None else value for value in data["high"]]
    if steps:
        axes.step(data["x"], y, where="post", label=data["label"], **style)
        return
    marker = "o" if len(data["x"]) <= FEW_POINTS else ""
    axes.plot(data["x"], y, marker=marker, markersize=3.5, label=data["label"], **style)
    axes.fill_between(data["x"], low, high, color=style["color"], alpha=0.15, linewidth=0)


_FAR_END: dict[Literal["x", "y"], Literal["x", "high"]] = {"x": "x", "y": "high"}


def _finish_numbers(axes: Axes, panel: Panel) -> None:
    """Give both axes their scale; what is linear begins at zero."""
    scales: dict[Literal["x", "y"], Scale] = {"x": panel["x_scale"], "y": panel["y_scale"]}
    for name, scale in scales.items():
        axis = getattr(axes, f"{name}axis")
        if scale == "linear":
            values = [value for one in panel["series"] for value in one[_FAR_END[name]]]
            most = max((value for value in values if value is not None), default=1)
            axes.set(**{f"{name}lim": (0, 1.06 * most or 1)})
            continue
        axes.set(**{f"{name}scale": "log"})
        if scale == "log2":
            points = sorted({x for one in panel["series"] for x in one["x"]})
            small = 7.5 if len(points) > MANY_TICKS else 10
            axis.set_ticks(points, [_size(point) for point in points], fontsize=small)
            axis.set_minor_locator(mpl.ticker.NullLocator())
        else:
            axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
            axis.set_minor_formatter(FuncFormatter(lambda value, _: _minor_label(value)))
        axes.tick_params(axis=name, which="minor", left=False, bottom=False, labelsize=7.5)
    counted = {x for one in panel["series"] for x in one["x"]}
    if "workers" in panel["x_label"] or "at once" in panel["x_label"]:
        axes.set_xticks(sorted(counted))


def _draw_bars(axes: Axes, panel: Panel) -> None:
    width = 0.84 / max(1, len(panel["series"]))
    for number, one in enumerate(panel["series"]):
        shift = (number - (len(panel["series"]) - 1) / 2) * width
        places = [x + shift for x in one["x"]]
        y = [value or 0.0 for value in one["y"]]
        errors = [
            [value - (low or 0.0) for value, low in zip(y, one["low"], strict=True)],
            [(high or 0.0) - value for value, high in zip(y, one["high"], strict=True)],
        ]
        axes.bar(
            places,
            y,
            width * 0.92,
            color=BY_KEY[one["key"]].colour,
            label=one["label"],
            yerr=errors,
            error_kw={"ecolor": INK, "elinewidth": 0.9},
        )
        if panel["y_scale"] == "linear":
            for place, value in zip(places, y, strict=True):
                axes.annotate(f"{value:.2f}", (place, value), ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(panel["ticks"])), panel["ticks"], fontsize=9)
    axes.grid(visible=False, axis="x")
    if panel["y_scale"] == "log":
        axes.set_yscale("log")
        lows = [value for one in panel["series"] for value in one["low"] if value]
        if lows:
            axes.set_ylim(bottom=10 ** math.floor(math.log10(min(lows))))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    else:
        axes.set_ylim(0, 1.15)


def _draw_stacked(axes: Axes, panel: Panel) -> None:
    left = [0.0] * len(panel["ticks"])
    for one, colour in zip(panel["series"], PART_COLOURS, strict=True):
        sizes = [value or 0.0 for value in one["y"]]
        bars = axes.barh(panel["ticks"], sizes, 0.62, left=left, color=colour, label=one["label"])
        left = [before + size for before, size in zip(left, sizes, strict=True)]
    axes.bar_label(bars, [f"{total:,.0f}" for total in left], padding=4)
    # Without a cache a page takes so long that the others could not be told apart.
    shown = sorted(left)
    most = shown[-2] if len(shown) > 1 and shown[-1] > 3 * shown[-2] else shown[-1]
    axes.set_xlim(0, most * 1.15)
    if most != shown[-1]:
        axes.annotate(
            f"{panel['ticks'][left.index(shown[-1])]} goes on to {shown[-1]:,.0f}",
            (most * 1.13, left.index(shown[-1])),
            ha="right",
            va="center",
            fontsize=8.5,
        )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def _size(value: float) -> str:
    """Return a number of bytes, or of MiB, as short as it can be."""
    for unit, suffix in ((1 << 20, "Mi"), (1 << 10, "Ki")):
        if value >= unit:
            return f"{value / unit:g}\N{NARROW NO-BREAK SPACE}{suffix}"
    return f"{value:g}"


def call_plot(report: Report) -> str:
    """Return bars of the median cost of each call, one panel per operation."""
    costs = report["calls"]["costs"]
    payloads = list(costs)
    measured = {key for _, _, summaries in call_cells(report) for key in summaries}
    keys = [result["key"] for result in report["backends"] if result["key"] in measured]
    if not keys:
        return ""
    width = 0.8 / len(keys)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 5.6), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True).flat
        for axes, operation in zip(panels, OPERATIONS, strict=True):
            for number, key in enumerate(keys):
                medians = [costs[payload][operation][key]["p50_us"] for payload in payloads]
                tails = [costs[payload][operation][key]["p99_us"] for payload in payloads]
                shift = (number - (len(keys) - 1) / 2) * width
                places = [index + shift for index in range(len(payloads))]
                backend = BY_KEY[key]
                axes.bar(places, medians, width * 0.92, color=backend.colour, label=backend.label)
                axes.scatter(places, tails, s=14, marker="_", color=INK, linewidths=1.2)
            _finish_call_panel(axes, operation, payloads)
            fastest = min(c["p50_us"] for p in payloads for c in costs[p][operation].values())
            axes.set_ylim(bottom=10 ** math.floor(math.log10(fastest * 0.8)))  # a bar of 1.0, too
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=9)
        return _svg(figure)


def _finish_call_panel(axes: Axes, operation: str, payloads: Sequence[str]) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: _number(value))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", left=False)
    axes.grid(visible=False, axis="x")
    axes.set_title(operation, **TITLE)
    axes.set_ylabel("µs (log)")
    axes.set_xticks(range(len(payloads)), payloads, fontsize=8.5)


def throughput_plot(report: Report) -> str:
    """Return the requests a second of each site when driven as fast as it goes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=_bars_size(report["backends"]), layout="constrained")
        _draw_throughput(figure.subplots(), report)
        return _svg(figure)


def _draw_throughput(axes: Axes, report: Report) -> None:
    results = report["backends"]
    values = [result["closed"]["requests_per_second"] for result in results]
    spreads = [result["spread"]["requests_per_second"] for result in results]
    bars = axes.barh(
        [result["label"] for result in results],
        values,
        0.62,
        color=[BY_KEY[result["key"]].colour for result in results],
        xerr=_errors(values, spreads),
        error_kw={"ecolor": INK, "elinewidth": 0.9},
    )
    axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=4)
    axes.set_xlim(0, max(most for _, most in spreads) * 1.2)
    _finish_bars(axes, "requests/s, as fast as it goes")


def memory_plot(report: Report) -> str:
    """Return the memory of each site by owner, stacked."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=_bars_size(report["backends"]), layout="constrained")
        _draw_memory(figure.subplots(), report)
        figure.legend(loc="outside lower center", ncols=3, fontsize=8.5, handlelength=1)
        return _svg(figure)


def _draw_memory(axes: Axes, report: Report) -> None:
    results = report["backends"]
    labels = [result["label"] for result in results]
    parts: list[tuple[str, str, list[float]]] = [
        ("gunicorn", "#b8c4ce", [result["memory"]["site_bytes"] / MIB for result in results]),
        ("server", "#c8443a", [result["memory"]["server_bytes"] / MIB for result in results]),
        (
            "pool and other files",
            "#1f6fb2",
            [result["memory"]["pool_bytes"] / MIB for result in results],
        ),
    ]
    left = [0.0] * len(results)
    for name, colour, sizes in parts:
        bars = axes.barh(labels, sizes, 0.62, left=left, color=colour, label=name)
        left = [before + size for before, size in zip(left, sizes, strict=True)]
    axes.bar_label(bars, [f"{total:,.0f}" for total in left], padding=4)
    axes.set_xlim(0, max(left) * 1.2)
    _finish_bars(axes, "MiB, shared pages counted once")


def picture(report: Report, *, title: str) -> bytes:
    """Return a PNG of what matters most: latency, throughput, memory and stale reads."""
    with mpl.rc_context(STYLE):
        height = 4.2 + _bars_size(report["backends"])[1]
        figure = Figure(figsize=(WIDTH + 2.2, height), layout="constrained", dpi=110)
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        halves = figure.add_gridspec(2, 1, height_ratios=(4.2, height - 4.2))
        above, below = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
        curve = above.subplots()
        curve.set_title(f"latency at {report['rate']:g} requests/s", **TITLE)
        _draw_latencies(curve, report)
        curve.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
        throughput, memory, stale = below.subplots(1, 3, sharey=True)
        _draw_throughput(throughput, report)
        throughput.set_title("throughput", **TITLE)
        _draw_memory(memory, report)
        memory.set_title("memory", **TITLE)
        memory.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=8)
        _draw_stale(stale, report)
        stale.set_title("stale reads", **TITLE)
        # Each of the three has turned the axis that they share.
        throughput.set_ylim(len(report["backends"]) - 0.5, -0.5)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()


def _draw_stale(axes: Axes, report: Report) -> None:
    counts = [result["open"]["stale_reads"] for result in report["backends"]]
    bars = axes.barh(
        [result["label"] for result in report["backends"]],
        counts,
        0.62,
        color=[BY_KEY[result["key"]].colour for result in report["backends"]],
    )
    axes.bar_label(bars, [f"{count:,}" for count in counts], padding=4)
    axes.set_xlim(0, max(*counts, 4) * 1.25)
    _finish_bars(axes, f"of about {max(r['open']['reads'] for r in report['backends']):,} reads")


def _bars_size(results: Sequence[object]) -> tuple[float, float]:
    return 4.6, 1.1 + 0.3 * len(results)


def _errors(values: Sequence[float], spreads: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return how far the least and the most are from what is drawn."""
    pairs = list(zip(values, spreads, strict=True))
    return [
        [max(0.0, value - least) for value, (least, _) in pairs],
        [max(0.0, most - value) for value, (_, most) in pairs],
    ]


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
    return _number(value) if f"{value:e}"[0] in "25" else ""


def _number(value: float) -> str:
    """Write the number of a tick, without an exponent."""
    return f"{value:,.0f}" if value >= 1 and value == round(value) else f"{value:g}"


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return f'<div class="plot">{text[text.index("<svg") :]}</div>'
