"""How long a pool that earlier processes left full takes to open: `native/bench/restart.c`.

python benchmarks/restart.py [--mib 1024] [--value-bytes 1024] [--rounds 9] [--pools /dev/shm]

After a clean end of its users, and after four of them were killed at work: until the pool is open,
and until the first key was got; what the first puts cost, which recover the shards whose owners
were killed; and what the first look at each value costs, which verifies it, beside the second. Both
with their page faults: the first is a worker's first pass over the pool.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from typing import Any

from recording import build_native, machine, record

#: The most milliseconds a GiB of pool may take to open.
TARGET_MS_A_GIB = 100.0
ENDS = ("closed", "killed")


def main() -> None:
    """Run the benchmark, print it beside the target, keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024, help="size of the pool")
    parser.add_argument("--value-bytes", type=int, nargs="+", default=[1024, 200, 65536])
    parser.add_argument("--rounds", type=int, default=9, help="of each end")
    parser.add_argument("--pools", default="/dev/shm", help="folder for the pool")  # noqa: S108
    options = parser.parse_args()
    host = machine(f"files in {options.pools}")
    print("Building and running native/bench/restart.c: about two minutes ...", flush=True)
    program = build_native("restart")
    runs: list[dict[str, Any]] = []
    for value_bytes in options.value_bytes:
        command = [str(program), str(options.mib), str(value_bytes), str(options.rounds)]
        output = subprocess.run(
            [*command, options.pools], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        runs.append(json.loads(output))
        for end in ENDS:
            print(line_of(runs[-1], end), flush=True)
        written = record("restart", host, {"target_ms_a_gib": TARGET_MS_A_GIB, "runs": runs})
    print(f"Wrote {written}")


def line_of(run: dict[str, Any], end: str) -> str:
    """Return what was measured after one kind of end as a line."""
    figures = run[end]
    gib = run["pool_bytes"] / 2**30
    worst = figures["open_ms_worst"] / gib
    return (
        f"{run['value_bytes']:6} B, {end}: {figures['open_ms_median'] / gib:7.1f} ms/GiB, "
        f"worst {worst:7.1f} (target <= {TARGET_MS_A_GIB:.0f}), first get after "
        f"{figures['first_get_ms'] / gib:.1f}; first puts {figures['first_puts_ms']:.1f} ms, "
        f"slowest {figures['slowest_put_ms']:.1f} ({figures['recoveries']} shards recovered); "
        f"first look {figures['first_look_ns']} ns, second {figures['second_look_ns']} ns, "
        f"page faults {figures['first_look_page_faults']} and "
        f"{figures['second_look_page_faults']}; "
        f"{figures['entries']} entries, {figures['lost']} lost"
    )


if __name__ == "__main__":
    main()
