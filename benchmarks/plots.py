"""Plots of the figures in `build/bench`: one SVG for each benchmark that has run.

python benchmarks/plots.py
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from recording import BUILD
from space import TARGETS as SPACE_TARGETS
from speed import MEASURES
from speed import TARGETS as SPEED_TARGETS

mpl.use("svg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes

MEASURED = "#1f6fb2"
TARGET = "#d0d7de"


def draw_speed(axes: Axes, figures: dict[str, Any]) -> None:
    """Engine against memcpy, with the targets behind."""
    names = [name for name in SPEED_TARGETS if name in figures]
    measured = [next(figures[n][m] for m in MEASURES if m in figures[n]) for n in names]
    axes.barh(names, [SPEED_TARGETS[name] for name in names], color=TARGET, label="target")
    axes.barh(names, measured, height=0.4, color=MEASURED, label="measured")
    axes.set_xlabel("times the memcpy floor (scaling: two processes to one)")
    axes.legend()


def draw_python_calls(axes: Axes, figures: dict[str, Any]) -> None:
    """Calls from Python, in microseconds."""
    calls = {name: value for name, value in figures.items() if "KiB" in name and "/" not in name}
    axes.barh(list(calls), list(calls.values()), color=MEASURED)
    axes.set_xscale("log")
    axes.set_xlabel("us a call, best of the rounds (log)")


def draw_replay(axes: Axes, figures: dict[str, Any]) -> None:
    """Hit ratios of the traces, above least recently used."""
    for trace in dict.fromkeys(cell["trace"] for cell in figures["cells"]):
        cells = [cell for cell in figures["cells"] if cell["trace"] == trace]
        axes.plot(
            [cell["hits"] for cell in cells],
            [cell["above_lru"] for cell in cells],
            marker="o",
            label=trace,
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel("hit ratio, %")
    axes.set_ylabel("points above LRU")
    axes.legend(fontsize="small")


def draw_space(axes: Axes, figures: dict[str, Any]) -> None:
    """Payload share of a full pool, with the targets behind."""
    runs = figures["runs"]
    names = [f"{run['mix']}, {run['pool_bytes'] >> 20} MiB" for run in runs]
    axes.barh(names, [SPACE_TARGETS[run["mix"]] for run in runs], color=TARGET, label="target")
    axes.barh(
        names, [run["payload_mean"] for run in runs], height=0.4, color=MEASURED, label="measured"
    )
    axes.set_xlim(0.8, 1.0)
    axes.set_xlabel("keys and values / size of the pool")
    axes.legend(loc="lower right")


DRAWINGS: dict[str, tuple[str, Callable[[Axes, dict[str, Any]], None]]] = {
    "speed": ("The engine beside a memcpy", draw_speed),
    "python_calls": ("One call from Python", draw_python_calls),
    "replay-s3fifo": ("Hit ratio on traces: s3fifo against LRU", draw_replay),
    "space": ("What a full pool holds", draw_space),
}


def draw(source: Path, title: str, drawing: Callable[[Axes, dict[str, Any]], None]) -> Path:
    """Draw one result beside its file; the medium is part of the title."""
    result = json.loads(source.read_text())
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    drawing(axes, result["figures"])
    axes.set_title(f"{title}\n{result['machine']['medium']}", fontsize="medium")
    target = source.with_suffix(".svg")
    figure.savefig(target)
    plt.close(figure)
    return target


def main() -> None:
    """Draw what there is; say what there is not."""
    for name, (title, drawing) in DRAWINGS.items():
        source = BUILD / f"{name}.json"
        if source.exists():
            print(f"Wrote {draw(source, title, drawing)}")
        else:
            print(f"{source} is not there: its benchmark has not been run")


if __name__ == "__main__":
    main()
