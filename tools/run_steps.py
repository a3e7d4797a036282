"""Run targets of the Makefile one after another, say what happens and end with a summary.

The targets after ``--setup`` are needed by all others: the first that fails ends the run. Those
after ``--then`` are independent: each is run whatever became of the ones before it. So are those
after ``--beside``, which run one after another too, but at the same time and with less of the
machine; what they print is shown in the pause after the step in front. With ``--reports`` the JUnit
files that the targets leave in a folder are added up for the last line.

The exit status is 0 only when every target succeeded.
"""

from __future__ import annotations

import argparse
import queue
import re
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Outcome:
    """What became of one target."""

    target: str
    seconds: float
    succeeded: bool


@dataclass(frozen=True)
class Step:
    """One target in its place."""

    target: str
    position: str
    description: str

    @property
    def heading(self) -> str:
        """The line that begins the step."""
        sentence = f": {self.description}" if self.description else ""
        return f"\n[{self.position}] {self.target}{sentence}"

    def end(self, outcome: Outcome) -> str:
        """Return the line that ends the step."""
        word = "done" if outcome.succeeded else "FAILED"
        return f"[{self.position}] {self.target}: {word} in {outcome.seconds:.1f} s"


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


def make(step: Step, *before: str, **options: Any) -> tuple[Outcome, str]:
    """Run ``make target``; return what became of it, and its output if *options* capture it."""
    started = time.monotonic()
    finished = subprocess.run(
        [*before, "make", "--no-print-directory", step.target],
        check=False,
        cwd=REPOSITORY,
        text=True,
        errors="replace",
        **options,
    )
    outcome = Outcome(step.target, time.monotonic() - started, finished.returncode == 0)
    return outcome, finished.stdout or ""


def run_target(step: Step) -> Outcome:
    """Run ``make target`` with its output passed through."""
    print(step.heading, flush=True)
    outcome, _output = make(step)
    print(step.end(outcome), flush=True)
    return outcome


class Beside:
    """Steps that run while others do, with a low priority, and are silent until asked."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps
        self._ended: queue.SimpleQueue[tuple[Step, Outcome, str]] = queue.SimpleQueue()
        self._left = len(steps)
        # A daemon: after Ctrl-C, which make has got as well, nobody waits for it.
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        for step in self._steps:
            outcome, output = make(step, "nice", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self._ended.put((step, outcome, output))

    def ended(self, *, wait: bool = False) -> list[Outcome]:
        """Show what has ended since the last call, with *wait* all that is left, and return it."""
        outcomes = []
        while self._left and (wait or not self._ended.empty()):
            step, outcome, output = self._ended.get()
            print(f"{step.heading}\n{output}{step.end(outcome)}", flush=True)
            outcomes.append(outcome)
            self._left -= 1
        return outcomes


def run_all(setup: list[str], beside: list[str], then: list[str]) -> list[Outcome]:
    """Run the targets; stop early only when one of *setup* fails."""
    sentences = descriptions()
    targets = setup + beside + then
    steps = [
        Step(target, f"{number}/{len(targets)}", sentences.get(target, ""))
        for number, target in enumerate(targets, start=1)
    ]
    outcomes: list[Outcome] = []
    for step in steps[: len(setup)]:
        outcomes.append(run_target(step))
        if not outcomes[-1].succeeded:
            return outcomes
    behind = Beside(steps[len(setup) : len(setup) + len(beside)])
    for step in steps[len(setup) + len(beside) :]:
        outcomes.append(run_target(step))
        outcomes += behind.ended()
    return outcomes + behind.ended(wait=True)


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


def print_summary(outcomes: list[Outcome], seconds: float, reports: Path | None) -> None:
    """Print a line per target and, with *reports*, one with the number of test cases.

    Args:
        seconds: From the first step to the end of the last.
    """
    print()
    for outcome in outcomes:
        word = "ok" if outcome.succeeded else "FAILED"
        print(f"  {outcome.target:<16}{outcome.seconds:>8.1f} s  {word}")
    failed_targets = sum(not outcome.succeeded for outcome in outcomes)
    if reports is not None:
        counts = sum((count_cases(report) for report in sorted(reports.glob("*.xml"))), Counts())
        print(f"{counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped", end="; ")
    print(f"{len(outcomes)} steps, {failed_targets} failed, in {seconds:.0f} s")


def main() -> int:
    """Run the targets named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setup", nargs="*", default=[], metavar="TARGET")
    parser.add_argument("--beside", nargs="*", default=[], metavar="TARGET")
    parser.add_argument("--then", nargs="*", default=[], metavar="TARGET")
    parser.add_argument("--reports", type=Path, help="folder of JUnit files, emptied first")
    arguments = parser.parse_args()
    if arguments.reports is not None:
        for stale in arguments.reports.glob("*.xml"):
            stale.unlink()
    started = time.monotonic()
    try:
        outcomes = run_all(arguments.setup, arguments.beside, arguments.then)
    except KeyboardInterrupt:
        return 130
    print_summary(outcomes, time.monotonic() - started, arguments.reports)
    return 0 if all(outcome.succeeded for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
