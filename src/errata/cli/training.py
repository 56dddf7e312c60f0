"""What `audit` and `train` have in common: flags into settings, checked before data are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errata.cli.console import Console
from errata.cli.flags import Common, SourceFlags
from errata.cli.training_flags import EngineFlags, FindFlags, OutFlags, TrainFlags
from errata.errors import SettingsError, unknown_name
from errata.staging import check_out, is_audit, partial_of

if TYPE_CHECKING:
    from errata.config import Settings
    from errata.engine.run import Engine

__all__ = [
    "Interrupted",
    "check_noise",
    "engine_from",
    "run_training",
    "settings_from",
    "test_sets",
    "with_preset",
]

PRECISIONS = ("auto", "bfloat16", "float32", "float64")
# Any number of rows does to find out whether names and paths of settings are right.
_SOME_ROWS = 1000
_NAMED = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)=(?P<spec>.+)")


class Interrupted(KeyboardInterrupt):
    """A run was stopped by the user.

    Args:
        resumable: Whether there is something to go on with.
    """

    def __init__(self, *, resumable: bool) -> None:
        super().__init__()
        self.resumable = resumable


def engine_from(common: Common, flags: EngineFlags, **more: Any) -> Engine:
    """Say how to compute, after a check that the machine can; sets torch's threads.

    Raises:
        SettingsError: The device is not there, or the precision is unknown.
    """
    import torch

    from errata.engine.dist import pick_device
    from errata.engine.run import Engine

    if flags.threads is not None:
        torch.set_num_threads(flags.threads)
    if flags.precision not in PRECISIONS:
        raise unknown_name("precision", flags.precision, PRECISIONS)
    pick_device(common.device)
    return Engine(
        device=common.device,
        precision=flags.precision,  # type: ignore[arg-type]
        threads=flags.threads or 0,
        **more,
    )


def with_preset(training: TrainFlags) -> TrainFlags:
    """Fill in what a preset says where the user said nothing.

    Raises:
        SettingsError: There is no such preset, or a recipe was named beside it.
    """
    if training.preset is None:
        return training
    from errata.config import load_preset

    preset = load_preset(training.preset)
    if training.recipe not in (None, preset.recipe):
        raise SettingsError(
            f"preset `{training.preset}` is of recipe `{preset.recipe}`, but --recipe is "
            f"`{training.recipe}`; allowed: one of them",
            hint="leave --recipe out, or take over the settings you want with --set",
        )
    return replace(
        training,
        recipe=preset.recipe,
        epochs=training.epochs or preset.epochs,
        model=preset.model if training.model == "auto" else training.model,
        augment=preset.augment if training.augment == "none" else training.augment,
        set=[*preset.set, *(training.set or ())],
    )


def settings_from(
    spec: str,
    source: SourceFlags,
    training: TrainFlags,
    engine: EngineFlags,
    common: Common,
    *,
    find: FindFlags | None = None,
) -> Settings:
    """Turn flags into settings, with every name and value checked before data are read.

    Raises:
        SettingsError: A name is unknown, or a value is not allowed.
    """
    from errata.config import Settings, SourceSettings, program_of, set_paths, stages_of
    from errata.job import check_inputs

    find = find or FindFlags()
    settings = Settings(
        seed=common.seed,
        model=training.model,
        augment=training.augment,
        flag=find.flag,
        obvious=find.obvious,
        folds=find.folds,
        open_set=find.open_set,
        source=SourceSettings(
            spec=spec,
            labels=source.labels,
            images=source.images,
            limit=source.limit,
            noise=source.noise,
            truth=source.truth,
            size=source.size,
            column=source.column,
            tests=test_sets(source.test or ()),
            clean=source.clean,
            verified=source.verified,
        ),
        engine=engine_from(common, engine, compile=training.compile),
    )
    if training.recipe is not None:
        settings.recipe = training.recipe
    stages = stages_of(settings.recipe, rows=_SOME_ROWS, epochs=training.epochs)
    tried = set_paths(replace(settings, stage=stages), training.set or ())
    program_of(tried)
    check_inputs(tried)
    _check_names(tried)
    # Stages depend on the rows, so they are spelled out, and changed again, when data are read.
    return replace(tried, stage=[])


def test_sets(texts: Sequence[str]) -> dict[str, str]:
    """Read ``[NAME=]SOURCE`` texts; sets without a name are called test, test-2 and so on.

    Raises:
        SettingsError: Two sets have one name.
    """
    found: dict[str, str] = {}
    for place, text in enumerate(texts, start=1):
        named = _NAMED.fullmatch(text)
        # A folder may have such a name, too.
        if named is None or Path(text).exists():
            name, spec = "test" if place == 1 else f"test-{place}", text
        else:
            name, spec = named["name"], named["spec"]
        if name in found:
            raise SettingsError(
                f"two test sets are called `{name}`; allowed: one each",
                hint=f"give another name: --test {name}-2={spec}",
            )
        found[name] = spec
    return found


def run_training(
    work: Callable[..., dict[str, Any]],
    settings: Settings,
    *,
    console: Console,
    out: str,
    training: TrainFlags,
    place: OutFlags,
) -> dict[str, Any]:
    """Run `errata.auditing.audit` or ``train`` with progress, warnings and a way to resume.

    Raises:
        Interrupted: The user stopped it.
    """
    from errata.config import set_paths

    _check_place(out)
    display = console.display()
    try:
        summary = work(
            settings,
            out=out,
            epochs=training.epochs,
            resume=place.resume,
            overwrite=place.overwrite,
            adjust=lambda resolved: set_paths(resolved, training.set or ()),
            progress=display.listener(),
        )
    except KeyboardInterrupt:
        raise Interrupted(resumable=partial_of(Path(out)).exists()) from None
    finally:
        display.stop()
    if "training" not in display.phases:
        console.note(f"`{out}` was finished already; nothing was done")
    for text in summary.get("warnings") or ():
        console.warn(text)
    return summary


def _check_place(out: str) -> None:
    """Refuse early what is no place for an audit; other data are found out when data are read."""
    path = Path(out)
    if not is_audit(path) and not partial_of(path).exists():
        check_out(path, "")


def _check_names(settings: Settings) -> None:
    from errata.config import check_detect
    from errata.data.augment import Augment
    from errata.detect.decide import parse_flag

    Augment.parse(settings.augment)
    parse_flag(settings.flag)
    check_detect(settings)
    _check_model(settings.model)
    if settings.source.noise:
        check_noise(settings.source.noise)
    if settings.folds == 1:
        raise SettingsError(
            "folds `1` is not allowed; allowed: 0 (off), or 2 and above",
            hint="5 is a common choice",
        )


def _check_model(name: str) -> None:
    import torch

    from errata.models import build_model

    if name == "auto":
        return
    # Without memory and weights, so that even large models are tried at once. Every model of the
    # package takes such pictures; whether it takes those of the source is seen later.
    with torch.device("meta"):
        build_model(name, (3, 64, 64), 2)


def check_noise(spec: str) -> None:
    """Refuse a noise specification that cannot work on any data.

    Raises:
        SettingsError: Its kind or a value is not allowed, or its file is missing.
    """
    from errata.data.noise_spec import parse_noise

    asked = parse_noise(spec)
    if asked.path is not None and not asked.path.is_file():
        raise SettingsError(
            f"file `{asked.path}` of noise `{spec}` does not exist; allowed: an npy file",
            hint="check the path",
        )
