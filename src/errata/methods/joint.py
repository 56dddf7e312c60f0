"""Learn labels and weights in turn: the mean of the last ten predictions becomes the label.

**Idea.** While the learning rate is high, a net follows patterns and hardly learns single wrong
labels. Joint optimisation trains at a constant high rate and remembers what it predicts of every
row. From epoch `start` on, after every epoch, the mean of the last `keep` predictions replaces the
label of the row. Two terms keep this from going wrong: a prior on the mean prediction, so that not
all rows end in one class, and the entropy of each prediction, so that soft labels do not fit the
net at once and stop moving. Then a fresh net learns the final labels with a falling rate.

**Use it** for many epochs on labels with much noise: it needs no noise rate, and leaves soft
labels, corrected classes and the share of rows it changed. `joint-hard` trains on the class with
the largest share and has no entropy term.

**Avoid it** for a few epochs, on labels that are clean, and where hard classes are rare: rows that
the net finds hard move to the classes it knows. With many or skewed classes, the mean over one
batch says little: set ``moving = 0.9``, or ``balanced = true`` to draw every class equally often.

**Cost.** 1.0: a softmax per step and a mean per epoch are little. The ring holds 10 predictions per
row in half precision, 20 bytes per row and class: 2 MB for 10,000 rows and 10 classes, 100 MB for
50,000 and 100. With mixup, a step whose predictions count needs one more forward pass, as
predictions of mixed inputs belong to no row: such an epoch costs 1.35 of one of `mixup` (net `conv`
on 10,000 images of Fashion-MNIST, one core).

**Switches.** ``beta = 0`` leaves the entropy term out, ``alpha = 0`` the prior, and `divergence`
reverses it or makes it symmetric. After every update, `run.memory` keeps the share of labels that
moved (``joint_moving``) and of soft labels with a class above .99 (``joint_onehot``), [epochs]. On
a small net and ten classes neither term, nor the direction of `divergence`, changes anything that
one seed could tell; with 200 made-up classes the entropy term is worth 4 points of accuracy, and
``moving = 0.9`` another 2 (``python benchmarks/joint_terms.py``, the docs' "Labels corrected by the
net").

**Measured.** In thirty epochs (suite `fashion-10k-30`, one seed, `erm` in brackets) it ends at .820
at uniform 40 % (.854) and .821 at rates by class (.855), and within half a point of `erm` at the
two other noises; `joint-hard` ends at .809 at uniform 40 %. `erm` has memorised little by then,
while 16 % of the new labels are wrong and the fresh net learns them as if they were right. In sixty
epochs with its defaults it hardly helps on 10,000 images of Fashion-MNIST with 40 % uniform noise
(60 epochs, flip, seed 0, ``errata bench next fashion-10k --only "joint/uniform:0.4/0"``): test
accuracy .828, where `erm` ends at .825. Label accuracy rises from .638 to .836 at the first update
and to .846 at the last, but less than 1 % of the labels move in any epoch after the first update,
and more than half of the labels end with a class above .99. In the first stage alone, one seed:
without the entropy term, label accuracy is .841 at the first update and .854 four epochs later
(.846 with it); with a rate of .3 the first update gives .842, with .03 it gives .829. Waiting
matters most: without the entropy term and with ``start = 24`` of 36 epochs, label accuracy is .880
at the first update and test accuracy .855 after 25 epochs. Without it and with ``keep = 3``, which
leaves the first epochs out of the mean, it is .855 at the first and .858 at the last, and the fresh
net ends at .832. The reason is plain: after the first update no given label is looked at again, so
what the net knows by then is all it will know, and 13 % of the right labels are changed as well.
``ask_given = true`` looks at it again: .881 at the first update, .884 at the last, .846 in the end;
with ``keep = 4`` and ``beta = 0`` as well .898, .900 and .856, 3.1 points above `erm` (cells
``joint@ask-given`` and ``joint@ask-given+keep4`` of the same suite). Its labels are too sure: at
the end 86 % have a class above .99, and their log-loss is .58, as `ask_given` sharpens alike what
an early net says, which is too flat, and what a late one says, which is not. ``ask_fitted = true``
fits the temperature and the matrix to the given labels at each update. On the stored predictions of
that run it gives .906 instead of .893 and a log-loss of .29 instead of .48 eight epochs after the
first update. Labels made from the last eight predictions of that run with a temperature of 2, .908
right with a log-loss of .30, bring the fresh net to .860, 3.5 points above `erm`; with mixup in
that stage it ends at .851. The whole run with ``ask_fitted = true`` (cell
``joint@ask-fitted+keep4``) ends at .865, .869 and .868 (seeds 0 to 2), on the mean 4.1 points above
`erm`, with .92 of the labels right: the best setting found.

**Source.** Tanaka, Ikami, Yamasaki, Aizawa 2018, "Joint Optimization Framework for Learning with
Noisy Labels" (CVPR), and the published code. Theirs: alpha 1.0 and beta 0.5 (the defaults of the
code; 1.2 and 0.8 for symmetric noise of .7, 0.8 and 0.4 for asymmetric .4), rate 0.1 and constant,
then 0.2 and divided by 10 after one and two thirds, weight decay 1e-4, ten predictions, updates
from the end of epoch 70 of 200 on, 35 %.

**Ours.** The prior is the class shares of the given labels, the paper's on CIFAR is uniform
(``prior = "uniform"``). A `start` that is a share waits until the ring is full. The stages share
the epochs 60 : 40; the paper has 200 and 120. Rows count by their weight in both terms. The moving
mean has the gradient of the batch mean at full strength. `joint-hard` is from memory: one-hot
labels, no entropy term. `ask_given` and `ask_fitted` are ours as well: Bayes' rule with the given
label as a second witness (`errata.transition.weigh_by_given`).
"""

