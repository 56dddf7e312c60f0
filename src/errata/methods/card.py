"""What a recipe tells about itself, and how recipes are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Literal

from errata.errors import SettingsError
from errata.parts.base import Phase, Recipe

__all__ = ["WAYS", "Card", "Way", "combine"]

Way = Literal[
    "control", "brake", "loss", "transition", "layer", "drop", "relabel", "cascade", "trusted"
]

WAYS: Mapping[Way, str] = {
    "control": "Controls: nothing is done about the noise",
    "brake": "Hold learning by heart back: regularise, mix",
    "loss": "Model the noise: a loss that wrong labels pull less",
    "transition": "Model the noise: a transition matrix in the loss",
    "layer": "Model the noise: a layer that is learned with the network",
    "drop": "Change the data: delete samples",
    "relabel": "Change the data: correct labels",
    "cascade": "Change the data: separate it, and train one network after the other",
    "trusted": "Use samples that somebody trusts",
}
"""What recipes do about wrong labels: the two ways of the notes, and what lies beside them."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One recipe: its name, its paper and how to build it.

    Attributes:
        name: As users type it.
        summary: One line.
        source: Paper, with arXiv number; ``-`` for a control.
        year: Of the paper; 0 for a control.
        cost: Plain training passes, read from ``costs.toml`` when the card is registered; None
            where nobody has measured it.
        needs: Drawn from clean, verified, transition, noise-rate, features.
        takes: The same, of what it uses where it is given but does not need.
        way: What it does about wrong labels, a key of `WAYS`.
        pipeline: Its steps, a few words each, where a picture of them helps.
        text: The whole card: idea, when to use, when not, cost, source, what is ours.
        refuses: Recipes that this one makes no sense with, each with the reason in one sentence.
        build: Makes the recipe, or its phases where it has several stages.
        variant: Makes the phases of ``NAME:NUMBER``; None where the name takes no number.
    """

    name: str
    summary: str
    source: str
    year: int
    cost: float | None = None
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    way: Way = "control"
    pipeline: tuple[str, ...] = ()
    text: str
    refuses: Mapping[str, str] = field(default_factory=dict)
    build: Callable[[], Recipe | tuple[Phase, ...]]
    variant: Callable[[int], tuple[Phase, ...]] | None = None

    def phases(self) -> tuple[Phase, ...]:
        """Build the recipe as phases; most have one."""
        built = self.build()
        return (Phase(recipe=built),) if isinstance(built, Recipe) else built


def combine(names: str, programs: list[tuple[Phase, ...]]) -> tuple[Phase, ...]:
    """Put recipes together: parts in the order given, at most one loss and one step rule.

    A recipe of one phase joins every phase of another, but those that come `after`.

    Raises:
        SettingsError: Two of them bring a loss, a step rule or several phases of their own, or
            one part is named twice.
    """
    bodies = [tuple(p for p in phases if not p.after) for phases in programs]
    long = [phases for phases in bodies if len(phases) > 1]
    if len(long) > 1:
        raise SettingsError(
            f"recipe `{names}` has {len(long)} members that train in several stages; allowed: one",
            hint="leave one of them out",
        )
    frame = long[0] if long else (next((body[0] for body in bodies if body), Phase()),)
    whole = tuple(
        replace(
            phase,
            recipe=reduce(
                lambda a, b: _join(names, a, b),
                (body[index if len(body) > 1 else 0].recipe for body in bodies if body),
                Recipe(),
            ),
        )
        for index, phase in enumerate(frame)
    )
    # What comes after goes on with the nets that there are.
    nets = whole[-1].recipe.nets
    after = [p for phases in programs for p in phases if p.after]
    return whole + tuple(replace(p, recipe=replace(p.recipe, nets=nets)) for p in after)


def _join(names: str, first: Recipe, second: Recipe) -> Recipe:
    plain = Recipe()
    for what, values in (
        ("losses", (first.loss, second.loss)),
        ("step rules", (first.step, second.step)),
    ):
        usual = plain.loss if what == "losses" else plain.step
        if usual not in values:
            raise SettingsError(
                f"recipe `{names}` has two {what}, `{values[0]}` and `{values[1]}`; allowed: one",
                hint="leave one of them out",
            )
    kinds = {part.kind for part in first.parts}
    for part in second.parts:
        if part.kind in kinds:
            raise SettingsError(
                f"recipe `{names}` has the part `{part.kind}` twice; allowed: once",
                hint="name each recipe once",
            )
    bringer = second if second.loss != plain.loss else first
    return Recipe(
        loss=bringer.loss,
        loss_values=bringer.loss_values,
        step=second.step if second.step != plain.step else first.step,
        parts=(*first.parts, *second.parts),
        nets=max(first.nets, second.nets),
        views=max(first.views, second.views),
    )
