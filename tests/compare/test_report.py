from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from compare import report as reports
from compare.findings import caveats, headline, losses
from compare.tables import call_table, site_table, to_markdown, to_rich
from rich.console import Console

if TYPE_CHECKING:
    from pathlib import Path


def result(report: dict[str, Any], key: str) -> dict[str, Any]:
    return next(one for one in report["backends"] if one["key"] == key)


def test_headline_states_ratios_of_the_figures(made_up_report: Any) -> None:
    sentence = headline(made_up_report)
    assert "50 % more requests/s than RedisCache; a hit" in sentence
    assert "25 times faster than RedisCache and" in sentence
    assert "2.0 times slower than LocMemCache" in sentence
    assert "7 on LocMemCache, none on RedisCache and pmemcache" in sentence


def test_headline_names_both_clients_of_redis(made_up_report: Any) -> None:
    other = {**result(made_up_report, "redis"), "key": "django_redis", "label": "django-redis"}
    other["closed"] = {**other["closed"], "requests_per_second": 500.0}
    made_up_report["backends"].append(other)
    words = "50 % more requests/s than RedisCache and 10 % fewer than django-redis; a hit"
    assert words in headline(made_up_report)


def test_headline_does_not_hide_a_slower_site(made_up_report: Any) -> None:
    result(made_up_report, "pmemcache")["closed"]["requests_per_second"] = 240.0
    assert "20 % fewer requests/s than RedisCache;" in headline(made_up_report)


def test_losses_name_every_figure_that_a_peer_won(made_up_report: Any) -> None:
    found = losses(made_up_report)
    assert {loss.peer for loss in found if loss.where.startswith("one call")} == {"LocMemCache"}
    assert sum(loss.where.startswith("one call") for loss in found) == 4 * 4
    site = [(loss.figure, loss.peer) for loss in found if loss.where.startswith("the site")]
    assert site == [("memory MiB", "no cache"), ("memory MiB", "LocMemCache")]


def test_only_the_lost_figures_of_a_call_are_listed(made_up_report: Any) -> None:
    costs = made_up_report["calls"]["costs"]["10 KiB html"]["set"]
    costs["locmem"] = {**costs["pmemcache"], "p50_us": 9.0, "p99_us": 6.0}
    (loss,) = [
        loss
        for loss in losses(made_up_report)
        if loss.where == "one call, 10 KiB html" and loss.figure.startswith("set")
    ]
    assert (loss.figure, loss.ours, loss.theirs) == ("set µs, p99", "12.0", "6.0")
    assert loss.factor == 2.0


def test_small_losses_are_listed_as_noise(made_up_report: Any) -> None:
    result(made_up_report, "redis")["closed"]["requests_per_second"] = 459.0
    (loss,) = [loss for loss in losses(made_up_report) if loss.figure == "requests/s"]
    assert loss.within_noise
    assert (loss.ours, loss.theirs) == ("450", "459")


def test_backend_that_could_not_keep_up_is_named(made_up_report: Any) -> None:
    slow = result(made_up_report, "none")["open"]
    slow["unserved"], slow["queue_seconds"] = 300, 2.0
    assert any("no cache could not sustain 100" in caveat for caveat in caveats(made_up_report))
    assert "could not keep up" in to_markdown(site_table(made_up_report))


def test_missing_peer_is_named_everywhere(made_up_report: Any) -> None:
    made_up_report["backends"] = [
        one for one in made_up_report["backends"] if one["key"] != "redis"
    ]
    for operations in made_up_report["calls"]["costs"].values():
        for costs in operations.values():
            del costs["redis"]
    made_up_report["skipped"] = {"RedisCache": "redis-server is not installed"}
    assert "Redis" in headline(made_up_report)
    for text in (reports.render_html(made_up_report), reports.render_markdown(made_up_report)):
        assert "RedisCache is missing: redis-server is not installed" in text


def test_page_needs_nothing_else(made_up_report: Any) -> None:
    page = reports.render_html(made_up_report)
    assert page.count("<svg") == 5
    assert "$" not in re.sub(r"<pre>.*?</pre>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    loaded = re.findall(r'(?:src|href|@import|url\()\s*=?\s*"?(https?:[^"\s)]+)', page)
    assert loaded == []


def test_page_escapes_what_it_did_not_write(made_up_report: Any) -> None:
    page = reports.render_html(made_up_report)
    assert "backend of &lt;redis&gt;" in page
    assert "<redis>" not in page


def test_page_says_that_tmpfs_is_not_persistent_memory(made_up_report: Any) -> None:
    assert "tmpfs is not persistent memory" in reports.render_html(made_up_report)


def test_markdown_tables_have_as_many_cells_as_headings(made_up_report: Any) -> None:
    for table in (site_table(made_up_report), call_table(made_up_report)):
        lines = to_markdown(table).splitlines()
        assert len({line.count("|") for line in lines}) == 1
        assert len(lines) == len(table.rows) + 2


def test_only_caches_can_be_best(made_up_report: Any) -> None:
    result(made_up_report, "none")["closed"]["requests_per_second"] = 9999.0
    rows = site_table(made_up_report).rows
    assert [row[1].best for row in rows] == [False, False, False, True]
    assert [row[-1].best for row in rows] == [False, False, True, True]


def test_tables_fit_a_terminal(made_up_report: Any) -> None:
    console = Console(width=150, record=True, quiet=True)
    console.print(to_rich(site_table(made_up_report)))
    assert "…" not in console.export_text()


def test_all_files_are_written_and_the_json_is_the_report(
    made_up_report: Any, tmp_path: Path
) -> None:
    expected = json.loads(json.dumps(made_up_report))
    paths = reports.write(made_up_report, tmp_path / "new")
    assert {path.name for path in paths} == {"report.json", "report.html", "report.md"}
    assert json.loads((tmp_path / "new" / "report.json").read_text()) == expected
