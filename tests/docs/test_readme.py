"""The README's own words are run: its Python, its commands, its links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PYTHON = [
    block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "import" in block
]
LINKS = re.findall(r"\]\((?!https?:)([^)#]+)", README)


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_python_of_the_readme_runs(block: str, tmp_path: Path) -> None:
    program = tmp_path / "readme.py"
    program.write_text(block.replace("/dev/" + "shm", str(tmp_path)))
    subprocess.run([sys.executable, program], check=True, cwd=tmp_path)


def test_readme_begins_with_the_two_commands() -> None:
    first = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert first[:2] == ["demo", "test"]
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(first) <= set(targets)


@pytest.mark.parametrize("link", LINKS)
def test_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
