"""Any two recipes go together, or one sentence says why they do not."""

from __future__ import annotations

from itertools import combinations

import pytest
from samples import EXACT, one_stage, pictures, tiny_net

from errata.engine import fit
from errata.errors import SettingsError
from errata.methods import phases_named, recipe_names

PAIRS = [f"{one}+{other}" for one, other in combinations(recipe_names(), 2)]
TRAINED = ["smp+gce", "forward+mixup", "odd+sce", "nnaqc+mixup", "odd+truncated-gce", "smp+mixup"]


def refusal(names: str) -> SettingsError | None:
    """Say why two recipes do not go together; None where they do."""
    try:
        assert phases_named(names), names
    except SettingsError as error:
        return error
    return None


def test_every_pair_can_be_built_or_says_why_not_in_one_sentence():
    refusals = {pair: why for pair in PAIRS if (why := refusal(pair))}
    assert 0 < len(refusals) < len(PAIRS)
    for pair, why in refusals.items():
        assert 20 < len(why.message) < 300, pair
        assert ". " not in why.message, pair
        assert why.hint, pair


def test_a_pair_that_is_refused_is_refused_in_either_order():
    for pair in PAIRS:
        back = "+".join(reversed(pair.split("+")))
        assert (refusal(pair) is None) == (refusal(back) is None), pair


@pytest.mark.parametrize(
    "pair",
    ["forward+clean-only", "cleannet+clean-only", "bltm+cutmix", "smp+bltm", "odd+odd-phantom"],
)
def test_pairs_that_make_no_sense_say_so(pair: str):
    why = refusal(pair)
    assert why is not None
    assert "makes no sense" in why.message


@pytest.mark.parametrize("pair", TRAINED)
def test_pairs_that_papers_do_not_forbid_train(pair: str):
    source = pictures(wrong=0.3)
    run = fit(one_stage(pair, epochs=6), source, model=tiny_net(source), engine=EXACT)
    assert run.sweep(0)[0].isfinite().all()
    assert all(p.isfinite().all() for p in run.nets[0].parameters())
