from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from errata.correct.corrections import Corrections, correct
from errata.correct.gate import Gain, sure_enough, weigh_fixes
from errata.errors import SettingsError

CLASSES = ("cat", "dog", "owl")


@dataclass(frozen=True)
class Said:
    verdict: str
    label: str | None = None


@dataclass(frozen=True)
class Rows:
    given: np.ndarray
    proposed: np.ndarray
    p_wrong: np.ndarray
    p_proposed: np.ndarray

    def correct(self, judged: dict[int, Said] | None = None, **levels: float | None) -> Corrections:
        return correct(
            self.given,
            self.proposed,
            self.p_wrong,
            self.p_proposed,
            judged=judged or {},
            classes=CLASSES,
            **levels,  # type: ignore[arg-type]
        )


def rows_of(*rows: tuple[int, int, float, float]) -> Rows:
    given, proposed, p_wrong, p_proposed = zip(*rows, strict=True)
    return Rows(
        np.array(given, dtype=np.int64),
        np.array(proposed, dtype=np.int64),
        np.array(p_wrong, dtype=np.float64),
        np.array(p_proposed, dtype=np.float64),
    )


def many(suspects: int, fine: int, *, p: float = 0.98, p_fine: float = 0.02) -> Rows:
    """Rows whose label is 0; suspects, which come first, are proposed 1."""
    return rows_of(
        *[(0, 1, min(p + 0.01, 1.0), p)] * suspects, *[(0, 2, p_fine, p_fine / 2)] * fine
    )


def test_people_come_before_the_model_and_the_model_before_the_given_label():
    rows = rows_of(*[(0, 1, 0.99, 0.98)] * 12, (0, 1, 0.5, 0.4))
    # Ten of eleven checked proposals were right: (20 x .98 + 10) / 31 is .955.
    confirmed = {row: Said("relabel", "dog") for row in range(1, 11)}
    found = rows.correct({0: Said("relabel", "owl")} | confirmed)
    assert found.label.tolist() == [2, *[1] * 11, 0]
    assert found.source.tolist() == ["human"] * 11 + ["model", "given"]
    assert found.weight.tolist() == [1] * 13


def test_one_check_that_fails_is_enough_to_hold_back_the_rest():
    found = rows_of(*[(0, 1, 0.99, 0.98)] * 2).correct({0: Said("keep")})
    # (20 x .98 + 0) / 21 is .933.
    assert set(found.source) == {"human", "given"}
    assert found.refused == (
        "1 proposal above `0.95` is not applied: the share of them that is right is estimated "
        "at 0.933",
    )


def test_a_kept_label_is_not_corrected_however_sure_the_model_is():
    found = rows_of((0, 1, 1.0, 1.0), (0, 1, 0.1, 0.1)).correct({0: Said("keep")})
    assert found.label.tolist() == [0, 0]
    assert found.source.tolist() == ["human", "given"]


def test_a_row_people_dropped_weighs_nothing_and_keeps_its_label():
    found = rows_of((0, 1, 0.99, 0.98), (1, 0, 0.1, 0.1)).correct({0: Said("drop")})
    assert (found.label.tolist(), found.weight.tolist()) == ([0, 1], [0, 1])
    assert found.source.tolist() == ["human", "given"]


def test_a_row_people_left_undecided_stays_as_given():
    found = many(5, 5).correct({0: Said("unsure")}, drop_above=0.9)
    assert (found.label[0], found.weight[0], found.source[0]) == (0, 1, "given")
    assert found.source[1] == "model"


def test_a_probability_at_the_level_is_not_above_it():
    rows = rows_of((0, 1, 0.97, 0.95), (0, 1, 0.97, 0.9501))
    assert rows.correct(auto_above=0.95).source.tolist() == ["given", "model"]


def test_a_level_of_one_turns_the_model_off():
    found = many(5, 5, p=1.0).correct(auto_above=1.0)
    assert set(found.source) == {"given"}
    assert found.model is None
    assert found.gain == Gain(0.0, 0.0, 0.0)


def test_an_unlabelled_row_is_given_the_proposed_label():
    found = rows_of((-1, 2, np.nan, 0.99), (-1, 2, np.nan, 0.5)).correct()
    assert found.label.tolist() == [2, -1]
    # Nothing right before, .99 of two rows after.
    assert found.gain.estimate == pytest.approx(0.99 / 2)


def test_the_expected_gain_is_proposals_won_less_labels_lost():
    found = many(10, 90).correct()
    # Ten of a hundred rows: .98 become right, .01 stop being right.
    assert found.gain.estimate == pytest.approx(10 * (0.98 - 0.01) / 100)
    assert found.gain.low <= found.gain.estimate <= found.gain.high <= 0.1
    assert (found.proposals, found.checked, found.people) == (10, 0, 0)


def test_the_gain_of_people_takes_them_to_be_right():
    rows = rows_of((0, 1, 0.6, 0.5), (0, 1, 0.2, 0.1), (0, 1, 0.2, 0.1), (0, 1, 0.2, 0.1))
    found = rows.correct({0: Said("relabel", "owl")})
    assert found.people == pytest.approx(1 / 4)
    assert found.gain == Gain(*[pytest.approx(1 / 4)] * 3)


