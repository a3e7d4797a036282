"""A set or delete that returned is what every process's next get sees, hot copies and all.

`history.py` records what processes do and checks it; bugs planted in the tiers and in the engine
must be found by the same check.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from history import fork

import pmemcache

if TYPE_CHECKING:
    from collections.abc import Callable

HISTORY = Path(__file__).with_name("history.py")
FAULTS = Path(__file__).resolve().parents[2] / "build" / "faults"
"""The package with faults compiled in, of `make faults`."""

PROCESSES = 4
TRIES = 6
"""A planted bug shows when the processes happen to meet, so it is looked for this often."""


def run_history(folder: Path, *options: str, **environment: str) -> dict[str, Any]:
    """Return the report of one history."""
    folder.mkdir()
    output = subprocess.run(
        [sys.executable, HISTORY, folder, *options],
        env=os.environ | environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    report: dict[str, Any] = json.loads(output)
    assert report["codes"] == [0] * PROCESSES
    return report


def test_processes_with_hot_tiers_are_linearizable(tmp_path: Path) -> None:
    report = run_history(tmp_path / "history")
    assert report["hot_hits"] > 200
    assert report["first"] == []
    assert report["broken"] == []


def test_killed_processes_leave_a_linearizable_history(tmp_path: Path) -> None:
    report = run_history(tmp_path / "history", "--kill", "--seconds", "2")
    assert report["hot_hits"] > 200
    assert report["kills"] > 0
    assert report["first"] == []
    assert report["broken"] == []


def test_values_that_expire_leave_a_linearizable_history(tmp_path: Path) -> None:
    """An expired value is gone for all at once, hot copies and all."""
    report = run_history(tmp_path / "history", "--expire", "--seconds", "0.7")
    assert report["hot_hits"] > 200
    assert report["first"] == []
    assert report["broken"] == []


def test_pools_that_are_made_anew_leave_a_linearizable_history(tmp_path: Path) -> None:
    """Nothing of a pool that is gone comes back, though the next one has its name and versions."""
    report = run_history(tmp_path / "history", "--recreate", "--seconds", "0.2")
    assert report["hot_hits"] > 200
    assert report["pools"] > 2
    assert report["first"] == []


@pytest.mark.parametrize(
    ("plant", "how"),
    [
        ("forget-versions", ["--seconds", "0.5"]),
        ("trust-generation", ["--seconds", "0.5"]),
        ("forget-tags", ["--seconds", "0.5"]),
        ("version-after-value", ["--seconds", "0.5"]),
        ("forget-deadlines", ["--expire", "--seconds", "0.5"]),
        ("keep-copies", ["--recreate", "--seconds", "0.2"]),
    ],
)
def test_bug_planted_in_the_hot_tier_is_found(tmp_path: Path, plant: str, how: list[str]) -> None:
    assert is_found(tmp_path, *how, "--plant", plant)


@pytest.fixture
def faults() -> dict[str, str]:
    """The environment in which Python imports the package with faults in it."""
    if not FAULTS.is_dir():
        pytest.skip("there is no package with faults in it: run `make faults`")
    return {"PYTHONPATH": str(FAULTS)}


def test_slow_writers_that_are_killed_leave_a_linearizable_history(
    tmp_path: Path, faults: dict[str, str]
) -> None:
    """Half-done changes can be seen for a millisecond, and processes die in them."""
    environment = faults | {"PMC_FAULT_WRITE_DELAY_US": "1000"}
    report = run_history(tmp_path / "history", "--kill", "--seconds", "3", **environment)
    assert report["recoveries"] > 0
    assert report["hot_hits"] > 100
    assert report["first"] == []
    assert report["broken"] == []


# Others show in histories when several processes run at once, which on one core they do not:
# tests/process/test_storm.py has them caught by a trap.
@pytest.mark.parametrize("mutant", ["same-version", "skip-second-bump"])
def test_bug_planted_in_the_engine_is_found(
    tmp_path: Path, faults: dict[str, str], mutant: str
) -> None:
    assert is_found(tmp_path, "--seconds", "0.7", **faults, PMC_FAULT_MUTANT=mutant)


@pytest.mark.parametrize(
    ("mutant", "file", "test"),
    [
        (
            "absent-keeps-version",
            "contract/test_versions.py",
            "test_delete_of_a_missing_key_changes_its_version",
        ),
        ("keep-lease", "loaders/test_loading.py", "test_change_during_the_load_is_not_undone"),
    ],
)
def test_bug_planted_in_versions_and_leases_fails_its_test(
    faults: dict[str, str], mutant: str, file: str, test: str
) -> None:
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", test, file]
    for planted, code in (("", 0), (mutant, 1)):
        environment = os.environ | faults | {"PMC_FAULT_MUTANT": planted}
        result = subprocess.run(
            command, cwd=tests, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == code, result.stdout


def is_found(folder: Path, *options: str, **environment: str) -> bool:
    """Whether a history is not linearizable, or has no hot hits at all."""
    for number in range(TRIES):
        report = run_history(folder / str(number), *options, **environment)
        if report["first"] or not report["hot_hits"]:
            return True
    return False


def opener(path: Path) -> Callable[[], pmemcache.TieredCache]:
    policy = {"hot": "1MiB", "warm": "8MiB", "promotion": 1}
    return lambda: pmemcache.TieredCache(path / "site.pool", policy=policy)


def test_counters_of_all_processes_add_up(tmp_path: Path) -> None:
    make = opener(tmp_path)

    def count() -> None:
        cache = make()
        seen = 0
        for _step in range(500):
            total = cache.incr("n", 1, initial=0)
            found = cache.get("n")
            assert total is not None
            assert found >= total > seen
            seen = total
        cache.close()

    with make() as cache:
        for child in [fork(count) for _process in range(PROCESSES)]:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert cache.get("n") == 500 * PROCESSES


@pytest.mark.parametrize("way", ["delete", "tag"])
def test_loaded_values_are_never_older_than_an_invalidation(tmp_path: Path, way: str) -> None:
    """Writers change a file and then invalidate; readers load it slowly through the cache."""
    make = opener(tmp_path)
    database, committed = tmp_path / "database", tmp_path / "committed"

    def number_in(path: Path) -> int:
        return int(path.read_bytes() or b"0")

    def store(path: Path, number: int) -> None:
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(b"%d" % number)
        fresh.rename(path)

    def load(_key: str) -> int:
        number = number_in(database)
        time.sleep(0.001)
        return number

    def read() -> None:
        cache = make()
        stop = time.monotonic() + 1
        while time.monotonic() < stop:
            at_least = number_in(committed)
            tags = ("t",) if way == "tag" else ()
            assert cache.get_or_load("key", load, tags=tags) >= at_least
        cache.close()

    store(database, 0)
    store(committed, 0)
    with make() as cache:
        readers = [fork(read) for _process in range(PROCESSES)]
        number, stop = 0, time.monotonic() + 0.9
        while time.monotonic() < stop:
            number += 1
            store(database, number)
            cache.delete("key") if way == "delete" else cache.drop_tag("t")
            store(committed, number)
            time.sleep(0.0007)
        for reader in readers:
            assert os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) == 0
