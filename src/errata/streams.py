"""Randomness as a function of (seed, step, name), never of the order of calls."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

__all__ = ["generator", "numpy_generator", "seed_of"]

Key = str | int | tuple[int, ...]


def seed_of(seed: int, *key: Key) -> int:
    """Derive a 63-bit seed from a seed and a key.

    Example:
        >>> seed_of(0, "mixup") == seed_of(0, "mixup"), seed_of(0, "mixup") == seed_of(0, "odd")
        (True, False)
    """
    text = repr((int(seed), *key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *key: Key) -> torch.Generator:
    """Give a fresh CPU generator whose draws depend on the seed and the key alone."""
    return torch.Generator().manual_seed(seed_of(seed, *key))


def numpy_generator(seed: int, *key: Key) -> np.random.Generator:
    """Give a fresh numpy generator whose draws depend on the seed and the key alone."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, *key)))
