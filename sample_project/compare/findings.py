"""What the figures say, in sentences: the headline, the losses and the caveats.

Everything here is computed from the report; nothing is assumed of who wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compare.metrics import call_cells, microseconds, site_metrics
from compare.results import BackendResult, Report, sustained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from compare.figures import Panel, Series
    from compare.percentiles import Summary

OURS = "pmemcache"
PEER = "redis"
OTHER_PEER = "django_redis"
"""The other client of the same server, which the whole form of a run has."""

NOISE = 1.05
"""Factors below this are within what two runs of one backend differ by."""

MOST_NAMES = 4
"""More than this are counted, not listed, in a headline."""

BUSY_SHARE = 0.5
"""A load average above this share of the cores is worth a warning."""

HEADLINE_PAYLOAD = "1 KiB bytes"
CALL_STATISTICS: tuple[tuple[str, Callable[[Summary], float]], ...] = (
    ("p50", lambda summary: summary["p50_us"]),
    ("mean", lambda summary: summary["mean_us"]),
    ("p99", lambda summary: summary["p99_us"]),
)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One figure, or the figures of one call, in which a peer was better."""

    where: str
    figure: str
    ours: str
    peer: str
    theirs: str
    factor: float | None

    @property
    def within_noise(self) -> bool:
        """Whether the difference is too small to mean anything."""
        return self.factor is not None and self.factor < NOISE


def is_ours(key: str) -> bool:
    """Whether a backend is pmemcache, in whatever form."""
    return key.startswith(OURS)


def result_of(report: Report, key: str) -> BackendResult | None:
    """Return the result of the backend *key*, `None` when it did not take part."""
    return next((result for result in report["backends"] if result["key"] == key), None)


def headline(report: Report) -> str:
    """Return the comparison with Redis, or with what there is, in one sentence."""
    ours, peer = result_of(report, OURS), result_of(report, PEER)
    if ours is None or peer is None:
        present = ", ".join(result["label"] for result in report["backends"])
        return f"Measured without one of pmemcache and Redis: {present}."
    other = result_of(report, OTHER_PEER)
    throughput = _throughput_words(ours, [peer] if other is None else [peer, other])
    sentence = f"On the same site and byte budget, pmemcache served {throughput}"
    calls = report["calls"]["costs"].get(HEADLINE_PAYLOAD, {}).get("get hit", {})
    if OURS in calls and PEER in calls:
        mine, theirs = calls[OURS]["p50_us"], calls[PEER]["p50_us"]
        sentence += f"; a hit of 1 KiB took {microseconds(mine)} µs, {speed_words(mine, theirs)}"
        sentence += f" than {peer['label']}"
        if "locmem" in calls:
            local = calls["locmem"]["p50_us"]
            sentence += f" and {speed_words(mine, local)} than LocMemCache"
    return f"{sentence}; stale reads: {_stale_words(report)}."


def _throughput_words(ours: BackendResult, peers: Sequence[BackendResult]) -> str:
    """Return how many requests a second *ours* served beside each peer."""
    rate = ours["closed"]["requests_per_second"]
    first, *others = (
        (ratio_words(rate, peer["closed"]["requests_per_second"], "more", "fewer"), peer["label"])
        for peer in peers
    )
    words = f"{first[0]} requests/s than {first[1]}"
    return " and ".join([words, *(f"{ratio} than {label}" for ratio, label in others)])


def _stale_words(report: Report) -> str:
    """Return who showed how many stale pages, and that the others showed none."""
    counts = {
        result["label"]: result["open"]["stale_reads"]
        for result in report["backends"]
        if result["key"] != "none"
    }
    found = [f"{count:,} on {label}" for label, count in counts.items() if count]
    without = [label for label, count in counts.items() if not count]
    if found and len(without) > MOST_NAMES:
        found.append(f"none on the other {len(without)}")
    elif without:
        found.append(f"none on {listed(without) if len(without) <= MOST_NAMES else 'any'}")
    return ", ".join(found)


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if names[1:] else names[0]


def ratio_words(one: float, other: float, more: str, fewer: str) -> str:
    """Return how *one* compares with *other*, such as `12 % more` or `2.1 times as many`."""
    if one >= 2 * other:
        return f"{one / other:.1f} times as many"
    percent = 100 * (one / other - 1)
    return f"{abs(percent):.0f} % {more if percent >= 0 else fewer}"


def speed_words(one: float, other: float) -> str:
    """Return how the duration *one* compares with *other*, such as `20 times faster`."""
    factor = max(one, other) / min(one, other)
    if factor < NOISE:
        return "no faster or slower"
    digits = 0 if factor >= 10 else 1  # noqa: PLR2004
    return f"{factor:.{digits}f} times {'faster' if one < other else 'slower'}"


def losses(report: Report) -> list[Loss]:
    """Return every figure in which some peer was better than pmemcache, largest factor first."""
    found = [*_site_losses(report), *_call_losses(report), *_figure_losses(report)]
    return sorted(found, key=lambda loss: (loss.within_noise, -(loss.factor or float("inf"))))


