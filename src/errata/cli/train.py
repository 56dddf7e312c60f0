"""`errata train`: train by a recipe, measure, save a model."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from errata.cli.audit import test_lines
from errata.cli.console import Console
from errata.cli.flags import Common, SourceArgument, SourceFlags
from errata.cli.options import option, spread
from errata.cli.training import run_training, settings_from, with_preset
from errata.cli.training_flags import EngineFlags, OutFlags, TrainFlags
from errata.cli.words import count, quoted, took

__all__ = ["train", "train_notes"]


@spread
def train(
    *,
    source: SourceArgument,
    reading: SourceFlags,
    training: TrainFlags,
    place: OutFlags,
    engine: EngineFlags,
    common: Common,
    out: Annotated[
        str, option("Output", "--out", help="The directory of the model.", metavar="DIR")
    ] = "model",
    calibration: Annotated[
        float,
        option(
            "Training",
            "--calibration",
            help="Share of the rows kept out of training to make confidence honest; 0 keeps none.",
            metavar="SHARE",
        ),
    ] = 0.1,
) -> None:
    """Train a model by a recipe, measure it on the test sets, and save it.

    Takes corrected labels with --labels. An interrupted run goes on with --resume. A tenth of the
    rows, at most 5,000, is not trained on: confidence and the sets of `errata predict` are fitted
    to it, also where labels are wrong. Below 100 such rows all are trained on.

    For example:

        errata train digits --labels corrected.csv --recipe mixup --out model
    """
    with Console(common) as console:
        training = with_preset(training)
        settings = settings_from(source, reading, training, engine, common)
        from errata import auditing

        summary = run_training(
            partial(auditing.train, calibration=calibration),
            settings,
            console=console,
            out=out,
            training=training,
            place=place,
        )
        console.result(summary, _text(summary))


def _text(summary: dict[str, Any]) -> str:
    lines = [
        f"trained {summary['model']} with {summary['recipe']} on {count(summary['rows'], 'row')} "
        f"for {count(summary['epochs'], 'epoch')} in {took(summary['seconds'])}"
    ]
    lines += test_lines(summary) or ["no test set; name one with --test SOURCE"]
    if summary.get("unreadable"):
        lines.append(f"{count(summary['unreadable'], 'file')} could not be read")
    lines.append(f"model: {summary['out']}")
    lines.append(f"next: errata predict {quoted(summary['out'])} SOURCE --out predictions.csv")
    return "\n".join(lines)


def train_notes() -> str:
    """List the models and recipes, for the help of this command."""
    from errata.config import DEFAULT_RECIPE
    from errata.methods import recipe_names
    from errata.models import model_names

    models = ", ".join((*model_names(), "wrn-DEPTH-WIDTH", "timm:NAME", "torchvision:NAME"))
    return (
        f"Models: {models}; the last two where those packages are installed.\n\n"
        f"Recipes: {', '.join(recipe_names())}; default {DEFAULT_RECIPE}."
    )
