"""Watch what a site's processes take: memory, descriptors and the files of its pool.

Growth of memory is judged between the second third of a stage, when caches and pools are full, and
the last. Medians of several samples, because a worker that was just made takes less than one that
has served for a while. Descriptors are counted while nobody asks for anything, in the middle and at
the end: under load their number follows the requests that happen to be under way.
"""

from __future__ import annotations

import asyncio
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compare.memory import anonymous_bytes, family, file_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MIB = 1 << 20


REST_LOOKS = 10
REST_SECONDS = 1.0
"""A worker needs a moment to close what belonged to the last requests."""


class Sample(NamedTuple):
    """What all processes of a site take at one moment, but for what they map of files."""

    memory_bytes: int
    pool_bytes: int


@dataclass(frozen=True)
class Growth:
    """What a site took early and late in a stage."""

    early: Sample
    late: Sample
    descriptors: tuple[int, int]
    """At rest, of whichever process has the most."""

    def faults(self, *, memory_tolerance: float, more_descriptors: int) -> list[str]:
        """Return what has grown.

        Args:
            memory_tolerance: The share that two samples of a steady site may differ by.
            more_descriptors: How many threads that had nothing to do before the middle may open.
        """
        found = []
        limit = self.early.memory_bytes * (1 + memory_tolerance)
        if self.late.memory_bytes > limit:
            found.append(
                f"memory grew from {self.early.memory_bytes / MIB:.1f} to "
                f"{self.late.memory_bytes / MIB:.1f} MiB"
            )
        early, late = self.descriptors
        if late > early + more_descriptors:
            found.append(f"descriptors at rest grew from {early} to {late}")
        return found


class Watch:
    """Takes samples of a site until it is stopped."""

    def __init__(self, master: int, pool_directory: Path) -> None:
        self.samples: list[Sample] = []
        self.workers: set[int] = set()
        self.resting: list[int] = []
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
            memory = sum(map(anonymous_bytes, pids))
            pool = file_bytes(self._pool_directory.rglob("*"))
        except OSError:
            return
        self.workers.update(pids[1:])
        self.samples.append(Sample(memory, pool))

    async def rest(self, *, workers_last: bool) -> None:
        """Count descriptors while nobody asks for anything.

        Args:
            workers_last: Whether the workers live as long as the stage; otherwise only gunicorn's
                master does, and is counted.
        """
        counts = []
        for _look in range(REST_LOOKS):
            await asyncio.sleep(REST_SECONDS / REST_LOOKS)
            pids = family(self._master) if workers_last else [self._master]
            counts.append(max(map(_descriptors, pids)))
        self.resting.append(min(counts))

    def growth(self) -> Growth:
        """Return what was taken early and late."""
        third = max(1, len(self.samples) // 3)
        second = self.samples[third : 2 * third] or self.samples[:third]
        early, late = self.resting
        return Growth(_median(second), _median(self.samples[-third:]), (early, late))


def _descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _median(samples: Sequence[Sample]) -> Sample:
    return Sample(*(round(statistics.median(sizes)) for sizes in zip(*samples, strict=True)))
