"""Which card comes next: worst first, controls at random, and the same after a restart."""

from __future__ import annotations

import time

import numpy as np
import pytest

from errata.errors import SettingsError
from errata.review.journal import Verdict
from errata.review.queue import Card, Queue


def chances(rows: int = 400) -> np.ndarray:
    return np.random.default_rng(7).permutation(rows) / rows


def queue(rows: int = 400, *, seed: int = 0, **values: object) -> Queue:
    rng = np.random.default_rng(8)
    suspicion = chances(rows)
    given, proposed = rng.integers(0, 4, rows), rng.integers(0, 4, rows)
    return Queue(suspicion, suspicion, suspicion > 0.8, given, proposed, seed=seed, **values)


def play(chosen: Queue, cards: int, *, word: str = "keep", start: dict | None = None):
    """Answer every card alike, and give the cards and the verdicts."""
    current = {row: dict(by) for row, by in (start or {}).items()}
    seen: list[Card] = []
    for _ in range(cards):
        card = chosen.next(current)
        if card is None:
            break
        seen.append(card)
        who = chosen.reviewer
        verdict = Verdict(f"{who}{card.row}", card.row, str(card.row), word, reviewer=who)
        current.setdefault(card.row, {})[who] = verdict
    return seen, current


def test_no_row_comes_twice_and_all_rows_come():
    seen, _ = play(queue(100), 200)
    assert sorted(card.row for card in seen) == list(range(100))


def test_the_worst_come_first():
    chosen = queue(controls=0.0, overlap=0.0)
    seen, _ = play(chosen, 60)
    suspicion = chances()
    worst = [suspicion[card.row] for card in seen if card.stratum == "worst"]
    assert worst[0] == suspicion.max()
    assert np.mean(worst) > 0.9
    assert {card.stratum for card in seen} == {"worst", "class", "boundary", "pair"}


def test_controls_are_random_rows_of_both_strata():
    chosen = queue(4_000, controls=0.5, overlap=0.0)
    seen, _ = play(chosen, 600)
    controls = [card.row for card in seen if card.control]
    assert 230 < len(controls) < 370
    flagged = chances(4_000)[controls] > 0.8
    assert 0.4 < flagged.mean() < 0.6
    unflagged = chances(4_000)[controls][~flagged]
    # Uniform over the stratum, of which the worst few were shown as suspects.
    assert 0.35 < unflagged.mean() < 0.45


def test_a_restarted_server_goes_on_with_the_same_card():
    seen, current = play(queue(), 37)
    assert queue().next(current) == queue().next(current)
    again, _ = play(queue(), 37)
    assert again == seen
    assert play(queue(seed=1), 37)[0] != seen


def test_a_share_of_the_cards_is_blind():
    seen, _ = play(queue(2_000, blind=0.3), 400)
    assert 0.22 < np.mean([card.blind for card in seen]) < 0.38
    assert not any(card.blind for card in play(queue(blind=0.0), 100)[0])


def test_the_budget_ends_it():
    chosen = queue(budget=12)
    seen, current = play(chosen, 50)
    assert len(seen) == 12
    assert chosen.next(current) is None


def test_two_reviewers_share_some_rows_and_split_the_rest():
    _, first = play(queue(reviewer="a"), 60)
    seen, _ = play(queue(reviewer="b", overlap=0.3), 60, start=first)
    shared = [card for card in seen if card.row in first]
    assert {card.stratum for card in shared} == {"overlap"}
    assert 8 <= len(shared) <= 30


def test_verdicts_on_a_confusion_bring_more_of_it():
    rows = 200
    p = np.full(rows, 0.5)
    given, proposed = np.arange(rows) % 2, np.ones(rows, dtype=int) * 2
    chosen = Queue(p, p, p > 0, given, proposed, controls=0.0, overlap=0.0)
    current = {
        row: {"": Verdict(str(row), row, str(row), "keep" if row % 2 else "drop")}
        for row in range(20)
    }
    card = chosen.next(current)
    assert card is not None
    assert given[card.row] == 0


