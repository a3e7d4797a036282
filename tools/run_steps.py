"""Run targets of the Makefile one after another, say what happens and end with a summary.

The targets after ``--setup`` are needed by all others: the first that fails ends the run. Those
after ``--then`` are independent: each is run whatever became of the ones before it. With
``--reports`` the JUnit files that the targets leave in a folder are added up for the last line.

The exit status is 0 only when every target succeeded.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Outcome:
    """What became of one target."""

    target: str
    seconds: float
    succeeded: bool


@dataclass(frozen=True)
class Counts:
    """Test cases by their result."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Return the sum of both, result by result."""
        return Counts(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )


def descriptions() -> dict[str, str]:
    """Return the sentence that follows ``##`` for each target of the Makefile that has one."""
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+):.*## (.+)$", text, flags=re.MULTILINE))


def run_target(target: str, position: str, description: str) -> Outcome:
    """Run ``make target`` with its output passed through."""
    print(f"\n[{position}] {target}: {description}" if description else f"\n[{position}] {target}")
    sys.stdout.flush()
    started = time.monotonic()
    status = subprocess.call(["make", "--no-print-directory", target], cwd=REPOSITORY)
    outcome = Outcome(target, time.monotonic() - started, status == 0)
    print(f"[{position}] {target}: {'done' if outcome.succeeded else 'FAILED'}", end="")
    print(f" in {outcome.seconds:.1f} s", flush=True)
    return outcome


def run_all(setup: list[str], then: list[str]) -> list[Outcome]:
    """Run the targets in order; stop early only when one of *setup* fails."""
    sentences = descriptions()
    targets = setup + then
    outcomes: list[Outcome] = []
    for number, target in enumerate(targets, start=1):
        position = f"{number}/{len(targets)}"
        outcomes.append(run_target(target, position, sentences.get(target, "")))
        if number <= len(setup) and not outcomes[-1].succeeded:
            break
    return outcomes


def count_cases(report: Path) -> Counts:
    """Return the results of the test cases in one JUnit file."""
    passed = failed = skipped = 0
    # Written a moment ago by our own test runners.
    for case in ET.parse(report).iter("testcase"):  # noqa: S314
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return Counts(passed, failed, skipped)


def print_summary(outcomes: list[Outcome], reports: Path | None) -> None:
    """Print a line per target and, with *reports*, one with the number of test cases."""
    print()
    for outcome in outcomes:
        word = "ok" if outcome.succeeded else "FAILED"
        print(f"  {outcome.target:<16}{outcome.seconds:>8.1f} s  {word}")
    failed_targets = sum(not outcome.succeeded for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    if reports is not None:
        counts = sum((count_cases(report) for report in sorted(reports.glob("*.xml"))), Counts())
        print(f"{counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped", end="; ")
    print(f"{len(outcomes)} steps, {failed_targets} failed, in {seconds:.0f} s")


def main() -> int:
    """Run the targets named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setup", nargs="*", default=[], metavar="TARGET")
    parser.add_argument("--then", nargs="*", default=[], metavar="TARGET")
    parser.add_argument("--reports", type=Path, help="folder of JUnit files, emptied first")
    arguments = parser.parse_args()
    if arguments.reports is not None:
        for stale in arguments.reports.glob("*.xml"):
            stale.unlink()
    try:
        outcomes = run_all(arguments.setup, arguments.then)
    except KeyboardInterrupt:
        return 130
    print_summary(outcomes, arguments.reports)
    return 0 if all(outcome.succeeded for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
