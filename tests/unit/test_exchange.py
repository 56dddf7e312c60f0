from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from errata.data.table import read_columns
from errata.directory import AuditDirectory
from errata.errors import ErrataError, OutputError, SourceError
from errata.exchange.cards import choose_cards, inside_file, under_prefix
from errata.exchange.folders import plan_links
from errata.exchange.formats import FORMATS, read_answers, write_cards
from errata.exchange.labelstudio import from_tasks
from errata.exchange.landing import land
from errata.exchange.tables import write_table
from errata.exchange.together import together
from errata.review.decision import Verdict
from errata.review.standing import open_journal, standing

from .cli_runner import run_cli
from .fake_audit import make_audit, picture

CLASSES = ("ant", "bee", 'c"at', "dög, big")
Said = tuple[str, str | None]


@pytest.fixture
def audit(tmp_path: Path) -> AuditDirectory:
    place = make_audit(tmp_path, rows=60, names=CLASSES, classes=4)
    return AuditDirectory.open(place)


def no_picture(row: int, key: str) -> str:
    return ""


def file_of(audit: AuditDirectory, name: str) -> Path:
    return audit.path.parent / f"cards.{name if name in ('csv', 'parquet') else 'json'}"


def answer_tasks(tasks: list[dict[str, Any]], said: Mapping[str, Said]) -> list[dict[str, Any]]:
    for number, task in enumerate(tasks):
        decision, label = said.get(task["data"]["id"], ("", None))
        task["id"] = number
        chosen = [("label", label)] if label else []
        chosen += [("decision", decision)] if decision else []
        result = [
            {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": [v]}}
            for name, v in chosen
        ]
        annotation = {"id": 100 + number, "completed_by": "ada", "lead_time": 2.5, "result": result}
        task["annotations"] = [annotation] if chosen else []
    return tasks


def answer_records(records: list[dict[str, Any]], said: Mapping[str, Said]) -> list[dict[str, Any]]:
    for record in records:
        decision, label = said.get(record["id"], ("", None))
        values = {"label": label, "decision": decision}
        record["responses"] = {
            name: [{"value": value, "user_id": "ada"}] for name, value in values.items() if value
        }
    return records


def answer_samples(document: dict[str, Any], said: Mapping[str, Said]) -> dict[str, Any]:
    for sample in document["samples"]:
        decision, label = said.get(sample["errata"]["id"], ("", None))
        sample["reviewer"] = "ada"
        sample["tags"] += [decision] if decision else []
        sample["reviewed"] = {"_cls": "Classification", "label": label} if label else None
    return document


def fill_in(path: Path, name: str, said: Mapping[str, Said]) -> None:
    """Answer cards as a person would in the tool: by id, a decision or a class."""
    if name in ("csv", "parquet"):
        columns = read_columns(path, needed=("id",))
        for place, key in enumerate(columns["id"]):
            decision, label = said.get(key, ("", None))
            columns["decision"][place], columns["label"][place] = decision, label or ""
            columns["reviewer"][place] = "ada"
        write_table(path, columns, suffix=path.suffix)
        return
    answer: Callable[[Any, Mapping[str, Said]], Any] = {
        "label-studio": answer_tasks,
        "argilla": answer_records,
        "fiftyone": answer_samples,
    }[name]
    path.write_text(json.dumps(answer(json.loads(path.read_text("utf-8")), said)), "utf-8")


def land_file(audit: AuditDirectory, name: str, said: Mapping[str, Said]) -> tuple[int, int, int]:
    """Fill in the cards of a format and read them back: new, known and empty ones."""
    fill_in(file_of(audit, name), name, said)
    landed = land(audit, read_answers(file_of(audit, name), name))
    return landed[:3]


@pytest.fixture(params=FORMATS)
def exported(request: pytest.FixtureRequest, audit: AuditDirectory) -> str:
    """Give the name of a format of which there is a file with eight cards."""
    name = str(request.param)
    if name == "parquet":
        pytest.importorskip("pyarrow")
    cards = choose_cards(audit, no_picture, limit=8, controls=0.5, blind=0.5, seed=1)
    write_cards(file_of(audit, name), name, cards, CLASSES)
    return name


def test_answers_come_back_as_verdicts_and_count_once(audit: AuditDirectory, exported: str):
    cards = choose_cards(audit, no_picture, limit=8, controls=0.5, blind=0.5, seed=1)
    kept, moved, gone, unsure, *rest = [card.record for card in cards]
    wanted = next(name for name in CLASSES if name != moved.given)
    said: dict[str, Said] = {
        kept.id: ("", kept.given),
        moved.id: ("", wanted),
        gone.id: ("drop", None),
        unsure.id: ("unsure", "ant"),
    }
    assert land_file(audit, exported, said) == (4, 0, len(rest))
    found = {row: by["ada"] for row, by in standing(audit).items()}
    assert {row: (v.verdict, v.label) for row, v in found.items()} == {
        kept.row: ("keep", None),
        moved.row: ("relabel", wanted),
        gone.row: ("drop", None),
        unsure.row: ("unsure", None),
    }
    for card in cards[:4]:
        verdict = found[card.record.row]
        assert (verdict.blind, verdict.control) == (card.blind, card.control)
        assert verdict.proposed == (None if card.blind else card.record.proposed)
    assert any(card.blind for card in cards[:4])
    assert any(card.control for card in cards)
    fresh = {rest[0].id: ("drop", None)} | said
    write_cards(file_of(audit, exported), exported, cards, CLASSES)
    assert land_file(audit, exported, fresh) == (1, 4, len(rest) - 1)


def test_a_changed_answer_is_a_new_verdict_also_where_it_is_changed_back(
    audit: AuditDirectory, exported: str
):
    cards = choose_cards(audit, no_picture, limit=8, controls=0.5, blind=0.5, seed=1)
    record = cards[0].record
    for decision, added in (("drop", 1), ("drop", 0), ("unsure", 1), ("drop", 1), ("drop", 0)):
        write_cards(file_of(audit, exported), exported, cards, CLASSES)
        assert land_file(audit, exported, {record.id: (decision, None)})[0] == added
        assert standing(audit)[record.row]["ada"].verdict == decision


def test_an_answer_that_was_taken_back_here_stays_taken_back(audit: AuditDirectory, exported: str):
    cards = choose_cards(audit, no_picture, limit=8, controls=0.5, blind=0.5, seed=1)
    record = cards[0].record
    assert land_file(audit, exported, {record.id: ("drop", None)})[0] == 1
    with open_journal(audit) as journal:
        journal.add(Verdict("undo-1", record.row, record.id, "undo", reviewer="ada"))
    write_cards(file_of(audit, exported), exported, cards, CLASSES)
    assert land_file(audit, exported, {record.id: ("drop", None)}) == (0, 1, 7)
    assert standing(audit) == {}


def test_where_one_answer_is_wrong_none_lands(audit: AuditDirectory, exported: str):
    cards = choose_cards(audit, no_picture, limit=8, controls=0.5, blind=0.5, seed=1)
    said: dict[str, Said] = {card.record.id: ("", "ant") for card in cards}
    said[cards[-1].record.id] = ("", "atn")
    with pytest.raises(SourceError, match="is `atn`; allowed: ant, bee"):
        land_file(audit, exported, said)
    assert not (audit.path / "verdicts.sqlite").exists()


def test_answers_to_cards_of_another_audit_are_refused(
    audit: AuditDirectory, exported: str, tmp_path: Path
):
    place = make_audit(tmp_path, rows=60, names=CLASSES, classes=4, seed=1, out="other")
    fill_in(file_of(audit, exported), exported, {})
    answers = read_answers(file_of(audit, exported), exported)
    with pytest.raises(SourceError, match="belongs to the audit"):
        land(AuditDirectory.open(place), answers)


def test_a_blind_card_says_nothing_of_what_errata_thinks(audit: AuditDirectory, exported: str):
    cards = choose_cards(audit, no_picture, limit=8, controls=0, blind=1)
    write_cards(file_of(audit, exported), exported, cards, ("hidden",))
    path = file_of(audit, exported)
    text = (
        str(read_columns(path, needed=("id",)))
        if exported in ("csv", "parquet")
        else path.read_text("utf-8")
    )
    for card in cards:
        assert card.record.id in text.replace('\\"', '"')
        assert repr(card.record.as_json()["p_wrong"]) not in text
        assert all(reason.text not in text for reason in card.record.reasons)
    assert "obvious" not in text
    assert "agent" not in text
    assert "predictions" not in text


def test_cards_are_those_that_nobody_has_judged_and_the_same_for_a_seed(audit: AuditDirectory):
    first = choose_cards(audit, no_picture, limit=10, seed=3)
    assert first == choose_cards(audit, no_picture, limit=10, seed=3)
    with open_journal(audit) as journal:
        for card in first:
            record = card.record
            journal.add(Verdict(record.id, record.row, record.id, "keep", reviewer="ada"))
    after = {card.record.row for card in choose_cards(audit, no_picture, limit=100, seed=3)}
    assert after == set(range(60)) - {card.record.row for card in first}


def task(**more: Any) -> dict[str, Any]:
    result = [
        {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["ant"]}}
    ]
    return {
        "id": 5,
        "data": {"id": "a.png", "row": 0},
        "annotations": [{"id": 9, "result": result, **more}],
    }


