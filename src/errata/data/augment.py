"""Augmentation of whole batches as tensor code, with the chance drawn beforehand.

All random choices of a batch are drawn together, on the CPU and from a generator. They depend on
neither the device nor the number of ranks or workers: each rank takes its share with `Draws.take`.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor
from torch.nn.functional import pad

from errata.errors import SettingsError, unknown_name

__all__ = ["Augment", "Draws", "apply", "draw"]


@dataclass(frozen=True)
class Augment:
    """What may be changed in an image without changing its label.

    Attributes:
        flip: Mirror left and right, half of the images.
        crop: Shift by up to this many pixels in each direction; what comes in is 0. This is the
            pad-and-crop of the CIFAR recipes. 0 is off.
        cutout: Side in pixels of a square set to 0, centred anywhere, so that it may stick out
            (DeVries and Taylor 2017, arXiv:1708.04552). 0 is off.
    """

    flip: bool = False
    crop: int = 0
    cutout: int = 0

    def __post_init__(self) -> None:
        for name, value in (("crop", self.crop), ("cutout", self.cutout)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise _not_pixels(name, str(value))

    @classmethod
    def parse(cls, text: str) -> Augment:
        """Read ``flip,crop:4,cutout:8``, any part of it, or ``none``.

        Example:
            >>> Augment.parse("flip,crop:4")
            Augment(flip=True, crop=4, cutout=0)

        Raises:
            SettingsError: A name is unknown or given twice, or a number of pixels is none.
        """
        words = [word.strip() for word in text.split(",")]
        if words == ["none"]:
            return cls()
        values: dict[str, int] = {}
        for word in words:
            name, colon, number = (piece.strip() for piece in word.partition(":"))
            if name not in ("flip", "crop", "cutout"):
                raise unknown_name("augmentation", name, ("none", "flip", "crop:N", "cutout:N"))
            if name in values:
                raise SettingsError(
                    f"augmentation `{text}` names `{name}` twice; allowed: each name once",
                    hint="leave one of them out",
                )
            if name == "flip":
                if colon:
                    raise SettingsError(
                        f"augmentation `{word}` has a number; allowed: `flip` alone",
                        hint="write `flip`",
                    )
                values[name] = 1
            elif number.isascii() and number.isdigit():
                values[name] = int(number)
            else:
                raise _not_pixels(name, number)
        return cls(
            flip=bool(values.get("flip")),
            crop=values.get("crop", 0),
            cutout=values.get("cutout", 0),
        )

    def words(self) -> str:
        """Write the text that `parse` reads.

        Example:
            >>> Augment(flip=True, cutout=8).words()
            'flip,cutout:8'
        """
        words = ["flip"] if self.flip else []
        words += [f"{name}:{n}" for name, n in (("crop", self.crop), ("cutout", self.cutout)) if n]
        return ",".join(words) or "none"

    @property
    def changes(self) -> bool:
        """Whether anything is changed at all."""
        return self != Augment()

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse what makes no sense for samples of this shape.

        Raises:
            SettingsError: Samples are vectors, or a crop or a cutout could leave nothing to see.
        """
        if not self.changes:
            return
        if len(shape) != 3:
            raise SettingsError(
                f"augmentation `{self.words()}` needs images, samples have shape "
                f"`{'x'.join(map(str, shape))}`; allowed here: `none`",
                hint="write `none`",
            )
        most = min(shape[1:]) // 2
        for name, value in (("crop", self.crop), ("cutout", self.cutout)):
            if value > most:
                raise SettingsError(
                    f"`{name}:{value}` is too large for images of {shape[1]}x{shape[2]} pixels; "
                    f"allowed: up to {most}, half the shorter side",
                    hint=f"write `{name}:{max(most // 4, 1)}` or less",
                )


@dataclass(frozen=True)
class Draws:
    """The random choices of one batch, on the CPU; None where nothing is chosen."""

    spec: Augment
    flips: Bool[Tensor, " B"] | None
    offsets: Int[Tensor, "B 2"] | None
    """Corner (top, left) of each crop in the padded image, 0 to twice the padding."""
    centres: Int[Tensor, "B 2"] | None
    """Centre (row, column) of each cutout."""

    def take(self, index: Int[Tensor, " b"] | slice) -> Draws:
        """Give the choices of some rows of the batch."""
        return Draws(
            self.spec,
            None if self.flips is None else self.flips[index],
            None if self.offsets is None else self.offsets[index],
            None if self.centres is None else self.centres[index],
        )


def draw(spec: Augment, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Draws:
    """Draw the choices for `count` samples of this shape; without augmentation nothing is drawn."""
    flips = offsets = centres = None
    if spec.flip:
        flips = torch.rand(count, generator=generator) < 0.5
    if spec.crop:
        offsets = torch.randint(2 * spec.crop + 1, (count, 2), generator=generator)
    if spec.cutout:
        places = torch.rand(count, 2, generator=generator, dtype=torch.float64)
        centres = (places * torch.tensor(shape[1:])).long()
    return Draws(spec, flips, offsets, centres)


def apply(images: Shaped[Tensor, "B ..."], draws: Draws) -> Shaped[Tensor, "B ..."]:
    """Crop, flip and cut out a batch [B, C, H, W], integers or floats, on any device.

    Gives a new tensor of the same shape and type, or the same tensor where nothing is drawn.
    """
    if draws.offsets is not None:
        images = _crop(images, draws.offsets, margin=draws.spec.crop)
    if draws.flips is not None:
        images = _flip(images, draws.flips)
    if draws.centres is not None:
        images = _cut_out(images, draws.centres, side=draws.spec.cutout)
    return images


def _crop(images: Tensor, offsets: Tensor, *, margin: int) -> Tensor:
    height, width = images.shape[2:]
    top, left = offsets.to(images.device).unbind(1)
    padded = pad(images, (margin, margin, margin, margin))
    # A view of all crops of all images: [B, C, tops, lefts, H, W]. Indexing copies one of each.
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)
    return crops[torch.arange(len(images), device=images.device), :, top, left]


def _flip(images: Tensor, flips: Tensor) -> Tensor:
    # Only the chosen half is mirrored: mirroring is slow, copying is fast. The positions are found
    # on the CPU, where the draws are, so that no device has to be waited for.
    chosen = flips.nonzero()[:, 0].to(images.device)
    return images.index_copy(0, chosen, images.index_select(0, chosen).flip(-1))


def _cut_out(images: Tensor, centres: Tensor, *, side: int) -> Tensor:
    height, width = images.shape[2:]
    starts = centres.to(images.device) - side // 2
    rows = torch.arange(height, device=images.device) - starts[:, :1]
    columns = torch.arange(width, device=images.device) - starts[:, 1:]
    in_rows, in_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    hidden = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    # Much faster than filling by a mask that is spread over channels.
    return images * ~hidden


def _not_pixels(name: str, value: str) -> SettingsError:
    return SettingsError(
        f"`{name}` of the augmentation is `{value}`; allowed: whole numbers of pixels from 0",
        hint=f"write for example `{name}:4`",
    )
