"""Every test of this folder that asks for a pool runs once through each door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import pmemcache
from pmemcache.binding import DOORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=sorted(DOORS))
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setenv("PMEMCACHE_DOOR", name)
    return name


@pytest.fixture
def make_pool(door: str) -> Iterator[Callable[..., pmemcache.Pool]]:  # noqa: ARG001 - set up first
    pools: list[pmemcache.Pool] = []

    def make(*arguments: Any, **options: Any) -> pmemcache.Pool:
        pools.append(pmemcache.Pool(*arguments, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def pool_path(tmp_path: Path) -> Path:
    return tmp_path / "site.pool"


@pytest.fixture
def pool(make_pool: Callable[..., pmemcache.Pool], pool_path: Path) -> pmemcache.Pool:
    return make_pool(pool_path, "8MiB")


@pytest.fixture
def small_pool(make_pool: Callable[..., pmemcache.Pool], pool_path: Path) -> pmemcache.Pool:
    """A pool that a few entries fill."""
    return make_pool(pool_path, "256KiB", shards=1)


@pytest.fixture
def advance(pool: pmemcache.Pool) -> Callable[[float], None]:
    """Move the pool's clock by so many seconds."""
    return pool._attachment.advance_clock
