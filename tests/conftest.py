"""What all tests share: where real data lie, one thread, reproducible examples, checked shapes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parents[1]

# Shapes and dtypes of the tensor code are checked at run time, in tests only. The list leaves out
# modules that name types for the type checker alone, which no run-time check can resolve.
SHAPE_CHECKED = ["errata.losses", "errata.functional", "errata.data.augment", "errata.methods"]
install_import_hook(SHAPE_CHECKED, "shape_checks.check")

settings.register_profile("errata", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("errata")


def pytest_configure() -> None:
    """Run torch on one thread: the goldens need it, and shared cores are faster that way."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data, from ERRATA_DATA or beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("ERRATA_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at `{folder}`; set ERRATA_DATA")
    return folder