# Shapes: B batch, N rows, C classes.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from errata.methods.card import Card
from errata.parts.base import OptimizerSpec, Phase, Recipe, register_part
from errata.parts.penalties import PriorAndEntropy
from errata.parts.relabel import RelabelFromHistory, UseLabels
from errata.types import Plan, Run, Seen

__all__ = ["CARD", "HARD", "REFUSES", "Joint", "joint_phases"]


@register_part("joint")
@dataclass(kw_only=True)
class Joint(RelabelFromHistory, PriorAndEntropy):
    """The first stage: labels from past predictions, a prior and an entropy term."""

    def __post_init__(self) -> None:
        RelabelFromHistory.__post_init__(self)
        PriorAndEntropy.__post_init__(self)

    def setup(self, run: Run) -> None:
        """Add the columns, and find the prior."""
        RelabelFromHistory.setup(self, run)
        PriorAndEntropy.setup(self, run)

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Refuse trusted samples; draw the classes equally often where asked."""
        return PriorAndEntropy.plan(self, run, RelabelFromHistory.plan(self, run, plan))

    def after_step(self, run: Run, seen: Mapping[int, Seen]) -> None:
        """Keep the predictions, and move their mean."""
        RelabelFromHistory.after_step(self, run, seen)
        PriorAndEntropy.after_step(self, run, seen)


FIRST = OptimizerSpec(lr=0.1, nesterov=False, weight_decay=1e-4, schedule="constant")
"""The constant high rate is the regulariser of the first stage."""
SECOND = OptimizerSpec(
    lr=0.2, nesterov=False, weight_decay=1e-4, schedule="step", milestones=(1 / 3, 2 / 3)
)


def joint_phases(*, hard: bool = False) -> tuple[Phase, ...]:
    """Build both stages.

    Args:
        hard: Labels are classes instead of distributions, and there is no entropy term.
    """
    first = Joint(hard=True, beta=0.0) if hard else Joint()
    second = UseLabels(column="corrected" if hard else "soft_label")
    return (
        Phase(recipe=Recipe(parts=(first,)), share=0.6, optimizer=FIRST),
        Phase(recipe=Recipe(parts=(second,)), share=0.4, optimizer=SECOND),
    )


REFUSES: dict[str, str] = {
    **dict.fromkeys(
        ("smp", "smp-kmeans", "smp-density-peak"),
        "both put labels of their own in place of the given ones",
    ),
    **dict.fromkeys(
        (
            *("forward", "backward", "row", "soft", "forward-learned", "dual-t", "vol-min"),
            *("t-revision", "sukhbaatar", "jindal", "goldberger-s", "goldberger-c", "bltm"),
            *("nnaqc", "nnaqc-instance"),
        ),
        "its new labels are no longer those whose noise a transition matrix describes",
    ),
}
"""What makes no sense with a recipe that replaces labels, and why."""


PIPELINE = (
    "train at a constant high rate, with prior and entropy terms",
    "keep the last ten predictions of every row",
    "from `start` on, every epoch: their mean becomes the label",
    "fresh network, falling rate, final labels",
)


def _card(name: str, summary: str, *, hard: bool) -> Card:
    return Card(
        name=name,
        summary=summary,
        source="Tanaka et al. 2018, Joint Optimization Framework (CVPR)",
        year=2018,
        way="relabel",
        pipeline=PIPELINE,
        text=__doc__ or "",
        refuses=REFUSES,
        build=lambda: joint_phases(hard=hard),
    )


CARD = _card("joint", "soft labels from the last ten predictions, then a fresh net", hard=False)
HARD = _card("joint-hard", "labels from the last ten predictions, then a fresh net", hard=True)
