"""Train half on the given label, half on that of the class whose prototypes look most alike.

**Idea.** A row whose label is wrong lies, in feature space, among the rows of another class. From
epoch `start` on, before every epoch, features of all rows are taken anew, and `p` prototypes are
chosen for each class among `m` rows that were given it: rows in its dense parts (rho) that are no
near-duplicates of a denser one (eta). Each row gets the class whose prototypes it is most alike
to, by mean cosine. The loss is that of the given label, weighted 1 - `alpha`, and that of the
corrected one, weighted `alpha`. The model predicts without prototypes, at the cost of `erm`.

**Use it** to correct labels: the ledger keeps the first and the last corrected class of each row,
and how far it leads the given one (`prototype_margin`), which ranks suspects. For test accuracy,
use it with ``center = true``, ``sc_percentile = 60`` and ``margin = 0.2`` where training is long
enough for plain training to learn wrong labels by heart, and on few rows of a pretrained net whose
labels were confused by class: there it wins (see Measured).

**Avoid it** in short training from scratch where test accuracy is all that counts (see Measured).
With the paper's values and features of a few epochs, cosines are close to one another, corrections
may be no better than the given labels, and whole classes can move elsewhere (errata warns of both).
Early corrections with ``alpha = 1`` are risky for the same reason. A class of several groups needs
a `p` that reaches all of them.

**Variants.** `smp-kmeans` and `smp-density-peak` choose prototypes in other ways, ``select =
"densest"`` leaves eta out. ``--verified`` draws candidates from rows judged right: the paper's
"+25k verify". ``smp+finetune`` with ``--clean`` is its "+50k clean". `scores` may be ``max``.

**Cost.** One more forward pass over all rows per epoch from `start` on, about half an epoch of
training on the small net, and [m, m] cosines per class: 6.6 MB for 1,280 candidates. Relabelling
itself is cheap: averaging cosines over p prototypes equals one product with the mean of their unit
vectors, so N rows cost little more than the bare [N, D] x [D, C] product, for any `p`
(``benchmarks/relabel_cost.py``: 0.8 to 1.4 of it, 1.5 are allowed). The maximum over prototypes is
not the same: one prototype decides, no mean stands for them, and it costs `p` products.

**Measured.** Fashion-MNIST, 10,000 rows, uniform noise of 40 % (63.8 % of the labels right), from
scratch: ``python -m errata.bench next SUITE --minutes 60 --only 'CELL'``. After 60 epochs (suite
``fashion-10k``, cells ``smp/uniform:0.4/*``) the paper's values end where `erm` does, but swing:
84.7, 79.6 and 83.7 % in three seeds, where `erm` has learned wrong labels by heart and ends at 82.6
%; 65.6, 61.7 and 70.3 % of the labels are right after the first correction, 84.7, 78.2 and 81.8 %
after the last. With centred features, the 60th percentile and ``margin = 0.2``, chosen on the small
net below, SMP wins from scratch (``smp@centred+sc60+margin0.2/*``): 85.1, 84.8 and 85.5 %, 2.5
points above `erm` in the mean, with 85.2 to 86.6 % of the labels right at the first correction and
87.6 to 88.5 % at the last. After 30, one seed (suite ``smp``), `erm` has not memorised much, and
SMP loses: 77.5 % (`smp-kmeans` 78.4 %, `smp-density-peak` 80.5 %) against 85.4 %, with 55.5 % of
the labels right at the first correction, fewer than before, and 75.0 % at the last. Centred
features, the 60th percentile, ``margin = 0.2`` and ``alpha = 1`` make better labels, but no better
net: after 30 epochs 85.9 %, then 86.6 % of the labels and a test accuracy of 83.0 %
(``smp@centred+sc60+margin0.2+alpha1/*``), from 40 % of the epochs on 86.1 %, 85.3 % and 82.0 % (the
same with ``+at40``), after 60 epochs 85.2 %, 86.7 % and 82.5 %. With other noise (suite
``fashion-10k-30``) the paper's values lose 3 to 9 points, and labels get no better: 70.2 % at
both ends with rates by class, 69.3 %, then 69.2 % by the look of the sample, 68.0 %, then 63.3 % by
look-alike classes. From a net that was trained on other images with true labels and goes on with
all 10,000 (``python benchmarks/smp_features.py``, 20 epochs) they lose: `erm` 86.8 %, the paper's
values 54.2 % with the label accuracy falling from 63.8 % to 27.1 %, centred features and the 60th
percentile 77.6 % (labels 73.9 %), with ``margin = 0.2`` and ``alpha = 1`` as well 81.6 % (82.8 %).
The features after a ReLU point the same way, so centre them. The sweeps of the paper on a small net
(``python benchmarks/smp_sweeps.py``, the docs' "Labels corrected by the net") say what matters:
several prototypes instead of one or two, the 60th percentile, rows that were verified.

It wins where features are good and frozen, rows are few and labels are confused by class: a linear
head on the features of a net trained on other images, 500 rows, asymmetric noise of 40 % (``python
benchmarks/smp_frozen.py``, mean of three seeds): `erm` 60.1 %, `gce` 70.2 %, the paper's values
69.3 %, the centred setting with margin above 74.7 %. With 2,000 rows these are 65.1 %, 76.0 %, 68.2
% and 75.4 %. With uniform noise it loses there too, 500 rows: `erm` 79.5 %, `gce` 81.8 %, SMP 73.3
% and 75.4 %. Our reading: wrong labels of all classes average out in a linear head, those of one
class do not.

**Source.** Han, Luo, Wang 2019, "Deep Self-Learning From Noisy Labels" (ICCV). Theirs, on
Clothing1M: 1,280 candidates, 8 prototypes, alpha 0.5; 61.74 % of the labels right at first, 74.38 %
after the first correction and 77.36 % after the last; 74.45 % test accuracy, 76.44 % with verified
labels, 81.16 % with clean ones (preset `smp-clothing1m`).

**Ours.** `start = 20 %`: the paper's is not known. The cut-off of the density is the 40th
percentile of the cosines from below; "ranked 40 %" may also mean the 60th. The cap of .95 on eta,
k-means++ and the Euclidean density peaks are from memory; that verified rows are the candidates is
our reading of the tables. Where densities are equal the first row by name counts as denser; the
printed formula (``ties = "strict"``) lets duplicates pass. `center`, `margin`, `scores`, `densest`
and `class_balanced` are options that the paper does not have. A class with fewer rows than `m` or
`p` gives all it has, with a warning for `p`, as the paper's `m` is more than most classes of small
data have. Rows that another part drops are no candidates but are corrected. Mixing comes after it:
``smp+mixup``.
"""

