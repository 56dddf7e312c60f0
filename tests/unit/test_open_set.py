"""Samples of no class: what is replaced, what the truth says, and what a detector makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from errata.data.arrays import Arrays
from errata.data.noise import parse_noise, plant_noise, write_noisy_labels
from errata.data.open_set import OpenTruth, Replaced, shuffled
from errata.data.truth import Truth
from errata.detect import Findings, RateEstimate, Scores, decide
from errata.detect.open_set import open_scores, open_set_score
from errata.errors import SettingsError, SourceError
from errata.issues import read_issues, write_issues
from errata.ledger import Ledger
from errata.record import Reason

CLASSES = ("a", "b", "c")


def pictures(rows: int = 40, channels: int = 3) -> Arrays:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (rows, channels, 6, 5)).astype(np.uint8)
    return Arrays(x, np.arange(rows) % 3, classes=CLASSES, name="own")


def other_file(folder: Path, rows: int = 30, value: int = 200) -> Path:
    place = folder / "other.npz"
    np.savez(place, x=np.full((rows, 3, 6, 5), value, np.uint8), y=np.arange(rows) % 2)
    return place


def open_truth(truth: Truth) -> OpenTruth:
    assert isinstance(truth, OpenTruth)
    return truth


# What is planted.


def test_the_rounded_number_of_labelled_rows_is_replaced_and_keeps_its_label():
    source = pictures()
    source.given[:3] = -1
    planted = plant_noise(source, "open:0.2", seed=0)
    truth = open_truth(planted.truth)
    assert truth.open.sum() == round(0.2 * 37)
    assert not truth.open[:3].any()
    assert (planted.source.given == source.given).all()
    rows = np.arange(40)
    same = (planted.source.pixels(rows) == source.pixels(rows)).flatten(1).all(1).numpy()
    assert (same == ~truth.open).all()


def test_the_truth_has_no_class_for_them_and_they_count_as_wrong():
    planted = plant_noise(pictures(), "open:0.25", seed=0)
    truth = open_truth(planted.truth)
    assert (truth.clean[truth.open] == -1).all()
    assert (truth.clean[~truth.open] == planted.source.given[~truth.open]).all()
    assert planted.rate == 0.25
    assert planted.matrix.sum() == 30 == np.trace(planted.matrix)
    assert planted.words == (
        "25 % of the samples with their pixels in random order; 25.0% of the labels are wrong"
    )


def test_errors_known_before_stay_and_both_count():
    source = pictures()
    clean = source.given.copy()
    clean[:10] = (clean[:10] + 1) % 3
    planted = plant_noise(source, "open:0.5", seed=0, truth=Truth(clean))
    truth = open_truth(planted.truth)
    wrong = truth.open | (clean != source.given)
    assert planted.rate == wrong.mean()
    again = plant_noise(planted.source, "uniform:0", seed=0, truth=truth)
    assert again.rate == planted.rate


def test_shuffled_pixels_keep_their_colours_and_nothing_of_their_order():
    sample = torch.arange(3 * 20 * 20).reshape(3, 20, 20)
    mixed = shuffled(sample, np.random.default_rng(0))
    columns = mixed.reshape(3, -1)
    assert sorted(columns[0].tolist()) == list(range(400))
    assert (columns[1] == columns[0] + 400).all()
    assert (columns[2] == columns[0] + 800).all()
    assert (columns[0] == torch.arange(400)).sum() < 10
    assert sorted(shuffled(torch.arange(9), np.random.default_rng(0)).tolist()) == list(range(9))


def test_pictures_of_another_source_take_the_place_each_once(tmp_path: Path):
    place = tmp_path / "other.npz"
    x = np.zeros((30, 3, 6, 5), np.uint8) + np.arange(30, dtype=np.uint8)[:, None, None, None]
    np.savez(place, x=x, y=np.arange(30) % 2)
    planted = plant_noise(pictures(), f"open:0.5,{place}", seed=0)
    rows = np.flatnonzero(open_truth(planted.truth).open)
    samples = planted.source.pixels(rows).flatten(1)
    assert (samples == samples[:, :1]).all()
    assert len(set(samples[:, 0].tolist())) == 20
    assert "replaced by samples of" in planted.words


def test_other_pictures_are_resized_and_brought_to_the_same_channels():
    grey = Arrays(np.zeros((40, 1, 12, 12), np.uint8), np.arange(40) % 3, classes=CLASSES)
    pytest.importorskip("sklearn")
    planted = plant_noise(grey, "open:0.5,digits", seed=0)
    rows = np.flatnonzero(open_truth(planted.truth).open)
    assert planted.source.pixels(rows).shape == (20, 1, 12, 12)
    assert (planted.source.pixels(rows).flatten(1).float().mean(1) > 10).all()


def test_people_see_what_training_sees(tmp_path: Path):
    image = pytest.importorskip("PIL.Image")
    planted = plant_noise(pictures(), f"open:0.5,{other_file(tmp_path)}", seed=0)
    is_open = open_truth(planted.truth).open
    (tmp_path / "one.png").write_bytes(planted.source.show(int(np.flatnonzero(is_open)[0])))
    assert (np.asarray(image.open(tmp_path / "one.png")) == 200).all()
    row = int(np.flatnonzero(~is_open)[0])
    assert planted.source.show(row) == pictures().show(row)


def test_the_seed_decides_everything_and_the_source_stays_as_it_is():
    source = pictures()
    before = source.x.copy()
    one, again, other = (plant_noise(source, "open:0.5", seed=seed) for seed in (1, 1, 2))
    rows = np.arange(40)[::-1]
    assert (one.source.pixels(rows) == again.source.pixels(rows)).all()
    assert (one.source.pixels(rows) != other.source.pixels(rows)).any()
    assert (source.x == before).all()


def test_a_rate_of_zero_changes_nothing():
    planted = plant_noise(pictures(), "open:0", seed=0)
    rows = np.arange(40)
    assert (planted.source.pixels(rows) == pictures().pixels(rows)).all()
    assert planted.rate == 0


def test_a_source_that_hands_out_its_own_memory_is_not_written_to():
    source = pictures()
    source.pixels = lambda rows: torch.from_numpy(source.x)  # type: ignore[method-assign]
    replaced = Replaced(source, np.array([1]), lambda k: torch.zeros(3, 6, 5, dtype=torch.uint8))
    assert (replaced.pixels(np.arange(40))[1] == 0).all()
    assert (source.x[1] != 0).any()


# Bad input.


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("open", "has no value.*open:0.2"),
        ("open:", "has no value"),
        ("open:1.2", "rate `1.2`"),
        ("open:much", "rate `much`"),
        ("open:0.2,", "names no source after the comma"),
        ("opne:0.2", "did you mean `open`"),
    ],
)
def test_a_wrong_specification_is_refused(spec: str, message: str):
    with pytest.raises(SettingsError, match=f"(?s){message}"):
        parse_noise(spec)


def test_a_source_keeps_its_colons_and_commas():
    asked = parse_noise("open:0.2,fashion-mnist:/a,b")
    assert (asked.rates, asked.source) == ((0.2,), "fashion-mnist:/a,b")


def test_another_source_that_does_not_fit_is_refused(tmp_path: Path):
    few = other_file(tmp_path, rows=5)
    with pytest.raises(SettingsError, match=r"needs 20 samples of .*, which has 5"):
        plant_noise(pictures(), f"open:0.5,{few}", seed=0)
    floats = tmp_path / "floats.npz"
    np.savez(floats, x=np.zeros((30, 3, 6, 5), np.float32), y=np.arange(30) % 2)
    with pytest.raises(SettingsError, match=r"type `torch.float32`; allowed: .* `torch.uint8`"):
        plant_noise(pictures(), f"open:0.5,{floats}", seed=0)
    vectors = tmp_path / "vectors.npz"
    np.savez(vectors, x=np.zeros((30, 7), np.float32), y=np.arange(30) % 2)
    with pytest.raises(SourceError, match="vectors of width 7, which cannot be resized"):
        plant_noise(pictures(), f"open:0.5,{vectors}", seed=0)
    with pytest.raises(SettingsError, match="from the source itself"):
        plant_noise(pictures(), "open:0.5,own", seed=0)


def test_a_file_of_labels_cannot_hold_replaced_samples(tmp_path: Path):
    planted = plant_noise(pictures(), "open:0.5", seed=0)
    with pytest.raises(SettingsError, match="replaces samples, which a file of labels cannot hold"):
        write_noisy_labels(planted, tmp_path / "labels.csv")
    assert not list(tmp_path.iterdir())


# The score.


def two_groups() -> tuple[torch.Tensor, np.ndarray]:
    """Give 40 rows of two classes in two directions, and a last row in a third one."""
    rng = np.random.default_rng(0)
    label = np.arange(40) % 2
    features = np.eye(3)[label] + rng.normal(0, 0.05, (40, 3))
    features = np.r_[features, [[0.1, 0.1, 1.0]]]
    # The last row was learned by heart: its own prediction is as sure as any other.
    return torch.from_numpy(features), np.eye(2)[np.r_[label, 0]]


def test_a_row_far_from_all_and_between_classes_has_the_highest_score():
    features, probs = two_groups()
    score = open_set_score(features, probs, k=4)
    assert score.argmax() == 40
    assert score[40] > 10 * score[:40].max()


def test_the_score_is_entropy_times_the_distance_over_its_median():
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    probs = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [1.0, 0.0]])
    # Nearest by cosine: 0 and 1 are alike; that of 2 is 3 (cosine .8), that of 3 is 2.
    assert open_set_score(features, probs, k=1) == pytest.approx([0, 0, 0, 0], abs=1e-9)
    # Of two: distances .4, .4, 1, .4, median .4; the neighbours of 2 are 3 and 0, of class 0.
    mixed = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    expected = [mixed, 0.0, 0.0, -(0.5 * np.log2(0.5) * 2)]
    assert open_set_score(features, probs, k=2) == pytest.approx(expected, abs=1e-6)


def test_rows_without_a_prediction_are_no_neighbours_and_few_rows_have_no_score():
    features, probs = two_groups()
    score = open_set_score(features, probs, k=4)
    more = torch.cat([features, features[40:] + 0.01])
    unknown = np.r_[probs, [[np.nan, np.nan]]]
    again = open_set_score(more, unknown, k=4)
    assert again[:41].argmax() == 40
    assert again[40] == pytest.approx(score[40], rel=0.1)
    assert np.isnan(open_set_score(features[:4], probs[:4], k=4)).all()


def test_copies_of_one_another_divide_by_nothing():
    probs = np.eye(2)[np.arange(20) % 2]
    assert np.isfinite(open_set_score(torch.ones(20, 3), probs, k=4)).all()


def test_a_suspect_of_no_class_gets_no_proposal_and_a_reason():
    features, probs = two_groups()
    given = probs.argmax(1)
    said = open_scores(features, probs, given, k=4)
    assert said.proposed.tolist() == [-1] * 41
    suspicion = np.r_[np.linspace(0, 0.8, 40), 1.0]
    joined = Scores(suspicion, 1 - given, lambda row: "unlike its label", "margin", suspicion)
    ledger = Ledger([str(row) for row in range(41)], given, ("a", "b"))
    rate = RateEstimate(2 / 41, 0.0, 0.1, "by hand")
    found = decide(ledger, [joined], joined, rate, open_set=said)
    assert np.flatnonzero(found.flagged).tolist() == [39, 40]
    assert found.proposed[[39, 40]].tolist() == [1 - given[39], -1]
    assert np.isnan(found.p_proposed[40])
    assert [reason.kind for reason in found.reasons(40)] == ["open", "margin"]
    assert "no class" in found.reasons(40)[0].text
    assert [reason.kind for reason in found.reasons(39)] == ["margin"]


def test_unlabelled_rows_have_no_open_set_score():
    features, probs = two_groups()
    said = open_scores(features, probs, np.full(41, -1))
    assert np.isnan(said.suspicion).all()


def test_what_does_not_fit_the_score_is_refused():
    features, probs = two_groups()
    with pytest.raises(SettingsError, match="k `0`"):
        open_set_score(features, probs, k=0)
    with pytest.raises(SourceError, match="features of `40` rows and predictions of `41`"):
        open_set_score(features[:40], probs)
    with pytest.raises(SourceError, match=r"shape `\(41, 1\)`"):
        open_set_score(features, probs[:, :1])


def test_a_proposal_of_none_is_an_empty_cell_and_reads_back(tmp_path: Path):
    suspicion = np.array([0.9, 0.1])
    nothing = np.full(2, np.nan)
    reasons = (Reason("open", 1.2, "shows perhaps no class"),)
    found = Findings(
        *(suspicion, suspicion, nothing, np.array([True, False]), np.array([-1, -1])),
        *(np.array(["possible", "fine"]), lambda row: reasons),
    )
    write_issues(tmp_path / "issues.csv", ["x", "y"], ("a", "b"), np.array([0, 1]), found)
    line = (tmp_path / "issues.csv").read_text("utf-8").splitlines()[1]
    assert line == "x,a,,0.900000,0.900000,,true,possible,open 1.2: shows perhaps no class"
    again = read_issues(tmp_path / "issues.csv", ["x", "y"], ("a", "b"))
    assert again.proposed.tolist() == [-1, -1]