def test_label_studio_tells_who_answered_when_and_how_long_it_took():
    answers = from_tasks(
        [
            task(completed_by={"id": 3, "email": "ada@example.org"}, lead_time=4),
            task(completed_by=7, updated_at="2026-03-09T22:16:08Z"),
            task(was_cancelled=True),
            task(result=[]),
        ]
    )
    assert [each.reviewer for each in answers] == ["ada@example.org", "7", "", ""]
    assert [each.seconds for each in answers] == [4.0, None, None, None]
    assert [each.when for each in answers] == ["", "2026-03-09T22:16:08Z", "", ""]
    assert [each.label for each in answers] == ["ant", "ant", None, None]


def test_drafts_of_argilla_are_no_answers(audit: AuditDirectory):
    cards = choose_cards(audit, no_picture, limit=1)
    path = file_of(audit, "argilla")
    write_cards(path, "argilla", cards, CLASSES)
    records = json.loads(path.read_text("utf-8"))
    records[0]["responses"] = {
        "label": [
            {"value": "ant", "user_id": "ada", "status": "draft"},
            {"value": "bee", "user_id": "bo", "status": "submitted"},
        ]
    }
    path.write_text(json.dumps(records), "utf-8")
    assert land(audit, read_answers(path, "argilla")).reviewers == ("bo",)


