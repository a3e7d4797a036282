"""Each thing that can be wrong with a cache is found, and nothing else is."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core import checks

from pmemcache.doctor import diagnose
from pmemcache.integrations.django import checks as cache_checks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import SettingsWrapper

    from pmemcache.doctor import Diagnosis

    SetCaches = Callable[..., None]

LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": ""}
NOBODY = 65534


def found(*, deploy: bool = False) -> dict[str, checks.CheckMessage]:
    """Return by id what our checks say.

    They are called here by themselves: a check of Django's makes every backend, which raises what
    is E001 and E005 here.
    """
    messages = cache_checks.check_caches()
    if deploy:
        messages += cache_checks.check_default_for_deployment()
    assert all(message.hint or message.id == "pmemcache.E001" for message in messages)
    return {str(message.id): message for message in messages}


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that gives the file system of every pool these properties."""

    def pretend(**properties: Any) -> None:
        def pretended(path: Path, **options: Any) -> Diagnosis:
            return dataclasses.replace(diagnose(path, **options), **properties)

        monkeypatch.setattr(cache_checks, "diagnose", pretended)

    return pretend


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    monkeypatch.setenv("WEB_CONCURRENCY", "1")


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user without rights, where this one is root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_both_are_registered_under_the_tag_of_caches(
    set_caches: SetCaches, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_caches(default=LOCMEM, other={"OPTIONS": {"size": "100TiB"}})
    monkeypatch.delenv("WEB_CONCURRENCY")

    def ids(*, deploy: bool) -> set[str]:
        tags = [checks.Tags.caches]
        messages = checks.run_checks(tags=tags, include_deployment_checks=deploy)
        return {str(message.id) for message in messages if "pmemcache" in str(message.id)}

    assert ids(deploy=False) == {"pmemcache.W002"}
    assert ids(deploy=True) == {"pmemcache.W002", "pmemcache.W007"}


def test_sound_settings_have_nothing_to_say() -> None:
    assert found(deploy=True) == {}


def test_sound_pool_that_is_open_has_nothing_to_say() -> None:
    from django.core.cache import cache  # noqa: PLC0415 - the settings' own

    cache.set("key", 1)
    assert found(deploy=True) == {}


def test_other_backends_are_left_alone(set_caches: SetCaches) -> None:
    set_caches(default=LOCMEM, other={"BACKEND": "no.such.Backend"})
    assert found(deploy=True) == {}


def test_unknown_option_is_an_error_with_its_suggestion(set_caches: SetCaches) -> None:
    set_caches(default={"OPTIONS": {"evicton": "lru"}})
    assert "did you mean 'eviction'" in found()["pmemcache.E001"].msg


def test_missing_directory_is_an_error(set_caches: SetCaches, tmp_path: Path) -> None:
    set_caches(default={"LOCATION": str(tmp_path / "missing" / "site.pool")})
    assert "create it first" in found()["pmemcache.E001"].msg


def test_directory_that_cannot_be_written_is_an_error(set_caches: SetCaches) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        set_caches(default={"LOCATION": f"{folder}/site.pool"})
        with nobody():
            assert list(found()) == ["pmemcache.E002"]


def test_directory_open_to_others_is_an_error(set_caches: SetCaches, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    set_caches(default={})
    assert list(found()) == ["pmemcache.E003"]


def test_unsigned_pickles_in_a_shared_directory_are_a_warning(
    set_caches: SetCaches, tmp_path: Path
) -> None:
    tmp_path.chmod(0o1777)
    set_caches(default={})
    assert list(found()) == ["pmemcache.W005"]
    set_caches(default={"OPTIONS": {"serializer": "json"}})  # reads what others have pickled
    assert list(found()) == ["pmemcache.W005"]


def test_pool_of_another_user_is_an_error(
    set_caches: SetCaches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site.pool").touch(mode=0o600)
    set_caches(default={})
    assert found() == {}

    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert list(found()) == ["pmemcache.E004"]


@pytest.mark.parametrize(("mode", "expected"), [(0o600, []), (0o640, ["pmemcache.W004"])])
def test_pool_that_others_can_read_is_a_warning(
    set_caches: SetCaches, tmp_path: Path, mode: int, expected: list[str]
) -> None:
    (tmp_path / "site.pool").touch()
    (tmp_path / "site.pool").chmod(mode)
    set_caches(default={})
    assert list(found()) == expected


def test_one_file_with_two_geometries_is_an_error(set_caches: SetCaches, tmp_path: Path) -> None:
    set_caches(
        default={"OPTIONS": {"size": "16MiB"}},
        sessions={"OPTIONS": {"size": "32MiB"}},
        pages={"OPTIONS": {"size": "16MiB"}},
        elsewhere={"LOCATION": str(tmp_path / "other.pool"), "OPTIONS": {"size": "32MiB"}},
    )
    error = found()["pmemcache.E005"]
    assert "CACHES['sessions'] and CACHES['default'] share" in error.msg
    assert "size_bytes=33554432 instead of 16777216" in error.msg
    assert list(found()) == ["pmemcache.E005"]


def test_network_file_system_is_an_error(pretend: Callable[..., None]) -> None:
    pretend(remote=True, file_system="nfs4")
    assert "nfs4" in found()["pmemcache.E006"].msg


@pytest.mark.parametrize("setting", ["MEDIA_ROOT", "STATIC_ROOT", "STATICFILES_DIRS", "prefixed"])
def test_pool_among_served_files_is_an_error(
    settings: SettingsWrapper, tmp_path: Path, setting: str
) -> None:
    if setting == "prefixed":
        settings.STATICFILES_DIRS = [("prefix", str(tmp_path))]
    elif setting == "STATICFILES_DIRS":
        settings.STATICFILES_DIRS = [str(tmp_path)]
    else:
        setattr(settings, setting, str(tmp_path))
    assert list(found()) == ["pmemcache.E007"]


def test_served_directory_beside_the_pool_is_fine(
    settings: SettingsWrapper, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = str(tmp_path / "site")  # begins like the pool's name
    assert found() == {}


def test_relative_location_is_a_warning(
    set_caches: SetCaches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    set_caches(default={"LOCATION": "site.pool"})
    assert str(tmp_path) in found()["pmemcache.W001"].msg


@pytest.mark.parametrize(("size", "expected"), [("100TiB", ["pmemcache.W002"]), (None, [])])
def test_size_over_the_file_system_is_a_warning(
    set_caches: SetCaches, size: str | None, expected: list[str]
) -> None:
    set_caches(default={"OPTIONS": {"size": size}})
    assert list(found()) == expected


def test_size_over_the_shared_memory_of_a_container_names_the_option(
    set_caches: SetCaches, pretend: Callable[..., None]
) -> None:
    pretend(mount_point="/dev/shm", size_bytes=64 * 1024**2)  # noqa: S108 - no file
    set_caches(default={"OPTIONS": {"size": "1GiB"}})
    assert "--shm-size=1280m" in str(found()["pmemcache.W003"].hint)

    set_caches(default={"OPTIONS": {"size": "32MiB"}})
    assert found() == {}


@pytest.mark.parametrize(
    ("dram", "lifetime", "expected"),
    [
        (True, "restart", ["pmemcache.W006"]),
        (True, "volatile", []),
        (False, "restart", []),
    ],
)
def test_memory_that_is_to_survive_a_restart_is_a_warning(
    set_caches: SetCaches,
    pretend: Callable[..., None],
    dram: bool,  # noqa: FBT001 - a parameter of the test
    lifetime: str,
    expected: list[str],
) -> None:
    pretend(dram=dram)
    set_caches(default={"OPTIONS": {"lifetime": lifetime}})
    assert list(found()) == expected


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("WEB_CONCURRENCY", "4", ["pmemcache.W007"]),
        ("WEB_CONCURRENCY", "1", []),
        ("WEB_CONCURRENCY", "many", []),
        ("GUNICORN_CMD_ARGS", "--bind=:80 --workers=3", ["pmemcache.W007"]),
        ("GUNICORN_CMD_ARGS", "-w 2 --reload", ["pmemcache.W007"]),
        ("GUNICORN_CMD_ARGS", "--workers 1", []),
    ],
)
def test_locmem_beside_several_workers_is_a_warning(
    set_caches: SetCaches,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    expected: list[str],
) -> None:
    monkeypatch.setenv(variable, value)
    set_caches(default=LOCMEM)
    assert list(found()) == expected


def test_locmem_is_a_warning_of_a_deployment_unless_it_has_one_worker(
    set_caches: SetCaches, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_caches(default=LOCMEM)
    assert found(deploy=True) == {}

    monkeypatch.delenv("WEB_CONCURRENCY")
    assert found() == {}
    assert list(found(deploy=True)) == ["pmemcache.W007"]


def test_hot_tier_larger_than_its_pool_is_a_warning(set_caches: SetCaches) -> None:
    set_caches(default={"OPTIONS": {"size": "16MiB", "hot_size": "17MiB"}})
    assert list(found()) == ["pmemcache.W008"]


@pytest.mark.parametrize(
    ("setting", "advice"),
    [("size", "inside of OPTIONS"), ("TIMEOUTS", "'TIMEOUT'"), ("hotsize", "'hot_size'")],
)
def test_setting_in_the_wrong_place_is_a_warning(
    set_caches: SetCaches, setting: str, advice: str
) -> None:
    set_caches(default={setting: 1})
    assert advice in str(found()["pmemcache.W009"].hint)


def test_settings_of_django_and_of_others_are_left_alone(set_caches: SetCaches) -> None:
    set_caches(default={"TIMEOUT": 1, "KEY_PREFIX": "a", "VERSION": 2, "max_entries": 9, "OWN": 1})
    assert found() == {}


def test_cull_frequency_alone_is_a_warning(set_caches: SetCaches) -> None:
    set_caches(default={"OPTIONS": {"CULL_FREQUENCY": 2}})
    assert list(found()) == ["pmemcache.W010"]
    set_caches(default={"OPTIONS": {"CULL_FREQUENCY": 2, "MAX_ENTRIES": 10}})
    assert found() == {}
