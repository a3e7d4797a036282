"""Watch what a site's processes take: memory, descriptors and the files of its pool.

Growth of memory is judged between the second third of a stage, when caches and pools are full, and
the last. Medians of several samples, because a worker that was just made takes less than one that
has served for a while. Descriptors have no such reason to grow: their least in the first third
counts.
"""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compare.memory import family, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MIB = 1 << 20


class Sample(NamedTuple):
    """What all processes of a site take at one moment; descriptors are the most of any process."""

    memory_bytes: int
    pool_bytes: int
    descriptors: int


@dataclass(frozen=True)
class Growth:
    """What a site took early and late in a stage."""

    early: Sample
    late: Sample

    def faults(self, *, memory_tolerance: float, most_descriptors: int) -> list[str]:
        """Return what has grown.

        Args:
            memory_tolerance: The share that two samples of a steady site may differ by.
            most_descriptors: How many the requests under way may hold open.
        """
        found = []
        limit = self.early.memory_bytes * (1 + memory_tolerance)
        if self.late.memory_bytes > limit:
            found.append(
                f"memory grew from {self.early.memory_bytes / MIB:.1f} to "
                f"{self.late.memory_bytes / MIB:.1f} MiB"
            )
        if self.late.descriptors > self.early.descriptors + most_descriptors:
            found.append(
                f"descriptors grew from {self.early.descriptors} to {self.late.descriptors}"
            )
        return found


class Watch:
    """Takes samples of a site until it is stopped."""

    def __init__(self, master: int, pool_directory: Path) -> None:
        self.samples: list[Sample] = []
        self.workers: set[int] = set()
        self._master = master
        self._pool_directory = pool_directory

    async def run(self, *, interval_seconds: float, stopped: Callable[[], bool]) -> None:
        """Take a sample every so many seconds."""
        while not stopped():
            await asyncio.sleep(interval_seconds)
            self.take()

    def take(self) -> None:
        """Take one sample; one that meets a process in the moment of its death is dropped."""
        try:
            pids = family(self._master)
            memory = measure(self._master, (), self._pool_directory)
            descriptors = max(_descriptors(pid) for pid in pids)
        except OSError:
            return
        self.workers.update(pids[1:])
        self.samples.append(Sample(memory.site_bytes, memory.pool_bytes, descriptors))

    def growth(self) -> Growth:
        """Return what was taken early and late."""
        third = max(1, len(self.samples) // 3)
        first, second = self.samples[:third], self.samples[third : 2 * third]
        least = min(sample.descriptors for sample in first)
        return Growth(
            _median(second or first, descriptors=least),
            _median(
                self.samples[-third:], descriptors=max(one.descriptors for one in self.samples)
            ),
        )


def _descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _median(samples: Sequence[Sample], *, descriptors: int) -> Sample:
    return Sample(
        memory_bytes=round(statistics.median(sample.memory_bytes for sample in samples)),
        pool_bytes=round(statistics.median(sample.pool_bytes for sample in samples)),
        descriptors=descriptors,
    )
