"""Facts about the machine that results are recorded with."""

from __future__ import annotations

import platform
import resource
from pathlib import Path

__all__ = ["peak_memory_mb", "processor_name"]


def peak_memory_mb() -> float:
    """Give the largest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    return round(peak / unit, 1)


def processor_name() -> str:
    """Give the name of the processor as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
