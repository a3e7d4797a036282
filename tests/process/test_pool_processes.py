"""Pools shared by processes that are killed, stopped, or in pid namespaces of their own."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NoReturn

import pytest

from pmemcache import LockTimeoutError, Pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ctypes import Array, c_uint64
    from multiprocessing.context import ForkProcess
    from pathlib import Path

ADDERS = 4
KILLS = 150
LOCK_TIMEOUT_SECONDS = 0.4
MARGIN_SECONDS = 20
"""Above the timeout: a machine that is busy with other things."""
NAMESPACE_INCREMENTS = 3000

CHILDREN = multiprocessing.get_context("fork")

ADD_IN_NAMESPACE = """
import os, sys
from pmemcache import Pool

with Pool(sys.argv[1], 1 << 20, eviction="none", lock_timeout_seconds=60) as pool:
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[2])):
        assert pool.incr("sum") is not None
"""

WRITE_IN_NAMESPACE = """
import sys
from itertools import count
from pmemcache import Pool

pool = Pool(sys.argv[1], 1 << 20, eviction="none")
print("writing", flush=True)
for number in count():
    pool.put(f"key{number % 20}", b"x" * 20_000)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site.pool"


# ---- killed ----


def add_for_ever(
    pool: Pool, place: int, started: Array[c_uint64], completed: Array[c_uint64]
) -> NoReturn:
    """Add; each place in the arrays has one writer at a time."""
    while True:
        started[place] += 1
        if pool.incr("sum") is None:
            os._exit(1)  # the counter is gone
        completed[place] += 1


def test_no_completed_increment_is_lost_when_processes_are_killed(path: Path) -> None:
    started = CHILDREN.RawArray("Q", ADDERS)
    completed = CHILDREN.RawArray("Q", ADDERS)
    dice = random.Random(7)
    adders: dict[int, ForkProcess] = {}

    with Pool(path, 1 << 20, eviction="none", lock_timeout_seconds=60) as pool:
        pool.put("sum", b"0")
        for turn in range(KILLS + ADDERS):
            place = turn % ADDERS
            if place in adders:
                adders[place].kill()
                adders[place].join()
                assert adders[place].exitcode == -signal.SIGKILL
            if turn < KILLS:
                adders[place] = CHILDREN.Process(
                    target=add_for_ever, args=(pool, place, started, completed), daemon=True
                )
                adders[place].start()
                time.sleep(dice.uniform(0, 0.01))
        total = int(pool.get("sum", b"-1"))
        broken = pool.check()

    assert 0 < sum(completed) <= total <= sum(started)
    assert broken == []


# ---- stopped ----


def put_for_ever(pool: Pool) -> NoReturn:
    """Write large values, most of the time inside the lock."""
    value = b"x" * 500_000
    while True:
        pool.put("large", value)


def stop_inside_lock(pool: Pool, process: ForkProcess) -> float:
    """Stop *process* while it holds the lock; return how long a put then waited in vain."""
    pid = process.pid
    assert pid is not None
    for _ in range(5000):
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        began = time.monotonic()
        if not pool.put("small", b"1"):
            return time.monotonic() - began
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.001)
    pytest.fail("the writer was never stopped inside the lock")


@pytest.fixture
def pool_and_writer(path: Path) -> Iterator[tuple[Pool, ForkProcess]]:
    with Pool(
        path, 4 << 20, shards=1, eviction="none", lock_timeout_seconds=LOCK_TIMEOUT_SECONDS
    ) as pool:
        writer = CHILDREN.Process(target=put_for_ever, args=(pool,), daemon=True)
        writer.start()
        yield pool, writer
        writer.kill()
        writer.join()
        assert pool.check() == []


def test_stopped_lock_holder_costs_the_timeout_and_no_more(
    pool_and_writer: tuple[Pool, ForkProcess],
) -> None:
    pool, writer = pool_and_writer
    pool.put("kept", b"before")

    waited = stop_inside_lock(pool, writer)
    began = time.monotonic()
    with pytest.raises(LockTimeoutError):
        pool.delete("kept")
    waited_to_delete = time.monotonic() - began
    read_meanwhile = pool.get("kept")
    os.kill(writer.pid or 0, signal.SIGCONT)

    assert LOCK_TIMEOUT_SECONDS <= waited < LOCK_TIMEOUT_SECONDS + MARGIN_SECONDS
    assert LOCK_TIMEOUT_SECONDS <= waited_to_delete < LOCK_TIMEOUT_SECONDS + MARGIN_SECONDS
    assert read_meanwhile == b"before", "a read needs no lock"
    assert pool.put("kept", b"after")
    assert pool.get("kept") == b"after"


def test_batch_waits_for_a_stopped_lock_holder_once(
    pool_and_writer: tuple[Pool, ForkProcess],
) -> None:
    pool, writer = pool_and_writer
    batch = {f"key{number}": b"value" for number in range(50)}

    stop_inside_lock(pool, writer)
    before = pool.stats().lock_timeouts
    not_stored = pool.put_many(batch)
    with pytest.raises(LockTimeoutError):
        pool.delete_many(batch)
    timeouts = pool.stats().lock_timeouts - before
    os.kill(writer.pid or 0, signal.SIGCONT)

    assert not_stored == list(batch)
    assert timeouts == 2, "one each"
    assert pool.put_many(batch) == []
    assert pool.delete_many(batch) == len(batch)


# ---- in other pid namespaces ----


def start_in_namespace(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start Python as process 1 of a pid namespace of its own; it dies with its starter."""
    return subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def _namespaces() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare program here")
    made = subprocess.run(
        ["unshare", "--pid", "--fork", "true"], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"this user cannot make a pid namespace: {made.stderr.strip()}")


def said_by(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.usefixtures("_namespaces")
def test_pid_namespaces_share_a_pool(path: Path) -> None:
    with Pool(path, 1 << 20, eviction="none") as pool:
        pool.put("sum", b"0")
        adders = [
            start_in_namespace(ADD_IN_NAMESPACE, str(path), str(NAMESPACE_INCREMENTS))
            for _ in range(2)
        ]
        pids = [said_by(adder) for adder in adders]
        for adder in adders:
            adder.communicate("go\n", timeout=200)

        assert pids == ["1", "1"], "process numbers are no use for telling them apart"
        assert [adder.returncode for adder in adders] == [0, 0]
        assert pool.get("sum") == str(2 * NAMESPACE_INCREMENTS).encode()


@pytest.mark.usefixtures("_namespaces")
def test_death_in_another_pid_namespace_is_noticed_at_once(path: Path) -> None:
    dice = random.Random(11)

    # Longer than the test: whoever waits for it has not noticed.
    with Pool(path, 1 << 20, eviction="none", lock_timeout_seconds=3600) as pool:
        for turn in range(12):
            writer = start_in_namespace(WRITE_IN_NAMESPACE, str(path))
            assert said_by(writer) == "writing"
            time.sleep(dice.uniform(0, 0.02))
            writer.kill()
            writer.communicate(timeout=60)
            assert pool.put("probe", str(turn).encode())
        assert pool.check() == []
