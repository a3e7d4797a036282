"""Notes of keys are hints: seldom lost, more seldom another's, and small."""

from __future__ import annotations

from pmemcache.notes import Notes


def test_note_is_found_replaced_and_forgotten() -> None:
    notes = Notes(16)
    assert notes.get("key") == 0
    notes.set("key", 7)
    notes.set("key", 200)
    assert notes.get("key") == 200
    notes.set("key", 0)
    assert notes.get("key") == 0


def test_notes_outlive_growing() -> None:
    notes = Notes(16)
    for key in range(4):
        notes.set(key, key + 1)
    notes.fit(10_000)
    assert [notes.get(key) for key in range(4)] == [1, 2, 3, 4]


def test_most_notes_are_found_and_few_that_are_not_there() -> None:
    notes = Notes(16)
    notes.fit(1000)
    for key in range(4000):
        notes.set(key, 1 + key % 255)
    found = sum(notes.get(key) == 1 + key % 255 for key in range(4000))
    others = sum(notes.get(key) > 0 for key in range(4000, 104_000))
    assert found > 3600
    assert others < 2000


def test_lesser_note_makes_room() -> None:
    """But for the one in a thousand that has the check of the other too, and its place."""
    notes = Notes(1)
    worth = [f"worth:{number}" for number in range(10)]
    for key in worth:
        notes.set(key, 255)
    for key in range(200):
        notes.set(key, 1)
    assert sum(notes.get(key) == 255 for key in worth) > 6


def test_older_note_makes_room_also_when_the_count_began_anew() -> None:
    notes = Notes(1, is_precise=True)
    for key in range(300):
        notes.set(key, 250)
    notes.newest = 4
    for key in range(1000, 1010):
        notes.set(key, 3)
    for key in range(2000, 2040):
        notes.set(key, 4)
    assert sum(notes.get(key) == 4 for key in range(2000, 2040)) > 25
    assert sum(notes.get(key) == 3 for key in range(1000, 1010)) > 3
    assert not any(notes.get(key) for key in range(3000, 9000))
