"""The tests that `docs/promises.md` names are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def test_each_promise_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| promise")]
    assert len(promises) > 40
    assert [row for row in promises if "::" not in row] == []


def test_named_tests_are_there() -> None:
    assert len(NAMED) > 100
    assert [f"{file}::{name}" for file, name in NAMED if not is_there(ROOT / file, name)] == []


def is_there(file: Path, name: str) -> bool:
    source = file.read_text(encoding="utf-8")
    return re.search(rf"^(?:def|class) {name}\b", source, re.MULTILINE) is not None
