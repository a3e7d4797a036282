from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from compare.publish import PICTURE, main

if TYPE_CHECKING:
    from pathlib import Path

README = (
    "before\n<!-- headline -->\n\nold headline\n\n<!-- end of headline -->\nbetween\n"
    "<!-- table -->\n\nold | table\n\n<!-- end of table -->\nafter\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / PICTURE).parent.mkdir(parents=True)
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def publish(report: Any, root: Path) -> int:
    (root / "report.json").write_text(json.dumps(report))
    return main([str(root / "report.json"), "--root", str(root)])


def test_headline_table_and_picture_are_replaced(made_up_report: Any, root: Path) -> None:
    assert publish(made_up_report, root) == 0
    first = (root / "README.md").read_text()
    assert first.startswith("before\n<!-- headline -->\n\nOn the same site")
    assert "none on RedisCache and pmemcache.\n\n<!-- end of headline -->\nbetween\n" in first
    assert first.endswith("\n\n<!-- end of table -->\nafter\n")
    assert "| pmemcache | **450** |" in first
    assert "old" not in first
    assert "not persistent memory" in first
    assert (root / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert publish(made_up_report, root) == 0
    assert (root / "README.md").read_text() == first


@pytest.mark.parametrize("what", [{"quick": True}, {"lost": {"RedisCache": "it has died"}}])
def test_report_that_is_not_whole_is_not_published(
    what: Any, made_up_report: Any, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish({**made_up_report, **what}, root) == 1
    assert "not to be shown" in capsys.readouterr().err
    assert (root / "README.md").read_text() == README


@pytest.mark.parametrize("place", ["headline", "table"])
def test_readme_without_a_place_for_it_is_left_alone(
    place: str, made_up_report: Any, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = README.replace(f"<!-- {place} -->", "")
    (root / "README.md").write_text(text)
    assert publish(made_up_report, root) == 1
    assert f"no place for the {place}" in capsys.readouterr().err
    assert (root / "README.md").read_text() == text
