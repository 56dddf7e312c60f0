"""Recipes: one file per paper, and the table of them."""

from __future__ import annotations

from errata.errors import unknown_name
from errata.methods import erm, gce, mixup, odd, odd_phantom
from errata.methods.card import Card, combine
from errata.parts.base import Recipe

__all__ = ["Card", "card_named", "recipe_named", "recipe_names"]

_CARDS: dict[str, Card] = {
    card.name: card for card in (erm.CARD, mixup.CARD, gce.CARD, odd.CARD, odd_phantom.CARD)
}


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


def recipe_named(names: str) -> Recipe:
    """Build a recipe, or several put together with ``+``.

    Example:
        >>> [part.kind for part in recipe_named("odd+mixup").parts]
        ['odd', 'mixup']

    Raises:
        SettingsError: A name is unknown, or two recipes cannot be put together.
    """
    recipes = [card_named(name.strip()).build() for name in names.split("+")]
    return combine(names, recipes)
