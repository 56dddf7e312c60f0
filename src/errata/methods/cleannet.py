"""Learn from rows that people looked at how well a row fits its class, and weigh rows by that.

**Idea.** A class is told by some reference features: the centres of the rows given that label,
wrong ones included. Two small nets bring a row and a class into one space. Where a person found
the label right their cosine is pulled up, where wrong it is pushed below a margin; what is learned
holds for classes that nobody looked at, too. Half of the epochs train plainly and give the
features. Then a fresh net is trained for the other half, with each row weighed by its cosine,
negative ones by 0.

**Use it** after a review: ``errata apply --verified-out`` writes what ``--verified`` takes, and
some hundreds of verdicts will do. It fits many classes of which few were reviewed.

**Avoid it** where nobody found a label right, or where features of half the epochs do not tell
classes apart yet: all weights are then alike. The weights are cosines, so even right rows count
less than one, which lowers the learning rate somewhat.

**Variants.** ``weights = "hard"`` takes rows with a cosine of `threshold` or more, and leaves the
others out. ``--set stage.1.reset=false`` goes on with the net instead of starting afresh.
``cleannet+finetune`` with ``--clean`` is the paper's setting "noisy + clean". `dropout` acts on the
references (0.2 in the release's example), `norm` is the scale of the features (``l2``, ``none``).

**Cost.** 1, and some seconds to minutes for the two small nets.

**Measured.** ``python benchmarks/trusted_rows.py``: 1,438 digits, 20 epochs, a random tenth of the
rows judged, seeds 0 to 2. Uniform noise of 40 %: test accuracy .947, .911, .950 where `erm` has
.788, .772, .724; the rows found right alone (`clean-only`) give .933, .914, .939, and `l2rw` .983,
.981, .964. Asymmetric noise of 30 %: .981, .972, .964 (`erm` .705, .788, .708, `clean-only` .902,
.911, .950, `l2rw` .986, .986, .975). Area under the ROC curve of the accumulated margins .999
(uniform; `erm` .988), of the cosines of rows that nobody judged .899; asymmetric .996 of both.

**Source.** Lee, He, Zhang, Yang 2018, arXiv:1711.07131.

**Ours.** The paper fine-tunes one net on noisy data and trains another with the weights; how long
each is trained is ours (half and half), as are `passes` over the verdicts with the rate divided by
10 at a half and at three quarters; the last state is taken, where the release chooses one by
held-out verdicts. ``contrast``: a row found right tells as well that another class, drawn at
random, is wrong for it. Without it there are no wrong ones to learn from when people corrected
every label they found wrong. ``obey``: verdicts overrule cosines, so a row found right weighs 1 and
one found wrong 0. The decoder is linear; the release's ends in tanh (``decoder = "tanh"``), which
cannot give back features above 1. ``log(1 + v)`` is carried on to negative features as an odd
function. Below 128 features the two nets are narrower than the paper's. Of several nets the first
gives the features.
"""

# Shapes: n rows, N all rows, B batch.

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from errata.errors import SettingsError, unknown_name
from errata.ledger import Column, standard
from errata.methods.card import Card
from errata.parts.base import Part, Phase, Recipe, register_part
from errata.parts.relabel import refuse_mixed, refuse_trusted
from errata.parts.verification import DECODERS, MARGIN, NORMS
from errata.parts.verifier import Verifier
from errata.types import Batch, Plan, Run

__all__ = ["CARD", "CleanNet", "RowWeights", "weigh_by_cosine"]

_WEIGHTS = ("soft", "hard")


def weigh_by_cosine(
    cosine: Float[Tensor, " n"],
    verified: Int[Tensor, " n"] | None = None,
    *,
    weights: str = "soft",
    threshold: float = MARGIN,
) -> Float[Tensor, " n"]:
    """Turn cosines of rows and their classes into weights, 0 to 1.

    Args:
        cosine: -1 to 1.
        verified: What people found, which overrules it: 1 right, 0 wrong, -1 unknown.
        weights: ``soft`` is the cosine, where positive; ``hard`` 1 from the threshold on, else 0.
        threshold: Of hard weights.

    Example:
        >>> weigh_by_cosine(torch.tensor([0.75, 0.05, -0.5]))
        tensor([0.7500, 0.0500, 0.0000])
    """
    found = cosine.clamp(0, 1) if weights == "soft" else (cosine >= threshold).to(cosine)
    return found if verified is None else torch.where(verified >= 0, verified.to(found), found)


