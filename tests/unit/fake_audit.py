"""Audit directories that look like real ones, for tests of what reads them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from errata.directory import (
    publish,
    staging,
    write_issues,
    write_settings,
    write_summary,
    write_unreadable,
)
from errata.ledger import Column, Ledger, standard
from errata.record import Reason
from errata.streams import numpy_generator

NAMES = ("lynx", "ocelot", "serval", "caracal", "margay", "puma", "jaguar", "leopard")


@dataclass(frozen=True)
class FakeFindings:
    """Arrays [N] in row order, as the detection gives them."""

    suspicion: np.ndarray
    p_wrong: np.ndarray
    p_proposed: np.ndarray
    flagged: np.ndarray
    proposed: np.ndarray
    tier: np.ndarray
    why: Callable[[int], tuple[Reason, ...]]

    def reasons(self, row: int) -> tuple[Reason, ...]:
        return self.why(row)


def make_audit(
    folder: Path,
    rows: int = 200,
    classes: int = 5,
    *,
    epochs: int = 30,
    wrong: float = 0.1,
    seed: int = 0,
    names: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    unlabelled: int = 0,
    flag: bool = True,
    removal: bool = False,
    columns: bool = True,
    planted: bool = True,
    unreadable: Sequence[tuple[str, str, str]] = (),
    conflicts: int | Sequence[Sequence[int]] = 0,
    warnings: Sequence[str] = (),
    log: bool = True,
    out: str = "audit",
    summary: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> Path:
    """Write an audit of made-up samples, of which the share `wrong` is mislabelled."""
    rng = numpy_generator(seed, "fake audit")
    names = tuple(names or _names(classes))
    ids = tuple(ids or (f"img/{names[i % classes]}/{i:04d}.jpg" for i in range(rows)))
    truth = rng.integers(0, classes, rows)
    is_wrong = rng.random(rows) < wrong
    given = np.where(is_wrong, (truth + rng.integers(1, classes, rows)) % classes, truth)
    if unlabelled:
        given[-unlabelled:] = -1
        is_wrong[-unlabelled:] = False
    curves, phantom = _curves(rng, is_wrong, classes, epochs)
    dropped = is_wrong & (rng.random(rows) < 0.9) if removal else np.zeros(rows, dtype=bool)
    findings = _findings(rng, curves, given, truth, is_wrong, names, flag=flag)
    ledger = Ledger(ids, given, names)
    if columns:
        _fill(ledger, curves, phantom, dropped, epochs)

    place = staging(folder / out, fresh=True)
    ledger.save(place / "ledger")
    write_issues(place / "issues.csv", ids, names, given, findings)
    if log:
        (place / "log.jsonl").write_text(_log(curves, given, dropped, epochs))
    write_unreadable(place / "unreadable.csv", unreadable)
    write_settings(
        place / "settings.toml",
        {
            "source": "photos/cats",
            "recipe": "odd+mixup" if removal else "erm",
            "seed": seed,
            "fingerprint": ledger.fingerprint,
            "command": "errata audit photos/cats --recipe odd+mixup --epochs 30 --out audit",
            "date": "2026-03-14",
            "stage": [{"epochs": epochs, "optimizer": {"kind": "sgd", "lr": 0.1}}],
            **(settings or {}),
        },
    )
    write_summary(
        place / "summary.json",
        _summary(findings, given, is_wrong, dropped, classes, epochs, planted=planted)
        | {"unreadable": len(unreadable), "conflicts": conflicts, "warnings": list(warnings)}
        | (summary or {}),
    )
    publish(place, folder / out)
    return folder / out


def picture(row: int, size: int = 8, *, mode: str = "L") -> bytes:
    """Draw a small picture that differs from row to row, as PNG bytes."""
    from PIL import Image

    across = np.linspace(0, 1, size)
    wave = np.sin(6 * (across[:, None] + row * 0.37)) * np.cos(5 * across[None, :] * (1 + row % 5))
    grey = ((wave + 1) * 127).astype(np.uint8)
    array = grey if mode == "L" else np.stack([grey, grey.T, 255 - grey], axis=-1)
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def _names(classes: int) -> tuple[str, ...]:
    return NAMES[:classes] if classes <= len(NAMES) else tuple(f"c{i:03d}" for i in range(classes))


def _curves(
    rng: np.random.Generator, is_wrong: np.ndarray, classes: int, epochs: int
) -> tuple[np.ndarray, np.ndarray]:
    time = np.arange(epochs)[None, :]
    easy = rng.gamma(2.0, 2.0, (len(is_wrong), 1)) + 0.5
    chance = math.log(classes)
    right = chance * np.exp(-time / easy) + 0.02
    tough = rng.uniform(0.3, 1.3, (len(is_wrong), 1))
    late = tough * (chance + 1.5 - 1.2 * np.clip((time - 0.5 * epochs) / epochs, 0, None))
    curves = np.where(is_wrong[:, None], late, right) * rng.lognormal(0, 0.15, (len(easy), epochs))
    phantom = (chance + 2.0 + rng.normal(0, 0.6, len(easy))) * epochs
    return curves.astype(np.float32), phantom.astype(np.float32)


def _findings(
    rng: np.random.Generator,
    curves: np.ndarray,
    given: np.ndarray,
    truth: np.ndarray,
    is_wrong: np.ndarray,
    names: Sequence[str],
    *,
    flag: bool,
) -> FakeFindings:
    mean = curves.mean(1)
    rank = mean.argsort().argsort() / len(mean)
    chance = 1 / (1 + np.exp(-4 * (mean - math.log(len(names)) * 0.7)))
    suspicion = np.where(given < 0, np.nan, rank)
    p_wrong = np.where(given < 0, np.nan, chance)
    flagged = (p_wrong > 0.5) & flag
    elsewhere = (given + 1 + rng.integers(0, 3, len(given))) % len(names)
    proposed = np.where(is_wrong | (given < 0), truth, elsewhere)
    proposed = np.where(proposed == given, (given + 1) % len(names), proposed)
    tier = np.where(flagged, np.where(p_wrong > 0.95, "obvious", "possible"), "fine")

    def why(row: int) -> tuple[Reason, ...]:
        high = int((curves[row] > 1).sum())
        name = names[proposed[row]]
        return (
            Reason(
                "accumulated_margin", -float(mean[row]), f"predicted as {name} in {high} epochs"
            ),
            Reason("loss", float(mean[row]), f"loss {mean[row]:.2f}, typical is 0.31"),
        )

    return FakeFindings(
        suspicion, p_wrong, p_wrong * 0.9, flagged, np.where(flagged, proposed, -1), tier, why
    )


def _fill(
    ledger: Ledger, curves: np.ndarray, phantom: np.ndarray, dropped: np.ndarray, epochs: int
) -> None:
    rows = torch.arange(ledger.num_rows)
    ledger.add(
        "track",
        *map(standard, ("loss", "loss_sum", "times_seen", "phantom_loss_sum")),
        standard("loss_curve", keep=epochs),
    )
    leaves = epochs * 2 // 5
    for epoch in range(epochs):
        here = rows if epoch < leaves else rows[torch.from_numpy(~dropped)]
        losses = torch.from_numpy(curves[:, epoch])[here]
        for name in ("loss", "loss_sum", "loss_curve"):
            ledger.write(name, here, losses, stamp=epoch)
        ledger.write("times_seen", here, torch.ones_like(here), stamp=epoch)
        share = torch.from_numpy(phantom)[here] / epochs
        ledger.write("phantom_loss_sum", here, share, stamp=epoch)
    if dropped.any():
        ledger.add("odd", standard("dropped"), standard("dropped_epoch"))
        ledger.add("odd", Column("odd_loss", rule="ring", keep=2))
        for epoch in (leaves - 2, leaves - 1):
            ledger.write("odd_loss", rows, torch.from_numpy(curves[:, epoch]), stamp=epoch)
        gone = rows[torch.from_numpy(dropped)]
        ledger.write("dropped", gone, torch.ones_like(gone), stamp=epochs)
        ledger.write("dropped_epoch", gone, torch.full_like(gone, leaves), stamp=epochs)
    ledger.sync()


def _log(curves: np.ndarray, given: np.ndarray, dropped: np.ndarray, epochs: int) -> str:
    lines = []
    for epoch in range(epochs):
        in_training = (given >= 0) & ~(dropped & (epoch >= epochs * 2 // 5))
        losses = curves[in_training, epoch]
        lines.append(
            {
                "epoch": epoch,
                "stage": 0,
                "lr": 0.05 * (1 + math.cos(math.pi * epoch / epochs)),
                "train_loss": float(losses.mean()),
                "train_agreement": float((losses < 0.9).mean()),
                "rows": int(in_training.sum()),
                "seconds": 1.25,
                "test": {"test": 0.9 - 0.6 * math.exp(-epoch / 4)},
            }
        )
    return "".join(json.dumps(line) + "\n" for line in lines)


def _summary(
    findings: FakeFindings,
    given: np.ndarray,
    is_wrong: np.ndarray,
    dropped: np.ndarray,
    classes: int,
    epochs: int,
    *,
    planted: bool,
) -> dict[str, Any]:
    flagged, labelled = findings.flagged, given >= 0
    rate = float(flagged.sum() / max(labelled.sum(), 1))
    hits = int((flagged & is_wrong).sum())
    return {
        "command": "audit",
        "version": "0.1.0",
        "rows": len(given),
        "classes": classes,
        "recipe": "odd+mixup" if dropped.any() else "erm",
        "model": "small-conv",
        "epochs": epochs,
        "seed": 0,
        "device": "cpu",
        "seconds": 83.4,
        "images_per_second": 7200.0,
        "peak_memory_mb": 412.0,
        "suspects": int(flagged.sum()),
        "noise_rate": {
            "estimate": rate,
            "low": max(rate - 0.008, 0.0),
            "high": rate + 0.009,
            "method": "phantom null",
        },
        "removed": {
            "rows": int(dropped.sum()),
            "epoch": epochs * 2 // 5,
            "threshold": math.log(classes),
        }
        if dropped.any()
        else None,
        "tiers": {name: int((findings.tier == name).sum()) for name in np.unique(findings.tier)},
        "test": {
            "rows": 2000,
            "accuracy": 0.873,
            "top5": 0.991,
            "balanced_accuracy": 0.871,
            "per_class_recall": [0.87] * classes,
            "nll": 0.43,
            "brier": 0.19,
            "ece": 0.021,
            "aurc": 0.03,
            "coverage_90": None,
            "set_size_90": None,
        },
        "planted": {
            "rate": float(is_wrong.mean()),
            "auroc": 0.987,
            "average_precision": 0.931,
            "precision": hits / max(int(flagged.sum()), 1),
            "recall": hits / max(int(is_wrong.sum()), 1),
            "f1": 0.93,
            "oracle_f1": 0.95,
            "fnr_at_true_rate": 0.05,
            "rate_error": rate - float(is_wrong.mean()),
            "relabel_accuracy": 0.94,
            "label_accuracy_before": 1 - float(is_wrong.mean()),
            "label_accuracy_after": 0.985,
        }
        if planted
        else None,
        "out": "audit",
        "report": "audit/report.html",
        "issues": "audit/issues.csv",
    }
