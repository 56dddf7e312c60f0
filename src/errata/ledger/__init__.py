"""The ledger: everything known about every sample, in columns addressed by row."""

from __future__ import annotations

from errata.ledger.columns import VOCABULARY, Column, Term, standard
from errata.ledger.ledger import Ledger

__all__ = ["VOCABULARY", "Column", "Ledger", "Term", "standard"]