def test_the_configuration_of_label_studio_is_xml_with_every_class(audit: AuditDirectory):
    from xml.etree import ElementTree

    path = file_of(audit, "label-studio")
    write_cards(path, "label-studio", choose_cards(audit, no_picture, limit=1), CLASSES)
    view = ElementTree.parse(path.with_suffix(".xml")).getroot()
    values = [choice.attrib["value"] for choice in view.iter("Choice")]
    assert values == [*CLASSES, "drop", "unsure"]


def test_two_lines_of_one_person_for_one_id_are_refused(audit: AuditDirectory):
    key = audit.ledger.ids[0]
    path = audit.path.parent / "cards.csv"
    path.write_text(f"id,label,reviewer\n{key},ant,ada\n{key},bee,bo\n{key},bee,ada\n")
    with pytest.raises(SourceError, match="two lines for the id"):
        read_answers(path, "csv")


def test_a_table_by_hand_needs_no_more_than_ids_and_labels(audit: AuditDirectory):
    record = audit.record(0)
    path = audit.path.parent / "mine.csv"
    path.write_text(f"id,label\n{record.id},{record.given}\n")
    done = run_cli("import", audit.path, path, "--reviewer", "ada", "--json")
    assert done.code == 0, done.err
    assert (done.json["added"], done.json["reviewers"]) == (1, ["ada"])
    assert standing(audit)[0]["ada"].verdict == "keep"
    again = run_cli("import", audit.path, path, "--reviewer", "ada")
    assert "1 answer: 0 new, 1 known" in again.out


def test_pictures_travel_inside_the_file_or_under_a_prefix(audit: AuditDirectory):
    address = inside_file(lambda row: picture(row) if row else b"")
    assert address(1, "a.png").startswith("data:image/png;base64,iVBOR")
    assert address(0, "gone.png") == ""
    # Bytes that are no text are percent-encoded in ids, and once only in addresses.
    assert under_prefix("x/")(0, "caf%E9/50%2520 b.png") == "x/caf%E9/50%2520%20b.png"
    out = audit.path.parent / "samples.json"
    more = ("--limit", 3, "--images", "https://example.org/", "--json")
    done = run_cli("export", audit.path, "--as", "fiftyone", "--out", out, *more)
    assert (done.json["cards"], done.json["configuration"]) == (3, None)
    for sample in json.loads(out.read_text("utf-8"))["samples"]:
        assert sample["filepath"] == under_prefix("https://example.org/")(0, sample["errata"]["id"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["export", "audit", "--out", "x.json"], "the format of `x.json` is not known"),
        (["export", "audit", "--as", "labelstudio"], "format `labelstudio` is unknown"),
        (["export", "audit", "--as", "argilla", "--out", "x.csv"], "`.json`"),
        (["export", "audit", "--as", "fiftyone", "--out", "x.json"], "which is no folder"),
        (["export", "audit", "--as", "argilla", "--out", "x.json"], "pictures of the audit"),
        (["export", "audit", "--out", "audit/issues.csv"], "is a file of the audit"),
        (["export", "audit", "--controls", "2"], "`--controls` is `2`"),
        (["import", "audit", "gone.csv"], "`gone.csv` cannot be read"),
        (["import", "audit", "gone.json", "--as", "argilla"], "`gone.json` cannot be read"),
        (["import", "audit", "bad.csv"], "no column `label` and no column `decision`"),
        (["import", "audit", "bad.json", "--as", "argilla"], "is no JSON file"),
        (["import", "audit", "list.json", "--as", "argilla"], "record 0 of the export has no"),
        (["import", "audit", "list.json", "--as", "label-studio"], "task 0 of the export has no"),
        (["import", "audit", "list.json", "--as", "fiftyone"], "sample 0 has no field"),
        (["import", "audit", "object.json", "--as", "argilla"], "holds no list"),
        (["import", "audit", "object.json", "--as", "fiftyone"], "no list `samples`"),
        (["import", "audit", "latin.json", "--as", "argilla"], "is no JSON file"),
        (["import", "audit", "stranger.csv"], "is not among the 60 ids"),
        (["import", "audit", "slow.csv"], "took `ages` seconds"),
        (["import", "nowhere", "bad.csv"], "audit `nowhere` does not exist"),
    ],
)
def test_bad_input_is_explained_and_nothing_is_written(
    audit: AuditDirectory, monkeypatch: pytest.MonkeyPatch, argv: list[str], words: str
):
    folder = audit.path.parent
    monkeypatch.chdir(folder)
    (folder / "bad.csv").write_text("id,answer\na,b\n")
    (folder / "stranger.csv").write_text("id,label\nnobody.png,ant\n")
    (folder / "slow.csv").write_text(f"id,label,seconds\n{audit.ledger.ids[0]},ant,ages\n")
    (folder / "bad.json").write_text("{")
    (folder / "list.json").write_text("[1]")
    (folder / "object.json").write_text("{}")
    (folder / "latin.json").write_bytes(b'["caf\xe9"]')
    before = sorted(str(path) for path in folder.rglob("*"))
    done = run_cli(*argv)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert "hint: " in done.err
    assert sorted(str(path) for path in folder.rglob("*")) == before


