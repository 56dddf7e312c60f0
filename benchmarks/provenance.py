"""When, where and with what numbers were made. Every benchmark records it beside them."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module

from errata.machine import processor_name


def today() -> str:
    """Give the date (UTC), such as 2026-01-31."""
    return datetime.now(UTC).date().isoformat()


def versions(*packages: str) -> dict[str, str]:
    """Give the versions of packages by name."""
    return {name: str(import_module(name).__version__) for name in packages}


def made() -> dict[str, str]:
    """Give the ``date`` and the ``hardware``, in words."""
    return {"date": today(), "hardware": processor_name()}
