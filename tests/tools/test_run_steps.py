"""`make test` tells the truth about its steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "run_steps.py"

MAKEFILE = """\
good: ## works
	@echo good ran
bad: ## does not
	@exit 3
"""

QUIET = """\
quiet: ## ends after the step in front has begun
	@until [ -e begun ]; do sleep 0.01; done; echo quiet ran; exit 3
front:
	@touch begun; echo front ran
"""

REPORT = """\
<testsuites><testsuite>
<testcase name="a"/><testcase name="b"><failure/></testcase>
<testcase name="c"><error/></testcase><testcase name="d"><skipped/></testcase>
</testsuite></testsuites>
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of a Makefile and the script."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "run_steps.py").write_bytes(SCRIPT.read_bytes())
    (tmp_path / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    return tmp_path


def run_steps(repository: Path, *arguments: str) -> tuple[int, str]:
    finished = subprocess.run(
        [sys.executable, repository / "tools" / "run_steps.py", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    return finished.returncode, finished.stdout


def test_all_good_steps_succeed(repository: Path) -> None:
    status, output = run_steps(repository, "--setup", "good", "--then", "good")
    assert status == 0
    assert "[2/2] good: works" in output
    assert "2 steps, 0 failed" in output


def test_failed_step_fails_the_run_and_later_steps_still_run(repository: Path) -> None:
    status, output = run_steps(repository, "--then", "bad", "good")
    assert status == 1
    assert "good ran" in output
    assert "2 steps, 1 failed" in output


def test_failed_setup_ends_the_run(repository: Path) -> None:
    status, output = run_steps(repository, "--setup", "bad", "--then", "good")
    assert status == 1
    assert "good ran" not in output


def test_steps_beside_run_at_the_same_time_and_count(repository: Path) -> None:
    (repository / "Makefile").write_text(MAKEFILE + QUIET, encoding="utf-8")
    status, output = run_steps(
        repository, "--setup", "good", "--beside", "quiet", "good", "--then", "front"
    )
    assert status == 1
    assert "4 steps, 1 failed" in output
    assert output.index("good ran") < output.index("front ran") < output.index("quiet ran")
    assert output.count("good ran") == 2
    assert "[2/4] quiet: FAILED" in output


def test_steps_beside_wait_for_the_setup(repository: Path) -> None:
    status, output = run_steps(repository, "--setup", "bad", "--beside", "good", "--then", "good")
    assert status == 1
    assert "good ran" not in output


def test_test_cases_are_added_up(repository: Path) -> None:
    (repository / "Makefile").write_text(
        MAKEFILE + "report:\n\t@cp report.xml reports/one.xml; cp report.xml reports/two.xml\n",
        encoding="utf-8",
    )
    (repository / "report.xml").write_text(REPORT, encoding="utf-8")
    (repository / "reports").mkdir()
    (repository / "reports" / "stale.xml").write_text(REPORT, encoding="utf-8")
    status, output = run_steps(
        repository, "--reports", str(repository / "reports"), "--then", "report"
    )
    assert status == 0
    assert "2 passed, 4 failed, 2 skipped" in output
