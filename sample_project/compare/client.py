"""Ask a site that is being served, from a process that is no measuring driver."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from compare.http_client import exchange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from compare.http_client import Response
    from compare.servers import Server

OK = 200


def ask(server: Server, path: str, *, method: str = "GET") -> Response:
    """Send one request and return the answer."""
    return asyncio.run(exchange(server.socket_path, method, path))


def ask_all(server: Server, paths: Sequence[str], *, connections: int = 8) -> list[Response]:
    """Send many requests, so many at once, and return the answers in their order."""

    async def ask_them() -> list[Response]:
        answers: dict[int, Response] = {}
        waiting: Iterator[tuple[int, str]] = iter(enumerate(paths))

        async def client() -> None:
            for number, path in waiting:
                answers[number] = await exchange(server.socket_path, "GET", path)

        await asyncio.gather(*(client() for _ in range(connections)))
        return [answers[number] for number in range(len(paths))]

    return asyncio.run(ask_them())


def total(answers: Sequence[Response], header: str) -> int:
    """Return the sum of a header of all answers."""
    return sum(int(answer.headers.get(header, 0)) for answer in answers)


def errors(answers: Sequence[Response]) -> int:
    """Return how many answers are error pages."""
    return sum(answer.status != OK for answer in answers)
