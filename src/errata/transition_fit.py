"""Transition matrices fitted to labels that had no say in the shares of true classes beside them.

A net's probability for a row has seen that row's label: among the rows that it is surest of, those
whose label it has learned by heart are too many, and every matrix read off them comes out too near
the identity. Here shares of true classes come from elsewhere, the labels of the nearest other rows
or predictions made before the label was learned, and T makes the given labels likeliest under
them. Ours, not a paper's, but for its tools: the fit is by expectation and maximisation, as in
Bekker and Goldberger 2016, "Training deep neural-networks based on unreliable labels".

Shapes: N rows, n some rows, D features, C classes. ``T[i, j]`` = P(given j | true i), rows sum to
one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from errata.features.neighbours import nearest
from errata.transition import estimate_by_counts, weigh_by_given

__all__ = [
    "clearly_better",
    "estimate_by_votes",
    "likeliest_transition",
    "neighbour_votes",
    "true_shares",
    "votes_fit",
    "weigh_by_given_fitted",
]

NEIGHBOURS = 50
SUREST = 0.5
SHARPENING = 0.5
_LEAST = 2e-3
_STEPS = 60
_FEW_STEPS = 5
_TINY = 1e-6
_TEMPERATURES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)


def neighbour_votes(
    features: Float[Tensor, "N D"],
    given: Int[Tensor, " N"],
    classes: int,
    *,
    count: int = NEIGHBOURS,
) -> Float[Tensor, "N C"]:
    """Give the share of each label among the nearest other rows.

    Nearest by cosine, after the mean of the features is taken off. Time grows with N squared: a
    second for 10,000 rows of 128 features on one core.

    Args:
        features: [N, D], finite.
        given: Labels [N], each 0 to C - 1.
        classes: C.
        count: Rows that vote, at most: no more than half of the mean size of a class do.

    Returns:
        [N, C] float64, rows sum to 1.

    Example:
        >>> points = torch.tensor([[3.0, 0.0], [2.0, 0.1], [-2.0, 0.1], [-3.0, 0.0]])
        >>> neighbour_votes(points, torch.tensor([0, 1, 1, 0]), 2)
        tensor([[0., 1.],
                [1., 0.],
                [1., 0.],
                [0., 1.]], dtype=torch.float64)
    """
    count = max(1, min(count, len(given) // (2 * classes)))
    rows = nearest(features.float() - features.float().mean(0), k=count).rows
    return one_hot(given[rows], classes).double().mean(1).cpu()


def true_shares(
    votes: Float[Tensor, "N C"], T: Float[Tensor, "C C"], *, sharpening: float = SHARPENING
) -> Float[Tensor, "N C"]:
    """Turn shares of given labels into shares of true classes.

    What ``votes @ inverse(T)`` makes negative becomes small, and the rest is sharpened, as most
    rows have one true class and chance spreads their votes.

    Args:
        votes: Shares of given labels, [N, C].
        T: [C, C].
        sharpening: Temperature, above 0; 1 leaves shares as they are.
    """
    shares = (votes.double().cpu() @ torch.linalg.pinv(T)).clamp_min(_LEAST)
    sharp: Tensor = (shares.log() / sharpening).softmax(1)
    return sharp


def votes_fit(
    votes: Float[Tensor, "n C"], given: Int[Tensor, " n"], T: Float[Tensor, "C C"]
) -> Float[Tensor, " n"]:
    """Give the log-likelihood [nats] of each label under votes and a transition matrix.

    For rows that the net was not trained on its mean is highest where the features tell the
    classes apart, and falls again as the net learns wrong labels by heart and T nears the identity.

    Args:
        votes: Shares of the labels among neighbours, [n, C].
        given: Labels [n].
        T: [C, C].
    """
    expected = true_shares(votes, T) @ T
    return expected.gather(1, given.cpu()[:, None])[:, 0].clamp_min(_LEAST).log()


def clearly_better(new: Float[Tensor, " n"], old: Float[Tensor, " n"]) -> bool:
    """Tell whether one fit is better than another by a standard error of the paired difference.

    Args:
        new: Log-likelihood of each label, [n], 2 or more.
        old: Of the same labels, [n].

    Example:
        >>> clearly_better(torch.tensor([0.0, -1.0]), torch.tensor([-1.0, 0.0]))
        False
    """
    gained = new - old
    return bool(gained.mean() > gained.std() / len(gained) ** 0.5)


def estimate_by_votes(
    votes: Float[Tensor, "N C"],
    given: Int[Tensor, " N"],
    *,
    sharpening: float = SHARPENING,
) -> Float[Tensor, "C C"]:
    """Estimate T from the votes of neighbours, and the label of each row, which did not vote.

    A first matrix counts how the surer half of the rows is labelled; it turns votes into shares of
    true classes (`true_shares`). The matrix under which those shares make the labels likeliest is
    the answer.

    Args:
        votes: p(given | x) that has not seen the label of x, [N, C], rows sum to 1.
        given: Labels [N], each 0 to C - 1.
        sharpening: See `true_shares`.

    Returns:
        T, [C, C] float64. A class that no votes point to is taken to be labelled as itself.
    """
    given, votes = given.cpu(), votes.double().cpu()
    first = estimate_by_counts(votes, given, surest=SUREST)
    true = true_shares(votes, first, sharpening=sharpening)
    return likeliest_transition(true, given, first)


def likeliest_transition(
    true: Float[Tensor, "N C"],
    given: Int[Tensor, " N"],
    first: Float[Tensor, "C C"],
    *,
    steps: int = _STEPS,
) -> Float[Tensor, "C C"]:
    """Find the matrix under which shares of true classes make the given labels likeliest.

    Args:
        true: Shares that did not see the labels, [N, C], rows sum to 1.
        given: Labels [N], each 0 to C - 1.
        first: Where to begin, [C, C]; an entry of 0 stays 0.
        steps: Of expectation and maximisation; each makes the labels likelier, or as likely.

    Returns:
        T, [C, C] float64. A class without any share keeps its row of `first`.
    """
    labels, T = one_hot(given, len(first)).double(), first.double()
    for _ in range(steps):
        belief = true * T.T[given]
        belief = belief / belief.sum(1, keepdim=True).clamp_min(1e-300)
        counts = belief.T @ labels
        total = counts.sum(1, keepdim=True)
        T = torch.where(total > 0, counts / total.clamp_min(1e-300), T)
    return T


def weigh_by_given_fitted(
    prediction: Float[Tensor, "N C"], given: Int[Tensor, " N"]
) -> tuple[Float[Tensor, "N C"], float]:
    """Ask the given label as well, with a matrix and a temperature that the labels themselves give.

    As `errata.transition.weigh_by_given`. Of the temperatures 0.35 to 4, the one under which the
    given labels are likeliest counts; T is counted first, then fitted under that temperature, and
    the temperature is chosen once more. A net that is not sure enough is sharpened, one that has
    become too sure is softened.

    Args:
        prediction: What is believed without the given label, [N, C], rows sum to 1.
        given: Labels [N]; rows without (-1) are only sharpened or softened.

    Returns:
        Label distributions [N, C], and the temperature.
    """
    known = given >= 0
    logs = prediction.double().clamp_min(_TINY).log()
    T, labels = estimate_by_counts(prediction, given).to(logs), given[known]
    temperature = _likeliest_temperature(logs[known], labels, T)
    T = likeliest_transition((logs[known] / temperature).softmax(1), labels, T, steps=_FEW_STEPS)
    temperature = _likeliest_temperature(logs[known], labels, T)
    return weigh_by_given(prediction, given, T, temperature=temperature), temperature


def _likeliest_temperature(logs: Tensor, labels: Tensor, T: Tensor) -> float:
    def likelihood(temperature: float) -> float:
        expected = (logs / temperature).softmax(1) @ T
        own = expected.gather(1, labels[:, None])
        return float(own.clamp_min(_TINY).log().sum())

    return max(_TEMPERATURES, key=likelihood)
