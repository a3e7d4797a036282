"""Hot share and total hit ratio of two tiers on traces, beside a single tier.

python benchmarks/tiers_replay.py [--value-bytes 4096] [--share 0.1]

`PMEMCACHE_TRACES` names a folder of traces (see traces.py); without it two synthetic ones are
replayed. One process gets each key and sets it on a miss. What is hot is in the pool too, so "a hot
tier of a tenth of the total" can be read in two ways, and each trace is replayed for both:

*   inclusive: the pool has room for a tenth of the keys, the hot tier for a tenth of those, and the
    pool alone is what they are compared with: both hold the same number of different values. Once
    more with a hot tier of a tenth of the pool's *bytes*, which are fewer entries: a Python object
    is larger than its bytes;
*   strict: a tenth of the bytes is the hot tier's, and the pool has the other nine. The pool then
    holds a tenth fewer values, and no tier that only has copies can bring these hits back; so the
    smaller pool is replayed alone too.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from array import array
from pathlib import Path
from typing import Any

import traces
from recording import machine, record

import pmemcache
from pmemcache.hot import ENTRY_OVERHEAD_BYTES

POOL_SHARE = 0.1
#: What the pool spends on an entry besides its value (key, head, rounding), and what is never free.
POOL_ENTRY_BYTES = 48
PAYLOAD_SHARE = 0.97
#: What the hot tier counts for an entry besides its value: the key, and the objects.
HOT_ENTRY_BYTES = ENTRY_OVERHEAD_BYTES + sys.getsizeof("key:123456") + sys.getsizeof(b"")
#: Traces that the targets speak of: the hot share of hits that they ask for, in percent.
TARGETS = {"web07": 73.0, "scarab-recs": 67.0, "orm-busy": 82.0}
#: How far from a single tier's the hits may be, in points.
HITS_WITHIN = 0.3
MISSING = object()


def replay(keys: array[int], policy: str, value: bytes) -> dict[str, float]:
    """Return what one process made of a trace, in percent of its requests."""
    with pmemcache.TieredCache(None, policy=policy) as cache:
        get, put = cache.get, cache.set
        for key in keys:
            name = f"key:{key}"
            if get(name, MISSING) is MISSING:
                put(name, value)
        stats = cache.stats()
    return {
        "hits": 100 * stats.hits / len(keys),
        "hot_share": 100 * stats.hot_hits / stats.hits,
        "revalidated_share": 100 * stats.revalidations / stats.hits,
        "promotions_share": 100 * stats.promotions / len(keys),
    }


def replay_trace(trace: traces.Trace, value: bytes, share: float) -> dict[str, Any]:
    """Replay one trace by one tier and by two, as both readings have it."""
    keys = array("Q", trace.keys.read_bytes())
    entries = trace.unique * POOL_SHARE
    pool = int(entries * (len(value) + POOL_ENTRY_BYTES) / PAYLOAD_SHARE)
    hot = int(entries * share * (len(value) + HOT_ENTRY_BYTES))
    rest = pool - int(share * pool)
    alone = replay(keys, f"warm={pool},placement=warm-only", value)
    rest_alone = replay(keys, f"warm={rest},placement=warm-only", value)
    over = replay(keys, f"warm={pool},hot={hot}", value)
    in_bytes = replay(keys, f"warm={pool},hot={pool - rest}", value)
    strict = replay(keys, f"warm={rest},hot={pool - rest}", value)
    return {
        "trace": trace.name,
        "requests": len(keys),
        "pool_bytes": pool,
        "hot_bytes": hot,
        "single_tier_hits": alone["hits"],
        "hits": over["hits"],
        "from_single_tier": over["hits"] - alone["hits"],
        "hot_share": over["hot_share"],
        "revalidated_share": over["revalidated_share"],
        "promotions_share": over["promotions_share"],
        "in_bytes_from_single_tier": in_bytes["hits"] - alone["hits"],
        "in_bytes_hot_share": in_bytes["hot_share"],
        "strict_from_single_tier": strict["hits"] - alone["hits"],
        "strict_from_its_pool_alone": strict["hits"] - rest_alone["hits"],
        "strict_hot_share": strict["hot_share"],
        "target_hot_share": TARGETS.get(trace.name),
    }


def line_of(cell: dict[str, Any]) -> str:
    """Return one trace's result as a line."""
    target = cell["target_hot_share"]
    return (
        f"{cell['trace']:12} single tier {cell['single_tier_hits']:5.2f} %; target hot share"
        f" {target or '-'} %, hits within {HITS_WITHIN}\n"
        f"  inclusive  hits {cell['from_single_tier']:+5.2f}  hot share {cell['hot_share']:4.1f} %"
        f" ({cell['revalidated_share']:.1f} % revalidated; copies made for"
        f" {cell['promotions_share']:.1f} % of requests)\n"
        f"  in bytes   hits {cell['in_bytes_from_single_tier']:+5.2f}  hot share"
        f" {cell['in_bytes_hot_share']:4.1f} %\n"
        f"  strict     hits {cell['strict_from_single_tier']:+5.2f}  hot share"
        f" {cell['strict_hot_share']:4.1f} %; against its pool alone"
        f" {cell['strict_from_its_pool_alone']:+5.2f}"
    )


def main() -> None:
    """Replay, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--value-bytes", type=int, default=4096)
    parser.add_argument("--share", type=float, default=0.1, help="of the pool, for the hot tier")
    parser.add_argument("--all", action="store_true", help="not only traces with a target")
    options = parser.parse_args()
    host = machine("private pools in the directory for temporary files")
    value = os.urandom(options.value_bytes)
    folder = os.environ.get("PMEMCACHE_TRACES")
    cells = []
    with tempfile.TemporaryDirectory() as name:
        into = Path(name)
        found = traces.unpack(Path(folder), into) if folder else traces.synthesize(into)
        for trace in found:
            if options.all or not folder or trace.name in TARGETS:
                cells.append(replay_trace(trace, value, options.share))
                print(line_of(cells[-1]), flush=True)
    print(f"Wrote {record('tiers_replay', host, {'cells': cells})}")


if __name__ == "__main__":
    main()
