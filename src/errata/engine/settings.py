"""How to compute, as far as users may choose it."""

from __future__ import annotations

from dataclasses import dataclass

from errata.engine.dist import Precision

__all__ = ["Engine"]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How to compute; nothing here changes what is learned, up to rounding.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:n``.
        precision: Arithmetic of forward passes; ``auto`` takes bfloat16 where it is native.
        compile: Let ``torch.compile`` build the nets.
        budget_mb: Largest uint8 data set kept on an accelerator.
        workers: Processes that decode files of sources that are not in memory.
        threads: Threads of the processor; 0 leaves them to torch, but takes one for samples so
            small that threads would wait for one another.
    """

    device: str = "auto"
    precision: Precision = "auto"
    channels_last: bool = True
    compile: bool = False
    budget_mb: int = 4096
    workers: int = 2
    threads: int = 0
