from __future__ import annotations

import pytest
from compare.http_client import BadResponseError, parse


def test_whole_answer_is_taken_apart() -> None:
    answer = parse(b"HTTP/1.1 200 OK\r\nX-Revision: 4\r\nContent-Length: 2\r\n\r\nhi")
    assert answer.status == 200
    assert answer.headers["x-revision"] == "4"
    assert answer.body == b"hi"


@pytest.mark.parametrize(
    "received",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
        b"SSH-2.0-something\r\n\r\n",
    ],
)
def test_part_of_an_answer_is_an_error(received: bytes) -> None:
    with pytest.raises(BadResponseError):
        parse(received)
