from __future__ import annotations

from compare.staleness import RevisionLedger, is_stale


def test_read_after_an_acknowledged_write_must_show_it() -> None:
    ledger = RevisionLedger()
    ledger.acknowledge(7, 3)
    floor = ledger.floor(7)
    assert is_stale(2, floor)
    assert not is_stale(3, floor)
    assert not is_stale(4, floor)


def test_read_sent_before_the_acknowledgement_is_never_stale() -> None:
    ledger = RevisionLedger()
    ledger.acknowledge(7, 3)
    floor = ledger.floor(7)
    ledger.acknowledge(7, 4)
    assert not is_stale(3, floor)
    assert is_stale(3, ledger.floor(7))


def test_acknowledgements_out_of_order_keep_the_newest() -> None:
    ledger = RevisionLedger()
    ledger.acknowledge(7, 5)
    ledger.acknowledge(7, 4)
    assert ledger.floor(7) == 5


def test_cities_do_not_mix() -> None:
    ledger = RevisionLedger()
    ledger.acknowledge(7, 5)
    assert ledger.floor(8) == 0
    assert not is_stale(1, ledger.floor(8))
