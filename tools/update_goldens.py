"""Regenerate the golden curves of the recipes: ``python tools/update_goldens.py [RECIPE ...]``.

A curve changes only when training was meant to change; CHANGELOG.md then says why.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import torch

ROOT = Path(__file__).resolve().parents[1]


def load_curves() -> ModuleType:
    """Load the test that defines the curves, so that there is one definition."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    place = ROOT / "tests" / "golden" / "test_curves.py"
    spec = importlib.util.spec_from_file_location("test_curves", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(wanted: list[str]) -> None:
    """Write the curves that differ, and say which."""
    torch.set_num_threads(1)
    curves = load_curves()
    unknown = sorted(set(wanted) - set(curves.NAMES))
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; allowed: {', '.join(curves.NAMES)}")
    changed = []
    for name in wanted or curves.NAMES:
        text = json.dumps(curves.curve_of(name), indent=1) + "\n"
        place = curves.place_of(name)
        if not place.exists() or place.read_text(encoding="utf-8") != text:
            place.parent.mkdir(exist_ok=True)
            place.write_text(text, encoding="utf-8")
            changed.append(name)
    for place in curves.CURVES.glob("*.json"):
        if place.stem not in curves.NAMES:
            place.unlink()
            changed.append(f"{place.stem} (removed)")
    if changed:
        sys.stdout.write(
            f"changed: {', '.join(changed)}\nnow add a line to CHANGELOG.md that says why\n"
        )
    else:
        sys.stdout.write("nothing changed\n")


if __name__ == "__main__":
    main(sys.argv[1:])
