"""`python -m compare.publish`: put what a run found where the README shows it."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from compare import plots
from compare.findings import headline
from compare.report import context, medium
from compare.tables import call_table, site_table, to_markdown
from compare.tasks import SITE_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compare.results import Report

ROOT = SITE_DIRECTORY.parent
REPORT = ROOT / "build" / "demo" / "report.json"
PICTURE = Path("docs") / "images" / "comparison.png"
PLACES = ("headline", "table")
"""What a run fills in of the README, each between `<!-- table -->` and `<!-- end of table -->`."""


class UnpublishedError(ValueError):
    """A report that is not to be shown, or a README without a place for it."""


def publish(report: Report, root: Path) -> list[Path]:
    """Write headline and table into the README under *root*, and the picture; return both paths.

    Raises:
        UnpublishedError: Something is missing in the report or in the README.
    """
    if report["quick"] or report["lost"]:
        missing = ", ".join(report["lost"]) or "its figures mean little"
        message = f"this report is of the form {report['form']}, and not to be shown: {missing}"
        raise UnpublishedError(message)
    readme = root / "README.md"
    text = readme.read_text("utf-8")
    for place, words in zip(PLACES, (headline(report), table(report)), strict=True):
        text = _filled(text, place, words)
    readme.write_text(text, "utf-8")
    path = root / PICTURE
    path.write_bytes(plots.picture(report, title=f"The sample site, {medium(report)}"))
    return [readme, path]


def _filled(text: str, place: str, words: str) -> str:
    begin, end = f"<!-- {place} -->\n", f"<!-- end of {place} -->"
    found = re.compile(f"({begin}).*({end})", re.DOTALL)
    text, count = found.subn(lambda match: f"{match[1]}\n{words.strip()}\n\n{match[2]}", text)
    if count != 1:
        message = f"the README has no place for the {place}: {begin.strip()} ... {end}"
        raise UnpublishedError(message)
    return text


def table(report: Report) -> str:
    """Return the tables that the README shows of a report, and what they were measured on."""
    parts = [
        context(report),
        to_markdown(site_table(report), small=False),
        "One call through Django's cache API, p50 in one process:",
        to_markdown(call_table(report), small=False),
    ]
    return "\n\n".join(part.strip() for part in parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m compare.publish", description=__doc__)
    parser.add_argument("report", type=Path, nargs="?", default=REPORT, help="a report.json")
    parser.add_argument("--root", type=Path, default=ROOT, help="where README.md is")
    options = parser.parse_args(arguments)
    try:
        for path in publish(json.loads(options.report.read_text("utf-8")), options.root):
            print(f"Wrote {path}")
    except (OSError, UnpublishedError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
