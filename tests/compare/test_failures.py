from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from compare.backends import LOCMEM, PMEMCACHE, REDIS
from compare.comparison import measure_with_those_that_can
from compare.experiments.bench import Bench
from compare.plan import SHORT
from compare.tasks import TaskError

if TYPE_CHECKING:
    from pathlib import Path


class Fragile:
    """An experiment that one backend, if any, makes fail."""

    def __init__(self, breaks: str | None, error: Exception) -> None:
        self.breaks = breaks
        self.error = error

    def measure(self, bench: Bench) -> Any:
        keys = [backend.key for backend in bench.backends]
        if self.breaks in keys or self.breaks == "all":
            raise self.error
        return {"keys": keys, "notes": [], "plan": bench.plan}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        plan=SHORT,
        database=tmp_path,
        pool_parent=tmp_path,
        cities=[],
        footprint={"entries": 1, "entry_bytes": 1, "payload_bytes": 1},
        backends=[LOCMEM, REDIS, PMEMCACHE],
        sites=[],
        rate=1.0,
        say=print,
    )


def measured(bench: Bench, breaks: str | None, error: Exception | None = None) -> Any:
    return measure_with_those_that_can(Fragile(breaks, error or TaskError("it has died")), bench)


def test_figure_is_measured_without_the_backend_that_fails(bench: Bench) -> None:
    found = measured(bench, "redis")
    assert found["keys"] == ["locmem", "pmemcache"]
    assert found["notes"] == ["RedisCache is missing: it has died"]
    assert found["plan"] is SHORT


def test_figure_of_all_has_no_note(bench: Bench) -> None:
    assert measured(bench, None)["notes"] == []


def test_figure_that_nobody_can_have_fails(bench: Bench) -> None:
    with pytest.raises(TaskError):
        measured(bench, "all")
    with pytest.raises(ZeroDivisionError):  # a mistake of ours, not a backend's
        measured(bench, "redis", ZeroDivisionError())
