"""Whether a row belongs to its class, learned from verification labels (CleanNet).

Two encoders meet in one space: one of a row's features, one of a class, which is told by a set of
reference features and attends to those that matter. Their cosine says how well the row fits.

Shapes: B pairs, C classes, K references of a class, D feature width, S width of the common space.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from errata.features.clusters import k_means

__all__ = [
    "DECODERS",
    "NORMS",
    "VerificationNet",
    "attend",
    "class_references",
    "normalise_features",
    "pseudo_verification_loss",
    "verification_loss",
]

MARGIN = 0.1
"""Cosine above which a row counts as one of its class."""
WRONG_WEIGHT = 5.0
"""What a row that does not belong counts over one that does: there are fewer of them."""
NORMS = ("log", "l2", "none")
DECODERS = ("linear", "tanh")
_WIDTHS = ((512, 4), (256, 2), (128, 1))
_RESTARTS, _ITERATIONS = 10, 50


def verification_loss(
    cosine: Float[Tensor, " B"],
    right: Float[Tensor, " B"],
    *,
    margin: float = MARGIN,
    wrong_weight: float = WRONG_WEIGHT,
) -> Float[Tensor, " B"]:
    """Pull rows to their class where its label is right, and push others below the margin.

    Args:
        cosine: Of the row and the class, -1 to 1.
        right: 1 where a person found that the row belongs to the class, 0 where not.
        margin: Cosine from which on a row that does not belong costs something.
        wrong_weight: Factor of what such rows cost.

    Example:
        >>> verification_loss(torch.tensor([0.5, 0.5, 0.05]), torch.tensor([1.0, 0.0, 0.0]))
        tensor([0.5000, 2.0000, 0.0000])
    """
    return right * (1 - cosine) + wrong_weight * (1 - right) * (cosine - margin).clamp_min(0)


def pseudo_verification_loss(
    cosine: Float[Tensor, " B"], *, margin: float = MARGIN
) -> Float[Tensor, " B"]:
    """Give the same loss of rows that nobody looked at, taken for right from the margin on.

    Those below it cost nothing, so the loss only pulls.
    """
    return verification_loss(cosine, (cosine >= margin).to(cosine), margin=margin)


def attend(
    scores: Float[Tensor, "C K"], values: Float[Tensor, "C K S"], real: Bool[Tensor, "C K"]
) -> Float[Tensor, "C S"]:
    """Average the values of each class by the softmax of their scores; fillers count nothing.

    Example:
        >>> values, real = torch.tensor([[[0.0], [4.0]]]), torch.ones(1, 2, dtype=torch.bool)
        >>> attend(torch.tensor([[0.0, 3.0]]).log1p(), values, real)
        tensor([[3.2000]])
    """
    weights = scores.masked_fill(~real, -torch.inf).softmax(1)
    return (weights[:, :, None] * values).sum(1)


def normalise_features(features: Float[Tensor, "*n D"], how: str) -> Float[Tensor, "*n D"]:
    """Bring features into the range of the encoders.

    ``log`` is ``log(1 + v)``, carried on to negative features as an odd function; ``l2`` gives unit
    length; ``none`` changes nothing.
    """
    if how == "log":
        return features.sign() * features.abs().log1p()
    return normalize(features, dim=-1) if how == "l2" else features


def class_references(
    features: Float[Tensor, "n D"],
    given: Int[Tensor, " n"],
    *,
    classes: int,
    count: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "C K D"], Bool[Tensor, "C K"]]:
    """Tell each class by the k-means centres of the rows that were given it, wrong ones included.

    The best of ten starts by k-means++ is taken.

    Args:
        features: Of the rows.
        given: Class of each.
        classes: How many there are.
        count: Centres of a class; as many as it has rows where those are fewer.
        generator: CPU generator of the starts.

    Returns:
        The centres, filled up with zeros, and which of them are real.
    """
    centres = features.new_zeros(classes, count, features.shape[1])
    real = torch.zeros(classes, count, dtype=torch.bool, device=features.device)
    for label in range(classes):
        members = features[given == label]
        if not len(members):
            continue
        found = _best_k_means(members, count, generator)
        centres[label, : len(found)] = found
        real[label, : len(found)] = True
    return centres, real


def _best_k_means(members: Tensor, count: int, generator: torch.Generator) -> Tensor:
    best, least = members, torch.inf
    if len(members) <= count:
        return best
    for _ in range(_RESTARTS):
        found = k_means(members, count=count, generator=generator, iterations=_ITERATIONS)
        spread = float(torch.cdist(members, found).min(1).values.square().sum())
        if spread < least:
            best, least = found, spread
    return best


class VerificationNet(nn.Module):
    """Encoders of rows and of classes into one space, and a decoder that gives rows back.

    Args:
        width: D.
        decoder: ``linear``, or ``tanh`` as in the authors' release, which cannot give back
            features above 1.
        generator: CPU generator of the first weights (Glorot and Bengio 2010); biases are 0.
    """

    def __init__(self, width: int, *, decoder: str, generator: torch.Generator) -> None:
        super().__init__()
        # Those of the paper, but no wider than narrow features are worth.
        wide, middle, code = (min(size, times * width) for size, times in _WIDTHS)
        self.wide_units = wide
        self.rows = _perceptron(width, middle, code)
        self.back = _perceptron(code, middle, width)
        if decoder == "linear":
            self.back.pop(3)
        self.wide = _perceptron(width, wide)
        self.narrow = _perceptron(wide, middle)
        self.ask = _perceptron(middle, middle)
        self.code = _perceptron(middle, code)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)
        # At nought the attention is even, and learns from there.
        self.context = nn.Parameter(torch.zeros(middle))

    def encode_classes(
        self,
        references: Float[Tensor, "C K D"],
        real: Bool[Tensor, "C K"],
        keep: Float[Tensor, "C K H"] | None = None,
    ) -> Float[Tensor, "C S"]:
        """Encode sets of references, whose order does not matter.

        Args:
            references: Normalised features.
            real: Which of them count.
            keep: Factors of the first hidden layer, for dropout.
        """
        wide = self.wide(references)
        values = self.narrow(wide if keep is None else wide * keep)
        code: Tensor = self.code(attend(self.ask(values) @ self.context, values, real))
        return code


def _perceptron(*widths: int) -> nn.Sequential:
    """Stack linear layers, each followed by tanh."""
    layers = (part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh()))
    return nn.Sequential(*layers)
