"""The two tables, once, and how each medium writes them: terminal, markdown, HTML."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table as RichTable

from compare.findings import OURS, PEER, speed_words
from compare.metrics import call_cells, microseconds, site_metrics, spread_text
from compare.results import Report, sustained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compare.metrics import Metric


MOST_COLUMNS = 9
MANY_CACHES = 4
"""More than this leave no room for the mean."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure as text; `small` is a less important second line."""

    text: str
    small: str = ""
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Headings of (group, name) and rows; the first `text_columns` are names, the rest figures."""

    title: str
    headings: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Cell]]
    text_columns: int = 1
    note: str = ""
    highlighted_rows: frozenset[int] = field(default_factory=frozenset)


def site_table(report: Report) -> Table:
    """Return one row per backend with every figure of its site."""
    metrics = site_metrics(report["rate"])
    rows = []
    for result in report["backends"]:
        kept_up = sustained(result["open"])
        name = Cell(text=result["label"], small="" if kept_up else "could not keep up")
        cells = [name]
        for metric in metrics:
            value = metric.value(result)
            text = "-" if value is None else metric.text(value)
            best = result["key"] != "none" and text == _best(report, metric)
            cells.append(Cell(text=text, small=spread_text(metric, result), best=best))
        rows.append(cells)
    return Table(
        title="The site on each cache",
        note="Small: least and most of the turns that a figure is made of.",
        headings=[("", "cache"), *((metric.load, metric.name) for metric in metrics)],
        rows=rows,
        highlighted_rows=frozenset(
            number for number, result in enumerate(report["backends"]) if result["key"] == OURS
        ),
    )


def _best(report: Report, metric: Metric) -> str:
    """Return the best figure among the caches, as written."""
    values = [
        value
        for result in report["backends"]
        if result["key"] != "none" and (value := metric.value(result)) is not None
    ]
    return metric.text(max(values) if metric.higher_is_better else min(values)) if values else ""


def call_table(report: Report) -> Table:
    """Return one row per payload and operation with p50, mean and p99 of each backend."""
    keys = {key for _, _, costs in call_cells(report) for key in costs}
    measured = [result for result in report["backends"] if result["key"] in keys]
    both = keys >= {OURS, PEER} and len(measured) < MOST_COLUMNS - 2
    many = len(measured) > MANY_CACHES
    rows = []
    named = ""
    for payload, operation, costs in call_cells(report):
        fastest = min(summary["p50_us"] for summary in costs.values())
        cells = [Cell(text="" if payload == named else payload), Cell(text=operation)]
        named = payload
        for result in measured:
            summary = costs[result["key"]]
            mean, tail = microseconds(summary["mean_us"]), microseconds(summary["p99_us"])
            cells.append(
                Cell(
                    text=microseconds(summary["p50_us"]),
                    small=f"p99 {tail}" if many else f"mean {mean}, p99 {tail}",
                    best=summary["p50_us"] == fastest,
                )
            )
        if both:
            words = speed_words(costs[OURS]["p50_us"], costs[PEER]["p50_us"])
            cells.append(Cell(text=words))
        rows.append(cells)
    headings = [("", "value"), ("", "call")]
    headings += [("p50 in µs", result["label"]) for result in measured]
    if both:
        headings.append(("p50", "pmemcache against Redis"))
    return Table(
        title="One cache call through Django's cache API",
        headings=headings,
        rows=rows,
        text_columns=2,
        note=f"Reading the clock costs {report['calls']['timer_us']:.2f} µs; it is included.",
    )


def to_rich(table: Table) -> RichTable:
    """Return the table for a terminal; the best figure of each column or row is bold.

    A table of many columns goes without its second lines.
    """
    wide = len(table.headings) > MOST_COLUMNS
    drawn = RichTable(title=table.title, caption=table.note or None, title_justify="left")
    for number, (group, name) in enumerate(table.headings):
        heading = f"{name}\n[dim]{group}[/]" if group else name
        drawn.add_column(heading, justify="left" if number < table.text_columns else "right")
    for number, row in enumerate(table.rows):
        cells = []
        for cell in row:
            text = f"[bold green]{cell.text}[/]" if cell.best else cell.text
            small = "" if wide else cell.small
            cells.append(f"{text}\n[dim]{small}[/]" if small else text)
        drawn.add_row(*cells, style="bold" if number in table.highlighted_rows else "")
    return drawn


def to_markdown(table: Table, *, small: bool = True) -> str:
    """Return the table as GitHub writes tables; the best figures are bold.

    Args:
        small: With the second lines of figures, in brackets.
    """
    names = [f"{name}, {group}" if group else name for group, name in table.headings]
    lines = [
        "| " + " | ".join(names) + " |",
        "|" + "---|" * table.text_columns + "---:|" * (len(names) - table.text_columns),
    ]
    for row in table.rows:
        cells = []
        for number, cell in enumerate(row):
            text = f"**{cell.text}**" if cell.best else cell.text
            two_lines = cell.small and (small or number < table.text_columns)
            cells.append(f"{text} ({cell.small})" if two_lines else text)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_html(table: Table) -> str:
    """Return the table as HTML; equal neighbouring groups share one heading."""
    groups: list[tuple[str, int]] = []
    for group, _ in table.headings:
        if groups and groups[-1][0] == group:
            groups[-1] = (group, groups[-1][1] + 1)
        else:
            groups.append((group, 1))
    head = "".join(
        f'<th colspan="{span}"{" class=group" if group else ""}>{html.escape(group)}</th>'
        for group, span in groups
    )
    names = "".join(f"<th>{html.escape(name)}</th>" for _, name in table.headings)
    body = []
    for number, row in enumerate(table.rows):
        classes = " class=ours" if number in table.highlighted_rows else ""
        body.append(f"<tr{classes}>{''.join(map(_html_cell, row))}</tr>")
    wide = " wide" if len(table.headings) > MOST_COLUMNS else ""
    note = f"<p class=note>{html.escape(table.note)}</p>" if table.note else ""
    return (
        f'<div class=scroll><table class="text{table.text_columns}{wide}"><thead>'
        f"<tr>{head}</tr><tr>{names}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>{note}"
    )


def _html_cell(cell: Cell) -> str:
    small = f"<small>{html.escape(cell.small)}</small>" if cell.small else ""
    classes = " class=best" if cell.best else ""
    return f"<td{classes}>{html.escape(cell.text)}{small}</td>"
