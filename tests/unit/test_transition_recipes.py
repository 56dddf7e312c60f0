"""Recipes with a transition matrix: where it comes from, what it is worth, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import EXACT, Watcher, blobs, one_stage, pictures, tiny_net
from torch import nn

from errata.data import Arrays
from errata.directory import AuditDirectory
from errata.engine import TrainingRun, fit
from errata.engine.evaluate import row_error
from errata.errors import SettingsError
from errata.losses.transition import Forward, Revision, TransitionLoss
from errata.methods import card_named, dual_t, forward, forward_learned, mixup, t_revision, vol_min
from errata.methods.card import Card, combine
from errata.methods.transition_forms import BACKWARD, ROW, SOFT
from errata.parts.base import OptimizerSpec, Part, Phase, Recipe, stages_of_phases
from errata.parts.transition import (
    ESTIMATORS,
    LearnedLayer,
    RevisedTransition,
    TransitionPart,
    VolumeLayer,
)
from errata.report.recipe import recipe_figures

from .fake_audit import make_audit
from .test_transition import CLOTHES

T = np.array([[0.7, 0.3, 0.0], [0.0, 0.8, 0.2], [0.1, 0.0, 0.9]])
FORMS = [forward.CARD, BACKWARD, ROW, SOFT, t_revision.CARD]
CARDS = [*FORMS, dual_t.CARD, forward_learned.CARD, vol_min.CARD]


def spoiled(rows: int = 900, *, matrix: np.ndarray = T) -> tuple[Arrays, np.ndarray]:
    """Give clouds that lie far apart, with labels drawn by T, and the labels before that."""
    source, _ = blobs(rows, 3, distance=60.0)
    clean = source.given.copy()
    rng = np.random.default_rng(1)
    given = np.array([rng.choice(3, p=matrix[label]) for label in clean])
    x = source.pixels(np.arange(rows)).numpy()
    return Arrays(x, given, classes=source.classes, name="spoiled"), clean


def flat_net(source: Arrays) -> Callable[[], nn.Module]:
    """Give a net that cannot learn errors by heart."""
    return tiny_net(source, width=8, norm=False)


def fitted(
    made: Card | tuple[Phase, ...], source: Arrays, *, epochs: int = 12, **values: Any
) -> TrainingRun:
    phases = made.phases() if isinstance(made, Card) else made
    program = stages_of_phases(
        phases, epochs=epochs, batch=64, optimizer=OptimizerSpec(lr=values.pop("lr", 0.1))
    )
    return fit(program, source, model=flat_net(source), engine=EXACT, **values)


def changed(card: Card, **settings: Any) -> tuple[Phase, ...]:
    """Build a card with other settings of the part `transition`, in every stage."""
    phases = card.phases()
    for phase in phases:
        for part in phase.recipe.parts:
            if isinstance(part, TransitionPart):
                for name, value in settings.items():
                    setattr(part, name, value)
    return phases


def file_of(matrix: np.ndarray, folder: Path) -> str:
    place = folder / "T.csv"
    np.savetxt(place, matrix, delimiter=",")
    return str(place)


def accuracy(run: TrainingRun, clean: np.ndarray) -> float:
    return float((run.sweep(0)[0].argmax(1).numpy() == clean).mean())


def error_of(run: TrainingRun) -> float:
    return row_error(run.memory["transition"].double().numpy(), T)


@pytest.mark.parametrize("card", FORMS, ids=lambda card: card.name)
def test_a_file_takes_the_place_of_the_estimate(card: Card, tmp_path: Path):
    source, _ = spoiled(300)
    run = fitted(changed(card, file=file_of(T, tmp_path)), source, epochs=5)
    expected = torch.from_numpy(T)
    torch.testing.assert_close(run.memory["transition"], expected.float())
    torch.testing.assert_close(run.losses[0].matrix, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("estimator", ["anchor", "anchor-plain", "counts", "neighbours"])
def test_an_estimate_comes_close_to_the_true_matrix(estimator: str):
    run = fitted(changed(forward.CARD, estimator=estimator), spoiled()[0])
    assert error_of(run) < 0.05
    assert isinstance(run.losses[0], Forward)
    torch.testing.assert_close(run.losses[0].matrix.float(), run.memory["transition"])
    assert run.notes["transition-matrix"]["estimator"] == estimator


def test_a_product_of_two_matrices_finds_which_classes_are_confused():
    # Where the classes lie apart, the predicted class is the true one, and both factors are T.
    run = fitted(dual_t.CARD, spoiled()[0])
    found = run.memory["transition"].double().numpy()
    assert row_error(found, T @ T) < 0.05
    assert run.notes["transition-matrix"]["estimator"] == "dual"


def test_trusted_samples_give_an_estimate():
    source, clean = spoiled()
    some = np.arange(0, 900, 5)
    known = Arrays(source.pixels(some).numpy(), clean[some], classes=source.classes, name="known")
    run = fitted(changed(forward.CARD, estimator="trusted"), source, clean=known)
    assert error_of(run) < 0.05


@pytest.mark.parametrize("card", [forward_learned.CARD, vol_min.CARD], ids=lambda card: card.name)
def test_a_learned_matrix_comes_close_to_the_true_one(card: Card):
    source, clean = spoiled()
    run = fitted(card, source, epochs=20)
    assert error_of(run) < 0.05
    torch.testing.assert_close(run.losses[0].transition().float(), run.memory["transition"])
    assert accuracy(run, clean) > 0.95


def test_rows_taken_for_columns_learn_other_classes(tmp_path: Path):
    source, clean = spoiled()
    place = file_of(T, tmp_path)
    right, turned = (fitted(changed(card, file=place), source) for card in (forward.CARD, ROW))
    assert accuracy(right, clean) > 0.95
    assert accuracy(turned, clean) < 0.8


RIGHT = [card for card in CARDS if card is not ROW]


@pytest.mark.parametrize("card", RIGHT, ids=lambda card: card.name)
def test_labels_confused_by_class_are_learned(card: Card):
    source, clean = spoiled()
    assert accuracy(fitted(card, source), clean) > 0.95


def test_correction_mends_what_cross_entropy_cannot(tmp_path: Path):
    # More than half of class 0 is called 1: cross-entropy learns the wrong name.
    matrix = np.array([[0.4, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    source, clean = spoiled(matrix=matrix)
    plain = fitted((Phase(),), source)
    mended = fitted(changed(forward.CARD, file=file_of(matrix, tmp_path)), source)
    assert accuracy(plain, clean) < 0.75
    assert accuracy(mended, clean) > 0.95


LEARNED = [
    *("forward-learned", "vol-min", "sukhbaatar", "jindal", "goldberger-s"),
    *("nnaqc", "bltm", "forward", "dual-t", "t-revision"),
]


@pytest.mark.parametrize("name", LEARNED)
def test_no_matrix_from_noisy_labels_finds_the_sweaters_of_clothing_1m(name: str):
    # Rows of class 1 are called 0 more often than 1: the net takes them for 0.
    source, clean = spoiled(300, matrix=CLOTHES.numpy())
    run = fitted(card_named(name), source, epochs=30, lr=1.0)
    assert accuracy(run, clean) < 0.7


def test_the_true_matrix_finds_the_sweaters_of_clothing_1m(tmp_path: Path):
    source, clean = spoiled(300, matrix=CLOTHES.numpy())
    made = changed(forward.CARD, file=file_of(CLOTHES.numpy(), tmp_path))
    assert accuracy(fitted(made, source, epochs=30, lr=1.0), clean) > 0.95


def test_the_second_net_of_forward_correction_is_a_fresh_one():
    nets = []

    def look(run: TrainingRun, seen: Any) -> None:
        nets.append((run.stage_index, run.nets[0]))

    fitted(forward.CARD, spoiled(100)[0], epochs=3, observers=(Watcher(look),))
    first, second = ({net for stage, net in nets if stage == k} for k in (0, 1))
    assert len(first) == len(second) == 1
    assert first != second


def test_rows_and_columns_agree_where_the_matrix_is_symmetric(tmp_path: Path):
    alike = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    source, _ = spoiled(300, matrix=alike)
    place = file_of(alike, tmp_path)
    runs = [fitted(changed(card, file=place), source, epochs=5) for card in (forward.CARD, ROW)]
    torch.testing.assert_close(runs[0].sweep(0)[0], runs[1].sweep(0)[0])


def test_forward_correction_goes_with_mixup():
    source, clean = spoiled()
    phases = combine("forward+mixup", [forward.CARD.phases(), mixup.CARD.phases()])
    run = fitted(phases, source)
    assert accuracy(run, clean) > 0.95
    assert [part.kind for part in run.parts] == ["transition-matrix", "mixup"]


def test_the_slack_of_a_revision_is_learned():
    source, _ = spoiled(300)
    part = RevisedTransition(rows="normalised", lr_scale=2.0)
    phases = t_revision.CARD.phases()
    recipe = Recipe(loss="t-revision", parts=(TransitionPart(), part))
    quick = OptimizerSpec(kind="adamw", lr=1e-3, schedule="constant")
    last = Phase(recipe=recipe, share=0.4, optimizer=quick, reset=False)
    run = fitted((*phases[:2], last), source, epochs=5)
    loss = run.losses[0]
    assert isinstance(loss, Revision)
    assert loss.normalised
    assert run.optimizers[0].param_groups[1]["lr"] == pytest.approx(2e-3)
    assert 0 < loss.slack.abs().max() < 0.1
    torch.testing.assert_close(loss.transition().sum(1), torch.ones(3).double())


def test_the_published_revision_hardly_moves():
    run = fitted(t_revision.CARD, spoiled(300)[0], epochs=5)
    steps = 2 * 5
    assert 0 < run.losses[0].slack.abs().max() <= 1.1 * 5e-7 * steps


def test_a_penalty_pulls_a_learned_matrix_off_the_identity():
    source = pictures(wrong=0.3)
    traces = []
    for trace in (0.0, 1.0):
        recipe = Recipe(loss="forward-learned", parts=(LearnedLayer(trace=trace, lr_scale=10.0),))
        run = fit(one_stage(recipe), source, model=tiny_net(source), engine=EXACT)
        traces.append(run.losses[0].transition().trace())
    assert traces[1] < traces[0] - 0.05


@pytest.mark.parametrize("card", [forward_learned.CARD, vol_min.CARD], ids=lambda card: card.name)
def test_a_learned_matrix_is_held_until_its_start(card: Card):
    matrices = []

    def look(run: TrainingRun, seen: Any) -> None:
        matrices.append((run.epoch, run.losses[0].transition().clone()))

    (phase,) = card.phases()
    (part,) = phase.recipe.parts
    part.start = 2
    fitted((phase,), spoiled(60)[0], epochs=4, observers=(Watcher(look),))
    first = matrices[0][1]
    assert all(torch.equal(matrix, first) == (epoch < 2) for epoch, matrix in matrices)


def test_a_weight_on_the_volume_makes_it_small():
    source = pictures(wrong=0.3)
    volumes = []
    for volume in (0.0, 0.3):
        recipe = Recipe(loss="vol-min", parts=(VolumeLayer(volume=volume),))
        run = fit(one_stage(recipe), source, model=tiny_net(source), engine=EXACT)
        volumes.append(run.losses[0].transition().det())
    assert 0 < volumes[1] < volumes[0]


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.eye(2), r"has the shape `\(2, 2\)`"),
        (np.eye(3) * 0.9, "is no distribution"),
        (T - np.array([[0.0, 0.0, 0.0], [0.2, 0.0, -0.2], [0.0, 0.0, 0.0]]), "no distribution"),
    ],
)
@pytest.mark.parametrize("card", FORMS, ids=lambda card: card.name)
def test_a_file_that_is_no_matrix_is_refused(
    card: Card, matrix: np.ndarray, words: str, tmp_path: Path
):
    refused(changed(card, file=file_of(matrix, tmp_path)), words)


def test_a_matrix_with_its_sides_turned_is_told_so(tmp_path: Path):
    hint = refused(changed(forward.CARD, file=file_of(T.T, tmp_path)), "is no distribution")
    assert "transpose it" in hint


def test_a_singular_file_is_refused_unless_somebody_insists(tmp_path: Path):
    flat = file_of(np.full((3, 3), 1 / 3), tmp_path)
    refused(changed(BACKWARD, file=flat), "singular")
    refused(changed(forward.CARD, file=flat), "singular")
    fitted(changed(forward.CARD, file=flat, invertible=False), spoiled(60)[0], epochs=2)
    refused(changed(BACKWARD, file=flat, invertible=False), "singular")
    recipe = Recipe(loss="backward", parts=(TransitionPart(file=flat),))
    refused((Phase(recipe=recipe),), "singular")


def test_a_missing_file_is_refused(tmp_path: Path):
    refused(changed(forward.CARD, file=str(tmp_path / "none.csv")), "none.csv")


def refused(phases: tuple[Phase, ...], words: str) -> str:
    """Check that a fit fails with these words before its first step; give the hint."""
    steps: list[int] = []
    watcher = Watcher(lambda run, seen: steps.append(run.tick))
    with pytest.raises(SettingsError, match=words) as caught:
        fitted(phases, spoiled(60)[0], epochs=2, observers=(watcher,))
    assert not steps
    assert caught.value.hint
    return caught.value.hint


def test_without_a_matrix_the_loss_is_cross_entropy_with_a_warning():
    source, _ = spoiled(60)
    bare = Recipe(loss="forward", parts=(TransitionPart(),))
    runs = [fitted((Phase(recipe=recipe),), source, epochs=2) for recipe in (bare, Recipe())]
    assert any("the loss is cross-entropy" in warning for warning in runs[0].warnings)
    torch.testing.assert_close(runs[0].sweep(0)[0], runs[1].sweep(0)[0])


def test_trusted_samples_that_are_missing_are_asked_for():
    refused(changed(forward.CARD, estimator="trusted"), "needs trusted samples")


@pytest.mark.parametrize(
    ("part", "settings", "words"),
    [
        (TransitionPart, {"estimator": "ankor"}, "did you mean `anchor`"),
        (TransitionPart, {"percentile": 40.0}, "50 to 100"),
        (TransitionPart, {"percentile": 101.0}, "50 to 100"),
        (TransitionPart, {"hold": 0.6}, "0.001 to 0.5"),
        (RevisedTransition, {"rows": "tidy"}, "allowed"),
        (RevisedTransition, {"lr_scale": -1.0}, "0 and above"),
        (LearnedLayer, {"others": 0.0}, "0.001 to 0.9"),
        (LearnedLayer, {"trace": -0.1}, "0 and above"),
        (LearnedLayer, {"start": "soon"}, "is not a point of training"),
        (VolumeLayer, {"others": 1.0}, "0.001 to 0.9"),
        (VolumeLayer, {"volume": -0.1}, "0 and above"),
    ],
)
def test_settings_out_of_range_are_refused(part: type[Part], settings: dict[str, Any], words: str):
    with pytest.raises(SettingsError, match="is") as caught:
        part(**settings)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_a_recipe_tells_which_matrices_it_is_meant_for():
    for card in CARDS:
        assert "T" in card.text
        assert "eaningful" in card.text or card is dual_t.CARD or card is t_revision.CARD
    named = {"anchor", "anchor-plain", "dual", "counts", "surest", "neighbours", "trusted"}
    assert set(ESTIMATORS) == named


def test_a_loss_takes_what_a_run_remembers_when_it_is_resumed(tmp_path: Path):
    source, _ = spoiled(120)
    place = tmp_path / "state"
    whole = fitted(forward.CARD, source, epochs=6, checkpoint=place, checkpoint_s=0.0)
    again = fitted(forward.CARD, source, epochs=6, checkpoint=place, resume=True)
    assert isinstance(again.losses[0], TransitionLoss)
    assert torch.equal(again.losses[0].matrix, whole.losses[0].matrix)


def test_the_report_draws_the_matrix_with_true_classes_down(tmp_path: Path):
    audit = make_audit(tmp_path, rows=30, classes=3, names=("ant", "bee", "cat"))
    assert not recipe_figures(AuditDirectory.open(audit))
    (audit / "memory").mkdir()
    np.save(audit / "memory" / "transition.npy", T.astype(np.float32))
    (figure,) = recipe_figures(AuditDirectory.open(audit))
    assert figure.title == "Transition matrix"
    assert "80.0\u00a0% of the labels of a class are right" in figure.caption
    # T[0, 1] is .3 and T[1, 0] is 0: a turned matrix would say it the other way round.
    assert "ant to bee: 30 %" in figure.svg
    assert "bee to ant" not in figure.svg
