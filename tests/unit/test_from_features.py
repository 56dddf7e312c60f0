"""Features from tables and modules, what detectors make of them, and the evidence in words."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import errata
from errata.blocks import blocks_of
from errata.detect.from_features import explain_by_neighbours, read_evidence, write_neighbours
from errata.detect.prototype_votes import choose_prototypes, density_scores, prototype_scores
from errata.errors import SettingsError, SourceError
from errata.features.module import module_features, read_features
from errata.ledger import Ledger
from errata.measures import auroc

from .cli_runner import run_cli


def blobs(*, rows: int = 300, classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Draw rows around one corner for each class, a fifth of them with another label."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    features = 3 * np.eye(classes)[true] + rng.normal(size=(rows, classes)) + 5
    wrong = rng.random(rows) < 0.2
    given = np.where(wrong, (true + rng.integers(1, classes, rows)) % classes, true)
    return torch.from_numpy(features).float(), given, given != true, true


def test_what_enters_a_named_layer_is_collected():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    x = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0))
    expected = net[:3](x)
    found = module_features(net, [x[:2], x[2:]], into="3")
    torch.testing.assert_close(found, expected.detach())
    torch.testing.assert_close(module_features(net, [x]), net(x).detach())


def test_the_mode_of_every_module_is_put_back_and_no_hook_stays():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.Linear(2, 2))
    net[0].eval()
    x = torch.ones(3, 2)
    first = module_features(net, [x], into="2")
    torch.testing.assert_close(first, net[0](x).detach())
    assert [each.training for each in net] == [False, True, True]
    assert not net[2]._forward_pre_hooks


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layer(x), self.layer(x)


@pytest.mark.parametrize(
    ("into", "words"), [("head", "no submodule `head`"), ("layer", "2 times"), (None, "`tuple`")]
)
def test_a_module_that_gives_no_features_is_refused(into: str | None, words: str):
    with pytest.raises(SettingsError, match=words):
        module_features(_Twice(), [torch.ones(1, 2)], into=into)


def test_features_are_read_from_a_file_and_must_fit(tmp_path: Path):
    values = np.arange(12, dtype=np.float16).reshape(4, 3)
    np.save(tmp_path / "f.npy", values)
    assert read_features(tmp_path / "f.npy", 4).tolist() == values.tolist()
    with pytest.raises(SourceError, match=r"4 rows of .* for 5 labels"):
        read_features(tmp_path / "f.npy", 5)
    values[2, 1] = np.nan
    with pytest.raises(SourceError, match="row 2 of features holds NaN"):
        read_features(values, 4)


def test_prototypes_are_rows_of_their_class_and_few_rows_are_filled_up():
    features, given, _, _ = blobs()
    given[:] = np.where(given == 2, 1, given)
    given[:2] = 2
    found = choose_prototypes(features, given, classes=4, count=4)
    assert sorted(found[2].tolist()) == [-1, -1, 0, 1]
    assert (found[3] == -1).all()
    assert (given[found[:2]] == [[0], [1]]).all()


def test_prototypes_and_densities_tell_wrong_labels():
    features, given, wrong, true = blobs()
    by_prototypes = prototype_scores(features, given, classes=3)
    assert auroc(by_prototypes.suspicion, wrong) > 0.95
    assert (by_prototypes.proposed[wrong] == true[wrong]).mean() > 0.85
    assert auroc(density_scores(features, given, classes=3).suspicion, wrong) > 0.9


def test_the_density_of_four_points_by_hand():
    # Of the six cosines the 40th percentile is -.987, that of the second and the last row.
    features = torch.tensor([[1.0, 0.0], [1.0, 0.2], [1.0, -0.1], [-3.0, -0.1]])
    found = density_scores(features, np.zeros(4, np.int64), classes=1)
    assert found.values.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0.0])
    assert found.suspicion.argmax() == 3


def test_unlabelled_rows_have_no_suspicion_but_a_proposal():
    features, given, _, true = blobs()
    given[:30] = -1
    evidence = read_evidence(features, given, names=("a", "b", "c"))
    assert not (evidence.near < 30).any()
    for score in evidence.scores:
        assert np.isnan(score.suspicion[:30]).all()
        assert np.isfinite(score.suspicion[30:]).all()
        assert (score.proposed[:30] == true[:30]).mean() > 0.85


def test_rows_in_another_order_get_the_same_votes():
    features, given, _, _ = blobs(rows=80)
    order = np.random.default_rng(1).permutation(80)
    plain = read_evidence(features, given, names="abc").scores[0]
    moved = read_evidence(features[order], given[order], names="abc").scores[0]
    np.testing.assert_allclose(moved.suspicion, plain.suspicion[order], atol=1e-12)
    assert np.array_equal(moved.proposed, plain.proposed[order])


def test_reasons_end_with_the_nearest_rows_and_keep_what_was_said():
    features, given, wrong, true = blobs()
    probs = 0.1 + 0.7 * np.eye(3)[true]
    found = errata.find_label_errors(given, probs)
    evidence = read_evidence(features, given, names="abc")
    told = explain_by_neighbours(
        found, evidence.near.__getitem__, given, name="abc".__getitem__, key=lambda r: f"id{r}"
    )
    row = int(np.flatnonzero(wrong)[0])
    assert told.reasons(row)[:-1] == found.reasons(row)
    last = told.reasons(row)[-1]
    assert last.kind == "neighbours"
    nearest = int(evidence.near[row, 0])
    assert f": id{nearest} ({'abc'[given[nearest]]})" in last.text
    again = explain_by_neighbours(told, evidence.near.__getitem__, given)
    assert len(again.reasons(row)) == len(told.reasons(row))


def test_neighbours_are_kept_for_the_record_of_every_row():
    ledger = Ledger(["a", "b", "c"], torch.tensor([0, 1, 0]), ["x", "y"])
    write_neighbours(ledger, np.array([[1, 2], [0, 2], [1, 0]]))
    assert ledger.read("neighbours", torch.tensor([2])).tolist() == [[1, 0]]
    write_neighbours(ledger, np.empty((3, 0), np.int64))


def test_score_names_the_nearest_rows_by_their_ids(tmp_path: Path):
    features, given, wrong, true = blobs()
    np.save(tmp_path / "probs.npy", 0.1 + 0.7 * np.eye(3)[true])
    np.save(tmp_path / "labels.npy", given)
    np.save(tmp_path / "features.npy", features.numpy())
    ids = [f"row-{number}" for number in range(len(given))]
    (tmp_path / "ids.txt").write_text("\n".join(ids), "utf-8")
    words = [
        "score",
        tmp_path / "probs.npy",
        tmp_path / "labels.npy",
        "--ids",
        tmp_path / "ids.txt",
    ]
    out = tmp_path / "issues.csv"
    assert run_cli(*words, "--features", tmp_path / "features.npy", "--out", out).code == 0
    with out.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    flagged = [line for line in lines if line["flagged"] == "true"]
    assert flagged
    assert all("; neighbours " in line["reasons"] for line in flagged)
    near = read_evidence(read_features(blocks_of(features, "f"), 300), given, names="012").near
    row = ids.index(flagged[0]["id"])
    first = int(near[row, 0])
    assert f": row-{first} ({given[first]})" in flagged[0]["reasons"]
    assert wrong[row]
