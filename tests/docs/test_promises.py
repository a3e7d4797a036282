"""The tests that `docs/promises.md` names are there, and as long as it says."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:tests|native)/[\w/]+\.(?:py|c))::([\w ,]+)`", PAGE)))


def test_each_promise_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| promise")]
    assert len(promises) > 90
    assert [row for row in promises if "::" not in row] == []


def test_all_that_is_named_is_understood() -> None:
    assert len(NAMED) > 250
    assert len(set(re.findall(r"`[^`]+::[^`]+`", PAGE))) == len(NAMED)


def test_named_tests_are_there() -> None:
    assert [f"{file}::{name}" for file, name in NAMED if not is_there(ROOT / file, name)] == []


def is_there(file: Path, name: str) -> bool:
    source = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return re.search(rf"^(?:def|class) {name}\b", source, re.MULTILINE) is not None
    if name.startswith("test_"):
        return f"    RUN({name});\n" in source
    # A scene, by its name or the beginning of it, or a function.
    return f'"{name}' in source or re.search(rf"^{name}\(", source, re.MULTILINE) is not None


def number_in(file: str, pattern: str) -> int:
    found = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{pattern} in {file}"
    return int(found[1])


def test_storms_are_as_long_as_promised() -> None:
    storm = "native/tests/storm/storm.c"
    assert number_in(storm, r"\.at_least = (\d+)") >= 1000
    assert number_in("Makefile", r"^SOAK_KILLS \?= (\d+)$") >= 20_000
    soak = r"/storm --kills \$\(SOAK_KILLS\) --at-least \$\(SOAK_KILLS\) --seconds \$\(SOAK_"
    assert re.search(soak, (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert number_in("native/tests/storm/histories.c", r"rounds = (\d+);") >= 1000
    assert number_in("Makefile", r"fuzz FUZZ_SECONDS=(\d+) FUZZ_SEED=1") >= 20
    assert number_in("tests/process/test_storm.py", r'"--seconds", "(\d+)"') <= 120
