"""Drop, on the fly and for good, the samples whose loss looks like that of a wrong label.

**Idea.** While the learning rate is large, the loss of uniformly wrong labels hardly falls and
hardly depends on how many there are. ODD simulates that loss from the last layer alone: it feeds
rectified Gaussian noise to it and charges a random class. At one epoch `at` it drops every row
whose loss, averaged over its last `recent` epochs, lies above the `percentile`-th percentile of
the simulated losses. Training then goes on with the rest, which also takes less time.

`odd` is the method of the talk. `odd-phantom` is ours: it replaces the simulation by the losses of
a second, random label of every row, which is never trained on. It needs no linear head and no
rectified features.

**Use it** for long training on labels of unknown quality; it needs no noise rate. It composes:
``odd+mixup``, ``odd+gce``.

**Avoid it** where wrong labels are systematic (pairs of classes, human errors on look-alikes):
their loss is smaller than that of uniform ones, so few are dropped. With few epochs on much data
there is little to gain. A network without a linear head needs ``odd-phantom``.

**Cost.** Below 1: one loss per row and epoch in `recent` epochs, one simulation, fewer rows after.

**Source.** Song, Dauphin, Auli, Ma 2020, "Robust and On-the-fly Data Denoising for Image
Classification" (slides of the talk).

**Ours.** `percentile = 20`: the talk draws a band of 2.5 to 10 for 100 classes; with 10 classes
the simulated losses spread wider than the real ones, so a low percentile drops too much
(`docs/decisions/0012`). `at = 40 %` is inside the talk's band of 29 to 50 %. Every class keeps
its cheapest rows (`floor_rows`, `floor_share`), at least 10 and 5 %. A row whose loss is below
ln 2 stays (`least_loss`): its label has more than half of the probability. This matters with two
or three classes, where many simulated labels are right by chance. Losses come from training mode,
as the talk's claim of almost no overhead requires. With mixup the losses are those of un-mixed
inputs.
"""

# Shapes: N rows, C classes, D feature width, n simulated draws.

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from errata.errors import SettingsError
from errata.ledger import Column, standard
from errata.methods.card import Card
from errata.parts.base import Part, Recipe, register_part
from errata.phantoms import draw_phantoms
from errata.streams import generator
from errata.types import Moment, Plan, Run, Seen, epoch_of

__all__ = [
    "CARDS",
    "ODD",
    "ODDPhantom",
    "above_threshold",
    "loss_variance_of_head",
    "percentile_of",
    "simulate_losses",
]


@torch.no_grad()
def simulate_losses(
    weight: Float[Tensor, "C D"],
    bias: Float[Tensor, " C"] | None,
    *,
    draws: int,
    generator: torch.Generator,
    chunk: int = 16_384,
) -> Float[Tensor, " n"]:
    """Simulate the cross-entropy [nats] of uniformly wrong labels through a linear head.

    Features are rectified standard normals, labels uniform over the classes:
    ``u = W max(z, 0) + b``, loss ``logsumexp(u) - u_k``. Source: slides of ODD (Song et al. 2020).

    Args:
        weight: [C, D] of the last layer.
        bias: [C], or None.
        draws: How many losses to simulate; 100,000 gives an error of about 0.01 nats.
        generator: CPU generator.
        chunk: Draws held in memory at a time.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> simulate_losses(torch.zeros(7, 3), None, draws=2, generator=rng)
        tensor([1.9459, 1.9459])
    """
    weight = weight.detach().float().cpu()
    offset = torch.zeros(len(weight)) if bias is None else bias.detach().float().cpu()
    losses = []
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        features = torch.randn(count, weight.shape[1], generator=generator).relu_()
        logits = torch.addmm(offset, features, weight.T)
        labels = torch.randint(len(weight), (count, 1), generator=generator)
        losses.append(logits.logsumexp(1) - logits.gather(1, labels)[:, 0])
    return torch.cat(losses)


def percentile_of(losses: Float[Tensor, " n"], percentile: float) -> float:
    """Give a percentile (0 to 100) of losses, interpolated linearly.

    Sorts rather than calling ``torch.quantile``, which refuses more than 16 million values.
    """
    ordered = losses.double().sort().values
    place = percentile / 100 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return float(torch.lerp(ordered[low], ordered[high], place - low))


def loss_variance_of_head(weight: Float[Tensor, "C D"]) -> float:
    """Give the variance `v` for which simulated losses are about Normal(ln C + v / 2, v).

    Holds for a centred head with many classes and features. Source: our derivation.
    """
    weight = weight.detach().double()
    rectified = 0.5 - 1 / (2 * math.pi)
    own = weight.square().sum(1).mean() * rectified
    between = weight.sum(1).var(correction=0) / (2 * math.pi)
    return float(own + between)


