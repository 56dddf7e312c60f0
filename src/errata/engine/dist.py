"""Devices and ranks: the only file that names a device or talks to other processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from errata.errors import SettingsError, unknown_name

__all__ = [
    "Precision",
    "autocast",
    "average_gradients",
    "kept_randomness",
    "pick_device",
    "pick_precision",
    "rank",
    "same_everywhere",
    "threads",
    "world_size",
]

SMALL_BATCH = 2**15
"""Numbers in a batch below which a second thread costs more than it brings."""

Precision = Literal["auto", "float32", "float64", "bfloat16"]


def world_size() -> int:
    """Count the processes that train together; 1 alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Give the number of this process among them; 0 alone."""
    return dist.get_rank() if world_size() > 1 else 0


def pick_device(text: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` into a device that is there.

    Raises:
        SettingsError: The text names no device, or one this machine does not have.
    """
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise SettingsError(
            f"device `{text}` is unknown; allowed: auto, cpu, cuda, cuda:0, cuda:1, ...",
            hint="leave --device out to let errata choose",
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"device `{text}` is not there; torch sees {torch.cuda.device_count()} GPUs",
            hint="use --device cpu",
        )
    return device


def pick_precision(wanted: Precision, device: torch.device) -> torch.dtype:
    """Choose the arithmetic of forward passes: bfloat16 where the machine computes it natively.

    Raises:
        SettingsError: No precision has this name.
    """
    named = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
    if wanted in named:
        return named[wanted]
    if wanted != "auto":
        raise unknown_name("precision", wanted, ["auto", *named])
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[None]:
    """Run matrix products in bfloat16 when that is the precision; otherwise change nothing."""
    if precision is torch.bfloat16:
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def kept_randomness(device: torch.device) -> AbstractContextManager[None]:
    """Give torch's global generators back as they were, whatever is drawn meanwhile."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@contextmanager
def threads(wanted: int, *, batch_values: int) -> Iterator[None]:
    """Compute with some threads, and give back those there were.

    Args:
        wanted: Threads; 0 takes one for small batches and else leaves them alone.
        batch_values: Numbers in one batch of samples.
    """
    before = torch.get_num_threads()
    if wanted == 0 and batch_values < SMALL_BATCH:
        wanted = 1
    if wanted:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def average_gradients(parameters: list[Tensor], share: float) -> None:
    """Replace gradients of means over local rows by that of the mean over all ranks' rows.

    Args:
        parameters: Those the backward pass reached, in the same order on every rank.
        share: Local rows over rows of all ranks; tails may be split unevenly.
    """
    if world_size() == 1:
        return
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([g.reshape(-1) for g in grads]).mul_(share)
    dist.all_reduce(flat)
    start = 0
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = flat[start : start + grad.numel()].view_as(grad).clone()
        start += grad.numel()


def same_everywhere(digest: str, device: torch.device) -> bool:
    """Tell whether every rank holds the same digest (hexadecimal, 16 digits)."""
    if world_size() == 1:
        return True
    mine = torch.tensor([int(digest[:15], 16)], dtype=torch.int64, device=device)
    low, high = mine.clone(), mine.clone()
    dist.all_reduce(low, dist.ReduceOp.MIN)
    dist.all_reduce(high, dist.ReduceOp.MAX)
    return bool(low == high)
