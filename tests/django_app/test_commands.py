"""`manage.py pmemcache`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from django.core.cache import cache, caches
from django.core.management import CommandError, call_command

from pmemcache.integrations.django.aliases import pool_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

    SetCaches = Callable[..., None]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs the command and returns what it prints."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        call_command("pmemcache", *arguments)
        return capsys.readouterr().out

    return run


def fill() -> Iterator[str]:
    """Warm one entry at a time."""
    for number in range(3):
        cache.set(f"city:{number}", number)
        yield f"city:{number}"


not_callable = "text"


def test_stat_prints_the_counts_with_their_meaning(run: Callable[..., str]) -> None:
    cache.set("city:7", "Lisbon")
    text = run("stat")
    assert text.startswith("default: ")
    assert "key and value bytes of the entries" in text
    assert "hot_ratio         0.0000" in text


def test_stat_as_json_is_of_every_pool(
    run: Callable[..., str], set_caches: SetCaches, tmp_path: Path
) -> None:
    set_caches(default={}, pages={"KEY_PREFIX": "p"}, other={"LOCATION": str(tmp_path / "b.pool")})
    caches["pages"].set("key", 1)

    first, second = json.loads(run("stat", "--json"))

    assert (first["aliases"], second["aliases"]) == (["default", "pages"], ["other"])
    # One entry of each pool is the workers' report.
    assert (first["pool"]["entries"], second["pool"]["entries"]) == (2, 1)
    assert [each["aliases"] for each in json.loads(run("stat", "--json", "--cache=pages"))] == [
        ["pages"]
    ]


def test_check_of_a_sound_pool_says_so(run: Callable[..., str]) -> None:
    cache.set("city:7", "Lisbon")
    assert run("check") == "default: sound\n"


def test_check_names_broken_invariants(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = pool_of("default").pool()
    monkeypatch.setattr(type(pool), "check", lambda _pool: ["shard 0: bucket 7 is odd"])
    with pytest.raises(CommandError, match="1 broken invariants"):
        run("check")
    assert capsys.readouterr().out == "default: shard 0: bucket 7 is odd\n"


def test_clear_clears_the_aliases_named(
    run: Callable[..., str], set_caches: SetCaches, tmp_path: Path
) -> None:
    set_caches(default={}, other={"LOCATION": str(tmp_path / "other.pool")})
    cache.set("key", 1)
    caches["other"].set("key", 2)

    assert run("clear", "--cache", "other") == "other: cleared\n"
    assert (cache.get("key"), caches["other"].get("key")) == (1, None)
    run("clear")
    assert cache.get("key") is None


@pytest.mark.parametrize("command", ["stat", "check", "clear"])
def test_alias_that_is_no_pmemcache_is_named(
    run: Callable[..., str], set_caches: SetCaches, command: str
) -> None:
    set_caches(default={}, other={"BACKEND": "django.core.cache.backends.dummy.DummyCache"})
    for alias in ("other", "missing"):
        with pytest.raises(CommandError, match=f"under the alias '{alias}'; there is 'default'"):
            run(command, "--cache", alias)


def test_pool_that_does_not_open_is_an_error(run: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "site.pool").write_text("something else", encoding="utf-8")
    with pytest.raises(CommandError):
        run("stat")


def test_warm_calls_what_it_is_given_to_the_end(
    run: Callable[..., str], set_caches: SetCaches
) -> None:
    set_caches(default={"OPTIONS": {"lifetime": "restart"}})
    text = run("warm", f"{__name__}.fill")
    assert text.startswith(f"{__name__}.fill: ")
    assert text.endswith("3 entries more than before\n")
    assert cache.get("city:2") == 2


def test_warm_calls_what_the_settings_name(
    run: Callable[..., str], set_caches: SetCaches, settings: SettingsWrapper
) -> None:
    set_caches(default={"OPTIONS": {"lifetime": "restart"}})
    with pytest.raises(CommandError, match="PMEMCACHE_WARM"):
        run("warm")
    settings.PMEMCACHE_WARM = [f"{__name__}.fill"]
    run("warm")
    assert cache.get("city:0") == 0


def test_warm_refuses_a_pool_that_would_end_with_it(run: Callable[..., str]) -> None:
    with pytest.raises(CommandError, match="start the workers first"):
        run("warm", f"{__name__}.fill")
    assert cache.get("city:0") is None


def test_warm_fills_a_volatile_pool_that_a_worker_has_open(
    run: Callable[..., str], tmp_path: Path
) -> None:
    code = f"""
import pmemcache, sys
pool = pmemcache.Pool({str(tmp_path / "site.pool")!r}, "16MiB")
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ.copy(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "open\n"
        run("warm", f"{__name__}.fill")
        worker.communicate()
    assert cache.get("city:0") == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [("no.such.function", "cannot be imported"), (f"{__name__}.not_callable", "is a str")],
)
def test_warm_says_what_is_no_function(run: Callable[..., str], name: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run("warm", name)
