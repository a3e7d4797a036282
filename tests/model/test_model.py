"""The protocol holds in every state that spin reaches, and spin finds what is planted in it.

The models are in `native/model`; `docs/locking.md` says what they promise. A run prints how many
states it looked at. Without spin, and where apt cannot bring it, the tests are skipped.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "native" / "model"
MEMORY_MIB = 3500
RUN_SECONDS = 800  # a run takes half a minute at most where nothing else runs

STATES = re.compile(r"^\s*([0-9.e+]+) states, stored", re.MULTILINE)
ERRORS = re.compile(r"errors: (\d+)")
CAUSE = re.compile(r"^pan:\d+: (assertion violated|invalid end state)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Result:
    """What an exhaustive search came to."""

    errors: int
    states: int
    cause: str | None
    complete: bool


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    subprocess.run([ROOT / "tools" / "peers.sh", "spin"], check=False, capture_output=True)
    for program in ("spin", "gcc"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed, and apt cannot install it here")


def search(folder: Path, model: str, *flags: str, optimize: str = "-O2") -> Result:
    """Look at every state of *model*, made in *folder* with these *flags*.

    Args:
        optimize: For the compiler, which takes longer than a search that soon ends.
    """

    def run(*command: str) -> str:
        finished = subprocess.run(
            command,
            check=True,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_SECONDS,
        )
        return finished.stdout

    defines = [f"-D{flag}" for flag in flags]
    run("spin", "-a", *defines, str(MODELS / model))
    options = ("-DSAFETY", "-DCOLLAPSE", "-DNOFAIR", f"-DMEMLIM={MEMORY_MIB}")
    run("gcc", optimize, "-w", *options, "-o", "pan", "pan.c")
    output = run("./pan", "-m100000")
    errors, states, cause = (each.search(output) for each in (ERRORS, STATES, CAUSE))
    assert errors, output
    assert states, output
    result = Result(
        errors=int(errors[1]),
        states=int(float(states[1])),
        cause=cause[1] if cause else None,
        complete="Search not completed" not in output and "max search depth" not in output,
    )
    label = " ".join((model, *flags))
    outcome = result.cause or "no error"
    print(f"{label}: {result.states} states, {outcome}")  # noqa: T201 - what `make model` shows
    return result


@pytest.mark.parametrize(
    ("model", "configuration"),
    [
        ("bucket.pml", "LOCK"),
        ("bucket.pml", "REPLACE"),
        ("bucket.pml", "EVICT"),
        ("bucket.pml", "MOVE"),
        ("bucket.pml", "SPLIT"),
        ("bucket.pml", "DAMAGE"),
        ("coherence.pml", "COPIES"),
        ("coherence.pml", "LOADS"),
        ("deadline.pml", "TOUCH"),
        ("memory.pml", "GIVING"),
    ],
)
def test_protocol_holds_in_every_state(tmp_path: Path, model: str, configuration: str) -> None:
    result = search(tmp_path, model, configuration)
    assert result.complete
    assert result.errors == 0
    assert result.states > 100_000  # fewer: something no longer happens


# With no more deaths than a bug needs: without any, it is a reader that comes to see it.
@pytest.mark.parametrize(
    ("model", "configuration", "bug", "deaths"),
    [
        ("bucket.pml", "REPLACE", "SKIP_RECHECK", 0),
        ("bucket.pml", "REPLACE", "NO_READER_FENCE", 0),
        ("bucket.pml", "REPLACE", "NO_BEGIN_FENCE", 0),
        ("bucket.pml", "REPLACE", "NO_END_FENCE", 0),
        ("bucket.pml", "EVICT", "EVICT_SILENTLY", 0),
        ("bucket.pml", "EVICT", "REUSE_FIRST", 0),
        ("bucket.pml", "MOVE", "MOVE_BEFORE_COPY", 0),
        ("bucket.pml", "SPLIT", "SKIP_COUNT_RECHECK", 0),
        ("bucket.pml", "SPLIT", "CLEAR_BEFORE_PUBLISHING", 1),
        ("bucket.pml", "REPLACE", "KEEP_TORN_SLOT", 1),
        ("bucket.pml", "REPLACE", "KEEP_ODD", 1),
        ("bucket.pml", "DAMAGE", "INTENT_KEPT", 2),
        ("bucket.pml", "LOCK", "IGNORE_INCARNATION", 1),
        ("bucket.pml", "LOCK", "WORD_WITHOUT_INCARNATION", 1),
        ("bucket.pml", "LOCK", "STEAL_WITHOUT_COMPARING", 1),
        ("coherence.pml", "COPIES", "SKIP_FIRST_BUMP", 0),
        ("coherence.pml", "COPIES", "SAME_VERSION", 0),
        ("coherence.pml", "COPIES", "NO_BEGIN_FENCE", 0),
        ("coherence.pml", "COPIES", "STORE_UNDER_ODD", 0),
        ("coherence.pml", "COPIES", "VERSION_AFTER_VALUE", 0),
        ("coherence.pml", "COPIES", "RECOVERY_KEEPS_VERSION", 1),
        ("coherence.pml", "LOADS", "ABSENT_KEEPS_VERSION", 0),
        ("coherence.pml", "LOADS", "CHECK_BEFORE_LOCK", 0),
        ("coherence.pml", "LOADS", "DELETE_KEEPS_LEASE", 0),
        ("deadline.pml", "TOUCH", "SKIP_RECHECK", 0),
        ("deadline.pml", "TOUCH", "KEEP_TORN", 1),
        ("deadline.pml", "TOUCH", "INTENT_LATE", 1),
        ("deadline.pml", "TOUCH", "MEND_EVEN", 1),
        ("deadline.pml", "TOUCH", "FORGET_FIRST", 2),
        ("memory.pml", "GIVING", "NO_GIVER_CHECK", 0),
        ("memory.pml", "GIVING", "GIVER_LATE", 0),
        ("memory.pml", "GIVING", "RELEASE_FIRST", 0),
        ("memory.pml", "GIVING", "SAME_GIVINGS", 0),
        ("memory.pml", "GIVING", "SKIP_GIVINGS_CHECK", 0),
    ],
)
def test_planted_bug_is_found(
    tmp_path: Path, model: str, configuration: str, bug: str, deaths: int
) -> None:
    assert f"{bug} /* BUG:" in (MODELS / model).read_text(encoding="utf-8")
    result = search(tmp_path, model, configuration, bug, f"DEATHS={deaths}", optimize="-O0")
    assert result.errors == 1
    assert result.cause is not None
