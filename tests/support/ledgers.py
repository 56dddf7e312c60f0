"""Ledgers as training leaves them: from made-up logits, or from a small real training."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from errata.ledger import Column, Ledger, standard

SCALARS = (
    *("loss", "loss_sum", "margin_sum", "correct_sum", "times_seen", "disagree_sum", "forgets"),
    *("first_learned", "last_correct", "phantom", "phantom_loss_sum", "phantom_margin_sum"),
)


class Recorder:
    """Adds up what the observers of the engine add up, in numpy; the logits are the features."""

    def __init__(self, given: np.ndarray, classes: int, epochs: int, rng: np.random.Generator):
        rows = len(given)
        self.given, self.classes = given, classes
        self.columns = {name: np.zeros(rows) for name in SCALARS}
        self.columns["first_learned"][:] = -1
        shift = rng.integers(1, classes, rows)
        self.columns["phantom"] = (np.maximum(given, 0) + shift) % classes
        self.prob_sum = np.zeros((rows, classes))
        self.curve = np.full((rows, epochs), np.nan)
        self.features, self.views = np.zeros((rows, 2, classes)), np.zeros((rows, 2))

    def see(self, rows: np.ndarray, logits: np.ndarray, epoch: int) -> None:
        """Record the logits [n, C] of some rows."""
        columns = self.columns
        logs = logits - logits.max(1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(1, keepdims=True))
        loss, margin = self._facts(rows, logits, logs, self.given[rows])
        null_loss, null_margin = self._facts(rows, logits, logs, columns["phantom"][rows])
        correct = margin > 0
        columns["loss"][rows] = loss
        columns["forgets"][rows] += (columns["last_correct"][rows] > 0) & ~correct
        columns["last_correct"][rows] = correct
        first = columns["first_learned"][rows]
        columns["first_learned"][rows] = np.where((first < 0) & correct, epoch, first)
        for name, values in {
            "loss_sum": loss,
            "margin_sum": margin,
            "correct_sum": correct,
            "times_seen": 1,
            "disagree_sum": ~correct,
            "phantom_loss_sum": null_loss,
            "phantom_margin_sum": null_margin,
        }.items():
            columns[name][rows] += values
        self.prob_sum[rows] += np.exp(logs)
        self.curve[rows, epoch] = loss
        late = int(epoch >= round(0.3 * self.curve.shape[1]))
        self.features[rows, late] += logits / self.curve.shape[1]
        self.views[rows, late] += 1

    @staticmethod
    def _facts(
        rows: np.ndarray, logits: np.ndarray, logs: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        at = np.arange(len(rows)), labels
        others = logits.copy()
        others[at] = -np.inf
        return -logs[at], logits[at] - others.max(1)

    def ledger(self, dropped: np.ndarray | None = None, final: np.ndarray | None = None) -> Ledger:
        """Write everything into a ledger; `final` [N, C] is the prediction of the last sweep."""
        rows, epochs = self.curve.shape
        names = [f"class {c}" for c in range(self.classes)]
        ledger = Ledger([f"id {i}" for i in range(rows)], self.given, names)
        everyone = torch.arange(rows)
        for name, values in self.columns.items():
            ledger.add("track", standard(name))
            ledger.write(name, everyone, torch.from_numpy(values), stamp=0)
        ledger.add("track", standard("prob_sum", shape=(self.classes,)))
        ledger.write("prob_sum", everyone, torch.from_numpy(self.prob_sum), stamp=0)
        ledger.add("track", standard("loss_curve", keep=epochs))
        for epoch in range(epochs):
            seen = np.flatnonzero(~np.isnan(self.curve[:, epoch]))
            loss = torch.from_numpy(self.curve[seen, epoch])
            ledger.write("loss_curve", torch.from_numpy(seen), loss, stamp=epoch)
        for name, values, dtype in (
            ("feature_sum", self.features, torch.float16),
            ("feature_views", self.views, torch.int32),
        ):
            column = Column(name, shape=values.shape[1:], dtype=dtype, rule="sum")
            ledger.add("representation", column)
            ledger.write(name, everyone, torch.from_numpy(values), stamp=0)
        if final is not None:
            ledger.add("audit", standard("final_prob", shape=(self.classes,)))
            ledger.write("final_prob", everyone, torch.from_numpy(final), stamp=0)
        if dropped is not None:
            ledger.add("odd", standard("dropped"), standard("dropped_epoch"))
            ledger.write("dropped", everyone, torch.from_numpy(dropped), stamp=0)
            gone = torch.from_numpy(np.flatnonzero(dropped))
            ledger.write("dropped_epoch", gone, torch.full_like(gone, 7), stamp=0)
        return ledger


def simulate(
    truth: np.ndarray,
    given: np.ndarray,
    classes: int,
    *,
    epochs: int = 20,
    memory: float = 1.0,
    seed: int = 0,
) -> Recorder:
    """Make up a training: true classes are learned at once, given labels memorised slowly.

    Args:
        truth: [N] true classes.
        given: [N] given classes; rows with -1 are never seen.
        classes: Number of classes.
        epochs: Passes over the rows.
        memory: Logit that the given label has gained in the end.
        seed: Of everything drawn.
    """
    rng = np.random.default_rng(seed)
    recorder = Recorder(given, classes, epochs, rng)
    rows = np.flatnonzero(given >= 0)
    # Some rows are hard: their true class is hardly ahead of the others.
    clarity = rng.gamma(4.0, 1.0, len(given))
    look = rng.normal(0, 0.7, (len(given), classes))
    for epoch in range(epochs):
        logits = look + rng.normal(0, 0.5, look.shape)
        logits[np.arange(len(given)), truth] += clarity * min(1.0, (epoch + 1) / 3)
        gain = memory * (epoch / epochs) ** 2
        logits[rows, given[rows]] += gain
        recorder.see(rows, logits[rows], epoch)
    return recorder


def train(
    x: np.ndarray, given: np.ndarray, classes: int, *, epochs: int = 25, seed: int = 0
) -> Ledger:
    """Train a small MLP on vectors [N, D] with plain SGD and record every row."""
    rng = np.random.default_rng(seed)
    recorder = Recorder(given, classes, epochs, rng)
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = torch.from_numpy(x).float(), torch.from_numpy(given)
    net = nn.Sequential(nn.Linear(x.shape[1], 128), nn.ReLU(), nn.Linear(128, classes))
    for parameter in net.parameters():
        with torch.no_grad():
            bound = parameter.shape[-1] ** -0.5
            parameter.uniform_(-bound, bound, generator=generator)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        for rows in torch.randperm(len(given), generator=generator).split(128):
            logits = net(inputs[rows])
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[rows]).backward()
            optimizer.step()
            recorder.see(rows.numpy(), logits.detach().double().numpy(), epoch)
        schedule.step()
    return recorder.ledger()
