"""The documented options of the Django backend are those that it takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("django", reason="the options are those of the Django backend")

from pmemcache.integrations.django.options import KNOWN_OPTIONS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "django.md"


def test_one_table_has_every_option() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    section = text.partition("### OPTIONS\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(rows) == KNOWN_OPTIONS


def test_every_check_is_documented() -> None:
    from pmemcache.integrations.django import checks  # noqa: PLC0415 - needs Django

    source = Path(str(checks.__file__)).read_text(encoding="utf-8")
    raised = sorted(set(re.findall(r'id="(pmemcache\.[EW]\d{3})"', source)))
    text = DOCUMENT.read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(pmemcache\.[EW]\d{3})` \|", text, re.MULTILINE)) == raised
