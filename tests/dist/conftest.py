"""The pool of two ranks that all tests in this folder share."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def ranks() -> Iterator[Any]:
    """Two gloo ranks: ``ranks.run(function, *args)`` gives one result per rank."""
    # Under importlib mode, files beside a test cannot be imported by name.
    spec = importlib.util.spec_from_file_location("pool", Path(__file__).with_name("pool.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pool = module.RankPool(2)
    yield pool
    pool.close()
