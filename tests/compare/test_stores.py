from __future__ import annotations

import contextlib
import shutil
import socket
from typing import TYPE_CHECKING

import pytest
from compare import proxy, servers
from compare.backends import BACKENDS, BY_KEY, Backend, why_skipped
from compare.opening import open_cache
from compare.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

BUDGET = 4 << 20


@pytest.mark.parametrize("backend", BACKENDS[1:], ids=lambda backend: backend.key)
def test_every_cache_keeps_a_value_and_leaves_nothing(backend: Backend, tmp_path: Path) -> None:
    reason = why_skipped(backend)
    if reason is not None:
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        store = open_store(backend, tmp_path, budget_bytes=BUDGET, stack=stack)
        cache = open_cache(backend.key, store.location, budget_bytes=BUDGET)
        cache.set("key", {"a": [1, 2.5, "drei"]}, 60)
        assert cache.get("key") == {"a": [1, 2.5, "drei"]}
        cache.close()
    assert all(server.process.poll() is not None for server in store.running)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    shutil.which("redis-server") is None or shutil.which("cc") is None,
    reason="needs redis-server and a C compiler",
)
def test_proxy_delays_answers_and_changes_no_byte() -> None:
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(servers.scratch_directory())
        redis = stack.enter_context(servers.redis(directory, budget_bytes=32 << 20))
        far, note = stack.enter_context(proxy.delayed(directory, redis, added_us=3000.0))
        assert "a round trip of" in note
        added = proxy.round_trip_us(far.socket_path) - proxy.round_trip_us(redis.socket_path)
        # Never less than asked for, but for what the proxy itself was measured to cost.
        assert added > 2000
        value = bytes(range(256)) * 8192
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(far.socket_path)
            connection.sendall(b"SET key %b\r\n" % b"x")
            assert connection.recv(16) == b"+OK\r\n"
            connection.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%b\r\n" % (len(value), value))
            assert connection.recv(16) == b"+OK\r\n"
            connection.sendall(b"GET k\r\n")
            answer = b""
            while len(answer) < len(value) + 12:
                answer += connection.recv(1 << 20)
        assert answer == b"$%d\r\n%b\r\n" % (len(value), value)


def test_far_redis_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "cc" else f"/bin/{name}")
    assert "apt-get install gcc" in (why_skipped(BY_KEY["far_redis"]) or "")
    assert why_skipped(BY_KEY["redis"]) is None
