"""Bugs planted in the engine must be caught by its storms, deaths at every step, and histories.

That they find nothing in the engine as it is, `make ctest-faults` shows. The programs are C, from
`native/tests/storm`, built with faults compiled in: into `build/native/faults`, as there, unless
PMC_FAULTS_BUILD names a directory where they are already.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NATIVE = REPOSITORY / "native"

PROGRAMS = ("storm", "steps", "traps", "histories")
CAUGHT_WITHIN_SECONDS = 150
STORM = ["storm", "--kills", "100000", "--at-least", "0", "--seconds", "120"]

# A planted bug, and what meets it.
CATCHERS = {
    "evict-without-sequence": STORM,
    "keep-odd": ["steps", "put replacing"],
    "keep-torn-slot": ["steps", "put replacing"],
    "move-before-copy": ["steps", "put moving"],
    "recovery-keeps-version": ["traps", "version"],
    "same-generation": ["traps", "generation"],
    "same-version": STORM,
    "serve-expired": ["traps", "expiry"],
    "skip-bounds": ["traps", "scribbling"],
    "skip-count-recheck": ["traps", "splitting"],
    "skip-first-bump": ["traps", "version"],
    "skip-givings-recheck": ["traps", "overtaking"],
    "skip-incarnation": ["traps", "place"],
    "skip-recheck": STORM,
    "skip-recovery": STORM,
    "skip-second-bump": ["traps", "version"],
    "trust-adopted": ["traps", "adoption"],
}

# Those that only copies and loads meet, caught in tests/tiers/test_coherence.py.
CAUGHT_WITH_HOT_TIERS = {
    "absent-keeps-version",
    "keep-lease",
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
