"""Recipes: one file per paper, and the table of them."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from functools import partial
from importlib import resources

from errata.errors import SettingsError, unknown_name
from errata.methods import (
    active_passive,
    balanced,
    bltm,
    bootstrap_losses,
    cascade,
    clean_only,
    cleannet,
    cutmix,
    dropout,
    dual_t,
    erm,
    finetune,
    forward,
    forward_learned,
    gce,
    goldberger,
    jindal,
    joint,
    l2rw,
    label_smoothing,
    mae,
    margin_losses,
    meta_weight_net,
    mixup,
    mse,
    nnaqc,
    odd,
    odd_phantom,
    sce,
    smp,
    sukhbaatar,
    t_revision,
    transition_forms,
    truncated_gce,
    vol_min,
    warp,
)
from errata.methods.card import Card, combine
from errata.parts.base import Phase, Recipe

__all__ = ["Card", "card_named", "phases_named", "recipe_named", "recipe_names"]

_TABLE = (
    erm.CARD,
    balanced.CARD,
    warp.CARD,
    dropout.CARD,
    label_smoothing.CARD,
    mixup.CARD,
    cutmix.CARD,
    mae.CARD,
    mse.CARD,
    gce.CARD,
    truncated_gce.CARD,
    sce.CARD,
    active_passive.RCE,
    active_passive.MAE,
    active_passive.NGCE,
    bootstrap_losses.SOFT,
    bootstrap_losses.HARD,
    margin_losses.RAMP,
    margin_losses.UNHINGED,
    margin_losses.SIGMOID,
    margin_losses.SAVAGE,
    forward.CARD,
    transition_forms.BACKWARD,
    transition_forms.ROW,
    transition_forms.SOFT,
    forward_learned.CARD,
    dual_t.CARD,
    vol_min.CARD,
    t_revision.CARD,
    sukhbaatar.CARD,
    jindal.CARD,
    goldberger.CARD,
    goldberger.COMPLEX,
    nnaqc.CARD,
    nnaqc.INSTANCE,
    bltm.CARD,
    odd.CARD,
    odd_phantom.CARD,
    smp.CARD,
    smp.KMEANS,
    smp.DENSITY_PEAK,
    joint.CARD,
    joint.HARD,
    cascade.CARD,
    clean_only.CARD,
    finetune.CARD,
    l2rw.CARD,
    meta_weight_net.CARD,
    cleannet.CARD,
)
_COSTS = tomllib.loads(resources.files(__name__).joinpath("costs.toml").read_text("utf-8"))
_CARDS: dict[str, Card] = {card.name: replace(card, cost=_COSTS.get(card.name)) for card in _TABLE}


def recipe_names() -> tuple[str, ...]:
    """List the recipes, the control first."""
    return tuple(_CARDS)


def card_named(name: str) -> Card:
    """Find the card of a recipe; some take a number, as in ``cascade:4``.

    Raises:
        SettingsError: No recipe has this name, or it takes no number, or not this one.
    """
    base, colon, number = name.partition(":")
    if base not in _CARDS:
        raise unknown_name("recipe", base, _CARDS)
    card = _CARDS[base]
    if not colon:
        return card
    if card.variant is None or not number.isdecimal():
        numbered = ", ".join(f"`{known}:N`" for known, each in _CARDS.items() if each.variant)
        raise SettingsError(
            f"recipe `{name}` has a number it cannot take; allowed: {numbered}, with N whole",
            hint=f"take `{base}`",
        )
    # Made once here, so that a number out of range is told where the name is read.
    card.variant(int(number))
    return replace(card, build=partial(card.variant, int(number)))


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
