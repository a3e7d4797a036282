"""What keeps the values of each backend: a server of our own, a directory of files, or a pool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compare import servers
from compare.proxy import delayed

if TYPE_CHECKING:
    import contextlib
    from pathlib import Path

    from compare.backends import Backend
    from compare.servers import Server

ADDED_US = 250.0


@dataclass(frozen=True)
class Store:
    """Where a backend finds its values; everything in `directory` counts as its memory."""

    location: str
    directory: Path
    running: list[Server] = field(default_factory=list)
    note: str = ""


def open_store(
    backend: Backend, pool_parent: Path, *, budget_bytes: int, stack: contextlib.ExitStack
) -> Store:
    """Start what *backend* needs, until *stack* ends.

    Args:
        pool_parent: Where pools and files are kept, each in a directory of its own.

    Raises:
        ServerError: A server did not start.
    """
    directory = stack.enter_context(servers.scratch_directory(pool_parent))
    sockets = stack.enter_context(servers.scratch_directory())
    if backend.store == "redis":
        server = stack.enter_context(servers.redis(sockets, budget_bytes=budget_bytes))
        if backend.key != "far_redis":
            return Store(f"unix://{server.socket_path}", directory, [server])
        proxy, note = stack.enter_context(delayed(sockets, server, added_us=ADDED_US))
        return Store(f"unix://{proxy.socket_path}", directory, [server, proxy], note)
    if backend.store == "memcached":
        server = stack.enter_context(servers.memcached(sockets, budget_bytes=budget_bytes))
        return Store(f"unix:{server.socket_path}", directory, [server])
    if backend.store == "files":
        return Store(str(directory / "values"), directory)
    if backend.store == "pool":
        return Store(str(directory / "site.pool"), directory)
    return Store("", directory)
