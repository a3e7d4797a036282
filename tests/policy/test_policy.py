"""A usage policy says the same as keywords, a dict and a line, and refuses what cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pmemcache import ConfigurationError, UsagePolicy

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024**2


def test_three_ways_to_say_the_same() -> None:
    policy = UsagePolicy(hot_bytes="64MiB", warm_bytes="8GiB", placement="size:1KiB")
    assert UsagePolicy.parse("hot=64MiB,warm=8GiB,placement=size:1KiB") == policy
    options = {"hot_size": "64MiB", "size": "8GiB", "PLACEMENT": "size:1KiB"}
    assert UsagePolicy.from_options(options) == policy
    assert UsagePolicy.of("hot=64MiB,warm=8GiB,placement=size:1KiB") == UsagePolicy.of(policy)


def test_environment_names_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PMEMCACHE_POLICY", raising=False)
    assert UsagePolicy.of(None) == UsagePolicy()
    monkeypatch.setenv("PMEMCACHE_POLICY", " hot=1MiB, promotion=3 ,eviction=lru,")
    assert UsagePolicy.of(None) == UsagePolicy(hot_bytes="1MiB", promotion_count=3, eviction="lru")
    monkeypatch.setenv("PMEMCACHE_POLICY", "hot=much")
    with pytest.raises(ConfigurationError, match="PMEMCACHE_POLICY: cannot read size"):
        UsagePolicy.from_environment()


@pytest.mark.parametrize(
    ("policy", "capacity", "largest"),
    [
        ({}, 64 * MIB, None),
        ({"hot_bytes": 5000}, 5000, None),
        ({"placement": "size:1KiB"}, 64 * MIB, 1024),
        ({"placement": "ratio:1:8"}, 100 * MIB, None),
        ({"placement": "warm-only"}, 0, None),
        ({"placement": "hot-only", "hot_bytes": "2MiB"}, 2 * MIB, None),
    ],
)
def test_placements(policy: dict[str, Any], capacity: int, largest: int | None) -> None:
    made = UsagePolicy(**policy)
    assert made.hot_capacity(800 * MIB) == capacity
    assert made.value_max_bytes == largest


def test_default_pool_is_a_share_of_its_file_system(tmp_path: Path) -> None:
    assert 16 * MIB <= UsagePolicy().warm_capacity(tmp_path) <= 1024 * MIB
    assert UsagePolicy(warm_bytes="1MiB").warm_capacity(tmp_path) == MIB


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"hot_bytes": "many"}, "cannot read size"),
        ({"warm_bytes": 0}, "out of range"),
        ({"placement": "cold"}, "does not exist"),
        ({"placement": "heat:1"}, "nothing behind it"),
        ({"placement": "size"}, "cannot read size"),
        ({"placement": "size:1GiB"}, "larger than the hot tier"),
        ({"placement": "ratio:1"}, "ratio:1:8"),
        ({"placement": "ratio:0:8"}, "ratio:1:8"),
        ({"placement": "ratio:1:8", "hot_bytes": "1MiB"}, "leave hot_bytes out"),
        ({"placement": "warm-only", "hot_bytes": "1MiB"}, "leave hot_bytes out"),
        ({"placement": "hot-only", "warm_bytes": "1MiB"}, "leave warm_bytes out"),
        ({"promotion_count": 0}, "promotion_count"),
        ({"promotion_count": True}, "promotion_count"),
        ({"eviction": "fifo"}, "eviction"),
        ({"memory": "all"}, "memory"),
        ({"hot_bytes": 0}, "warm-only"),
        ({"hot_bytes": "0"}, "warm-only"),
        ({"placement": 5}, "give a str"),
    ],
)
def test_impossible_policy_is_refused_with_the_reason(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        UsagePolicy(**wrong)


@pytest.mark.parametrize("wrong", [5, ["hot=1MiB"], {5: "1MiB"}])
def test_what_is_no_policy_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="policy"):
        UsagePolicy.of(wrong)


@pytest.mark.parametrize("line", ["hot", "hot=", "hot=1MiB,hot=2MiB", "heat=1", "promotion=x"])
def test_unreadable_line_is_refused(line: str) -> None:
    with pytest.raises(ConfigurationError):
        UsagePolicy.parse(line)


def test_two_names_of_one_option_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="twice"):
        UsagePolicy.from_options({"hot": 1, "hot_size": 1})
