"""Pools that outlive their processes, and what makes an empty one take their place."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakePool = Callable[..., pmemcache.Pool]

SIZE = "4MiB"
# Where the header of the heap says so: see struct pool_identity in native/src/layout.h.
LAYOUT_VERSION_OFF = 8
ABI_OFF = 12


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "pmemcache"]


def value_of(number: int) -> bytes:
    return f"value {number} ".encode() * 50


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def put_for_ever(path: Path, first: int, ready: Any) -> None:
    pool = pmemcache.Pool(path, SIZE, lifetime="restart")
    for number in range(first, first + 100):
        pool.put(f"kept {number}", value_of(number))
    ready.set()
    while True:
        for number in range(50):
            pool.put(f"busy {number}", value_of(number))


def test_entries_outlive_the_death_of_all_processes(
    make_pool: MakePool, pool_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    started = [(first, context.Event()) for first in (0, 100, 200)]
    processes = [
        context.Process(target=put_for_ever, args=(pool_path, first, ready), daemon=True)
        for first, ready in started
    ]
    for process in processes:
        process.start()
    for _, ready in started:
        assert ready.wait(30)
    for process in processes:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()

    pool = make_pool(pool_path, SIZE, lifetime="restart")

    assert not pool.geometry().created
    assert {number: pool.get(f"kept {number}") for number in range(300)} == {
        number: value_of(number) for number in range(300)
    }
    assert all(pool.get(f"busy {number}") in {None, value_of(number)} for number in range(50))
    assert pool.check() == []
    assert messages(caplog) == []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("size", {"size": "8MiB"}),
        ("size", {"size": None}),
        ("eviction", {"eviction": "lru"}),
        ("memory", {"memory": "conservative"}),
        ("preallocate", {"preallocate": True}),
        ("shards", {"shards": 4}),
        ("lifetime", {"lifetime": "volatile"}),
    ],
)
def test_other_option_starts_a_new_pool_and_says_so_once(
    make_pool: MakePool,
    pool_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    options: dict[str, Any],
) -> None:
    pool = make_pool(pool_path, SIZE, lifetime="restart")
    pool.put("k", b"v")
    pool.close()
    assert messages(caplog) == []

    pool = make_pool(pool_path, **{"size": SIZE, "lifetime": "restart"} | options)

    assert pool.get("k") is None
    assert pool.geometry().created
    assert messages(caplog) == [
        f"site.pool was left with another {name} than it is opened with: an empty pool replaces it"
    ]
    assert caplog.records[0].levelname == "WARNING"


@pytest.mark.parametrize(
    ("offset", "named"),
    [(LAYOUT_VERSION_OFF, "layout version 99 "), (ABI_OFF, "(ABI 00000063)")],
)
def test_other_layout_or_abi_starts_a_new_pool_and_says_so_once(
    make_pool: MakePool,
    pool_path: Path,
    caplog: pytest.LogCaptureFixture,
    offset: int,
    named: str,
) -> None:
    pool = make_pool(pool_path, SIZE, lifetime="restart")
    pool.put("k", b"v")
    pool.close()
    overwrite(pool_path, offset, (99).to_bytes(4, sys.byteorder))

    pool = make_pool(pool_path, SIZE, lifetime="restart")

    assert pool.get("k") is None
    assert pool.put("k", b"v")
    (message,) = messages(caplog)
    assert named in message
    assert message.endswith("an empty pool replaces it")


def test_pool_that_was_volatile_starts_empty_and_says_nothing(
    make_pool: MakePool, pool_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    child = os.fork()
    if child == 0:
        killed = pmemcache.Pool(pool_path, SIZE)
        killed.put("k", b"v")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert pool_path.exists()

    pool = make_pool(pool_path, SIZE)

    assert pool.get("k") is None
    assert messages(caplog) == []


def test_options_that_differ_while_the_pool_is_in_use_are_refused(
    make_pool: MakePool, pool_path: Path
) -> None:
    make_pool(pool_path, SIZE, memory="conservative")
    program = (
        "import sys, pmemcache\n"
        "try:\n"
        "    pmemcache.Pool(sys.argv[1], sys.argv[2])\n"
        "except pmemcache.ConfigurationError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", program, str(pool_path), SIZE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "is in use with another memory" in done.stdout
