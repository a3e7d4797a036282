from __future__ import annotations

import pytest

import pmemcache
from pmemcache._engine import lib
from pmemcache.binding import raise_status

NOT_STATUSES = {"PMC_EVICT_S3FIFO", "PMC_EVICT_LRU", "PMC_EVICT_NONE"}
FAILURES = sorted(
    name for name in dir(lib) if name.startswith("PMC_E") and name not in NOT_STATUSES
)


def test_statuses_are_all_known() -> None:
    values = sorted(getattr(lib, name) for name in FAILURES)
    assert values == list(range(-len(values), 0))


@pytest.mark.parametrize("name", FAILURES)
def test_every_failure_is_an_error_of_its_own_kind(name: str) -> None:
    with pytest.raises(pmemcache.PmemCacheError) as raised:
        raise_status(getattr(lib, name), 70_000, 1_000_000)
    assert type(raised.value) is not pmemcache.PmemCacheError
    assert len(str(raised.value)) > 10


def test_messages_carry_the_sizes() -> None:
    with pytest.raises(pmemcache.ValueTooLargeError, match="1,000,000 bytes"):
        raise_status(lib.PMC_EVALUE_SIZE, 5, 1_000_000)
    with pytest.raises(pmemcache.KeyTooLongError, match="70,000 bytes"):
        raise_status(lib.PMC_EKEY_SIZE, 70_000, 0)


def test_every_error_is_in_one_tree() -> None:
    errors = [getattr(pmemcache, name) for name in pmemcache.__all__ if name.endswith("Error")]
    assert len(errors) >= 14
    assert all(issubclass(error, pmemcache.PmemCacheError) for error in errors)
    assert issubclass(pmemcache.ConfigurationError, ValueError)
    assert issubclass(pmemcache.ValueTooLargeError, ValueError)
    assert issubclass(pmemcache.KeyTooLongError, ValueError)
