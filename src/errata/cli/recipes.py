"""`errata recipes`: what recipes there are, what they cost and what they need."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from errata.cli.console import Console, table
from errata.cli.flags import PlainCommon
from errata.cli.options import option, spread
from errata.errors import unknown_name

if TYPE_CHECKING:
    from errata.methods import Card

__all__ = ["recipes"]

NEEDS = ("nothing", "clean", "verified", "transition", "noise-rate", "features")


@spread
def recipes(
    common: PlainCommon,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show the whole card of this recipe.")
    ] = None,
    needs: Annotated[
        str | None,
        option(
            "Listing",
            "--needs",
            help=f"Only recipes that need this: {', '.join(NEEDS)}.",
            metavar="WHAT",
        ),
    ] = None,
    presets: Annotated[
        bool,
        option(
            "Listing", "--presets", help="List the presets instead: settings of rows of papers."
        ),
    ] = False,
) -> None:
    """List the recipes, or show one with its source, cost and needs.

    Recipes are put together with `+`: odd+mixup.

    For example:

        errata recipes odd
    """
    with Console(common) as console:
        from errata.config import DEFAULT_RECIPE
        from errata.methods import card_named, recipe_names

        if presets:
            _presets(console)
            return
        if needs is not None and needs not in NEEDS:
            raise unknown_name("need", needs, NEEDS)
        names = recipe_names() if name is None else tuple(n.strip() for n in name.split("+"))
        cards = [card for card in map(card_named, names) if _fits(card, needs)]
        document = {"command": "recipes", "recipes": [_entry(card) for card in cards]}
        if name is not None:
            document["recipes"] = [
                {**_entry(card), "card": card.text.strip() + "\n"} for card in cards
            ]
            console.result(document, "\n\n".join(_whole(card) for card in cards))
        else:
            console.result(document, _listing(cards, needs, DEFAULT_RECIPE))


def _presets(console: Console) -> None:
    from errata.config import load_preset, preset_names

    found = {name: load_preset(name) for name in preset_names()}
    entries = [
        {"name": name, "recipe": preset.recipe, "epochs": preset.epochs, "model": preset.model}
        | {"augment": preset.augment, "set": preset.set, "paper": asdict(preset.paper)}
        for name, preset in found.items()
    ]
    rows = [
        (name, preset.recipe, preset.paper.data, preset.paper.score or "not known")
        for name, preset in found.items()
    ]
    text = table(("preset", "recipe", "data", "published"), rows)
    text += "\n\nuse one: errata train SOURCE --preset NAME; other flags change it"
    console.result({"command": "recipes", "presets": entries}, text)


def _fits(card: Card, needs: str | None) -> bool:
    if needs is None:
        return True
    return not card.needs if needs == "nothing" else needs in card.needs


def _entry(card: Card) -> dict[str, Any]:
    return {
        "name": card.name,
        "summary": card.summary,
        "source": card.source,
        "year": card.year,
        "cost": card.cost,
        "needs": list(card.needs),
        "parts": list(dict.fromkeys(p.kind for phase in card.phases() for p in phase.recipe.parts)),
    }


def _listing(cards: list[Card], needs: str | None, default: str) -> str:
    if not cards:
        return f"no recipe needs {needs}"
    rows = [
        (
            card.name,
            _cost(card),
            ", ".join(card.needs) or "nothing",
            card.summary,
        )
        for card in cards
    ]
    return (
        table(("recipe", "cost", "needs", "summary"), rows, right=("cost",))
        + f"\n\ndefault: {default}; recipes join with `+`"
        + "\ncost: plain training passes, measured. One recipe in full: errata recipes NAME"
    )


def _whole(card: Card) -> str:
    phases = [phase.recipe for phase in card.phases()]
    parts = ", ".join(dict.fromkeys(part.kind for built in phases for part in built.parts))
    losses = ", then ".join(built.loss for built in phases)
    facts = [
        f"{card.name}: {card.summary}",
        f"source: {card.source}",
        f"cost:   {_cost(card)}" + ("" if card.cost is None else " plain training passes"),
        f"needs:  {', '.join(card.needs) or 'nothing'}",
        f"parts:  {parts or 'none'}; loss {losses}",
    ]
    return "\n".join(facts) + "\n\n" + card.text.strip()


def _cost(card: Card) -> str:
    return "not measured" if card.cost is None else f"{card.cost:g}"
