"""Hit ratio against bytes: the same requests on caches of several sizes."""

from __future__ import annotations

import itertools
import json
import lzma
import os
import random
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare import tasks
from compare.figures import Figure, Panel, panel, series
from compare.opening import open_cache
from compare.plan import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compare.experiments.bench import Bench

BACKENDS = ("locmem", "memcached", "redis", "pmemcache", "pmemcache_hot")
"""The others keep the same bytes in the same server, or count files."""
LOCAL_CACHES = 4
ZIPF_KEYS = 8_000
EXPONENT = 0.9
SIZES = [200 + 60 * step for step in range(64)]
"""Bytes of a value, in turn by its key: from 200 to 3,980."""
MEAN_BYTES = sum(SIZES) / len(SIZES)
OVERHEAD_BYTES = 250
"""What LocMemCache adds to a value: key, deadline, pickle and two places in a dict."""
MEMCACHED_NOTE = (
    "Memcached takes a page of 1 MiB for each of the dozen size classes of these values, even "
    "where that is more than it was given: its ratios in less than 16 MiB flatter it."
)
TIMEOUT_SECONDS = 3600


def measure(bench: Bench) -> Figure:
    """Return the figure."""
    folder = os.environ.get("PMEMCACHE_TRACES")
    names = _trace_names(Path(folder), bench.plan.traces) if folder else []
    notes = (
        [] if names else ["PMEMCACHE_TRACES names no folder, so no recorded trace was replayed."]
    )
    notes += [MEMCACHED_NOTE] if bench.caches("memcached") else []
    return Figure(
        name="capacity",
        title="Hit ratio against bytes",
        lead=(
            f"{bench.plan.capacity_requests:,} look-ups, each miss followed by a set; values of "
            f"{SIZES[0]} to {SIZES[-1]:,} bytes. LocMemCache is four caches with a quarter of "
            "the bytes each, among which the requests are spread, as among four workers."
        ),
        notes=notes,
        columns=2,
        panels=[_panel(bench, None), *(_panel(bench, name) for name in names)],
    )


def _panel(bench: Bench, trace: str | None) -> Panel:
    points: dict[str, dict[float, list[float]]] = {}
    for repetition in bench.repetitions(bench.plan.repetitions if trace is None else 1):
        requests = {
            "trace": trace,
            "folder": os.environ.get("PMEMCACHE_TRACES"),
            "count": bench.plan.capacity_requests,
            "seed": bench.plan.seed + repetition,
        }
        for mebibytes in bench.plan.capacity_mib:
            budget = int(mebibytes * MIB)
            with bench.stores(bench.caches(*BACKENDS), budget_bytes=budget) as stores:
                for key, store in stores.items():
                    replay = {"key": key, "location": store.location, "budget": budget, **requests}
                    ratio = tasks.run_task("compare.experiments.capacity", replay)
                    points.setdefault(key, {}).setdefault(mebibytes, []).append(ratio)
    name = f"zipf {EXPONENT:g} over {ZIPF_KEYS:,} keys" if trace is None else f"trace {trace}"
    return panel(
        name,
        x="bytes given to the cache, MiB (log)",
        y="hit ratio",
        x_scale="log2",
        better="higher",
        series=[series(key, by_size) for key, by_size in points.items()],
    )


def _trace_names(folder: Path, most: int) -> list[str]:
    """Return traces recorded from applications, which are what a cache is for."""
    entries = json.loads((folder / "manifest.json").read_text())["traces"]
    recorded = [one["name"] for one in entries if one["class"].split("/")[0] in {"web", "orm"}]
    return recorded[:most]


def run(argument: dict[str, Any]) -> float:
    """Replay the requests on one cache and return its hit ratio."""
    key, budget = argument["key"], argument["budget"]
    local = key == "locmem"
    caches = [
        open_cache(
            key,
            f"{argument['location']}{number}" if local else argument["location"],
            budget_bytes=budget,
            workers=LOCAL_CACHES if local else 1,
            entry_bytes=int(MEAN_BYTES + OVERHEAD_BYTES),
        )
        for number in range(LOCAL_CACHES if local else 1)
    ]
    values = [bytes(size) for size in SIZES]
    spread = random.Random(1)
    hits = 0
    requests = _requests(argument)
    for number in requests:
        cache = spread.choice(caches)
        name = f"capacity:{number}"
        if cache.get(name) is not None:
            hits += 1
        else:
            cache.set(name, values[number * 2_654_435_761 % 64], TIMEOUT_SECONDS)
    return hits / len(requests)


def _requests(argument: dict[str, Any]) -> Sequence[int]:
    count = argument["count"]
    if argument["trace"] is None:
        weights = itertools.accumulate(rank**-EXPONENT for rank in range(1, ZIPF_KEYS + 1))
        source = random.Random(argument["seed"])
        return source.choices(range(ZIPF_KEYS), cum_weights=list(weights), k=count)
    folder = Path(argument["folder"])
    packed = (folder / f"{argument['trace']}.keys.u64.xz").read_bytes()
    return array("Q", lzma.decompress(packed))[:count]


if __name__ == "__main__":
    tasks.report_result(run(tasks.read_argument()))
