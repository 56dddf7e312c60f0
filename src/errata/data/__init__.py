"""Where samples and labels come from: sources, planted noise, augmentation."""

from __future__ import annotations

from errata.data.arrays import Arrays
from errata.data.augment import Augment
from errata.data.ids import text_id
from errata.data.noise import Planted, plant_noise
from errata.data.source import Opened, Unreadable, describe, open_source
from errata.data.truth import Truth
from errata.data.wrap import Relabelled, Subset, stratified_rows

__all__ = [
    "Arrays",
    "Augment",
    "Opened",
    "Planted",
    "Relabelled",
    "Subset",
    "Truth",
    "Unreadable",
    "describe",
    "open_source",
    "plant_noise",
    "stratified_rows",
    "text_id",
]
