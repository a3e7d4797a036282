"""What every experiment is given, and the stores that it opens."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compare import tasks
from compare.stores import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from compare.backends import Backend
    from compare.footprint import Footprint
    from compare.plan import Plan
    from compare.site import Site
    from compare.workload import City


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Plan, data and backends of the comparison, and its sites, which are running and warm."""

    plan: Plan
    database: Path
    pool_parent: Path
    cities: Sequence[City]
    footprint: Footprint
    backends: Sequence[Backend]
    sites: Sequence[Site]
    rate: float
    say: Callable[[str], None]

    def repetitions(self, count: int) -> Iterator[int]:
        """Yield 0, 1, ..., and say so: with all caches a repetition may take minutes."""
        for number in range(count):
            if count > 1:
                self.say(f"  repetition {number + 1} of {count}")
            yield number

    def caches(self, *keys: str) -> list[Backend]:
        """Return the backends that store anything; with *keys*, those of them."""
        return [
            backend
            for backend in self.backends
            if backend.caches and (not keys or backend.key in keys)
        ]

    def only(self, backends: Sequence[Backend], *, plan: Plan) -> Bench:
        """Return a bench of these *backends* and of another *plan*."""
        sites = [site for site in self.sites if site.backend in backends]
        return replace(self, backends=backends, sites=sites, plan=plan)

    def run_on_stores(self, module: str, *, budget_bytes: int, **argument: Any) -> Any:
        """Return what an experiment's own process finds on a new store of each cache."""
        with self.stores(self.caches(), budget_bytes=budget_bytes) as stores:
            locations = {key: store.location for key, store in stores.items()}
            return tasks.run_task(module, {"locations": locations, **argument})

    @contextlib.contextmanager
    def stores(
        self, backends: Sequence[Backend], *, budget_bytes: int
    ) -> Iterator[dict[str, Store]]:
        """Open a store for each of *backends*, by key."""
        with contextlib.ExitStack() as stack:
            yield {
                backend.key: open_store(
                    backend, self.pool_parent, budget_bytes=budget_bytes, stack=stack
                )
                for backend in backends
            }
