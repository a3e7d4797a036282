"""Makes the package `compare` of the sample project importable, and makes up a report."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAMPLE_PROJECT = Path(__file__).resolve().parents[2] / "sample_project"
sys.path.insert(0, str(SAMPLE_PROJECT))

from compare.figures import panel, series  # noqa: E402 - importable only now
from compare.plan import Plan  # noqa: E402

PAYLOADS = ("50 B str", "1 KiB bytes", "2 KiB session dict", "10 KiB html")
OPERATIONS = ("get hit", "get miss", "set", "get_many(100)")


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the tests' Python in the sample project, and return what it printed."""

    def run(*arguments: str, seconds: float, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=SAMPLE_PROJECT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, **more},
        )

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: everything else runs beside it."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def _summary(p50_us: float) -> dict[str, float]:
    return {
        "count": 100,
        "mean_us": p50_us * 1.1,
        "p50_us": p50_us,
        "p95_us": p50_us * 2,
        "p99_us": p50_us * 3,
    }


def _phase(*, rate: float, p50_us: int, hits: int, stale: int = 0) -> dict[str, Any]:
    return {
        "requests_per_second": rate,
        "latency": _summary(p50_us),
        "lateness": _summary(200),
        "elapsed_seconds": 10.2,
        "queue_seconds": 0.1,
        "served": 1000,
        "unserved": 0,
        "errors": 0,
        "first_error": "",
        "reads": 980,
        "writes": 20,
        "stale_reads": stale,
        "cache_hits": hits,
        "cache_misses": 2000 - hits,
        "database_queries": 4 * (2000 - hits),
        "requests_per_worker": {"11": 500, "12": 500},
        "latencies_us": [p50_us * step // 50 for step in range(1, 101)],
    }


def _backend(key: str, label: str, **figures: Any) -> dict[str, Any]:
    server_bytes, pool_bytes = figures.get("server_bytes", 0), figures.get("pool_bytes", 0)
    site_bytes = 200 * 2**20
    return {
        "key": key,
        "label": label,
        "setting": {"BACKEND": f"backend of <{key}>", "TIMEOUT": 3600},
        "commands": ["gunicorn config.wsgi"],
        "note": "",
        "spread": {
            "requests_per_second": [figures["rate"] * 0.9, figures["rate"] * 1.1],
            **{name: [1000.0, 1000.0] for name in ("p50_us", "p95_us", "p99_us")},
        },
        "warmup_requests": 500,
        "warmup_seconds": 1.0,
        "closed": _phase(rate=figures["rate"], p50_us=9000, hits=figures["hits"]),
        "open": _phase(
            rate=100.0,
            p50_us=figures["p50_us"],
            hits=figures["hits"],
            stale=figures.get("stale", 0),
        ),
        "memory": {
            "site_bytes": site_bytes,
            "server_bytes": server_bytes,
            "pool_bytes": pool_bytes,
            "total_bytes": site_bytes + server_bytes + pool_bytes,
        },
    }


def _figure() -> dict[str, Any]:
    """A figure in which RedisCache is better at one of two points, and the hot tier at both."""
    lines = {"redis": {1.0: [4.0], 2.0: [9.0, 8.0, 10.0]}, "pmemcache": {1.0: [2.0], 2.0: [12.0]}}
    lines["pmemcache_hot"] = {1.0: [1.0], 2.0: [1.0]}
    return {
        "name": "made_up",
        "title": "A figure <made up>",
        "lead": "Of nothing.",
        "notes": ["A note & more."],
        "columns": 2,
        "panels": [
            panel(
                "against nothing",
                x="nothing",
                y="ms (log)",
                y_scale="log",
                better="lower",
                series=[series(key, points) for key, points in lines.items()],
            )
        ],
    }


@pytest.fixture
def made_up_report() -> dict[str, Any]:
    """A report as `report.json` holds it, with figures that are easy to check."""
    call_us = {"locmem": 2.0, "redis": 100.0, "pmemcache": 4.0}
    return {
        "command": "python -m compare --output out",
        "started": "2025-01-02T03:04:05Z",
        "seconds": 200.0,
        "quick": False,
        "form": "short",
        "plan": {**asdict(Plan()), "warmup_requests": 500},
        "rate": 100.0,
        "environment": {
            "host": "example",
            "kernel": "6.1.0",
            "cpu": "A CPU",
            "cores": 2,
            "memory_bytes": 8 * 2**30,
            "virtual_machine": True,
            "python": "CPython 3.11.7",
            "versions": {"Django": "5.2", "redis-server": "7.0.15"},
            "pool_file_system": {
                "directory": "/mnt/tmpfs",
                "kind": "tmpfs",
                "source": "tmpfs",
                "options": "rw",
                "medium": "DRAM through tmpfs; tmpfs is not persistent memory",
            },
            "load_average": [0.1, 0.1, 0.1],
        },
        "load_average_after": [2.0, 1.0, 0.5],
        "footprint": {"entries": 300, "entry_bytes": 4000, "payload_bytes": 3700},
        "working_set": {"requests": 1500, "entries": 4000, "bytes": 16_000_000},
        "skipped": {},
        "lost": {},
        "backends": [
            _backend("none", "no cache", rate=50.0, p50_us=40_000, hits=0),
            _backend("locmem", "LocMemCache", rate=200.0, p50_us=5000, hits=1000, stale=7),
            _backend(
                "redis", "RedisCache", rate=300.0, p50_us=4000, hits=1600, server_bytes=20 * 2**20
            ),
            _backend(
                "pmemcache", "pmemcache", rate=450.0, p50_us=2000, hits=1600, pool_bytes=16 * 2**20
            ),
        ],
        "figures": [_figure()],
        "calls": {
            "timer_us": 0.05,
            "costs": {
                payload: {
                    operation: {key: _summary(value) for key, value in call_us.items()}
                    for operation in OPERATIONS
                }
                for payload in PAYLOADS
            },
        },
    }


@pytest.fixture
def site() -> Iterator[Any]:
    """The site of `stand_in_site.py`, which answers as a test tells it."""
    spec = importlib.util.spec_from_file_location(
        "stand_in_site", Path(__file__).with_name("stand_in_site.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # The path of a Unix socket may have 107 bytes; pytest's own directories can be longer.
    with (
        tempfile.TemporaryDirectory() as directory,
        module.stand_in_site(Path(directory) / "site.sock") as running,
    ):
        yield running
