"""How far the engine is from a memcpy: `native/bench/speed.c`, with its targets beside it.

python benchmarks/speed.py [--mib 1024] [--rounds 15]
"""

from __future__ import annotations

import argparse
import json
import subprocess

from recording import build_native, machine, record

#: The figure to stay under, or (for scaling) to exceed.
TARGETS = {
    "get_64": 12.0,
    "get_256": 6.5,
    "get_1024": 2.3,
    "get_4096": 1.6,
    "get_65536": 1.15,
    "get_many_64_of_1024": 1.15,
    "put_1024_evicting": 3.9,
    "put_65536_evicting": 1.9,  # with a copy that does not stream
    "get_beside_busy_writer": 5.0,
    "gets_scaling": 1.8,
    "puts_scaling": 1.6,
    "mix_90_10_scaling": 1.7,
}
MEASURES = ("ratio", "slower", "two_processes_to_one")


def main() -> None:
    """Run the benchmark, print it beside the targets, keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024, help="size of the pool")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of engine and floor")
    options = parser.parse_args()
    host = machine("tmpfs (private memory file), 4 KiB pages; tmpfs is not persistent memory")
    print("Building and running native/bench/speed.c: about two minutes ...", flush=True)
    program = build_native("speed")
    command = [str(program), "--mib", str(options.mib), "--rounds", str(options.rounds)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures = json.loads(output)
    for name, target in TARGETS.items():
        measured = next(figures[name][key] for key in MEASURES if key in figures[name])
        sign = ">=" if name.endswith("scaling") else "<="
        print(f"{name:26} {measured:8.2f}   target {sign} {target}")
    print(f"Wrote {record('speed', host, figures)}")


if __name__ == "__main__":
    main()