def test_relabelling_a_row_as_what_it_is_changes_nothing():
    found = many(1, 3, p=0.5).correct({0: Said("relabel", "cat")})
    assert (found.label[0], found.source[0], found.people) == (0, "human", 0)


def test_dropping_a_wrong_row_raises_the_share_that_is_right():
    rows = rows_of((0, 1, 0.9, 0.5), (0, 1, 0.0, 0.0), (0, 1, 0.0, 0.0), (0, 1, 0.5, 0.2))
    found = rows.correct({0: Said("drop")})
    assert found.people == pytest.approx(2.5 / 3 - 2.5 / 4)


def test_the_gate_closes_where_people_refute_the_model():
    # Of ten checked proposals none was right: (20 x .98 + 0) / 30 is far below .95.
    found = many(40, 60).correct({row: Said("keep") for row in range(10)})
    assert (found.source == "model").sum() == 0
    assert found.gain.estimate == 0
    assert found.precision is not None
    assert found.precision.estimate == pytest.approx(20 * 0.98 / 30)
    assert (found.proposals, found.checked) == (30, 10)
    assert "not applied" in found.refused[0]


def test_the_gate_stays_open_where_people_confirm_the_model():
    found = many(40, 60).correct({row: Said("relabel", "dog") for row in range(10)})
    assert (found.source == "model").sum() == 30
    assert found.precision is not None
    assert found.precision.estimate == pytest.approx((20 * 0.98 + 10) / 30)
    assert not found.refused


def test_only_the_surest_proposals_are_applied_where_the_others_prove_wrong():
    sure, less = [(0, 1, 1.0, 0.999)] * 30, [(0, 1, 0.97, 0.96)] * 30
    rows = rows_of(*sure, *less, *[(0, 2, 0.01, 0.0)] * 40)
    judged = {row: Said("relabel", "dog") for row in range(15)}
    judged |= {row: Said("keep") for row in range(30, 45)}
    found = rows.correct(judged)
    assert found.source[15:30].tolist() == ["model"] * 15
    assert set(found.source[45:60]) == {"given"}


def test_corrections_that_lose_as_much_as_they_win_are_held_back():
    # At a level of .4 half of the proposals are right, and as many given labels were.
    rows = rows_of(*[(0, 1, 0.5, 0.5)] * 50, *[(0, 1, 0.1, 0.1)] * 50)
    found = rows.correct(auto_above=0.4)
    assert set(found.source) == {"given"}
    assert found.model is not None
    assert found.model.estimate == pytest.approx(0)
    assert "more labels right than wrong" in found.refused[0]


def test_rows_above_the_level_are_dropped_unless_they_are_corrected():
    rows = rows_of(
        (0, 1, 0.99, 0.98), *[(0, 1, 0.99, 0.3)] * 3, *[(0, 1, 0.01, 0.0)] * 20, (-1, 1, np.nan, 0)
    )
    found = rows.correct(drop_above=0.9)
    assert found.source.tolist() == ["model"] * 4 + ["given"] * 21
    assert found.weight.tolist() == [1, 0, 0, 0] + [1] * 21
    assert found.gain.estimate > 0


def test_rows_no_worse_than_others_are_not_dropped():
    found = rows_of(*[(0, 1, 0.3, 0.1)] * 20, *[(0, 1, 0.29, 0.1)] * 20).correct(drop_above=0.295)
    assert found.weight.min() == 1
    assert "not dropped" in found.refused[0]


def test_not_all_rows_are_dropped():
    found = many(4, 0, p=0.5).correct(drop_above=0.1)
    assert found.weight.min() == 1


def test_drops_that_people_refute_are_held_back():
    rows = rows_of(*[(0, 1, 0.9, 0.1)] * 60, *[(0, 1, 0.1, 0.1)] * 60)
    assert (rows.correct(drop_above=0.8).weight == 0).sum() == 60
    kept = {row: Said("keep") for row in range(40)}
    found = rows.correct(kept, drop_above=0.8)
    assert found.weight.min() == 1
    # Wrong are (20 x .9 + 0) / 60 = .3 of them.
    assert "estimated at 0.300" in found.refused[0]


@pytest.mark.parametrize("name", ["auto_above", "drop_above"])
@pytest.mark.parametrize("level", [-0.1, 1.1, float("nan")])
def test_a_level_that_is_no_probability_is_refused(name: str, level: float):
    with pytest.raises(SettingsError, match="a probability from 0 to 1"):
        many(2, 2).correct(**{name: level})


def test_a_verdict_on_a_row_that_is_not_there_is_refused():
    with pytest.raises(SettingsError, match="row `9`; allowed: 0 to 3"):
        many(2, 2).correct({9: Said("keep")})


def test_a_verdict_for_a_class_that_is_not_there_is_refused():
    with pytest.raises(SettingsError, match="class `dgo` is unknown"):
        many(2, 2).correct({0: Said("relabel", "dgo")})


