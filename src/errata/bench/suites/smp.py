"""Sweeps of SMP: candidates, prototypes, selection, blending, and when it starts."""

from __future__ import annotations

from dataclasses import replace

from errata.bench.suites.base import Variant
from errata.bench.suites.fashion import SHORT, UNIFORM

__all__ = ["SUITES"]


def _set(recipe: str = "smp", *, verified: bool = False, **values: float | str) -> Variant:
    changes = tuple(f"stage.parts.smp.{name}={_toml(value)}" for name, value in values.items())
    return Variant(recipe=recipe, changes=changes, gives=("verified",) if verified else ())


def _toml(value: float | str | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


# About 1,000 rows bear each label, so the paper's 1,280 candidates are all of them.
_CANDIDATES = {f"smp@m{m}": _set(m=m) for m in (80, 160, 320)}
_CANDIDATES |= {f"smp@m{m}+verified": _set(m=m, verified=True) for m in (20, 40, 80)}
_SELECTIONS = {
    "smp@verified": _set(verified=True),
    "smp-kmeans@verified": _set("smp-kmeans", verified=True),
    "smp-density-peak@verified": _set("smp-density-peak", verified=True),
}
_CONTROLS = {"smp@densest": _set(select="densest"), "smp@p1": _set(p=1)}
_PROTOTYPES = {f"smp@p{p}": _set(p=p) for p in (2, 4, 16, 32)}
_BLENDS = {f"smp@alpha{alpha:g}": _set(alpha=alpha) for alpha in (0.25, 0.75, 1.0)}
_CUTS = {f"smp@sc{cut}": _set(sc_percentile=cut) for cut in (20, 60, 80)}
_CENTRED = {
    "smp@centred": _set(center=True),
    "smp@centred+margin": _set(center=True, margin=0.1),
    "smp@centred+sc60": _set(center=True, sc_percentile=60),
}
_CENTRED |= {
    "smp@centred+sc60+margin0.2": _set(center=True, sc_percentile=60, margin=0.2),
    "smp@centred+sc60+margin0.2+alpha1": _set(center=True, sc_percentile=60, margin=0.2, alpha=1.0),
    "smp@centred+sc60+margin0.2+alpha1+at40": _set(
        center=True, sc_percentile=60, margin=0.2, alpha=1.0, start="40%"
    ),
}
_SCORES = {"smp@max": _set(scores="max")}
_MARGINS = {f"smp@margin{margin:g}": _set(margin=margin) for margin in (0.02, 0.1)}
_STARTS = {f"smp@at{percent}": _set(start=f"{percent}%") for percent in (10, 40, 60)}
_VARIANTS = {
    **_CANDIDATES,
    **_SELECTIONS,
    **_CONTROLS,
    **_PROTOTYPES,
    **_BLENDS,
    **_CUTS,
    **_CENTRED,
    **_SCORES,
    **_MARGINS,
    **_STARTS,
}

SUITES = (
    replace(
        SHORT,
        name="smp",
        summary="smp: candidates, selections, prototypes, alpha, percentile, centring, start",
        recipes=("erm", "smp", "smp-kmeans", "smp-density-peak", *_VARIANTS),
        noises=(UNIFORM,),
        more=(),
        variants=_VARIANTS,
        borrows=SHORT.name,
    ),
)