def test_a_boundary_is_where_verdicts_put_it():
    rows = 200
    p = np.linspace(0.01, 0.99, rows)
    classes = np.zeros(rows, dtype=int)
    chosen = Queue(p, p, p > 0.5, classes, classes + 1, controls=0.0, overlap=0.0)
    unseen = np.arange(rows - 40)

    def boundary(word: str) -> float:
        current = {
            row: {"": Verdict(str(row), row, str(row), word)} for row in range(rows - 40, rows)
        }
        return float(p[unseen[np.argmin(np.abs(chosen._odds(unseen, current)))]])

    assert boundary("drop") < 0.45
    # Rows that should be wrong are right: what was even before is not suspicious now.
    assert boundary("keep") > 0.55


def test_verdicts_that_were_to_be_expected_change_no_order():
    rows = 400
    p = np.full(rows, 0.5)
    given = np.arange(rows) % 2
    chosen = Queue(p, p, p > 0, given, given + 1, controls=0.0, overlap=0.0)
    current = {
        row: {"": Verdict(str(row), row, str(row), "keep" if row < 50 else "drop")}
        for row in range(100)
    }
    odds = chosen._odds(np.arange(100, 400), current)
    assert np.abs(odds).max() < 1e-9


def test_a_budget_is_that_of_each_reviewer():
    _, first = play(queue(reviewer="a", budget=10), 50)
    seen, both = play(queue(reviewer="b", budget=15, overlap=0.4), 50, start=first)
    assert len(first) == 10
    assert len(seen) == 15
    overlap = sum(card.stratum == "overlap" for card in seen)
    assert overlap > 0
    assert len(both) == 25 - overlap


def test_undoing_a_verdict_brings_its_card_back():
    chosen = queue()
    _, current = play(chosen, 20)
    card = chosen.next(current)
    assert card is not None
    longer = {**current, card.row: {"": Verdict("u", card.row, "", "keep")}}
    assert chosen.next(longer) != card
    assert chosen.next(current) == card


def test_one_card_settles_a_group_of_near_duplicates():
    p = np.linspace(0, 1, 30)
    classes = np.zeros(30, dtype=int)
    chosen = Queue(
        p, p, p > 0.5, classes, classes + 1, controls=0.0, overlap=0.0, near=np.arange(30) // 3
    )
    seen, _ = play(chosen, 100)
    assert len(seen) == 10


def test_rows_behind_a_large_settled_group_still_come():
    p = np.linspace(1, 0, 6_000)
    classes = np.zeros(6_000, dtype=int)
    near = np.where(np.arange(6_000) < 5_500, 0, np.arange(6_000))
    chosen = Queue(p, p, p > 0.5, classes, classes + 1, controls=0.0, overlap=0.0, near=near)
    _, current = play(chosen, 1)
    card = chosen.next(current)
    assert card is not None
    assert card.row >= 5_500


def test_unlabelled_rows_never_come():
    p = np.array([0.9, np.nan, 0.2])
    classes = np.array([0, -1, 1])
    seen, _ = play(Queue(p, p, p > 0.5, classes, np.array([1, 0, 0]), controls=0.5), 10)
    assert sorted(card.row for card in seen) == [0, 2]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"controls": 1.5}, "controls `1.5`"),
        ({"blind": -0.1}, "blind `-0.1`"),
        ({"overlap": float("nan")}, "overlap `nan`"),
        ({"budget": -1}, "budget `-1`"),
    ],
)
def test_shares_out_of_range_are_refused(values: dict, words: str):
    with pytest.raises(SettingsError, match=words):
        queue(**values)


def test_a_card_of_a_million_rows_takes_a_moment():
    chosen = queue(1_000_000)
    _, current = play(chosen, 5)
    began = time.process_time()
    chosen.next(current)
    assert time.process_time() - began < 0.1
