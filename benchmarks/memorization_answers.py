"""What the suite `memorization` answers to the questions of the notes, as sentences with numbers.

A sentence is written only where every cell that it needs is measured; `memorization_figure` calls
this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from errata.bench.runner import Result

LOSSES = {"ce": "CE", "mae": "MAE", "gce": "GCE"}
BRAKES = {
    "plain": "none",
    "dropout": "dropout .5 before the head",
    "decay": "weight decay 5e-4",
    "augment": "flip and pad-crop",
    "all": "all three",
}
WORDS = {
    "plain": "no brake",
    "dropout": "dropout",
    "decay": "weight decay",
    "augment": "augmentation",
    "all": "all three",
}
NOT_YET = "not measured yet"
MOSTLY, GUESSED = 0.8, 0.1
"""Right labels count as mostly learned, and wrong ones as more than guessed, from these shares."""

Cells = Mapping[tuple[str, str], Result]
Long = Mapping[str, Mapping[str, Any]]


def share(value: float | None) -> str:
    """Say a share in percent, without the sign."""
    return "\u2013" if value is None else f"{100 * value:.1f}"


def learned(cell: Result | None) -> tuple[float | None, float | None, float | None]:
    """Give the shares of wrong and of right labels learned at the end, and the test accuracy."""
    if cell is None:
        return None, None, None
    curves = cell.get("curves") or {}
    wrong, right = (curves.get(key) for key in ("fit_wrong", "fit_right"))
    return wrong[-1] if wrong else None, right[-1] if right else None, cell["accuracy"]


def answers(by_noise: Mapping[str, Cells], long: Long) -> list[str]:
    """Answer one question after the other."""
    questions = (
        ("Do networks fit random labels?", _random(by_noise["uniform:1"], long)),
        ("Does any brake change where training ends?", _brakes(by_noise, long)),
        ("Is a brake necessary, or sufficient, to generalise?", _generalise(by_noise)),
        ("Is augmentation the strongest brake?", _strongest(by_noise)),
        ("Are patterns learned first, and single labels by heart afterwards?", _first(by_noise)),
        ("Can right classification be learned from wrong labels?", _possible(by_noise, long)),
        ("Is the power of a loss limited?", _losses(by_noise)),
    )
    return ["\n".join(f"- **{question}** {answer}" for question, answer in questions)]


def _random(cells: Cells, long: Long) -> str:
    told = []
    if ("ce", "plain") in cells:
        wrong, _, test = learned(cells["ce", "plain"])
        told.append(
            f"After 30 epochs {share(wrong)} % of the wrong labels of 5,000 images, and test "
            f"accuracy is {share(test)} %, that of guessing."
        )
    if "plain/uniform:1" in long:
        end = long["plain/uniform:1"]
        told.append(
            f"After 100 epochs on 1,000 images {share(end['fit_wrong'])} %, with "
            f"{share(end['test_accuracy'])} % test accuracy."
        )
    return " ".join(told) or NOT_YET.capitalize() + "."


def _brakes(by_noise: Mapping[str, Cells], long: Long) -> str:
    fits = {WORDS[b]: learned(by_noise["uniform:1"].get(("ce", b)))[0] for b in BRAKES}
    told = [f"Wrong labels of `uniform:1` learned after 30 epochs: {_list(fits)}."]
    for noise in ("uniform:1", "uniform:0.4"):
        fits = {
            WORDS[brake]: long[f"{brake}/{noise}"]["fit_wrong"]
            for brake in BRAKES
            if f"{brake}/{noise}" in long
        }
        if fits:
            told.append(
                f"Of `{noise}` with 1,000 images after 100 epochs, predicted in evaluation mode: "
                f"{_list(fits)}."
            )
    return " ".join(told)


def _generalise(by_noise: Mapping[str, Cells]) -> str:
    told = []
    for noise in ("none", "uniform:0.2", "uniform:0.4"):
        tests = {WORDS[b]: learned(by_noise[noise].get(("ce", b)))[2] for b in BRAKES}
        told.append(f"Test accuracy with `{noise}`: {_list(tests)}.")
    return " ".join(told)


def _strongest(by_noise: Mapping[str, Cells]) -> str:
    told = []
    for noise in ("none", "uniform:0.2", "uniform:0.4"):
        tests = {b: learned(by_noise[noise].get(("ce", b)))[2] for b in BRAKES if b != "all"}
        known = {b: test for b, test in tests.items() if test is not None}
        if len(known) < len(tests):
            told.append(f"`{noise}`: {NOT_YET}.")
            continue
        best = max(known, key=lambda b: known[b])
        gain = 100 * (known[best] - known["plain"])
        found = f"the best single one is {WORDS[best]} (+{gain:.1f} points)"
        told.append(f"`{noise}`: {'none gains anything' if best == 'plain' else found}.")
    return " ".join(told)


def _first(by_noise: Mapping[str, Cells]) -> str:
    told = []
    for noise in ("uniform:0.4", "uniform:0.2"):
        cell = by_noise[noise].get(("ce", "plain"))
        if cell is None:
            told.append(f"`{noise}`: {NOT_YET}.")
            continue
        curves = cell["curves"]
        right, wrong = (
            _reaches(curves["fit_right"], MOSTLY),
            _reaches(curves["fit_wrong"], GUESSED),
        )
        then = share(curves["fit_wrong"][right - 1]) if right else "\u2013"
        told.append(
            f"`{noise}`: right labels pass 80 % in epoch {right or 'none'}, when {then} % of the "
            f"wrong ones are predicted; these pass 10 % in epoch {wrong or 'none'}."
        )
    return " ".join(told)


def _reaches(curve: list[float], level: float) -> int | None:
    """Give the first epoch from which on a curve stays at or above a level; None if none."""
    below = [epoch for epoch, value in enumerate(curve, 1) if value < level]
    first = below[-1] + 1 if below else 1
    return first if first <= len(curve) else None


def _possible(by_noise: Mapping[str, Cells], long: Long) -> str:
    told = []
    for noise in ("none", "uniform:0.2", "uniform:0.4"):
        cells = by_noise[noise]
        if not cells:
            told.append(f"`{noise}`: {NOT_YET}.")
            continue
        loss, brake = max(cells, key=lambda key: float(cells[key]["accuracy"]))
        best = cells[loss, brake]
        told.append(
            f"`{noise}`, {share(1 - best['realised_noise'])} % of the labels right: at best "
            f"{share(best['accuracy'])} % on test images ({LOSSES[loss]}, {WORDS[brake]}; "
            f"{len(cells)} of 15 cells)."
        )
    if "plain/uniform:0.4" in long:
        end = long["plain/uniform:0.4"]
        told.append(
            f"After 100 epochs on 1,000 images with `uniform:0.4` and no brake, when "
            f"{share(end['fit_wrong'])} % of the wrong labels are learned: "
            f"{share(end['test_accuracy'])} %."
        )
    return " ".join(told)


def _losses(by_noise: Mapping[str, Cells]) -> str:
    told = []
    for noise in ("uniform:1", "uniform:0.4", "uniform:0.2"):
        ends = [learned(by_noise[noise].get((loss, "plain"))) for loss in LOSSES]
        each = ", ".join(
            f"{title} {' / '.join(share(value) for value in end)}"
            for title, end in zip(LOSSES.values(), ends, strict=True)
        )
        told.append(f"`{noise}`, no brake, wrong / right / test %: {each}.")
    return " ".join(told)


def _list(shares: Mapping[str, float | None]) -> str:
    if all(value is None for value in shares.values()):
        return NOT_YET
    return ", ".join(
        f"{words} {NOT_YET if value is None else share(value) + ' %'}"
        for words, value in shares.items()
    )
