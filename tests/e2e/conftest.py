"""What the tests of pages in a browser share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from review_server import audit_digits


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Audit digits once; tests work on copies."""
    return audit_digits(tmp_path_factory.mktemp("review") / "audit")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Chromium; tests are skipped where it, its driver or the server is missing."""
    sync_api = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    place = shutil.which("chromium")
    if place is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield opened
        opened.close()
