"""Drawing every class equally often."""

from __future__ import annotations

from dataclasses import dataclass

from errata.parts.base import Part, register_part
from errata.parts.penalties import draw_balanced
from errata.types import Plan, Run

__all__ = ["Balanced"]


@register_part("balanced")
@dataclass(kw_only=True)
class Balanced(Part):
    """Draw every given class equally often; an epoch keeps its length."""

    def plan(self, run: Run, plan: Plan) -> Plan:
        """Change the order in which rows are drawn."""
        return draw_balanced(plan)
