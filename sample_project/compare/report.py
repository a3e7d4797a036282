"""Write the report: `report.json` with all figures, `report.html` to read, `report.md` to quote."""

from __future__ import annotations

import json
import pprint
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from compare import plots
from compare.findings import caveats, headline, losses, result_of
from compare.method import method
from compare.tables import Cell, Table, call_table, site_table, to_html, to_markdown

if TYPE_CHECKING:
    from compare.figures import Figure
    from compare.findings import Loss
    from compare.results import BackendResult, Report

MIB = 1024 * 1024
TEMPLATE = Path(__file__).with_name("report.html")


def write(report: Report, directory: Path) -> list[Path]:
    """Write all three files into *directory*, which is made if missing; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        "report.json": json.dumps(report, indent=1) + "\n",
        "report.html": render_html(report),
        "report.md": render_markdown(report),
    }
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    return [directory / name for name in files]


def render_markdown(report: Report) -> str:
    """Return headline, tables and caveats as GitHub markdown."""
    parts = [headline(report), context(report)]
    parts += [to_markdown(table) for table in (site_table(report), call_table(report))]
    parts.append("\n".join(f"- {caveat}" for caveat in caveats(report)))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def render_html(report: Report) -> str:
    """Return the page; it needs no other file and no network."""
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        headline=escape(headline(report)),
        context=escape(context(report)),
        backend_count=len(report["backends"]),
        rate=f"{report['rate']:g}",
        site_lead=escape(_site_lead(report)),
        site_table=to_html(site_table(report)),
        caveats="".join(f"<li>{escape(caveat)}</li>" for caveat in caveats(report)),
        medium=escape(medium(report)),
        form=escape(FORMS[report["form"]]),
        figures="".join(_figure(figure, report) for figure in report["figures"]),
        latency_plot=plots.latency_plot(report),
        throughput_plot=plots.throughput_plot(report),
        memory_plot=plots.memory_plot(report),
        memory_note=escape(_memory_note(report)),
        calls_lead=escape(_calls_lead(report)),
        call_plot=plots.call_plot(report),
        call_table=to_html(call_table(report)),
        losses_lead=escape(_losses_lead(report)),
        losses_table=_losses_table(losses(report)),
        method="".join(
            f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in method(report)
        ),
        settings="".join(map(_settings, report["backends"])),
    )


FORMS = {
    "quick": "This is a quick run: it shows that everything works, and its figures mean little.",
    "short": (
        "This is the short form: six caches, few points, two repetitions of each, in about six "
        "minutes. make demo FULL=1 has all caches, more points, five repetitions, and takes about "
        "forty minutes."
    ),
    "full": "This is the whole comparison: all caches, five repetitions.",
}


def medium(report: Report) -> str:
    """Return what the pool's bytes were kept in, short enough for a title."""
    system = report["environment"]["pool_file_system"]
    return f"{system['kind']}: {system['medium'].partition(';')[0]}"


def _figure(figure: Figure, report: Report) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in figure["notes"])
    return (
        f'<section id="{escape(figure["name"])}"><h2>{escape(figure["title"])} '
        f"<small>{escape(medium(report))}</small></h2><p>{escape(figure['lead'])}</p>"
        f"{plots.figure_plot(figure)}<ul class=note>{notes}</ul></section>"
    )


def context(report: Report) -> str:
    """Return where and when this was, in one line."""
    environment = report["environment"]
    system = environment["pool_file_system"]
    return (
        f"{report['started'][:10]}, {environment['cores']} cores of {environment['cpu']}"
        f"{' (virtual machine)' if environment['virtual_machine'] else ''}, "
        f"{environment['memory_bytes'] / 2**30:.0f} GiB, Linux {environment['kernel']}, "
        f"{environment['python']}, Django {environment['versions']['Django']}, "
        f"Redis {environment['versions']['redis-server']}, "
        f"Memcached {environment['versions'].get('memcached', 'not installed')}. "
        f"The pool is in {system['directory']}: {system['medium']}."
    )


def _site_lead(report: Report) -> str:
    plan = report["plan"]
    return (
        f"{plan['workers']} gunicorn workers, {plan['cache_bytes'] / MIB:g} MiB for each cache. "
        f"First {report['rate']:g} requests/s whether or not they are answered, then "
        f"{plan['closed_connections']} connections as fast as they are answered, the sites in "
        "turns. Green is the best cache of a column."
    )


def _memory_note(report: Report) -> str:
    none = result_of(report, "none")
    base = none["memory"]["total_bytes"] if none else 0
    added = [
        f"{result['label']} {(result['memory']['total_bytes'] - base) / MIB:+.1f} MiB"
        for result in report["backends"]
        if result["key"] != "none"
    ]
    over = f" Against the site without a cache: {', '.join(added)}." if none else ""
    return (
        "Memory is the proportional set size of gunicorn, its workers and the cache server, "
        f"plus the blocks of the pool's files, each page once. The sites run side by side, so code "
        f"of shared libraries is divided among all of them.{over}"
    )


def _calls_lead(report: Report) -> str:
    plan = report["plan"]
    return (
        f"One process, {plan['call_rounds']} rounds of {plan['calls_per_round']} calls of each "
        "kind (a tenth of it for get_many), the backends in turns; what is read is not what is "
        "written. "
        "The settings are the site's own, with the whole budget. The cost of RedisCache is that "
        "of Django's adapter and the redis package, too, not of the server alone."
    )


def _losses_lead(report: Report) -> str:
    found = losses(report)
    if result_of(report, "pmemcache") is None:
        return "pmemcache did not take part."
    if not found:
        return "In no figure of this run. Run it again before believing that."
    clear = sum(not loss.within_noise for loss in found)
    return (
        f"Every figure of this run in which another backend was better: {clear} clearly, "
        f"{len(found) - clear} by less than 5 %, which is within the noise of such a run. "
        "Calls that a peer won in more than one of p50, mean and p99 are one line."
    )


def _losses_table(found: list[Loss]) -> str:
    if not found:
        return ""
    rows = [
        [
            Cell(text=loss.where),
            Cell(text=loss.figure),
            Cell(text=loss.ours),
            Cell(text=f"{loss.theirs} ({loss.peer})"),
            Cell(text=_factor(loss)),
        ]
        for loss in found
    ]
    names = ("where", "figure", "pmemcache", "peer", "up to this factor")
    headings = [("", name) for name in names]
    return to_html(Table(title="", headings=headings, rows=rows, text_columns=2))


def _factor(loss: Loss) -> str:
    if loss.factor is None:
        return "-"
    return f"{loss.factor:.2f}" + (", noise" if loss.within_noise else "")


def _settings(result: BackendResult) -> str:
    setting = pprint.pformat(result["setting"], sort_dicts=False, width=90)
    lines = [f'CACHES["default"] = {setting}', *(f"$ {command}" for command in result["commands"])]
    if result["note"]:
        lines.append(f"# {result['note']}")
    text = escape("\n".join(lines))
    return f"<h3>{escape(result['label'])}</h3><pre><code>{text}</code></pre>"
