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


def test_age_counts_from_the_first_edit_that_is_not_shown() -> None:
    ledger = RevisionLedger()
    for revision, moment in ((2, 10.0), (3, 14.0), (4, 15.0)):
        ledger.acknowledge(7, revision, moment)
    assert ledger.age(7, 1, now=20.0) == 10.0
    assert ledger.age(7, 2, now=20.0) == 6.0
    again = RevisionLedger()
    for entry in ledger.entries():
        again.acknowledge(*entry)
    assert again.age(7, 3, now=20.0) == 5.0
    assert again.floor(7) == 4
