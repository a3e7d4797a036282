"""How much of a pool holds keys and values, after it has been full for a while.

python benchmarks/space.py [--mib 64 256 1024] [--mixes uniform ...] [--times 1] [--pools /dev/shm]
    [--add]

Prints per mix and size: the mean share of keys and values over ten turnovers with its target, the
lowest sample, bytes moved per byte written, entries evicted per put and at most by one, and how
many points the hit ratio is from an ideal adaptive S3-FIFO on the same requests. With --times, so
many sequences of requests are run: payload and hits are their means, what has a limit is the worst.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from typing import Any

from recording import RESULTS, build_native, machine, record

#: The mean payload share to reach, by mix. The drifting mix has its own target.
TARGETS = {
    "uniform": 0.965,
    "log-uniform": 0.97,
    "fixed-1k": 0.96,
    "near-1k": 0.93,
    "fixed-300": 0.885,
    "near-300": 0.86,
    "outliers": 0.95,
    "fixed-64k": 0.97,
    "drift": 0.0,
}
#: What no sample may be below.
LEAST = {"outliers": 0.95}
#: Samples of the same phase differ by so much.
NOISE = 0.002
MOVED_MOST = 0.15
EVICTIONS_MOST = 1000
HITS_LOST_MOST = 0.5
HEADER = "MiB   mix           payload  target  lowest   moved  evictions/put   max   hits off"


def run_mix(command: list[str], times: int) -> dict[str, Any]:
    """Run a mix with the first *times* sequences of requests."""
    runs: list[dict[str, Any]] = []
    for sequence in range(1, times + 1):
        run = [*command, str(sequence)]
        output = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True).stdout
        runs.append(json.loads(output))
    hits = [100 * (run["hit_ratio"] - run["ideal_hit_ratio"]) for run in runs]
    figures = {name: of_all(name, [run[name] for run in runs]) for name in runs[0]}
    figures["sequences"] = times
    figures["hits_from_ideal"] = statistics.mean(hits)
    figures["hits_from_ideal_worst"] = min(hits)
    figures["missed_targets"] = missed_targets(figures)
    return figures


def of_all(name: str, values: list[Any]) -> Any:
    """Return what stands for a figure of several runs: the worst one if it has a limit."""
    if name.endswith("least"):
        return min(values)
    if name in {"mix", "moved_share", "evictions_max", "refused"}:
        return max(values)
    return statistics.mean(values)


def missed_targets(figures: dict[str, Any]) -> list[str]:
    """Return the names of the targets that a run does not reach."""
    checks = {
        "payload": figures["payload_mean"] >= TARGETS[figures["mix"]],
        "moved": figures["moved_share"] <= MOVED_MOST,
        "evictions": figures["evictions_max"] <= EVICTIONS_MOST,
        "hits": figures["hits_from_ideal"] >= -HITS_LOST_MOST,
        "refused": figures["refused"] == 0,
        "least": lowest(figures) >= LEAST.get(figures["mix"], level_of_small_phase(figures)),
    }
    return [name for name, holds in checks.items() if not holds]


def lowest(figures: dict[str, Any]) -> float:
    """Return the lowest sample of a run, over all its phases."""
    return min(value for name, value in figures.items() if name.endswith("least"))


def level_of_small_phase(figures: dict[str, Any]) -> float:
    """Return what a drifting mix may not dip below: the lowest sample of its first phase."""
    return figures["payload_least"] - NOISE if "phase_1_mean" in figures else 0.0


def line_of(figures: dict[str, Any]) -> str:
    """Return a run as a line under `HEADER`."""
    missed = figures["missed_targets"]
    return (
        f"{figures['pool_bytes'] >> 20:<6}{figures['mix']:12}"
        f"{figures['payload_mean']:9.4f}{TARGETS[figures['mix']]:8.3f}"
        f"{lowest(figures):8.4f}{figures['moved_share']:8.3f}"
        f"{figures['evictions_a_put']:15.3f}{figures['evictions_max']:6}"
        f"{figures['hits_from_ideal']:+11.2f}  {'misses ' + ', '.join(missed) if missed else ''}"
    )


def recorded_runs() -> list[dict[str, Any]]:
    """Return the runs that are kept already."""
    kept = RESULTS / "space.json"
    runs: list[dict[str, Any]] = json.loads(kept.read_text())["figures"]["runs"]
    return runs


def main() -> None:
    """Run the mixes, print them beside the targets, keep them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, nargs="+", default=[64], help="sizes of the pool")
    parser.add_argument("--mixes", nargs="+", choices=sorted(TARGETS), default=list(TARGETS))
    parser.add_argument("--shards", type=int, default=0, help="0: as the pool chooses")
    parser.add_argument("--times", type=int, default=1, help="sequences of requests per mix")
    parser.add_argument("--pools", default="/dev/shm", help="folder for the pools")  # noqa: S108
    parser.add_argument("--add", action="store_true", help="keep the runs that are recorded")
    options = parser.parse_args()
    host = machine(f"files in {options.pools}")
    print("Building and running native/bench/space.c ...", flush=True)
    program = build_native("space")
    runs = recorded_runs() if options.add else []
    print(HEADER)
    for mib in options.mib:
        for mix in options.mixes:
            shards, pools = str(options.shards), options.pools
            run = run_mix([str(program), mix, str(mib), shards, "s3fifo", pools], options.times)
            runs = [old for old in runs if (old["mix"], old["pool_bytes"]) != (mix, mib << 20)]
            runs.append({**run, "when": host["when"], "command": host["command"]})
            print(line_of(runs[-1]), flush=True)
            written = record("space", host, {"runs": runs})
    print(f"Wrote {written}")


if __name__ == "__main__":
    main()
