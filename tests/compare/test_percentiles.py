from __future__ import annotations

import pytest
from compare.percentiles import percentile, summarise


@pytest.mark.parametrize(
    ("share", "expected"), [(0.01, 1), (0.50, 50), (0.95, 95), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(range(1, 101), share) == expected


def test_percentile_of_one_sample_is_that_sample() -> None:
    assert percentile([7.5], 0.99) == 7.5


def test_percentile_of_two_samples_is_a_measured_one() -> None:
    assert percentile([1.0, 2.0], 0.5) == 1.0
    assert percentile([1.0, 2.0], 0.51) == 2.0


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
def test_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        percentile([1.0], share)


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 0.5)


def test_summary_does_not_depend_on_order() -> None:
    samples = [float(number) for number in range(1, 1001)]
    assert summarise(samples[::-1]) == {
        "count": 1000,
        "mean_us": 500.5,
        "p50_us": 500.0,
        "p95_us": 950.0,
        "p99_us": 990.0,
    }
