"""What a network learns by heart: right and wrong labels apart, with and without brakes."""

from __future__ import annotations

from itertools import product

from errata.bench.suites.base import Suite, Variant

__all__ = ["SUITES"]

_DECAY = 5e-4
# Weight decay, augmentation, dropout.
_BRAKES = {
    "plain": (0.0, "none", 0.0),
    "dropout": (0.0, "none", 0.5),
    "decay": (_DECAY, "none", 0.0),
    "augment": (0.0, "flip,crop:2", 0.0),
    "all": (_DECAY, "flip,crop:2", 0.5),
}
_VARIANTS = {
    f"{loss}@{brake}": Variant(
        recipe=recipe,
        changes=(f"stage.optimizer.weight_decay={decay}",),
        augment=augment,
        dropout=dropout,
    )
    for (loss, recipe), (brake, (decay, augment, dropout)) in product(
        (("ce", "erm"), ("mae", "mae"), ("gce", "gce")), _BRAKES.items()
    )
}

SUITES = (
    Suite(
        name="memorization",
        summary="5,000 images, 30 epochs: fit of right and wrong labels, three losses, five brakes",
        source="fashion-mnist:{data}/fashion_mnist",
        limit=5_000,
        validation=2_000,
        epochs=30,
        evaluate=2,
        recipes=tuple(_VARIANTS),
        noises=("uniform:1", "none", "uniform:0.2", "uniform:0.4"),
        seeds=(0,),
        variants=_VARIANTS,
        trajectories=True,
    ),
)