from __future__ import annotations

from errata.methods.card import Card
from errata.parts.base import Recipe
from errata.parts.prototypes import SMP

__all__ = ["CARD", "DENSITY_PEAK", "KMEANS"]

PIPELINE = (
    "train on the given labels",
    "from `start` on, every epoch: features of a sample of each class",
    "density and likeness to denser rows choose a few prototypes",
    "every row gets the class of the prototypes it is most like",
    "the loss blends given and corrected label",
)


def _card(name: str, summary: str, source: str, select: str) -> Card:
    return Card(
        name=name,
        summary=summary,
        source=source,
        year=2019,
        way="relabel",
        pipeline=PIPELINE,
        takes=("verified",),
        text=__doc__ or "",
        build=lambda: Recipe(parts=(SMP(select=select),)),
    )


_PAPER = "Han, Luo, Wang 2019, arXiv:1908.02160"
CARD = _card(
    "smp", "labels corrected by prototypes of each class, beside the given ones", _PAPER, "density"
)
KMEANS = _card("smp-kmeans", "SMP with prototypes found by k-means++", _PAPER, "kmeans++")
DENSITY_PEAK = _card(
    "smp-density-peak",
    "SMP with prototypes found by Euclidean density peaks",
    _PAPER,
    "density_peak_euclidean",
)
