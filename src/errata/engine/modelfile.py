"""Saving and loading trained nets: safetensors for weights, JSON for how to use them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from errata.confidence.calibration import Calibration
from errata.engine.dist import autocast, pick_device, pick_precision
from errata.engine.feed import Feed, Scale
from errata.engine.net import Net
from errata.engine.run import Engine, TrainingRun
from errata.errors import SettingsError, SourceError
from errata.models import build_model
from errata.types import Source

__all__ = ["SavedModel", "load_model", "save_model"]

VERSION = 1
_CALIBRATION = "calibration."


def save_model(
    run: TrainingRun,
    folder: Path,
    *,
    model: str,
    facts: dict[str, Any],
    calibration: Calibration | None = None,
) -> None:
    """Write ``model.safetensors`` and ``model.json``.

    Args:
        run: A finished run.
        folder: Made if missing.
        model: Name of the model, as `build_model` knows it; empty for a module of the user's.
        facts: Further entries of the JSON file, such as the recipe.
        calibration: How to read its probabilities; None where it has none.
    """
    assert run.scale is not None
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"net{k}.{name}": value.detach().cpu().contiguous().clone()
        for k, net in enumerate(run.nets)
        for name, value in net.body.state_dict().items()
    }
    for name, array in ({} if calibration is None else calibration.arrays()).items():
        weights[_CALIBRATION + name] = torch.from_numpy(array)
    save_file(weights, folder / "model.safetensors")
    document = {
        "version": VERSION,
        "model": model,
        "nets": len(run.nets),
        "shape": list(run.source.shape),
        "classes": list(run.source.classes),
        "mean": list(run.scale.mean),
        "std": list(run.scale.std),
        "calibration": None if calibration is None else calibration.numbers(),
        **facts,
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class SavedModel:
    """Trained nets, ready to predict."""

    nets: tuple[Net, ...]
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    scale: Scale
    engine: Engine
    calibration: Calibration | None = None
    """How to read its probabilities; None where no rows were held out for it."""

    def predict(self, source: Source) -> torch.Tensor:
        """Give the mean softmax of the nets for every row of a source: [N, C] float32."""
        if source.shape != self.shape:
            raise SourceError(
                f"samples of `{source.name}` have shape {source.shape}; the model was trained on "
                f"{self.shape}",
                hint="give pictures of the same size and number of channels",
            )
        device = pick_device(self.engine.device)
        precision = pick_precision(self.engine.precision, device)
        feed = Feed(source, self.scale, device, workers=self.engine.workers)
        blocks = []
        for net in self.nets:
            net.to(device).eval()
        with torch.inference_mode(), autocast(device, precision):
            for images in feed.sweep(torch.arange(len(source.ids))):
                probs = [net(images)[0].float().softmax(1) for net in self.nets]
                blocks.append(torch.stack(probs).mean(0).cpu())
        return torch.cat(blocks)


def load_model(folder: Path, *, engine: Engine | None = None) -> SavedModel:
    """Read a model from its folder, or from the audit directory that holds it.

    Raises:
        SettingsError: There is none, or its files do not fit together.
    """
    place = folder if (folder / "model.json").exists() else folder / "model"
    try:
        document = json.loads((place / "model.json").read_text(encoding="utf-8"))
        # From bytes, since safetensors cannot open a path that is not text.
        weights = load((place / "model.safetensors").read_bytes())
        shape, classes = tuple(document["shape"]), tuple(document["classes"])
        nets = []
        for k in range(document["nets"]):
            body = build_model(document["model"], shape, len(classes))
            prefix = f"net{k}."
            own = {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}
            body.load_state_dict(own)
            nets.append(Net(body))
        calibration = _calibration(document.get("calibration"), weights, len(classes))
    except FileNotFoundError:
        raise SettingsError(
            f"`{folder}` holds no model; allowed: a folder with model.json and "
            "model.safetensors, or an audit directory",
            hint="make one with `errata train SOURCE --out DIR`",
        ) from None
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise SettingsError(
            f"the model in `{place}` cannot be read: {error}", hint="train it again"
        ) from None
    return SavedModel(
        nets=tuple(nets),
        shape=shape,
        classes=classes,
        scale=Scale(tuple(document["mean"]), tuple(document["std"])),
        engine=engine or Engine(),
        calibration=calibration,
    )


def _calibration(
    numbers: dict[str, Any] | None, weights: dict[str, torch.Tensor], classes: int
) -> Calibration | None:
    if numbers is None:
        return None
    arrays = {
        name.removeprefix(_CALIBRATION): value.double().numpy()
        for name, value in weights.items()
        if name.startswith(_CALIBRATION)
    }
    found = Calibration.of(numbers, arrays)
    if found.transition.shape != (classes, classes):
        raise ValueError("its calibration is of other classes")
    return found
