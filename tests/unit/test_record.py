from __future__ import annotations

import json
import math

import pytest

from errata.record import Reason, SampleRecord


def _record(**changes) -> SampleRecord:
    values = {
        "id": "img/0412.jpg",
        "row": 412,
        "given": "leopard",
        "proposed": "tiger",
        "suspicion": 0.998,
        "p_wrong": 0.97,
        "p_proposed": 0.91,
        "flagged": True,
        "tier": "obvious",
        "reasons": (Reason("margin", -3.1, "negative in 27 of 30 epochs"),),
        "curve": (2.5, 1.25),
        "neighbours": (3, 5),
    }
    return SampleRecord(**(values | changes))


def test_as_json_holds_every_field_as_plain_values():
    told = _record().as_json()
    assert told == {
        "id": "img/0412.jpg",
        "row": 412,
        "given": "leopard",
        "proposed": "tiger",
        "suspicion": 0.998,
        "p_wrong": 0.97,
        "p_proposed": 0.91,
        "flagged": True,
        "tier": "obvious",
        "reasons": [
            {"kind": "margin", "value": -3.1, "text": "negative in 27 of 30 epochs"},
        ],
        "curve": [2.5, 1.25],
        "neighbours": [3, 5],
        "verdict": None,
    }
    assert set(told) == set(SampleRecord.__slots__)


def test_numbers_that_json_lacks_become_null():
    bare = _record(
        given=None,
        suspicion=math.nan,
        p_wrong=math.nan,
        curve=(math.inf, 1.0),
        reasons=(Reason("dropped", math.nan, "by the recipe"),),
    )
    told = bare.as_json()
    assert (told["given"], told["suspicion"], told["p_wrong"]) == (None, None, None)
    assert told["curve"] == [None, 1.0]
    assert told["reasons"][0]["value"] is None
    json.dumps(told, allow_nan=False)


def test_a_verdict_speaks_for_itself():
    class Decided:
        verdict = "relabel"
        label = "tiger"

        def as_json(self) -> dict[str, str]:
            return {"verdict": self.verdict, "label": self.label}

    told = _record(verdict=Decided()).as_json()
    assert told["verdict"] == {"verdict": "relabel", "label": "tiger"}


def test_a_record_cannot_be_changed():
    with pytest.raises(AttributeError):
        _record().given = "lion"
