from __future__ import annotations

import pickle
import re
from typing import Any

import pytest
from compare import plots
from compare.experiments import capacity, restart, stampede, value_sizes
from compare.experiments.request_parts import Stopwatch
from compare.figures import panel, series
from compare.findings import losses


def test_point_is_the_median_of_its_repetitions_with_least_and_most() -> None:
    line = series("redis", {2.0: [9.0, 8.0, 20.0], 1.0: [4.0], 3.0: []})
    assert line["x"] == [1.0, 2.0, 3.0]
    assert line["y"] == [4.0, 9.0, None]
    assert (line["low"], line["high"]) == ([4.0, 8.0, None], [4.0, 20.0, None])
    assert line["label"] == "RedisCache"


def test_loss_in_a_figure_is_the_worst_point_and_never_to_ourselves(made_up_report: Any) -> None:
    (loss,) = [loss for loss in losses(made_up_report) if loss.where.startswith("A figure")]
    assert (loss.peer, loss.ours, loss.theirs) == ("RedisCache", "12", "9")
    assert loss.figure == "ms at 2"
    assert loss.factor == pytest.approx(12 / 9)


def test_figure_where_more_is_better_is_judged_so(made_up_report: Any) -> None:
    made_up_report["figures"][0]["panels"][0]["better"] = "higher"
    (loss,) = [loss for loss in losses(made_up_report) if loss.where.startswith("A figure")]
    assert (loss.ours, loss.theirs) == ("2", "4")


@pytest.mark.parametrize("kind", ["lines", "steps", "bars"])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_panel_is_drawn_with_names_and_honest_axes(
    made_up_report: Any, kind: str, scale: str
) -> None:
    figure = made_up_report["figures"][0]
    figure["panels"][0] |= {"kind": kind, "y_scale": scale, "ticks": ["one", "two", "three"]}
    drawing = plots.figure_plot(figure)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawing)
    assert {"RedisCache", "pmemcache", "against nothing"} <= set(texts)
    if scale == "linear":
        assert any(float(text) == 0 for text in texts if re.fullmatch(r"[\d.]+", text))


def test_gap_and_empty_panel_are_drawn(made_up_report: Any) -> None:
    figure = made_up_report["figures"][0]
    figure["panels"].append(panel("nothing to see", x="x", y="y", series=[]))
    figure["panels"][0]["series"][0]["y"][1] = None
    assert "nothing to see" in plots.figure_plot(figure)


def test_stopwatch_takes_an_inner_part_out_of_the_outer_one() -> None:
    now = 0

    def spend(nanoseconds: int) -> None:
        nonlocal now
        now += nanoseconds

    watch = Stopwatch(clock=lambda: now)
    inner = watch.time("inner", lambda: spend(5))

    def outer() -> None:
        spend(10)
        inner()
        spend(7)
        inner()

    watch.time("outer", outer)()
    assert watch.spent == {"outer": 17, "inner": 10}


def test_warm_is_when_enough_requests_in_a_row_hit() -> None:
    cold = [(number / 100, 0, 1) for number in range(100)]
    warm = [(1 + number / 100, 1, 0) for number in range(300)]
    assert restart._seconds_to_warm(warm) == 0.0
    found = restart._seconds_to_warm([*cold, *warm])
    # 95 of the last 100 have hit.
    assert found == pytest.approx(1.94)
    assert restart._seconds_to_warm(cold * 3) is None


def test_intervals_are_counted_at_each_moment() -> None:
    counted = stampede._count([0.0, 1.0, 2.0, 3.0], [(0.0, 2.0), (1.0, 3.0)])
    assert counted == {0.0: [1.0], 1.0: [2.0], 2.0: [1.0], 3.0: [0.0]}


@pytest.mark.parametrize("kind", value_sizes.KINDS)
def test_payload_has_about_its_size(kind: str) -> None:
    size = len(pickle.dumps(value_sizes.payload(kind, 1 << 16)))
    assert size == pytest.approx(1 << 16, rel=0.3)


def test_hit_ratio_grows_with_the_bytes() -> None:
    argument = {
        "key": "locmem",
        "location": "capacity-test",
        "trace": None,
        "folder": None,
        "count": 3000,
        "seed": 1,
    }
    small, large = (capacity.run({**argument, "budget": budget}) for budget in (1 << 17, 1 << 23))
    assert 0 < small < large < 1
