"""Traces of requests to replay: a folder of recorded ones, or synthetic ones.

A folder has a `manifest.json` with a list `traces` of `{name, class, keys_file, sizes_file?}`. The
files are xz of raw little-endian integers, one per request: 64-bit key numbers counted from 0, and
32-bit sizes. `reference.csv`, where it exists, has the hit ratios of other implementations by
`trace, capacity, policy`.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import lzma
import random
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Capacities that are replayed, as shares of the keys (or bytes) of a trace.
SHARES = (0.001, 0.01, 0.05, 0.1, 0.25)
#: Classes whose requests come round in order, or are made up.
PATTERN_CLASSES = {"loop", "scan", "mixed", "synthetic"}


@dataclasses.dataclass(frozen=True)
class Trace:
    """A trace in raw files."""

    name: str
    #: Recorded from an application; else a loop, a scan or made up.
    is_application: bool
    keys: Path
    #: None: every entry counts 1.
    sizes: Path | None
    #: What all its keys take together, in entries or bytes.
    footprint: int
    unique: int

    def capacities(self, least_entries: int) -> list[int]:
        """Return the capacities that hold at least so many mean entries."""
        sizes = [int(self.footprint * share) for share in SHARES]
        return [size for size in sizes if size * self.unique >= least_entries * self.footprint]


def _measure(name: str, kind: str, keys: Path, sizes: Path | None) -> Trace:
    numbers = array("Q", keys.read_bytes())
    unique = max(numbers) + 1
    footprint = unique
    if sizes:
        footprint = sum(dict(zip(numbers, array("I", sizes.read_bytes()), strict=True)).values())
    is_application = not PATTERN_CLASSES & set(kind.replace("/", ",").split(","))
    return Trace(name, is_application, keys, sizes, footprint, unique)


def unpack(folder: Path, into: Path) -> list[Trace]:
    """Unpack all traces of *folder* into files of *into*."""
    traces = []
    for entry in json.loads((folder / "manifest.json").read_text())["traces"]:
        name = entry["name"]
        keys = into / f"{name}.keys"
        keys.write_bytes(lzma.decompress((folder / entry["keys_file"]).read_bytes()))
        sizes = None
        if "sizes_file" in entry:
            sizes = into / f"{name}.sizes"
            sizes.write_bytes(lzma.decompress((folder / entry["sizes_file"]).read_bytes()))
        traces.append(_measure(name, entry["class"], keys, sizes))
    return traces


def synthesize(into: Path, *, keys: int = 20_000, requests: int = 400_000) -> list[Trace]:
    """Make a zipf trace (exponent 0.9) and one of loops of several lengths, always the same."""
    source = random.Random(1)
    weights = list(itertools.accumulate(1 / rank**0.9 for rank in range(1, keys + 1)))
    zipf = source.choices(range(keys), cum_weights=weights, k=requests)
    loops: list[int] = []
    while len(loops) < requests:
        loops.extend(range(source.choice((keys // 40, keys // 8, keys // 2))))
    traces = []
    for name, kind, numbers in (("zipf", "web", zipf), ("loops", "loop", loops)):
        path = into / f"{name}.keys"
        path.write_bytes(array("Q", numbers).tobytes())
        traces.append(_measure(name, kind, path, None))
    return traces


def read_reference(folder: Path) -> dict[tuple[str, int, str], float]:
    """Return object hit ratios by trace, capacity and policy; empty when there are none."""
    path = folder / "reference.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as lines:
        return {
            (row["trace"], int(row["capacity"]), row["policy"]): float(row["object_hit_ratio"])
            for row in csv.DictReader(lines)
        }
