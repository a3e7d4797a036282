"""Watch what a site's processes take: memory, descriptors and the files of its pool.

Under load, growth is judged between the second third of a stage, when caches and pools are full,
and the last. Medians of several samples, because a worker that was just made takes less than one
that has served for a while. What the processes take of memory goes up and down by some percent with
what malloc keeps, so that only a large leak would be seen there.

At rest, in the middle and at the end, while nobody asks for anything, descriptors are counted, and
workers that live on tell what they have in use. Those numbers are the same after ten thousand
requests and after a hundred thousand, so a leak of one object a request is seen.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compare.memory import anonymous_bytes, family, file_bytes

from soak.worker_memory import ASKED, InUse, told_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MIB = 1 << 20


REST_LOOKS = 10
REST_SECONDS = 1.0
"""A worker needs a moment to close what belonged to the last requests."""
TELL_SECONDS = 60.0
"""A worker that is still starting hears nothing, so it is asked again and again."""
KIB = 1 << 10


class Sample(NamedTuple):
    """What all processes of a site take at one moment, but for what they map of files."""

    memory_bytes: int
    pool_bytes: int


class Rest(NamedTuple):
    """What a site has while nobody asks it for anything."""

    descriptors: int
    """Of whichever process has the most; of a master, what it has beyond one for each worker."""
    in_use: Mapping[int, InUse] | None = None
    """Of each worker by its process id; `None` where none lives long enough to compare."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What may grow though nothing leaks.

    Args:
        memory: The share that two samples of a steady site under load may differ by.
        descriptors: What threads that had nothing to do before the middle may open.
        blocks, malloc_bytes: What a worker may have in use at the end and not in the middle: a page
            of each kind is compiled when it is first asked for.
    """

    memory: float
    descriptors: int
    blocks: int
    malloc_bytes: int


@dataclass(frozen=True)
class Growth:
    """What a site took early and late in a stage."""

    early: Sample
    late: Sample
    resting: tuple[Rest, Rest]

    def faults(self, tolerance: Tolerance) -> list[str]:
        """Return what has grown."""
        found = []
        limit = self.early.memory_bytes * (1 + tolerance.memory)
        if self.late.memory_bytes > limit:
            found.append(
                f"memory grew from {self.early.memory_bytes / MIB:.1f} to "
                f"{self.late.memory_bytes / MIB:.1f} MiB"
            )
        early, late = self.resting
        if late.descriptors > early.descriptors + tolerance.descriptors:
            found.append(f"descriptors at rest grew from {early.descriptors} to {late.descriptors}")
        if early.in_use and late.in_use:
            found += _more_in_use(early.in_use, late.in_use, tolerance)
        return found


def _more_in_use(
    early: Mapping[int, InUse], late: Mapping[int, InUse], tolerance: Tolerance
) -> list[str]:
    """Return what the workers have more of, by their median.

    What leaks with every request leaks in all. One of them may do late what the others did early,
    once, such as an import.
    """
    pids = early.keys() & late.keys()
    found = []
    blocks = statistics.median(late[pid].blocks - early[pid].blocks for pid in pids)
    if blocks > tolerance.blocks:
        found.append(f"objects in use at rest grew by {blocks:,.0f} in each worker")
    malloc_bytes = statistics.median(
        late[pid].malloc_bytes - early[pid].malloc_bytes for pid in pids
    )
    if malloc_bytes > tolerance.malloc_bytes:
        found.append(
            f"malloc's memory in use at rest grew by {malloc_bytes / KIB:,.0f} KiB in each worker"
        )
    return found


class Watch:
    """Takes samples of a site until it is stopped."""

    def __init__(self, master: int, pool_directory: Path, told_directory: Path) -> None:
        """Watch gunicorn's *master* and all that it makes.

        Args:
            pool_directory: Where the pool's files are, and nothing else.
            told_directory: Where workers write what they have in use.
        """
        self.samples: list[Sample] = []
        self.workers: set[int] = set()
        self.resting: list[Rest] = []
        self._master = master
        self._pool_directory = pool_directory
        self._told_directory = told_directory

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
        """Look at what there is while nobody asks for anything.

        Args:
            workers_last: Whether the workers live as long as the stage; otherwise only gunicorn's
                master does, its own descriptors are counted, and nobody is asked what is in use.

        Raises:
            TimeoutError: A worker did not tell what it has in use.
        """
        counts = []
        for _look in range(REST_LOOKS):
            await asyncio.sleep(REST_SECONDS / REST_LOOKS)
            pids = family(self._master)
            if workers_last:
                counts.append(max(map(_descriptors, pids)))
            else:
                counts.append(_own_descriptors(self._master))
        told = await self._ask(pids[1:]) if workers_last else None
        self.resting.append(Rest(min(counts), told))

    async def _ask(self, workers: Sequence[int]) -> dict[int, InUse]:
        """Return what each of *workers* has in use."""
        files = {pid: told_file(self._told_directory, pid) for pid in workers}
        for file in files.values():
            file.unlink(missing_ok=True)
        deadline, pause = time.monotonic() + TELL_SECONDS, REST_SECONDS / REST_LOOKS
        while silent := [pid for pid, file in files.items() if not file.exists()]:
            if time.monotonic() > deadline:
                message = f"a worker did not tell its memory within {TELL_SECONDS:g} s"
                raise TimeoutError(message)
            for pid in silent:
                os.kill(pid, ASKED)
            await asyncio.sleep(pause)
            pause *= 2
        return {pid: InUse(*json.loads(file.read_text())) for pid, file in files.items()}

    def growth(self) -> Growth:
        """Return what was taken early and late."""
        third = max(1, len(self.samples) // 3)
        second = self.samples[third : 2 * third] or self.samples[:third]
        early, late = self.resting
        return Growth(_median(second), _median(self.samples[-third:]), (early, late))


def _descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _own_descriptors(master: int) -> int:
    """Return what *master* has open beyond the file that it keeps for each worker.

    Workers that are recycled together are all missing for a moment. One that comes or goes during a
    look makes the count too high, never too low, and the lowest of several looks is what is kept.
    """
    before = len(family(master))
    found = _descriptors(master)
    return found - min(before, len(family(master))) + 1


def _median(samples: Sequence[Sample]) -> Sample:
    return Sample(*(round(statistics.median(sizes)) for sizes in zip(*samples, strict=True)))