def _site_losses(report: Report) -> Iterator[Loss]:
    ours = result_of(report, OURS)
    if ours is None:
        return
    for metric in site_metrics(report["rate"]):
        mine = metric.value(ours)
        for peer in report["backends"]:
            if is_ours(peer["key"]):
                continue
            theirs = metric.value(peer)
            if mine is None or theirs is None or not metric.better(theirs, mine):
                continue
            low, high = sorted((mine, theirs))
            yield Loss(
                where=f"the site, {metric.load}",
                figure=metric.name,
                ours=metric.text(mine),
                peer=peer["label"],
                theirs=metric.text(theirs),
                factor=high / low if low > 0 else None,
            )


def _call_losses(report: Report) -> Iterator[Loss]:
    labels = {result["key"]: result["label"] for result in report["backends"]}
    for payload, operation, costs in call_cells(report):
        for peer, theirs in costs.items():
            if is_ours(peer):
                continue
            ours = costs.get(OURS, theirs)
            lost = [
                (name, getter(ours), getter(theirs))
                for name, getter in CALL_STATISTICS
                if getter(theirs) < getter(ours)
            ]
            if lost:
                yield Loss(
                    where=f"one call, {payload}",
                    figure=f"{operation} µs, {', '.join(name for name, _, _ in lost)}",
                    ours=", ".join(microseconds(mine) for _, mine, _ in lost),
                    peer=labels[peer],
                    theirs=", ".join(microseconds(better) for _, _, better in lost),
                    factor=max(mine / better for _, mine, better in lost),
                )


def _figure_losses(report: Report) -> Iterator[Loss]:
    """Yield one loss for each panel and peer: the point at which the peer is furthest ahead."""
    for figure, panel in ((one, two) for one in report["figures"] for two in one["panels"]):
        mine = next((one for one in panel["series"] if one["key"] == OURS), None)
        if mine is None or panel["better"] == "neither":
            continue
        for peer in panel["series"]:
            lost = [] if is_ours(peer["key"]) else list(_points_lost(panel, mine, peer))
            if lost:
                factor, x, ours, theirs = max(lost, key=lambda point: point[0])
                place = panel["ticks"][int(x)] if panel["ticks"] else f"{x:,g}"
                yield Loss(
                    where=f"{figure['title']}, {panel['title']}",
                    figure=f"{panel['y_label'].removesuffix(' (log)')} at {place}".replace(
                        "\n", " "
                    ),
                    ours=f"{ours:,.4g}",
                    peer=peer["label"],
                    theirs=f"{theirs:,.4g}",
                    factor=None if factor == float("inf") else factor,
                )


def _points_lost(
    panel: Panel, ours: Series, peer: Series
) -> Iterator[tuple[float, float, float, float]]:
    """Yield factor, x and both values of the points at which *peer* is better."""
    others = dict(zip(peer["x"], peer["y"], strict=True))
    for x, mine in zip(ours["x"], ours["y"], strict=True):
        theirs = others.get(x)
        if mine is None or theirs is None:
            continue
        if theirs > mine if panel["better"] == "higher" else theirs < mine:
            low, high = sorted((mine, theirs))
            yield high / low if low > 0 else float("inf"), x, mine, theirs


def caveats(report: Report) -> list[str]:
    """Return what a reader must know before believing the figures."""
    reasons: dict[str, list[str]] = {}
    for label, reason in report["skipped"].items():
        reasons.setdefault(reason, []).append(label)
    found = [
        f"{listed(labels)} {'are' if labels[1:] else 'is'} missing: {reason}."
        for reason, labels in reasons.items()
    ]
    found += [f"{what} failed: {' '.join(why.split())}" for what, why in report["lost"].items()]
    if report["quick"]:
        found.append("This was a quick run, too short for its figures to mean much.")
    found += _warm_up_caveat(report)
    for result in report["backends"]:
        found += _phase_caveats(report, result)
    cores = report["environment"]["cores"]
    load = report["environment"]["load_average"][0]
    if load > BUSY_SHARE * cores:
        found.append(
            f"The host was busy before the run began (load {load:g} on {cores} cores): "
            "compare the backends with each other, not these figures with other hosts."
        )
    lateness = [
        result["open"]["lateness"]["p99_us"]
        for result in report["backends"]
        if sustained(result["open"])
    ]
    if lateness:
        found.append(
            f"The driver shares the {cores} cores with what it measures; it sent 99 % of the "
            f"requests within {max(lateness) / 1000:.1f} ms of their intended start."
        )
    return found


def _warm_up_caveat(report: Report) -> Iterator[str]:
    planned = report["plan"]["warmup_requests"]
    short = [
        f"{result['label']} {result['warmup_requests']:,}"
        for result in report["backends"]
        if result["warmup_requests"] < planned
    ]
    if short:
        yield (
            f"Of {planned:,} warm-up requests these got fewer in the "
            f"{report['plan']['warmup_seconds']:g} s that a warm-up may take: {', '.join(short)}."
        )


def _phase_caveats(report: Report, result: BackendResult) -> Iterator[str]:
    label, phase = result["label"], result["open"]
    if not sustained(phase):
        due = phase["served"] + phase["unserved"] + phase["errors"]
        yield (
            f"{label} could not sustain {report['rate']:g} requests/s: a turn ended with a queue "
            f"of {phase['queue_seconds']:.1f} s, and {phase['unserved']:,} of {due:,} requests "
            "were unanswered when the driver gave up; their latencies are lower bounds."
        )
    for measured in (result["open"], result["closed"]):
        if measured["errors"]:
            failed = f"{measured['errors']:,} failed requests, the first {measured['first_error']}"
            yield f"{label}: {failed}."
