"""Training on the trusted samples alone."""

from __future__ import annotations

from dataclasses import dataclass

from errata.errors import SettingsError
from errata.parts.base import Part, register_part
from errata.types import Group, Lap, Plan, Run

__all__ = ["CleanOnly"]


@register_part("clean-only")
@dataclass(kw_only=True)
class CleanOnly(Part):
    """Replace the rows of every epoch by the trusted samples, each once."""

    def setup(self, run: Run) -> None:
        """Refuse a run without them."""
        if run.trusted is None:
            raise SettingsError(
                "training on trusted samples alone needs some, and none were given; allowed: "
                "samples whose labels people vouch for",
                hint="give them with `--clean`",
            )

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Plan one lap of all nets over the trusted samples."""
        assert run.trusted is not None, "setup refuses a run without them"
        labelled = (run.trusted.given >= 0).nonzero()[:, 0].cpu()
        nets = tuple(range(len(run.nets)))
        return Plan((Lap(nets, (Group(labelled),), pool="trusted"),))