@register_part("cleannet")
@dataclass(kw_only=True)
class CleanNet(Verifier, Part):
    """After the last epoch of a stage, weigh all rows for the next one.

    Attributes:
        weights: ``soft`` or ``hard``.
        threshold: Cosine from which on a row counts, with hard weights.
        obey: Verdicts overrule cosines.
    """

    weights: str = "soft"
    threshold: float = MARGIN
    obey: bool = True

    def __post_init__(self) -> None:
        for name, allowed in (("weights", _WEIGHTS), ("norm", NORMS), ("decoder", DECODERS)):
            if getattr(self, name) not in allowed:
                raise unknown_name(f"cleannet {name}", getattr(self, name), allowed)
        for name, (least, most, words) in _LIMITS.items():
            if not least <= getattr(self, name) <= most:
                raise SettingsError(
                    f"cleannet {name} `{getattr(self, name)}` is out of range; allowed: {words}",
                    hint=f"{getattr(CleanNet, name)} is the default",
                )

    def setup(self, run: Run) -> None:
        """Add the columns; refuse a run without rows found right, and a net without features."""
        if run.verified is None or not bool((run.verified == 1).any()):
            raise SettingsError(
                "cleannet learns from rows that people found right, and there are none; allowed: "
                "at least one",
                hint="give verdicts with `--verified`; `errata apply --verified-out` writes them",
            )
        if not self.contrast and not bool((run.verified == 0).any()):
            raise SettingsError(
                "cleannet without `contrast` needs rows that people found wrong, and there are "
                "none; allowed: at least one",
                hint="leave `contrast` as it is",
            )
        width = run.head(0).in_features
        entered = run.sweep(0, (run.given >= 0).nonzero()[:2, 0])[1]
        if entered is None or entered.shape[1:] != (width,):
            raise SettingsError(
                "cleannet needs the features that enter the last linear layer, and the net does "
                "not run it on one vector a sample; allowed: a net that ends in one",
                hint="end the model in a linear layer and store it as `self.head`",
            )
        run.ledger.add(self.kind, standard("weight"), Column("label_cosine"))
        # By name, so that draws do not depend on the order of the rows.
        by_name = sorted(range(run.num_rows), key=run.ledger.ids.__getitem__)
        rows = torch.tensor(by_name, device=run.device)
        self.rows_ = rows[run.given[rows] >= 0]

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Refuse rows that the ledger does not know."""
        refuse_trusted(self, plan)
        return plan

    def after_epoch(self, run: Run) -> None:
        """Learn the two nets after the last epoch, and weigh the rows."""
        if run.epoch + 1 < run.epochs:
            return
        assert run.verified is not None, "setup refuses a run without them"
        rows, given = self.rows_, run.given[self.rows_]
        verified = run.verified.to(run.device)[rows]
        features = run.sweep(0, rows)[1]
        assert features is not None, "setup has checked that the net gives features"
        cosine = self.fit(
            features, given, verified, classes=run.classes, generator=run.stream("cleannet")
        )
        found = weigh_by_cosine(
            cosine,
            verified if self.obey else None,
            weights=self.weights,
            threshold=self.threshold,
        )
        run.ledger.write("label_cosine", rows, cosine, stamp=run.tick)
        run.ledger.write("weight", rows, found, stamp=run.tick)
        self._tell(run, given, found)

    def _tell(self, run: Run, given: Tensor, weights: Tensor) -> None:
        run.note(
            "cleannet",
            mean_weight=float(weights.mean()),
            share_left_out=float((weights == 0).float().mean()),
        )
        for label in torch.unique(given).tolist():
            if float(weights[given == label].sum()) < 1:
                run.warn(
                    f"cleannet leaves hardly any row of class `{run.ledger.classes[label]}`; have "
                    "more of its rows judged"
                )


_LIMITS: dict[str, tuple[float, float, str]] = {
    "passes": (1, math.inf, "1 and above"),
    "batch": (1, math.inf, "1 and above"),
    "references": (1, math.inf, "1 and above"),
    "lr": (0, math.inf, "0 and above"),
    "threshold": (-1, 1, "-1 to 1"),
    "dropout": (0, math.nextafter(1, 0), "0 and above, below 1"),
}


@register_part("row-weights")
@dataclass(kw_only=True)
class RowWeights(Part):
    """Weigh rows as an earlier stage left it in the column ``weight`` of the ledger."""

    def setup(self, run: Run) -> None:
        """Warn where there are no such weights."""
        self.found_ = run.ledger.has("weight")
        if not self.found_:
            run.warn(
                "row-weights has no effect: no earlier stage has written `weight`; put a stage "
                "before it that does"
            )

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Refuse rows that the ledger does not know."""
        refuse_trusted(self, plan)
        return plan

    def prepare(self, run: Run, net: int, batch: Batch) -> Batch:
        """Weigh the targets, so that rows that are mixed later take their weight with them."""
        if not self.found_:
            return batch
        refuse_mixed(self, batch)
        weight = run.ledger.read("weight", batch.rows)
        return replace(batch, target=batch.target * weight[:, None].to(batch.target))


PIPELINE = (
    "train plainly on the given labels",
    "tell each class by the centres of its features",
    "verdicts teach two nets how well rows fit their class",
    "every row gets this cosine as its weight",
    "train a fresh net with the weights",
)


def _phases() -> tuple[Phase, ...]:
    return (
        Phase(recipe=Recipe(parts=(CleanNet(),)), share=0.5),
        Phase(recipe=Recipe(parts=(RowWeights(),)), share=0.5),
    )


CARD = Card(
    name="cleannet",
    summary="weighs rows by how well they fit their class, learned from verdicts of people",
    source="Lee, He, Zhang, Yang 2018, arXiv:1711.07131",
    year=2018,
    way="trusted",
    pipeline=PIPELINE,
    needs=("verified",),
    text=__doc__ or "",
    build=_phases,
)