def above_threshold(
    losses: Float[Tensor, " N"],
    given: Int[Tensor, " N"],
    threshold: float,
    *,
    floor_rows: int = 10,
    floor_share: float = 0.05,
) -> Bool[Tensor, " N"]:
    """Choose the rows to drop: loss strictly above the threshold, but never a whole class.

    Args:
        losses: [N] nats; NaN marks rows that are not in training, which are never chosen.
        given: [N] class of each row.
        threshold: In nats.
        floor_rows: Each class keeps at least this many of its cheapest rows ...
        floor_share: ... and at least this share of them.
    """
    chosen = losses > threshold
    for label in torch.unique(given[chosen]).tolist():
        members = ((given == label) & ~losses.isnan()).nonzero()[:, 0]
        spared = max(floor_rows, math.ceil(floor_share * len(members)))
        cheapest = losses[members].argsort(stable=True)[:spared]
        chosen[members[cheapest]] = False
    return chosen


LEAST_LOSS = math.log(2)
"""Loss of a label that has half of the probability: below it no other class has more."""

_LIMITS: dict[str, tuple[float, float]] = {
    "percentile": (0, 100),
    "recent": (1, math.inf),
    "floor_rows": (0, math.inf),
    "floor_share": (0, 1),
    "least_loss": (0, math.inf),
    "draws": (1, math.inf),
}


