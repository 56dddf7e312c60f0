"""What a recipe tells about itself, and how recipes are put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from errata.errors import SettingsError
from errata.parts.base import Recipe

__all__ = ["Card", "combine"]


@dataclass(frozen=True, kw_only=True)
class Card:
    """One recipe: its name, its paper and how to build it.

    Attributes:
        name: As users type it.
        summary: One line.
        source: Paper, with arXiv number; ``-`` for a control.
        year: Of the paper; 0 for a control.
        cost: Plain training passes, by ``errata bench table digits`` without noise; that of
            `odd` by the suite ``fashion-10k``, where rows are dropped.
        needs: Drawn from clean, verified, transition, noise-rate, features.
        text: The whole card: idea, when to use, when not, cost, source, what is ours.
        build: Makes the recipe.
    """

    name: str
    summary: str
    source: str
    year: int
    cost: float | None
    needs: tuple[str, ...] = ()
    text: str
    build: Callable[[], Recipe]


def combine(names: str, recipes: list[Recipe]) -> Recipe:
    """Put recipes together: parts in the order given, at most one loss and one step rule.

    Raises:
        SettingsError: Two of them bring a loss, or a step rule, of their own.
    """
    plain = Recipe()
    whole = replace(plain)
    for recipe in recipes:
        brings_loss = recipe.loss != plain.loss
        brings_step = recipe.step != plain.step
        if brings_loss and whole.loss != plain.loss:
            raise SettingsError(
                f"recipe `{names}` has two losses, `{whole.loss}` and `{recipe.loss}`; "
                "allowed: one",
                hint="leave one of them out",
            )
        if brings_step and whole.step != plain.step:
            raise SettingsError(
                f"recipe `{names}` has two step rules, `{whole.step}` and `{recipe.step}`; "
                "allowed: one",
                hint="leave one of them out",
            )
        whole = Recipe(
            loss=recipe.loss if brings_loss else whole.loss,
            loss_values=recipe.loss_values if brings_loss else whole.loss_values,
            step=recipe.step if brings_step else whole.step,
            parts=(*whole.parts, *recipe.parts),
            nets=max(whole.nets, recipe.nets),
            views=max(whole.views, recipe.views),
        )
    kinds = [part.kind for part in whole.parts]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise SettingsError(
                f"recipe `{names}` has the part `{kind}` twice; allowed: once",
                hint="name each recipe once",
            )
    return whole
