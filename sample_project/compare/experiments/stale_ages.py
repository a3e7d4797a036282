"""How old stale pages are: the time since the edit that they do not show was answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compare.figures import Figure, panel, series

if TYPE_CHECKING:
    from compare.experiments.bench import Bench

SHARES = [step / 20 for step in range(1, 21)]


def measure(bench: Bench) -> Figure:
    """Return the figure, from what the comparison's open loop has seen."""
    lines, notes = [], []
    for site in bench.sites:
        outcome = site.combined("open")
        ages = sorted(outcome.stale_ages_ms)
        label = f"{site.backend.label}: {len(ages):,} of {outcome.reads:,} reads"
        notes.append(label)
        if ages:
            points = {
                share: [ages[max(0, round(share * len(ages)) - 1)] / 1000] for share in SHARES
            }
            lines.append(series(site.backend.key, points, label=label))
    return Figure(
        name="stale_ages",
        title="Age of stale reads after a write",
        lead=(
            "A page is stale when it shows less than an edit that had been answered before the "
            "page was asked for. Its age is the time since that answer. In a cache of each "
            "worker's own it ends with the entry's timeout, which is an hour, or with its eviction."
        ),
        notes=[f"Stale reads: {'; '.join(notes)}."],
        columns=1,
        panels=[
            panel(
                "age of the stale reads of the open loop",
                x="share of the stale reads that are younger",
                y="seconds since the edit was answered",
                series=lines,
            )
        ],
    )
