from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from compare import servers
from compare.backends import BY_KEY, BackendUnavailableError, why_skipped


def test_scratch_directory_is_private_and_removed() -> None:
    with servers.scratch_directory() as directory:
        (directory / "file").touch()
        assert directory.stat().st_mode & 0o777 == 0o700
    assert not directory.exists()


def test_server_that_cannot_start_is_an_error_with_its_log() -> None:
    with servers.scratch_directory() as directory:
        variables = {"SAMPLE_CACHE": "no such cache", "DJANGO_SETTINGS_MODULE": "config.settings"}
        site = servers.site(directory, workers=1, environment=variables)
        with pytest.raises(servers.ServerError, match="no such cache"), site:
            pass


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_redis_is_gone_after_its_block() -> None:
    with servers.scratch_directory() as directory:
        with servers.redis(directory, budget_bytes=1 << 24) as server:
            assert Path(server.socket_path).is_socket()
            assert server.process.poll() is None
        assert server.process.poll() is not None


@pytest.mark.skipif(shutil.which("memcached") is None, reason="memcached is not installed")
@pytest.mark.parametrize("mebibytes", [1, 2, 16, 256])
def test_memcached_is_gone_after_its_block(mebibytes: int) -> None:
    with servers.scratch_directory() as directory:
        with servers.memcached(directory, budget_bytes=mebibytes << 20) as server:
            assert Path(server.socket_path).is_socket()
            assert server.process.poll() is None
        assert server.process.poll() is not None


def test_missing_server_is_a_reason_to_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert "redis-server is not installed" in (why_skipped(BY_KEY["redis"]) or "")


def test_missing_package_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(BackendUnavailableError, match=r"pip install '.\[sample\]'"):
        why_skipped(BY_KEY["pmemcache"])


def test_caches_of_django_need_nothing() -> None:
    assert why_skipped(BY_KEY["none"]) is None
    assert why_skipped(BY_KEY["locmem"]) is None