def test_inputs_are_not_written_to():
    rows = many(3, 3)
    before = replace(rows, given=rows.given.copy(), p_wrong=rows.p_wrong.copy())
    rows.correct({0: Said("relabel", "owl")}, drop_above=0.5)
    assert np.array_equal(rows.given, before.given)
    assert np.array_equal(rows.p_wrong, before.p_wrong)


def test_the_cut_stands_where_the_share_last_reaches_the_level():
    p = np.array([0.99, 0.97, 0.95, 0.80])
    no = np.zeros(4, dtype=bool)
    # Means from the top: .99, .98, .97, .9275.
    assert sure_enough(p, ~no, no, no, level=0.97) == 0.95
    assert sure_enough(p, ~no, no, no, level=0.98) == 0.97
    assert sure_enough(p, ~no, no, no, level=0.995) == np.inf
    assert sure_enough(p, no, no, no, level=0.1) == np.inf


def test_equal_probabilities_stand_or_fall_together():
    p = np.full(4, 0.96)
    tested = np.array([False, False, True, True])
    hit = np.zeros(4, dtype=bool)
    # (20 x .96) / 22 = .873
    assert sure_enough(p, ~tested, tested, hit, level=0.9) == np.inf
    assert sure_enough(p, ~tested, tested, hit, level=0.87) == 0.96


def test_checks_of_the_surest_proposals_do_not_flatter_the_others():
    # All ten checked were right, as .999 of them should be; the others stay near their own .96.
    p = np.array([0.999] * 10 + [0.96] * 10)
    tested = np.arange(20) < 10
    nothing, everyone = ~tested & tested, tested | ~tested
    weighed = weigh_fixes(p, 1 - p, checked=tested, hit=everyone, was_right=nothing, rows=100)
    assert weighed.share.estimate == pytest.approx(0.96 + 10 * (1 - 0.999) / 30, abs=1e-4)
    assert sure_enough(p, ~tested, tested, everyone, level=0.97) == np.inf


def test_the_interval_holds_where_people_check_the_surest_first():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        p = np.sort(rng.uniform(0.9, 1.0, 150))[::-1]
        rows = Rows(np.zeros(400, int), np.ones(400, int), np.zeros(400), np.zeros(400))
        rows.p_proposed[:150], rows.p_wrong[:150] = p, p
        hit = rng.random(150) < p
        judged = {row: Said("relabel", "dog") if hit[row] else Said("keep") for row in range(50)}
        found = rows.correct(judged, auto_above=0.85)
        change = np.where(hit[50:], 1, -1).sum() / 400
        inside += found.gain.low <= found.people + change <= found.gain.high
    assert inside >= 190


def test_the_interval_holds_the_true_change_where_probabilities_are_right():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        p = rng.uniform(0.9, 1.0, 100)
        rows = Rows(np.zeros(400, int), np.ones(400, int), np.zeros(400), np.zeros(400))
        rows.p_proposed[:100], rows.p_wrong[:100] = p, p
        change = np.where(rng.random(100) < p, 1, -1).sum() / 400
        gain = rows.correct(auto_above=0.9).gain
        inside += gain.low <= change <= gain.high
    # It also allows for probabilities that are off as a whole, so it is wider than it needs here.
    assert inside >= 190


VERDICTS = st.sampled_from(
    [Said("keep"), Said("drop"), Said("unsure"), *(Said("relabel", c) for c in CLASSES)]
)


@drawn(
    rows=st.lists(
        st.tuples(
            st.integers(-1, 2), st.integers(-1, 2), st.floats(0, 1), st.floats(0, 1), st.booleans()
        ),
        min_size=1,
        max_size=30,
    ),
    judged=st.dictionaries(st.integers(0, 29), VERDICTS),
    auto_above=st.floats(0, 1),
    drop_above=st.none() | st.floats(0, 1),
)
def test_people_are_never_overruled_and_nothing_changes_without_a_source(
    rows: list[tuple[int, int, float, float, bool]],
    judged: dict[int, Said],
    auto_above: float,
    drop_above: float | None,
):
    made = rows_of(
        *[
            (g, p, np.nan if g < 0 or unseen else w, np.nan if p < 0 or unseen else w * q)
            for g, p, w, q, unseen in rows
        ]
    )
    judged = {row: said for row, said in judged.items() if row < len(rows)}
    found = made.correct(judged, auto_above=auto_above, drop_above=drop_above)
    for row, said in judged.items():
        assert found.source[row] == ("given" if said.verdict == "unsure" else "human")
        assert (found.weight[row] == 0) == (said.verdict == "drop")
        if said.verdict == "relabel":
            assert CLASSES[found.label[row]] == said.label
    untouched = found.source == "given"
    assert np.array_equal(found.label[untouched], made.given[untouched])
    assert (found.weight[untouched] == 1).all()
    by_model = found.source == "model"
    corrected = by_model & (found.weight > 0)
    assert (made.p_proposed[corrected] > auto_above).all()
    assert found.gain.low <= found.gain.estimate <= found.gain.high
    assert np.isfinite(found.gain).all()
    if by_model.any():
        assert found.gain.estimate >= found.people
