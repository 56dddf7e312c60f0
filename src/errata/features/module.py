"""Features of samples: from a table of numbers, or from any module.

Shapes: N rows, B batch, D feature width.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from errata.blocks import Blocks, blocks_of
from errata.errors import SettingsError, SourceError

__all__ = ["module_features", "read_features"]

_READ = 2**22


def read_features(features: Blocks | str | Path | object, rows: int) -> Float[Tensor, "N D"]:
    """Read a table of features into memory, in single precision, and check it.

    Args:
        features: Blocks, the path of an npy file, or anything that `errata.blocks.blocks_of` takes.
        rows: How many rows there must be, in the order of the labels.

    Raises:
        SourceError: The rows do not fit, or hold NaN or infinity.
    """
    table = features if isinstance(features, Blocks) else blocks_of(features, "features")
    if table.shape[0] != rows:
        raise SourceError(
            f"there are {table.shape[0]:,} rows of {table.name} for {rows:,} labels; "
            "allowed: one row for each label",
            hint="give both in the same order",
        )
    found = torch.empty(table.shape, dtype=torch.float32)
    size = max(1, _READ // table.shape[1])
    for start in range(0, rows, size):
        stop = min(rows, start + size)
        # A copy, because the array may be read-only or in another byte order.
        found[start:stop] = torch.from_numpy(table.read(start, stop).astype("float32"))
    if not bool(torch.isfinite(found).all()):
        row = int((~torch.isfinite(found)).any(1).nonzero()[0])
        raise SourceError(
            f"row {row} of {table.name} holds NaN or infinity; allowed: finite numbers",
            hint="leave the rows out, or extract the features again",
        )
    return found


def module_features(
    module: nn.Module, batches: Iterable[Tensor], *, into: str | None = None
) -> Float[Tensor, "N D"]:
    """Run a module in evaluation mode over batches and collect features, on the CPU.

    Args:
        module: On any device; batches are moved to it. Its training mode is put back.
        batches: Inputs [B, ...] of the module, in the order of the rows.
        into: Name of a submodule, such as ``fc`` or ``head.0``: the features are what enters it.
            None takes what the module gives. Anything after the first axis is flattened.

    Raises:
        SettingsError: No submodule has this name, or it was not run once for each batch.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> module_features(net, [torch.ones(3, 2, 2)], into="1").shape
        torch.Size([3, 4])
    """
    entered: list[Tensor] = []
    hook = None
    if into is not None:
        hook = _named(module, into).register_forward_pre_hook(
            lambda layer, inputs: entered.append(inputs[0])
        )
    modes = [(each, each.training) for each in module.modules()]
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    found = []
    try:
        module.eval()
        with torch.no_grad():
            for batch in batches:
                entered.clear()
                given = module(batch.to(device))
                found.append(_one(given if into is None else entered, into).float().flatten(1))
                found[-1] = found[-1].cpu()
    finally:
        for each, mode in modes:
            each.training = mode
        if hook is not None:
            hook.remove()
    return torch.cat(found) if found else torch.empty(0, 0)


def _named(module: nn.Module, name: str) -> nn.Module:
    layers: dict[str, nn.Module] = dict(module.named_modules())
    if name not in layers:
        names = ", ".join(list(layers)[1:9])
        raise SettingsError(
            f"the module has no submodule `{name}`; allowed: {names}",
            hint="`dict(module.named_modules())` lists them all",
        )
    return layers[name]


def _one(given: object, into: str | None) -> Tensor:
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, Tensor):
        return given
    if into is not None and isinstance(given, list):
        raise SettingsError(
            f"submodule `{into}` was run {len(given)} times for one batch; allowed: once",
            hint="name a submodule that every input passes once",
        )
    raise SettingsError(
        f"the module gives `{type(given).__name__}`; allowed: a tensor [B, ...]",
        hint="name the submodule whose input are the features: into=NAME",
    )
