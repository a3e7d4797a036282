"""Every Python example of the documents does what it says.

A block of `>>>` lines is a doctest, and all of a page are one session. Any other block is run too,
in the order of the page, in a Django project whose cache is ours; names that a page leaves to its
reader are stand-ins.
"""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
RUNNER = Path(__file__).with_name("run_blocks.py")


def blocks_of(document: Path) -> list[str]:
    text = document.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


SESSIONS = [each for each in DOCUMENTS if any(b.startswith(">>>") for b in blocks_of(each))]
FRAGMENTS = [each for each in DOCUMENTS if any(not b.startswith(">>>") for b in blocks_of(each))]


def test_documents_of_tiers_loaders_and_the_decorator_are_sessions() -> None:
    assert {"tiers.md", "loaders.md", "decorator.md"} <= {each.name for each in SESSIONS}


@pytest.mark.parametrize("document", SESSIONS, ids=lambda path: path.name)
def test_sessions_print_what_they_say(document: Path) -> None:
    blocks = [block for block in blocks_of(document) if block.startswith(">>>")]
    parser = doctest.DocTestParser()
    examples = parser.get_doctest("\n".join(blocks), {}, document.name, document.name, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    runner.run(examples, out=report.append)
    assert runner.failures == 0, "".join(report)
    assert runner.tries > 5


@pytest.mark.parametrize("document", FRAGMENTS, ids=lambda path: path.name)
def test_fragments_run(document: Path, tmp_path: Path) -> None:
    blocks = [block for block in blocks_of(document) if not block.startswith(">>>")]
    done = subprocess.run(
        [sys.executable, RUNNER, tmp_path],
        input="\0".join(blocks),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_fragment_with_a_wrong_name_fails(tmp_path: Path) -> None:
    for wrong in ("from pmemcache import NoSuchThing", "cache.no_such_method()", "def f(:"):
        done = subprocess.run(
            [sys.executable, RUNNER, tmp_path],
            input=wrong,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0, wrong
