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


def test_every_pair_can_be_built_or_says_why_not_in_one_sentence():
    for pair in PAIRS:
        try:
            phases = phases_named(pair)
        except SettingsError as error:
            assert 20 < len(error.message) < 300, pair
            assert ". " not in error.message, pair
            assert error.hint, pair
        else:
            assert phases, pair


def test_a_pair_that_is_refused_is_refused_in_either_order():
    for pair in PAIRS:
        verdicts = []
        for names in (pair, "+".join(reversed(pair.split("+")))):
            try:
                phases_named(names)
            except SettingsError:
                verdicts.append(False)
            else:
                verdicts.append(True)
        assert verdicts[0] == verdicts[1], pair


@pytest.mark.parametrize("pair", TRAINED)
def test_pairs_that_papers_do_not_forbid_train(pair: str):
    source = pictures(wrong=0.3)
    run = fit(one_stage(pair, epochs=6), source, model=tiny_net(source), engine=EXACT)
    assert run.sweep(0)[0].isfinite().all()
    assert all(p.isfinite().all() for p in run.nets[0].parameters())
