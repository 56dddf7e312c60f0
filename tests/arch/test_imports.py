"""The core is light: what people do not use is not imported for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = [
    *("torchvision", "sklearn", "scipy", "pandas", "pyarrow", "PIL"),
    *("matplotlib", "jinja2", "typer", "rich", "pydantic"),
]


@pytest.mark.parametrize("module", ["errata", "errata.engine", "errata.functional"])
def test_core_imports_nothing_heavy(module: str):
    code = f"import sys, {module}; print(*(n for n in {HEAVY!r} if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == []
