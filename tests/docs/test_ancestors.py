"""`docs/ancestors.md` has a place for all of libvmemcache and memkind, and names what is there."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import pmemcache
from pmemcache.config import PoolOptions

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "ancestors.md").read_text(encoding="utf-8")
INTERNALS = (ROOT / "docs" / "internals.md").read_text(encoding="utf-8")
HEADER = (ROOT / "native" / "include" / "pmemcache.h").read_text(encoding="utf-8")
# A name in a cell, or the end of one that the cell before begins: `_get_stat()`, `EVICT`.
NAMES = set(re.findall(r"\w+", PAGE))

# libvmemcache.h: functions, enum vmemcache_repl_p, enum vmemcache_statistic, and its errors.
VMEMCACHE = [
    "vmemcache_new",
    "vmemcache_add",
    "vmemcache_delete",
    "vmemcache_set_size",
    "vmemcache_set_extent_size",
    "vmemcache_set_eviction_policy",
    "vmemcache_get",
    "vmemcache_put",
    "vmemcache_exists",
    "vmemcache_evict",
    "vmemcache_callback_on_evict",
    "vmemcache_callback_on_miss",
    "vmemcache_get_stat",
    "vmemcache_errormsg",
    "vmemcache_bench_set",
    "VMEMCACHE_REPLACEMENT_NONE",
    "VMEMCACHE_REPLACEMENT_LRU",
    "PUT",
    "GET",
    "HIT",
    "MISS",
    "EVICT",
    "ENTRIES",
    "DRAM_SIZE_USED",
    "POOL_SIZE_USED",
    "HEAP_ENTRIES",
    "EINVAL",
    "ENOMEM",
    "EEXIST",
    "ENOENT",
    "ESRCH",
    "EAGAIN",
    "ENOSPC",
]

# memkind.h and memkind_memtier.h: kinds, configuration, policies, statistics, tiers.
MEMKIND = [
    "MEMKIND_DEFAULT",
    "MEMKIND_REGULAR",
    "MEMKIND_HUGETLB",
    "MEMKIND_HBW",
    "MEMKIND_HBW_HUGETLB",
    "MEMKIND_DAX_KMEM",
    "MEMKIND_INTERLEAVE",
    "MEMKIND_HIGHEST_CAPACITY",
    "MEMKIND_LOWEST_LATENCY_LOCAL",
    "MEMKIND_HIGHEST_BANDWIDTH_LOCAL",
    "memkind_create_kind",
    "memkind_create_pmem",
    "memkind_create_pmem_with_config",
    "memkind_create_fixed",
    "memkind_check_available",
    "memkind_check_dax_path",
    "memkind_detect_kind",
    "memkind_config_set_path",
    "memkind_config_set_size",
    "memkind_defrag_reallocate",
    "MEMKIND_MEM_USAGE_POLICY_DEFAULT",
    "MEMKIND_MEM_USAGE_POLICY_CONSERVATIVE",
    "RESIDENT",
    "ACTIVE",
    "ALLOCATED",
    "memkind_update_cached_stats",
    "MEMTIER_POLICY_STATIC_RATIO",
    "MEMTIER_POLICY_DYNAMIC_THRESHOLD",
    "MEMTIER_POLICY_DATA_HOTNESS",
    "memtier_builder_new",
    "memtier_ctl_set",
    "memtier_tier_allocated_size",
]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


ROWS = [
    cells(line)
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| theirs", "| `VMEMCACHE_STAT_...`"))
]


@pytest.mark.parametrize("name", VMEMCACHE + MEMKIND)
def test_everything_of_theirs_has_a_place(name: str) -> None:
    assert name in NAMES


def test_every_row_says_what_it_has_become() -> None:
    assert len(ROWS) > 60
    assert [row for row in ROWS if len(row) < 2 or row[1] == ""] == []


def test_tour_leads_to_the_page() -> None:
    assert "(ancestors.md)" in INTERNALS


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b(?:pmc|PMC)_\w+", PAGE))))
def test_names_of_the_header_are_there(name: str) -> None:
    assert re.search(rf"\b{name}\b", HEADER)


def named_in(part: str, heading: str, column: int) -> set[str]:
    """Return the names in code in a column of a section's table."""
    section = PAGE.split(f"\n## {part}\n")[1].split(f"\n### {heading}\n")[1].split("\n##")[0]
    rows = [cells(line) for line in section.splitlines() if line.startswith("| ")]
    return {name for row in rows[1:] for name in re.findall(r"`(\w+)", row[column])}


def test_methods_and_options_of_python_are_there() -> None:
    options = {field.name for field in fields(PoolOptions)} | {"size"}
    methods = named_in("libvmemcache", "Functions", 2) - options - {"Pool", "with"}

    assert "get_into" in methods
    assert {name for name in methods if not hasattr(pmemcache.Pool, name)} == set()


@pytest.mark.parametrize("part", ["libvmemcache", "memkind"])
def test_statistics_are_there(part: str) -> None:
    named = named_in(part, "Statistics", 1)

    assert named & {"entries", "allocated_bytes"}
    assert named - {field.name for field in fields(pmemcache.PoolStats)} == set()


def test_exceptions_are_there() -> None:
    named = set(re.findall(r"`(\w+Error)`", PAGE))

    assert "PoolFullError" in named
    assert {name for name in named if not hasattr(pmemcache, name)} == {"ValueError", "TypeError"}
