"""Recipes: one file per paper, and the table of them."""

from __future__ import annotations

from errata.errors import SettingsError, unknown_name
from errata.methods import (
    erm,
    gce,
    mixup,
    odd,
    odd_phantom,
)
from errata.methods.card import Card, combine
from errata.parts.base import Phase, Recipe

__all__ = ["Card", "card_named", "phases_named", "recipe_named", "recipe_names"]

_TABLE = (
    erm.CARD,
    mixup.CARD,
    gce.CARD,
    odd.CARD,
    odd_phantom.CARD,
)
_CARDS: dict[str, Card] = {card.name: card for card in _TABLE}


def recipe_names() -> tuple[str, ...]:
    """List the recipes, the control first."""
    return tuple(_CARDS)


def card_named(name: str) -> Card:
    """Find the card of a recipe.

    Raises:
        SettingsError: No recipe has this name.
    """
    if name not in _CARDS:
        raise unknown_name("recipe", name, _CARDS)
    return _CARDS[name]


def phases_named(names: str) -> tuple[Phase, ...]:
    """Build a recipe, or several put together with ``+``, as phases.

    Raises:
        SettingsError: A name is unknown, or two recipes cannot be put together.
    """
    cards = [card_named(name.strip()) for name in names.split("+")]
    for card in cards:
        for other in cards:
            if why := card.refuses.get(other.name):
                raise SettingsError(
                    f"recipe `{names}` makes no sense: {why}",
                    hint=f"leave `{card.name}` or `{other.name}` out",
                )
    return combine(names, [card.phases() for card in cards])


def recipe_named(names: str) -> Recipe:
    """Build a recipe of one stage, or several put together with ``+``.

    Example:
        >>> [part.kind for part in recipe_named("odd+mixup").parts]
        ['odd', 'mixup']

    Raises:
        SettingsError: A name is unknown, or two recipes cannot be put together, or the recipe
            trains in several stages.
    """
    phases = phases_named(names)
    if len(phases) > 1:
        raise SettingsError(
            f"recipe `{names}` trains in {len(phases)} stages; allowed here: one",
            hint="take `phases_named`",
        )
    return phases[0].recipe
