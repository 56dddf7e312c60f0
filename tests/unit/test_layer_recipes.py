"""Recipes with noise layers: when layers learn, where they start, what they find."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from samples import EXACT, Watcher, blobs, one_stage, pictures, tiny_net

from errata.data import Arrays
from errata.engine import TrainingRun, fit
from errata.errors import SettingsError
from errata.losses.layers import (
    confusion_counts,
    linear_layer,
    log_rows_of_counts,
    near_identity,
)
from errata.losses.layers_nonlinear import scaled_identity
from errata.losses.pointwise import one_hot
from errata.methods import card_named, phases_named
from errata.methods.bltm import BLTMLayer, distilled_rows
from errata.parts.base import Part, Recipe
from errata.parts.noise_layers import (
    GoldbergerLayer,
    JindalLayer,
    NNAQCLayer,
    SukhbaatarLayer,
    mean_transition,
)

NAMES = ["sukhbaatar", "jindal", "goldberger-s", "goldberger-c", "nnaqc", "nnaqc-instance", "bltm"]
LOSSES = {"sukhbaatar": SukhbaatarLayer, "jindal": JindalLayer, "goldberger-s": GoldbergerLayer}
LOSSES |= {"goldberger-c": GoldbergerLayer, "nnaqc": NNAQCLayer, "nnaqc-w": NNAQCLayer}
LOSSES |= {"bltm": BLTMLayer}


def run_of(recipe: str | Recipe, *, epochs: int = 5, **values: Any) -> TrainingRun:
    source = values.pop("source", None) or pictures(wrong=0.3)
    stage = {key: values.pop(key) for key in ("batch", "lr") if key in values}
    values.setdefault("model", tiny_net(source))
    return fit(one_stage(recipe, epochs=epochs, **stage), source, engine=EXACT, **values)


def layered(loss: str, **settings: Any) -> Recipe:
    return Recipe(loss=loss, parts=(LOSSES[loss](**settings),))


def test_the_matrix_is_held_at_the_identity_until_its_start():
    matrices: dict[int, list[torch.Tensor]] = {}

    def look(run: TrainingRun, seen: Any) -> None:
        layer = run.losses[0]
        assert layer.matrix.requires_grad == (run.epoch >= 2)
        matrices.setdefault(run.epoch, []).append(layer.transition().clone())

    run_of(layered("sukhbaatar", start=2), observers=(Watcher(look),))
    for epoch in (0, 1):
        assert all(torch.equal(m, torch.eye(3).double()) for m in matrices[epoch])
    for moved in matrices[4]:
        assert not torch.equal(moved, torch.eye(3).double())
        assert (moved >= 0).all()
        torch.testing.assert_close(moved.sum(1), torch.ones(3).double())


def test_before_its_start_the_layer_is_plain_cross_entropy():
    plain, held = run_of("erm"), run_of(layered("sukhbaatar", start=4))
    records = [[record["train_loss"] for record in run.history[:4]] for run in (plain, held)]
    assert records[0] == pytest.approx(records[1], abs=1e-6)


@pytest.mark.parametrize("penalty", ["trace", "decay"])
def test_a_penalty_pulls_the_matrix_off_the_identity(penalty: str):
    free = {"start": 1, "trace": 0.0, "decay": 0.0, "lr_scale": 1.0}
    traces = [
        run_of(layered("sukhbaatar", **{**free, penalty: size})).losses[0].transition().trace()
        for size in (0.0, 0.5)
    ]
    assert traces[1] < traces[0] - 0.05


def test_the_penalty_is_that_of_its_formula():
    part = SukhbaatarLayer(start=0, trace=0.3, decay=0.5)
    run = run_of(Recipe(loss="sukhbaatar", parts=(part,)))
    own, matrix = run.parts[0], run.losses[0].transition()
    found = own.penalty(run, 0, None)  # type: ignore[arg-type]
    assert found is not None
    expected = 0.3 * matrix.trace() / 3 + 0.25 * matrix.square().sum() / 3
    assert found.item() == pytest.approx(expected.item())


@pytest.mark.parametrize(("trace", "kept"), [(0.0, 0.64), (0.2, 0.592), (0.5, 0.515)])
def test_the_penalty_moves_even_a_perfect_matrix_as_the_card_says(trace: float, kept: float):
    # Behind a certain prediction: .64 of the labels stay, .04 go to each of nine others.
    certain, shares = torch.eye(10).double() * 1e3, near_identity(10, others=0.36).double()
    tried = torch.linspace(0.3, 0.9, 601).tolist()
    found = min(
        tried,
        key=lambda t: float(
            (linear_layer(certain, near_identity(10, others=1 - t).double()) * shares).sum(1).mean()
            + trace * t
        ),
    )
    assert found == pytest.approx(kept, abs=2e-3)


@pytest.mark.parametrize("start", [5, "5ep", "100%", -1])
def test_a_start_outside_the_stage_is_refused(start: int | str):
    with pytest.raises(SettingsError, match="is not within a stage of 5 epochs") as caught:
        run_of(layered("sukhbaatar", start=start))
    assert caught.value.hint


@pytest.mark.parametrize("counts", ["hard", "soft"])
def test_the_simple_model_starts_at_the_confusion_of_the_plain_net(counts: str):
    found = []

    def look(run: TrainingRun, seen: Any) -> None:
        if run.stage_index == 1 and not found:
            found.append(run.losses[0].transition())

    source = pictures(wrong=0.3)
    plain = run_of("erm", epochs=2, source=source)
    believed = plain.sweep(0)[0].softmax(1)
    if counts == "hard":
        believed = one_hot(believed.argmax(1), 3).double()
    expected = log_rows_of_counts(confusion_counts(believed, plain.given)).softmax(1)
    program = (
        *one_stage("erm", epochs=2),
        *one_stage(layered("goldberger-s", counts=counts, lr_scale=0.0), epochs=1),
    )
    program = (program[0], type(program[1])(**{**vars(program[1]), "reset": False}))
    model = tiny_net(source)
    fit(program, source, model=model, engine=EXACT, observers=(Watcher(look),))
    torch.testing.assert_close(found[0], expected)


def test_the_share_of_the_plain_loss_is_mixed_in():
    run = run_of(layered("goldberger-s", plain_share=0.25))
    layer, logits = run.losses[0], torch.randn(4, 3, dtype=torch.float64)
    mixed = layer(logits)
    layer.plain_share = 0.0
    behind = layer(logits)
    plain = -logits.log_softmax(1)
    torch.testing.assert_close(mixed, 0.75 * behind + 0.25 * plain)


@pytest.mark.parametrize("decay_on", ["start", "off-diagonal"])
def test_decay_holds_the_layer_at_its_start(decay_on: str):
    start = scaled_identity("nnaqc", 0.99, 3).double()
    moved = []
    for decay in (0.0, 10.0):
        weight = run_of(layered("nnaqc", decay=decay, decay_on=decay_on)).losses[0].weight.detach()
        off = weight - start
        moved.append(off if decay_on == "start" else off - off.diagonal().diag())
    assert moved[1].norm() < 0.3 * moved[0].norm()


def test_decay_leaves_the_diagonal_free_where_it_should():
    run = run_of(layered("nnaqc", decay=2.0, decay_on="off-diagonal"))
    layer = run.losses[0]
    with torch.no_grad():
        layer.weight.copy_(torch.full((3, 3), 0.5).fill_diagonal_(9.0))
    found = run.parts[0].penalty(run, 0, None)  # type: ignore[arg-type]
    assert found is not None
    assert found.item() == pytest.approx(6 * 0.25)


def test_dropout_is_on_in_the_recipe_and_off_in_the_loss_alone():
    run = run_of("jindal", epochs=1)
    alone = run_of(Recipe(loss="jindal"), epochs=1)
    assert run.losses[0].dropout == 0.1
    assert alone.losses[0].dropout == 0.0
    assert run.history[0]["train_loss"] != alone.history[0]["train_loss"]


# NNAQC is not among them: its net predicts the errors itself, and W stays near its start.
@pytest.mark.parametrize("name", [name for name in NAMES if "nnaqc" not in name])
def test_the_layer_finds_the_noise(name: str):
    # Three clouds far apart, 40 % of the labels of the first moved to the second.
    source, _ = blobs(600, 3, distance=6.0, wrong=0.0)
    first = np.flatnonzero(source.given == 0)
    given = source.given.copy()
    given[np.concatenate([first[::5], first[1::5]])] = 1
    noisy = Arrays(source.x, given, classes=source.classes, name="clouds")
    run = run_of(name, source=noisy, epochs=12, batch=50)
    found = run.memory["transition"]
    expected = torch.tensor([[0.6, 0.4, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(found, expected, atol=0.25, rtol=0)
    assert found[0, 1] > 0.15
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    assert (run.sweep(0)[0].argmax(1).numpy() == source.given).mean() > 0.98


def test_distilled_rows_have_a_label_above_half_of_one_plus_rho():
    probabilities = torch.tensor([[0.56, 0.44], [0.54, 0.46], [0.2, 0.8]])
    assert distilled_rows(probabilities).tolist() == [True, False, True]
    assert distilled_rows(probabilities, rho=0.5).tolist() == [False, False, True]
    assert distilled_rows(probabilities, rho=0.0).all()


# How much the loss of a row may keep of its label: the c-model leaves most of it to the net.
@pytest.mark.parametrize(("name", "lead"), [("bltm", 0.15), ("goldberger-c", 0.02)])
def test_transitions_depend_on_the_sample_where_the_noise_does(name: str, lead: float):
    # Labels of the first cloud are wrong on one side of it alone.
    source, _ = blobs(900, 2, distance=5.0, wrong=0.0)
    first = source.given == 0
    side = first & (source.x[:, 1] < 0)
    wrong = side & (np.random.default_rng(1).random(len(side)) < 0.4)
    given = np.where(wrong, 1, source.given)
    noisy = Arrays(source.x, given, classes=source.classes, name="clouds")
    run = run_of(name, source=noisy, epochs=10, batch=50)
    codes = run.sweep(0)[1] if name != "bltm" else run.ledger.read("bltm_code").double()
    kept = run.losses[0].transitions(codes)[:, 0, 0].detach().numpy()
    assert kept[first & ~side].mean() > kept[side].mean() + lead


def test_bltm_proposes_the_labels_that_it_is_sure_of():
    run = run_of("bltm", epochs=8)
    corrected = run.ledger.read("corrected")
    share = run.notes["bltm"]["share_distilled"]
    assert share == pytest.approx(float((corrected >= 0).double().mean()))
    assert 0 < share <= 1
    assert set(corrected.unique().tolist()) <= {-1, 0, 1, 2}


def test_bltm_warns_of_classes_that_it_is_not_sure_of():
    run = run_of(layered("bltm", rho=1.0), epochs=1)
    assert run.notes["bltm"]["share_distilled"] == 0
    assert any("its transition is the confusion" in words for words in run.warnings)


def test_the_slack_of_bltm_learns_where_it_is_asked_for():
    for slack in (False, True):
        states = []

        def look(run: TrainingRun, seen: Any, states: list[Any] = states) -> None:
            states.append(run.losses[0].scores.detach().clone())

        run_of(layered("bltm", slack=slack), observers=(Watcher(look),))
        assert torch.equal(states[0], states[-1]) != slack


def test_bltm_refuses_mixing_in_one_sentence():
    with pytest.raises(SettingsError, match="has no transition of its own"):
        phases_named("bltm+mixup")


def test_the_mean_transition_counts_rows_by_what_they_are_believed_to_be():
    inputs = torch.tensor([[1.0], [0.5], [0.0]])
    predicted = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

    def rows(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x, 1 - x, 0 * x], 2).expand(-1, 3, 3)

    found = mean_transition(predicted, inputs, rows)
    expected = torch.tensor([[0.75, 0.25, 0], [0, 1, 0], [0.5, 0.5, 0]])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("part", "values", "words"),
    [
        (SukhbaatarLayer, {"trace": -1.0}, "sukhbaatar trace `-1.0`"),
        (SukhbaatarLayer, {"decay": math.nan}, "sukhbaatar decay `nan`"),
        (SukhbaatarLayer, {"lr_scale": math.inf}, "sukhbaatar lr_scale `inf`"),
        (SukhbaatarLayer, {"start": "soon"}, "moment `soon`"),
        (JindalLayer, {"dropout": 1.0}, "jindal dropout `1.0`"),
        (JindalLayer, {"dropout": -0.1}, "jindal dropout `-0.1`"),
        (GoldbergerLayer, {"counts": "weak"}, "goldberger-s counts `weak`"),
        (GoldbergerLayer, {"plain_share": 1.5}, "goldberger-s plain_share `1.5`"),
        (GoldbergerLayer, {"rank": 0}, "goldberger-s rank `0`"),
        (NNAQCLayer, {"decay": -1.0}, "nnaqc decay `-1.0`"),
        (NNAQCLayer, {"decay_on": "all"}, "nnaqc decay_on `all`"),
        (NNAQCLayer, {"rank": 0}, "nnaqc rank `0`"),
        (BLTMLayer, {"rho": 1.1}, "bltm rho `1.1`"),
        (BLTMLayer, {"rank": 0}, "bltm rank `0`"),
        (BLTMLayer, {"ridge": -0.1}, "bltm ridge `-0.1`"),
    ],
)
def test_values_out_of_range_are_refused(part: type[Part], values: dict[str, Any], words: str):
    with pytest.raises(SettingsError, match=words) as caught:
        part(**values)
    assert "allowed:" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("part", list(dict.fromkeys(LOSSES.values())))
def test_a_layer_part_without_its_layer_says_that_it_has_no_effect(part: type[Part]):
    plain, parted = run_of("erm", epochs=2), run_of(Recipe(parts=(part(),)), epochs=2)
    assert any("has no effect" in words for words in parted.warnings)
    assert [r["train_loss"] for r in plain.history] == [r["train_loss"] for r in parted.history]


@pytest.mark.parametrize("name", NAMES)
def test_two_nets_have_a_layer_each(name: str):
    phase = phases_named(name)[-1]
    recipe = Recipe(
        loss=phase.recipe.loss,
        loss_values=phase.recipe.loss_values,
        parts=phase.recipe.parts,
        nets=2,
    )
    run = run_of(recipe, epochs=2)
    one, two = (list(loss.state_dict().values()) for loss in run.losses)
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_cards_say_what_is_ours(name: str):
    assert "**Ours.**" in card_named(name).text
