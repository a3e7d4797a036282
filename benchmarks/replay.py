"""Hit ratios of the engine on traces, beside the ideal policies and recorded references.

python benchmarks/replay.py [--policy s3fifo|lru] [--shards 1] [--times 5] [--pools /dev/shm]

`PMEMCACHE_TRACES` names a folder of traces (see traces.py); without it two synthetic ones are
replayed. Per trace and capacity: the engine's hit ratio in percent, that of an ideal adaptive
S3-FIFO and an ideal LRU of equal capacity, and the reference of the same policy, if there is one.
Each pool draws a seed for its hashes, on which the hits depend a little: means of several pools.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import traces
from recording import build_native, machine, record

REFERENCE_NAMES = {"s3fifo": "S3FIFO-A", "lru": "LRU"}
#: A shard with fewer entries than this is not replayed: it would be smaller than a pool can be.
LEAST_SHARD_ENTRIES = 64
POLICIES = ("pool", "s3fifo", "lru")
HEADER = "trace               capacity   hits%  ideal   diff  bytes    ref   diff    lru  above"


def replay_cell(
    program: Path, trace: traces.Trace, capacity: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Replay one trace at one capacity; hit ratios and differences are in percent and points.

    They are means of `options.times` pools.
    """
    sizes = str(trace.sizes) if trace.sizes else "-"
    policy: str = options.policy
    command = [str(program), str(trace.keys), sizes, str(capacity), policy]
    command += [str(options.shards), options.pools]
    counts: Counter[str] = Counter()
    for _time in range(options.times):
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        counts.update(json.loads(output))
    objects = {name: 100 * counts[f"{name}_hits"] / counts["requests"] for name in POLICIES}
    in_bytes = {name: 100 * counts[f"{name}_hit_bytes"] / counts["bytes"] for name in POLICIES}
    missed_by_lru = 100 - objects["lru"]
    return {
        "trace": trace.name,
        "is_application": trace.is_application,
        "capacity": capacity,
        "hits": objects["pool"],
        "ideal": objects[policy],
        "from_ideal": objects["pool"] - objects[policy],
        "bytes_from_ideal": in_bytes["pool"] - in_bytes[policy],
        "lru": objects["lru"],
        "above_lru": objects["pool"] - objects["lru"],
        "misses_saved": 100 * (objects["pool"] - objects["lru"]) / missed_by_lru,
        "moved_share": counts["moved_bytes"] / max(1, counts["written_bytes"]),
        "rejected": counts["rejected"] / options.times,
    }


def line_of(cell: dict[str, Any]) -> str:
    """Return a cell as a line under `HEADER`."""
    reference = "     -      -"
    if "reference" in cell:
        reference = f"{cell['reference']:6.2f} {cell['from_reference']:+6.2f}"
    return (
        f"{cell['trace']:16}{cell['capacity']:12}  {cell['hits']:6.2f} {cell['ideal']:6.2f}"
        f" {cell['from_ideal']:+6.2f} {cell['bytes_from_ideal']:+6.2f} {reference}"
        f" {cell['lru']:6.2f} {cell['above_lru']:+6.2f}"
    )


def summarize(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the weakest cells and the means that the targets speak of."""
    application = [cell for cell in cells if cell["is_application"]]
    patterns = [cell for cell in cells if not cell["is_application"]]
    difference = "from_reference" if "from_reference" in cells[0] else "from_ideal"
    summary: dict[str, Any] = {}
    if application:
        worst = max(application, key=lambda cell: abs(cell[difference]))
        lowest = min(application, key=lambda cell: cell["above_lru"])
        saved = statistics.mean(cell["misses_saved"] for cell in application)
        summary |= {
            "application_furthest_off": worst[difference],
            "application_furthest_off_cell": f"{worst['trace']} {worst['capacity']}",
            "application_mean_misses_saved_percent": saved,
            "application_least_above_lru": lowest["above_lru"],
            "application_least_above_lru_cell": f"{lowest['trace']} {lowest['capacity']}",
        }
    if patterns:
        above = statistics.mean(cell["above_lru"] for cell in patterns)
        summary["patterns_mean_above_lru"] = above
    return summary


def replay_all(options: argparse.Namespace, into: Path) -> list[dict[str, Any]]:
    """Replay every trace at every capacity that makes sense."""
    program = build_native("replay")
    folder = os.environ.get("PMEMCACHE_TRACES")
    found = traces.unpack(Path(folder), into) if folder else traces.synthesize(into)
    reference = traces.read_reference(Path(folder)) if folder else {}
    least = max(options.least_entries, LEAST_SHARD_ENTRIES * options.shards)
    cells = []
    print(HEADER)
    for trace in found:
        for capacity in trace.capacities(least):
            cell = replay_cell(program, trace, capacity, options)
            known = reference.get((trace.name, capacity, REFERENCE_NAMES[options.policy]))
            if known is not None:
                cell["reference"] = 100 * known
                cell["from_reference"] = cell["hits"] - 100 * known
            cells.append(cell)
            print(line_of(cell), flush=True)
    return cells


def main() -> None:
    """Replay, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", choices=sorted(REFERENCE_NAMES), default="s3fifo")
    parser.add_argument("--shards", type=int, default=1, help="a power of two")
    parser.add_argument("--times", type=int, default=5, help="pools that each cell is a mean of")
    parser.add_argument("--least-entries", type=int, default=200, help="skip smaller capacities")
    parser.add_argument("--pools", default="/dev/shm", help="folder for the pools")  # noqa: S108
    options = parser.parse_args()
    host = machine(f"files in {options.pools}")
    print("Building and running native/bench/replay.c ...", flush=True)
    with tempfile.TemporaryDirectory() as into:
        cells = replay_all(options, Path(into))
    summary = summarize(cells)
    print(json.dumps(summary, indent=2))
    name = f"replay-{options.policy}" + (f"-{options.shards}" if options.shards > 1 else "")
    print(f"Wrote {record(name, host, {'summary': summary, 'cells': cells})}")


if __name__ == "__main__":
    main()
