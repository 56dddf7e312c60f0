"""Weights of the rows of a batch, from how their gradients agree with that of trusted samples.

With ``L(theta, w) = sum_i w_i l_i(theta)``, one step of plain descent moves theta against
``sum_i w_i g_i``. What this does to the trusted loss depends on row i through ``g_i . v`` alone,
where v is the gradient of the trusted loss. All products of a batch come at once and exactly, with
no gradient of a single row: the weighted gradient is linear in w, so its product with v,
differentiated by w, is ``g_i . v`` (the "double backward"). It uses the graph of the forward pass
that is trained on, so it is right for mixed inputs, dropout and batch statistics as well.

Shapes: B batch, M trusted batch, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from errata.errors import SettingsError, unknown_name
from errata.ledger import standard
from errata.parts.base import Part
from errata.types import Batch, Run, Seen

__all__ = [
    "WeighByTrusted",
    "WeightedGradient",
    "draw_trusted",
    "learned_parameters",
    "share_out",
    "trusted_gradient",
]

OF = ("all", "head")


class WeightedGradient:
    """The gradient of ``sum_i w_i l_i`` at the parameters of the forward pass.

    Args:
        losses: [B] of a forward pass whose graph is still there; it stays.
        weights: [B]; only `values` depends on them.
        parameters: What is differentiated by.
    """

    def __init__(
        self,
        losses: Float[Tensor, " B"],
        weights: Float[Tensor, " B"],
        parameters: Sequence[Tensor],
    ) -> None:
        self._weights = weights.detach().to(losses).requires_grad_()
        self._gradient = torch.autograd.grad(
            (self._weights * losses).sum(),
            list(parameters),
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )

    @property
    def values(self) -> list[Tensor]:
        """The gradient, one tensor per parameter."""
        return [each.detach() for each in self._gradient]

    def along(self, direction: Sequence[Tensor]) -> Float[Tensor, " B"]:
        """Give ``g_i . direction`` of every row, exactly; once, as the graph is then freed.

        Args:
            direction: One tensor per parameter.
        """
        pairs = zip(self._gradient, direction, strict=True)
        products = [(gradient * v).sum() for gradient, v in pairs if gradient.requires_grad]
        if not products:
            return torch.zeros_like(self._weights)
        # The graph of the losses is needed once more, by the step itself.
        total = torch.stack(products).sum()
        found = torch.autograd.grad(total, self._weights, retain_graph=True, allow_unused=True)[0]
        return torch.zeros_like(self._weights) if found is None else found


def trusted_gradient(
    net: nn.Module, trusted: Batch, parameters: Mapping[str, Tensor]
) -> list[Tensor]:
    """Give the gradient of the mean cross-entropy of trusted samples, in training mode.

    The net and its running statistics are left as they are: it is called with the parameters
    given and with copies of its buffers. Computed in the precision of the parameters.

    Args:
        net: Gives logits [M, C], or a tuple that starts with them.
        trusted: Samples and labels of M rows.
        parameters: Values by name, at which the gradient is taken; others keep those of the net.
    """
    point = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    found = functional_call(net, (point, buffers), (trusted.views[0],))
    logits = found[0] if isinstance(found, tuple) else found
    loss = cross_entropy(logits.to(next(iter(point.values()))), trusted.given)
    return list(
        torch.autograd.grad(loss, list(point.values()), allow_unused=True, materialize_grads=True)
    )


def share_out(
    scores: Float[Tensor, " B"], mass: Float[Tensor, " B"] | None = None, *, empty: str = "skip"
) -> Float[Tensor, " B"]:
    """Turn scores into weights that are none below 0 and sum to 1, or are all 0.

    Negative scores count as 0. Source: Ren et al. 2018.

    Args:
        scores: ``g_i . v``, in any unit.
        mass: What each row counts anyway, 0 and above; ``sum(weights * mass)`` is what is 1.
        empty: Where no score is positive: ``skip`` gives zeros, ``uniform`` equal weights.

    Example:
        >>> share_out(torch.tensor([0.5, -0.5, 0.0, 1.0]))
        tensor([0.3333, 0.0000, 0.0000, 0.6667])
    """
    mass = torch.ones_like(scores) if mass is None else mass.to(scores)
    positive = scores.clamp_min(0)
    total = (positive * mass).sum()
    if empty == "uniform":
        positive = torch.where(total > 0, positive, torch.ones_like(positive))
        total = (positive * mass).sum()
    return torch.where(total > 0, positive / total.clamp_min(torch.finfo(total.dtype).tiny), 0.0)


def learned_parameters(run: Run, net: int, of: str) -> dict[str, Tensor]:
    """Name the parameters that are compared: ``all`` that are learned, or those of the ``head``.

    Raises:
        SettingsError: None of them is learned, or the net has no linear head.
    """
    owned = {id(p) for p in run.head(net).parameters()} if of == "head" else None
    found: dict[str, Tensor] = {
        name: parameter
        for name, parameter in run.nets[net].named_parameters()
        if parameter.requires_grad and (owned is None or id(parameter) in owned)
    }
    if not found:
        raise SettingsError(
            f"no parameter of `{of}` is learned, so no gradient tells rows apart; allowed: a net "
            "with some",
            hint="unfreeze a layer of the net",
        )
    return found


def draw_trusted(run: Run, part: str, count: int) -> Batch:
    """Draw trusted samples for one step, at most so many, and at least two for batch norm.

    Args:
        run: Has some.
        part: Names the stream.
        count: How many, each at most once.
    """
    assert run.trusted is not None, "setup refuses a run without them"
    there = int((run.trusted.given >= 0).sum())
    return run.trusted.draw(max(2, min(count, there)), part)


@dataclass(kw_only=True)
class WeighByTrusted(Part):
    """Weigh the rows of every batch by what steps on them do to the loss of trusted samples.

    The weights of a row are added up in the column ``weight_sum``.

    Attributes:
        clean_batch: Trusted samples drawn for each step; 0 takes as many as the batch has rows.
        of: Gradients of ``all`` learned parameters count, or of those of the ``head`` alone.
    """

    clean_batch: int = 0
    of: str = "all"

    def __post_init__(self) -> None:
        if self.of not in OF:
            raise unknown_name(f"{self.kind} of", self.of, OF)
        if self.clean_batch < 0:
            raise SettingsError(
                f"{self.kind} clean_batch `{self.clean_batch}` is out of range; allowed: 0 and "
                "above",
                hint=f"{WeighByTrusted.clean_batch} is the default",
            )

    def setup(self, run: Run) -> None:
        """Add the column; refuse a run without trusted samples and nets that are compiled."""
        if run.trusted is None or not bool((run.trusted.given >= 0).any()):
            raise SettingsError(
                f"{self.kind} weighs rows by trusted samples, and none were given; allowed: "
                "samples whose labels people vouch for",
                hint="give them with `--clean`, or rows that people found right with `--verified`",
            )
        for index, net in enumerate(run.nets):
            learned_parameters(run, index, self.of)
            if net._compiled_call_impl is not None:
                raise SettingsError(
                    f"{self.kind} differentiates gradients, which compiled nets cannot do; "
                    "allowed: nets that are not compiled",
                    hint="leave --compile out",
                )
        run.ledger.add(self.kind, standard("weight_sum"))
        rows = int((run.trusted.given >= 0).sum())
        run.note(self.kind.replace("-", "_"), trusted_rows=rows)
        self.weight_: Tensor | None = None

    def weights(self, run: Run, net: int, look: Seen) -> Float[Tensor, " B"]:
        """Give the factor of each row's loss in the mean over the batch."""
        raise NotImplementedError

    def weigh(self, run: Run, net: int, seen: Mapping[int, Seen]) -> Float[Tensor, " B"]:
        """Weigh the rows, and remember the weights of the first net."""
        found = self.weights(run, net, seen[net]).detach()
        if net == next(iter(seen)):
            self.weight_ = found
        return found

    def after_step(self, run: Run, seen: Mapping[int, Seen]) -> None:
        """Add the weights of this step to those of the rows, where each is of one row."""
        batch = next(iter(seen.values())).batch
        if self.weight_ is not None and batch.pure:
            run.ledger.write("weight_sum", batch.rows, self.weight_, stamp=run.tick)