KEYS = (
    *("id", "data", "annotations", "result", "metadata", "responses", "label", "value", "samples"),
    *("errata", "reviewed", "tags", "type", "choices", "user_id", "lead_time"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> AuditDirectory:
    folder = tmp_path_factory.mktemp("strange")
    return AuditDirectory.open(make_audit(folder, rows=10, names=CLASSES, classes=4))


@pytest.mark.parametrize("name", ["label-studio", "argilla", "fiftyone"])
@drawn(document=st.lists(JSON, max_size=2) | JSON)
def test_any_json_is_read_or_refused(strange: AuditDirectory, name: str, document: Any):
    path = strange.path.parent / "any.json"
    path.write_text(json.dumps(document), "utf-8")
    try:
        answers = read_answers(path, name)
        land(strange, answers)
    except ErrataError:
        return
    assert all(answer.label is None and answer.decision is None for answer in answers)


@drawn(cells=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1))
def test_a_table_gives_back_what_was_written(strange: AuditDirectory, cells: list[str]):
    path = strange.path.parent / "cells.csv"
    write_table(path, {"id": cells, "n": list(range(len(cells)))}, suffix=".csv")
    found = read_columns(path, needed=("id",))
    assert found["id"] == cells
    assert found["n"] == [str(place) for place in range(len(cells))]


def test_a_file_that_moves_to_a_taken_place_says_where_it_comes_from():
    start = Path("/img")
    keys = ("ant/1.png", "bee/1.png", "cat/1.png", "cat/x/1.png")
    files = {key: start / key for key in keys}
    plan = plan_links(files, start, dict.fromkeys(keys, "ant") | {"cat/x/1.png": None})
    assert {str(place): str(path) for place, path in plan.items()} == {
        "ant/1.png": "/img/ant/1.png",
        "ant/bee-1.png": "/img/bee/1.png",
        "ant/cat-1.png": "/img/cat/1.png",
    }


def test_outputs_appear_together_or_not_at_all(tmp_path: Path):
    first, second = tmp_path / "a" / "first.csv", tmp_path / "second"
    first.parent.mkdir()
    first.write_text("of before")

    def forget_the_second() -> None:
        with together() as sibling:
            sibling(first).write_text("new")
            sibling(second)

    with pytest.raises(OutputError, match="no such file"):
        forget_the_second()
    assert first.read_text() == "of before"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "first.csv"]
    with together() as sibling:
        sibling(first).write_text("new")
        place = sibling(second)
        place.mkdir()
        (place / "inner").write_text("x")
        assert first.read_text() == "of before"
    assert first.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        *("a", "first.csv", "inner", "second")
    ]


def test_labels_that_apply_wrote_are_no_answers_of_people(audit: AuditDirectory, tmp_path: Path):
    table = tmp_path / "labels.csv"
    done = run_cli("apply", str(audit.path), "--out", str(table))
    assert done.code == 0, done.err
    refused = run_cli("import", str(audit.path), str(table))
    assert refused.code == 2
    assert "`errata apply` wrote" in refused.err
    assert standing(audit) == {}