@dataclass(kw_only=True)
class _DropAboveNull(Part):
    """Drop rows whose recent mean loss lies above a percentile of a null distribution.

    Attributes:
        at: When to drop, once.
        percentile: 0 to 100, of the null distribution; smaller drops more.
        recent: Epochs before `at` whose losses are averaged.
        floor_rows: Each class keeps at least this many of its cheapest rows.
        floor_share: Each class keeps at least this share of them.
        least_loss: Rows below this loss in nats stay, whatever the threshold; 0 turns it off.
    """

    at: Moment = "40%"
    percentile: float = 20.0
    recent: int = 2
    floor_rows: int = 10
    floor_share: float = 0.05
    least_loss: float = LEAST_LOSS

    def __post_init__(self) -> None:
        epoch_of(self.at, 1)
        for field in fields(self):
            if field.name not in _LIMITS:
                continue
            value, (least, most) = getattr(self, field.name), _LIMITS[field.name]
            if not least <= value <= most:
                allowed = f"{least} to {most}" if most < math.inf else f"{least} and above"
                raise SettingsError(
                    f"{self.kind} {field.name} `{value}` is out of range; allowed: {allowed}",
                    hint=f"{field.default} is the default",
                )

    def setup(self, run: Run) -> None:
        """Add the columns."""
        self.epoch_ = epoch_of(self.at, run.epochs)
        if not 1 <= self.epoch_ < run.epochs:
            run.warn(
                f"{self.kind} has no effect: it would drop rows at epoch {self.epoch_} of a stage "
                f"of {run.epochs}; train for longer, or set `at` to an epoch within"
            )
        run.ledger.add(
            self.kind,
            Column(self._column, rule="ring", keep=self.recent),
            standard("dropped"),
            standard("dropped_epoch"),
        )
        self._blank(run, self._column)

    def _blank(self, run: Run, column: str) -> None:
        """Empty a ring, which an earlier stage may have filled."""
        everyone = torch.arange(run.num_rows, device=run.device)
        nothing = torch.full((run.num_rows,), math.nan, device=run.device)
        for _ in range(self.recent):
            run.ledger.write(column, everyone, nothing, stamp=run.tick)

    @property
    def _column(self) -> str:
        return f"{self.kind.replace('-', '_')}_loss"

    def watching(self, run: Run) -> bool:
        """Tell whether this epoch's losses count."""
        return self.epoch_ - self.recent <= run.epoch < self.epoch_

    def after_step(self, run: Run, seen: Mapping[int, Seen]) -> None:
        """Keep the losses of the last epochs before the drop."""
        if not self.watching(run) or 0 not in seen:
            return
        batch = seen[0].plain
        log_probs = run.unmixed(0, seen).log_softmax(1)
        loss = -log_probs.gather(1, batch.given[:, None])[:, 0]
        run.ledger.write(self._column, batch.rows, loss, stamp=run.tick)
        self.record_null(run, batch.rows, log_probs)

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Drop once, and leave out what was dropped ever after."""
        if run.epoch == self.epoch_ and run.epoch > 0:
            self._drop(run)
        return plan.keep(~run.ledger.read("dropped").cpu())

    def _drop(self, run: Run) -> None:
        losses = run.ledger.read(self._column).nanmean(1)
        null = percentile_of(self.null_losses(run), self.percentile)
        threshold = max(null, self.least_loss)
        if null < self.least_loss:
            run.warn(
                f"{self.kind}: the {self.percentile:g}th percentile of the null is a loss of "
                f"{null:.2f}, where labels have more than half of the probability; rows are "
                f"dropped above {threshold:.2f} instead, see `least_loss`"
            )
        chosen = above_threshold(
            losses,
            run.given,
            threshold,
            floor_rows=self.floor_rows,
            floor_share=self.floor_share,
        )
        rows = chosen.nonzero()[:, 0]
        run.ledger.write("dropped", rows, torch.ones_like(rows), stamp=run.tick)
        when = torch.full_like(rows, run.epoch)
        run.ledger.write("dropped_epoch", rows, when, stamp=run.tick)
        self._tell(run, chosen, losses, threshold)

    def _tell(self, run: Run, chosen: Tensor, losses: Tensor, threshold: float) -> None:
        in_training = ~losses.isnan()
        share = float(chosen.sum() / in_training.sum().clamp_min(1))
        run.note("removed", rows=int(chosen.sum()), epoch=run.epoch, threshold=threshold)
        run.note(self.kind, log_classes=math.log(run.classes), share=share)
        if threshold < math.log(run.classes) / 3:
            run.warn(
                f"{self.kind} dropped every row above a loss of {threshold:.2f}, less than a third "
                f"of chance ({math.log(run.classes):.2f}); raise `percentile` or drop later"
            )
        if share > 0.6:
            run.warn(
                f"{self.kind} dropped {share:.0%} of the rows; raise `percentile` or drop later"
            )
        for label in range(run.classes):
            members = in_training & (run.given == label)
            gone = float(chosen[members].float().mean()) if members.any() else 0.0
            if gone > max(0.6, 2 * share):
                run.warn(
                    f"{self.kind} dropped {gone:.0%} of class `{run.ledger.classes[label]}`; it "
                    "may be a hard class rather than a wrongly labelled one"
                )

    def null_losses(self, run: Run) -> Tensor:
        """Give losses [n] of labels that are known to be random."""
        raise NotImplementedError

    def record_null(self, run: Run, rows: Tensor, log_probs: Tensor) -> None:
        """Keep what the null distribution needs of one batch."""


@register_part("odd")
@dataclass(kw_only=True)
class ODD(_DropAboveNull):
    """Drop rows whose recent mean loss lies above a percentile of losses simulated by the head.

    Attributes:
        draws: Simulated losses.
    """

    draws: int = 100_000

    def setup(self, run: Run) -> None:
        """Add the columns, and fail early on a net without a linear head."""
        super().setup(run)
        run.head(0)

    def null_losses(self, run: Run) -> Tensor:
        """Simulate losses of uniform labels through the head."""
        head: nn.Linear = run.head(0)
        run.note("odd", variance=loss_variance_of_head(head.weight))
        return simulate_losses(
            head.weight, head.bias, draws=self.draws, generator=run.stream("odd")
        )


@register_part("odd-phantom")
@dataclass(kw_only=True)
class ODDPhantom(_DropAboveNull):
    """Drop rows whose recent mean loss lies above a percentile of that of never-trained labels."""

    def setup(self, run: Run) -> None:
        """Add the columns, and draw a second label for every row."""
        super().setup(run)
        run.ledger.add(
            "odd-phantom",
            Column("odd_phantom_null", rule="ring", keep=self.recent),
            Column("odd_phantom_label", dtype=torch.int64),
        )
        self._blank(run, "odd_phantom_null")
        labels = draw_phantoms(run.given, run.classes, run.stream("odd-phantom"))
        everyone = torch.arange(run.num_rows, device=run.device)
        run.ledger.write("odd_phantom_label", everyone, labels, stamp=run.tick)

    def record_null(self, run: Run, rows: Tensor, log_probs: Tensor) -> None:
        """Keep the losses of the second labels."""
        labels = run.ledger.read("odd_phantom_label", rows)
        loss = -log_probs.gather(1, labels[:, None])[:, 0]
        run.ledger.write("odd_phantom_null", rows, loss, stamp=run.tick)

    def null_losses(self, run: Run) -> Tensor:
        """Average the losses of the second labels as those of the given ones are."""
        losses = run.ledger.read("odd_phantom_null").nanmean(1)
        return losses[~losses.isnan()]


def odd_threshold(
    head: nn.Linear,
    *,
    percentile: float = 20.0,
    draws: int = 100_000,
    rng: torch.Generator | None = None,
) -> float:
    """Give the loss [nats] above which ODD takes a label for wrong, from the last layer alone.

    Args:
        head: The last linear layer; its inputs should be rectified features.
        percentile: 0 to 100, of the simulated losses.
        draws: Simulated losses.
        rng: CPU generator; None takes the one of seed 0.
    """
    rng = generator(0, "odd") if rng is None else rng
    simulated = simulate_losses(head.weight, head.bias, draws=draws, generator=rng)
    return percentile_of(simulated, percentile)


CARDS = (
    Card(
        name="odd",
        summary="drops rows whose loss looks like that of uniformly wrong labels, once",
        source="Song et al. 2020, Robust and On-the-fly Data Denoising (slides)",
        year=2020,
        cost=None,
        text=__doc__ or "",
        build=lambda: Recipe(parts=(ODD(),)),
    ),
    Card(
        name="odd-phantom",
        summary="ODD with the losses of never-trained random labels in place of a simulation",
        source="ours, after Song et al. 2020",
        year=2026,
        cost=None,
        text=__doc__ or "",
        build=lambda: Recipe(parts=(ODDPhantom(),)),
    ),
)
