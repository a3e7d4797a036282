"""`python -m soak`: keep the sample site under load, kill its workers, report what went wrong."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from compare.__main__ import DEFAULT_DATABASE, load_places
from compare.environment import describe
from compare.servers import ServerError
from rich.console import Console
from rich.table import Table

from soak.soak import SHOWN_FAULTS, Soak, SoakPlan, result_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soak.soak import StageResult

SHORT = SoakPlan(
    seconds=60.0,
    cities=40,
    cache_bytes=1 << 20,
    kill_seconds=2.0,
    max_requests=150,
    memory_tolerance=0.25,
    more_blocks=4000,
    more_malloc_bytes=512 << 10,
)
MIB = 1 << 20
COLUMNS = (
    *("workers", "stage", "requests", "edits", "favourites", "killed", "workers seen", "stale"),
    *("cut", "memory MiB", "pool MiB", "descriptors", "recoveries", "faults"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0 when nothing went wrong."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 150)

    def say(text: str) -> None:
        console.print(text, highlight=False)

    plan = SHORT if options.short else SoakPlan(seconds=options.seconds)
    load_places(options.database, say)
    soak = Soak(plan, options.database.resolve(), options.pool_directory, say)
    say(f"About {plan.seconds / 60:.0f} minutes of load, four gunicorn workers of three kinds.")
    stages = []
    try:
        for stage in soak.run():
            stages.append(stage)
            say(_sentence(stage))
    except ServerError as error:
        console.print(str(error), markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        say("Stopped; every server was ended.")
        return 130
    console.print(_table(stages))
    medium = describe(options.pool_directory)["pool_file_system"]["medium"]
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "soak.json"
    path.write_text(json.dumps(result_of(plan, medium, stages), indent=1) + "\n")
    faults = [fault for stage in stages for fault in stage["faults"]]
    for fault in faults[:SHOWN_FAULTS]:
        console.print(f"[red]{fault}[/]", highlight=False)
    requests = sum(stage["requests"] for stage in stages)
    say(f"{requests:,} requests, {len(faults)} faults. The pool was in {medium}. Wrote {path}")
    return 1 if faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=SoakPlan.seconds, help="of load, all stages together")
    add("--short", action="store_true", help="one minute with fewer pages, for a test")
    add("--output", type=Path, default=Path("../build/soak"), help="directory for soak.json")
    add(
        "--pool-directory",
        type=Path,
        default=Path("/dev/shm"),  # noqa: S108 - a private directory is made in it
        help="where the pool is kept",
    )
    add("--database", type=Path, default=DEFAULT_DATABASE, help="loaded when missing")
    return parser


def _sentence(stage: StageResult) -> str:
    early, late = (size / MIB for size in stage["memory_bytes"])
    sentence = (
        f"  {stage['requests']:,} requests, {len(stage['faults'])} faults, {stage['killed']} "
        f"workers killed, {stage['workers_seen']} seen, memory {early:.0f} -> {late:.0f} MiB"
    )
    if stage["blocks_in_use"]:
        objects = " -> ".join(f"{count:,}" for count in stage["blocks_in_use"])
        mebibytes = " -> ".join(f"{size / MIB:.2f}" for size in stage["malloc_bytes_in_use"])
        sentence += f", in use {objects} objects, {mebibytes} MiB of malloc's"
    return sentence


def _table(stages: Sequence[StageResult]) -> Table:
    table = Table(title="Soak", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for stage in stages:
        cells = [stage["kind"], stage["stage"], f"{stage['requests']:,}", f"{stage['edits']:,}"]
        counts = (stage["favourites"], stage["killed"], stage["workers_seen"], stage["stale"])
        cells += map(str, (*counts, stage["cut"]))
        for sizes in (stage["memory_bytes"], stage["pool_bytes"]):
            cells.append(" -> ".join(f"{size / MIB:.1f}" for size in sizes))
        cells.append(" -> ".join(map(str, stage["descriptors"])))
        cells += [str(stage["recoveries"]), str(len(stage["faults"]))]
        table.add_row(*cells)
    return table


if __name__ == "__main__":
    sys.exit(main())
