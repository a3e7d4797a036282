"""A Redis that is a quarter of a millisecond away: a proxy that delays, built from `delay.c`.

What the proxy costs beside the delay is measured first, with a delay of nothing, and taken off the
delay that it is asked for, so that the whole adds what was promised. The round trip that came of it
is measured again and reported.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from compare import servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compare.servers import Server

SOURCE = Path(__file__).with_name("delay.c")
PINGS, PING_SECONDS = 2000, 0.5
PING = b"PING\r\n"


@contextlib.contextmanager
def delayed(directory: Path, target: Server, *, added_us: float) -> Iterator[tuple[Server, str]]:
    """Yield a server that answers as *target*, later by *added_us*, and what was measured of it.

    Raises:
        ServerError: It could not be built or started.
    """
    program = directory / "delay"
    command = ["cc", "-O2", "-pthread", str(SOURCE), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise servers.ServerError(built.stderr)
    near_us = round_trip_us(target.socket_path)
    with _proxy(directory / "near.sock", program, target, 0) as idle:
        cost_us = round_trip_us(idle.socket_path) - near_us
    with _proxy(directory / "far.sock", program, target, max(0, round(added_us - cost_us))) as far:
        measured = round_trip_us(far.socket_path) - near_us
        yield (
            far,
            (
                f"a round trip of {near_us:.0f} µs becomes one of {near_us + measured:.0f} µs "
                f"({measured:.0f} µs more, of which {cost_us:.0f} are the proxy's own)"
            ),
        )


def _proxy(
    path: Path, program: Path, target: Server, delay_us: int
) -> contextlib.AbstractContextManager[Server]:
    command = [str(program), str(path), target.socket_path, str(delay_us)]
    return servers.redis_like(command, str(path), directory=path.parent)


def round_trip_us(socket_path: str) -> float:
    """Return the median microseconds that a Redis takes for the shortest of all questions."""
    taken: list[int] = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(socket_path)
        end = time.monotonic() + PING_SECONDS
        while len(taken) < PINGS and time.monotonic() < end:
            started = time.perf_counter_ns()
            connection.sendall(PING)
            connection.recv(64)
            taken.append(time.perf_counter_ns() - started)
    return statistics.median(taken) / 1000
