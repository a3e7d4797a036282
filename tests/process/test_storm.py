"""The engine under kill storms, deaths at every step, and planted bugs that must be caught.

The programs are C, from `native/tests/storm`, built with faults compiled in: into
`build/native/faults`, as `make ctest-faults` does, unless PMC_FAULTS_BUILD names a directory where
they are already.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RecordProperty = Callable[[str, object], None]

REPOSITORY = Path(__file__).parents[2]
NATIVE = REPOSITORY / "native"

PROGRAMS = ("storm", "steps", "traps", "histories")
KILLS = 2_000
STORM_SECONDS = 90
CAUGHT_WITHIN_SECONDS = 30
HISTORIES = 10_000
HISTORY_KINDS = 4

# A planted bug, and what meets it.
CATCHERS = {
    "evict-without-sequence": ["storm", "--kills", "100000", "--seconds", "25"],
    "keep-odd": ["steps", "put replacing"],
    "keep-torn-slot": ["steps", "put replacing"],
    "move-before-copy": ["steps", "put moving"],
    "same-generation": ["traps", "generation"],
    "same-version": ["storm", "--kills", "100000", "--seconds", "25"],
    "serve-expired": ["traps", "expiry"],
    "skip-bounds": ["traps", "scribbling"],
    "skip-count-recheck": ["traps", "splitting"],
    "skip-incarnation": ["traps", "place"],
    "skip-recheck": ["storm", "--kills", "100000", "--seconds", "25"],
    "skip-recovery": ["storm", "--kills", "100000", "--seconds", "25"],
    "trust-adopted": ["traps", "adoption"],
}

# Those that only copies and loads meet, caught in tests/tiers/test_coherence.py.
CAUGHT_WITH_HOT_TIERS = {
    "absent-keeps-version",
    "keep-lease",
    "recovery-keeps-version",
    "skip-first-bump",
    "skip-second-bump",
}

pytestmark = pytest.mark.slow


def build() -> Path:
    tools = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PMC_WERROR": os.environ.get("PMC_WERROR") or "0",
    }
    configure = ["cmake", "--preset", "faults"]
    compile_programs = ["cmake", "--build", "--preset", "faults", "--target", *PROGRAMS]
    for command in (configure, compile_programs):
        subprocess.run(command, cwd=NATIVE, env=environment, check=True, stdout=subprocess.DEVNULL)
    return REPOSITORY / "build" / "native" / "faults"


@pytest.fixture(scope="module")
def programs() -> Path:
    given = os.environ.get("PMC_FAULTS_BUILD")
    return Path(given) if given else build()


def run(
    programs: Path, *arguments: str, mutant: str = "", timeout_seconds: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [programs / arguments[0], *arguments[1:]],
        env=os.environ | {"PMC_FAULT_MUTANT": mutant},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout_seconds,
    )


def test_nothing_is_torn_stale_or_stuck_while_processes_are_killed(
    programs: Path, record_property: RecordProperty
) -> None:
    arguments = ("storm", "--kills", str(KILLS), "--at-least", str(KILLS // 2))

    result = run(
        programs, *arguments, "--seconds", str(STORM_SECONDS), timeout_seconds=STORM_SECONDS + 90
    )

    record_property("report", result.stdout)
    assert result.returncode == 0, result.stdout
    counts = {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", result.stdout)}
    assert counts["kills"] >= KILLS / 2
    assert counts["recoveries"] > 0
    assert counts["moved"] > 0


def test_death_at_every_step_of_every_operation_leaves_a_sound_pool(
    programs: Path, record_property: RecordProperty
) -> None:
    result = run(programs, "steps", timeout_seconds=285)

    record_property("report", result.stdout)
    assert result.returncode == 0, result.stdout


def test_laws_that_a_storm_meets_too_seldom_hold(
    programs: Path, record_property: RecordProperty
) -> None:
    result = run(programs, "traps", timeout_seconds=240)

    record_property("report", result.stdout)
    assert result.returncode == 0, result.stdout


def test_histories_of_processes_on_few_keys_are_linearizable(
    programs: Path, record_property: RecordProperty
) -> None:
    result = run(programs, "histories", timeout_seconds=180)

    record_property("report", result.stdout)
    assert result.returncode == 0, result.stdout
    histories = [int(count) for count in re.findall(r"(\d+) histories of", result.stdout)]
    assert len(histories) == HISTORY_KINDS
    assert sum(histories) >= HISTORIES


# What the storm catches by what workers remember, histories catch knowing nothing of the engine.
@pytest.mark.parametrize("mutant", ["skip-recheck", "skip-count-recheck", "evict-without-sequence"])
def test_planted_bug_makes_histories_that_are_not_linearizable(programs: Path, mutant: str) -> None:
    result = run(
        programs,
        "histories",
        "--rounds",
        "5000",
        mutant=mutant,
        timeout_seconds=CAUGHT_WITHIN_SECONDS,
    )

    assert result.returncode == 1, result.stdout
    assert "is not linearizable" in result.stdout


@pytest.mark.parametrize("mutant", CATCHERS)
def test_planted_bug_is_caught(programs: Path, mutant: str) -> None:
    result = run(programs, *CATCHERS[mutant], mutant=mutant, timeout_seconds=CAUGHT_WITHIN_SECONDS)

    assert result.returncode == 1, f"{mutant} was not caught:\n{result.stdout}"
    assert "FAILED: " in result.stdout


def test_every_planted_bug_has_a_catcher() -> None:
    planted = {
        name
        for source in (NATIVE / "src").glob("*.[ch]")
        for name in re.findall(r'MUTANT\("([^"]+)"\)', source.read_text(encoding="utf-8"))
    }

    assert planted == set(CATCHERS) | CAUGHT_WITH_HOT_TIERS
