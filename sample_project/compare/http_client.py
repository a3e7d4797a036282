"""A minimal HTTP/1.1 client: one request over one Unix socket connection, as a reverse proxy does.

It exists because the driver shares two cores with what it measures: a request costs it a
fraction of what a general HTTP client costs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_HEADERS: Mapping[str, str] = {}


class Response(NamedTuple):
    """What a client needs of an answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    cookies: tuple[str, ...] = ()
    """The values of all `Set-Cookie` headers."""


class BadResponseError(OSError):
    """The server closed the connection before a whole answer had arrived."""


async def exchange(
    socket_path: str,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] = NO_HEADERS,
    body: bytes = b"",
) -> Response:
    """Send one request and return the whole answer.

    The connection is closed by the server after its answer. Cancelling closes it at once.

    Raises:
        OSError: The server could not be reached, or its answer was cut short.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_unix_connection(
        lambda: _Exchange(_encode(method, path, headers, body), answered), socket_path
    )
    try:
        return parse(await answered)
    finally:
        transport.abort()


def parse(received: bytes) -> Response:
    """Return the parts of an answer that ends where *received* ends.

    Raises:
        BadResponseError: It is not a whole HTTP answer.
    """
    head, separator, body = received.partition(b"\r\n\r\n")
    status_line, *header_lines = head.decode("latin-1").split("\r\n")
    parts = status_line.split(" ", 2)
    if not separator or not parts[0].startswith("HTTP/1.") or not parts[1:2]:
        message = f"not a whole HTTP answer: {received[:80]!r}"
        raise BadResponseError(message)
    pairs = [line.partition(":")[::2] for line in header_lines]
    headers = {name.lower(): value.strip() for name, value in pairs}
    cookies = tuple(value.strip() for name, value in pairs if name.lower() == "set-cookie")
    expected_bytes = int(headers.get("content-length", len(body)))
    if len(body) != expected_bytes:
        message = f"answer cut short: {len(body)} of {expected_bytes} bytes"
        raise BadResponseError(message)
    return Response(int(parts[1]), headers, body, cookies)


def _encode(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    length = {"Content-Length": str(len(body))} if method == "POST" else {}
    lines = (f"{name}: {value}\r\n" for name, value in {**headers, **length}.items())
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{''.join(lines)}Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


class _Exchange(asyncio.Protocol):
    """Sends the request when connected and resolves `answered` when the server closes."""

    def __init__(self, request: bytes, answered: asyncio.Future[bytes]) -> None:
        self._request = request
        self._answered = answered
        self._received: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.WriteTransport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered.done():
            return
        if exc is not None:
            self._answered.set_exception(exc)
        else:
            self._answered.set_result(b"".join(self._received))
