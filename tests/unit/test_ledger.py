"""The ledger on one rank: rules by hand, ownership, files, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from errata.errors import LedgerError, LedgerMismatchError, OutputError, SettingsError
from errata.ledger import VOCABULARY, Column, Ledger, standard

GOLDEN = Path(__file__).parents[1] / "golden" / "ledger_v1"
NAN = float("nan")


def make_ledger(*columns: Column) -> Ledger:
    ledger = Ledger(["a", "b", "c", "d"], [0, 1, 1, -1], ["cat", "dog"])
    ledger.add("test", *columns)
    return ledger


def put(ledger: Ledger, rows: list[int], values: object, *, stamp: int = 0, name: str = "x"):
    ledger.write(name, torch.tensor(rows), torch.as_tensor(values), stamp=stamp)


def assert_equal(actual: torch.Tensor, expected: object) -> None:
    torch.testing.assert_close(
        actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=0, atol=0, equal_nan=True
    )


def test_last_keeps_the_newest_value_of_each_row():
    ledger = make_ledger(Column("x"))
    put(ledger, [0, 2], [1.0, 2.0], stamp=1)
    put(ledger, [2, 1], [3.0, 4.0], stamp=2)
    assert_equal(ledger.read("x"), [1, 4, 3, NAN])
    assert_equal(ledger.read("x", torch.tensor([2, 2, 3])), [3, 3, NAN])


def test_last_takes_the_first_of_repeated_rows():
    ledger = make_ledger(Column("x"), Column("wide", shape=(2,)))
    put(ledger, [1, 0, 1, 1], [1.0, 2.0, 3.0, 4.0])
    put(ledger, [3, 3], [[1.0, 2.0], [3.0, 4.0]], name="wide")
    assert_equal(ledger.read("x"), [2, 1, NAN, NAN])
    assert_equal(ledger.read("wide")[3], [1, 2])


def test_later_write_of_the_same_stamp_counts_as_newer():
    ledger = make_ledger(Column("x"))
    put(ledger, [0], [1.0], stamp=3)
    put(ledger, [0], [2.0], stamp=3)
    assert_equal(ledger.read("x")[0], 2)


def test_sum_adds_repeated_rows():
    ledger = make_ledger(Column("x", rule="sum"), Column("n", rule="sum", dtype=torch.int32))
    put(ledger, [1, 0, 1], [1.0, 2.0, 4.0])
    put(ledger, [1], [8.0])
    put(ledger, [3, 3], [True, True], name="n")
    assert_equal(ledger.read("x"), [2, 13, 0, 0])
    assert_equal(ledger.read("n"), [0, 0, 0, 2])


def test_ring_keeps_the_newest_entries_oldest_first():
    ledger = make_ledger(Column("x", rule="ring", keep=3))
    for step in range(4):
        put(ledger, [0], [float(step)], stamp=step)
    put(ledger, [1], [9.0], stamp=5)
    assert_equal(ledger.read("x"), [[1, 2, 3], [NAN, NAN, 9], [NAN] * 3, [NAN] * 3])
    assert_equal(ledger.read("x", torch.tensor([1, 0])), [[NAN, NAN, 9], [1, 2, 3]])


def test_ring_appends_repeated_rows_in_order():
    ledger = make_ledger(Column("x", rule="ring", keep=3, init=0))
    put(ledger, [0, 1, 0], [1.0, 2.0, 3.0])
    put(ledger, [2, 2, 2, 2, 2], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert_equal(ledger.read("x"), [[0, 1, 3], [0, 0, 2], [3, 4, 5], [0, 0, 0]])
    put(ledger, [2, 0, 0], [6.0, 7.0, 8.0])
    assert_equal(ledger.read("x"), [[3, 7, 8], [0, 0, 2], [4, 5, 6], [0, 0, 0]])
    assert_equal(ledger.filled("x"), [3, 1, 3, 0])


def test_ring_of_vectors_keeps_entries_whole():
    ledger = make_ledger(Column("x", shape=(2,), rule="ring", keep=2, dtype=torch.float16))
    put(ledger, [3, 3, 3], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert ledger.read("x").shape == (4, 2, 2)
    assert_equal(ledger.read("x")[3], [[3, 4], [5, 6]])


def test_filled_counts_entries():
    ledger = make_ledger(
        Column("x"), Column("r", rule="ring", keep=2), Column("flag", dtype=torch.bool)
    )
    for step in range(3):
        put(ledger, [0, 1], [1.0, 1.0], stamp=step)
        put(ledger, [0], [1.0], stamp=step, name="r")
    put(ledger, [2], [False], name="flag")
    assert_equal(ledger.filled("x"), [1, 1, 0, 0])
    assert_equal(ledger.filled("r"), [2, 0, 0, 0])
    assert_equal(ledger.filled("flag", torch.tensor([2, 3])), [1, 0])
    assert ledger.filled("x").dtype is torch.int64


def test_sum_does_not_tell_how_often_it_was_written():
    with pytest.raises(LedgerError, match="`x` is a sum"):
        make_ledger(Column("x", rule="sum")).filled("x")


@pytest.mark.parametrize(
    ("column", "first"),
    [
        (Column("x"), NAN),
        (Column("x", rule="ring", keep=2), NAN),
        (Column("x", rule="sum"), 0),
        (Column("x", dtype=torch.int64), 0),
        (Column("x", dtype=torch.bool), 0),
        (Column("x", init=1.5), 1.5),
        (Column("x", dtype=torch.int16, init=-1), -1),
    ],
)
def test_unwritten_rows_hold_the_first_value(column: Column, first: float):
    values = make_ledger(column).read("x")
    assert_equal(values, torch.full(values.shape, first))


def test_write_detaches_and_casts():
    ledger = make_ledger(Column("x", dtype=torch.float16))
    ledger.write(
        "x",
        torch.tensor([0]),
        torch.tensor([0.1], dtype=torch.float64, requires_grad=True),
        stamp=0,
    )
    assert not ledger.read("x").requires_grad
    assert_equal(ledger.read("x")[0], torch.tensor(0.1, dtype=torch.float16))


def test_read_gives_a_copy():
    ledger = make_ledger(Column("x", rule="sum"), Column("r", rule="ring", keep=2))
    before = ledger.read("x")
    ledger.read("x").fill_(7)
    ledger.read("r").fill_(7)
    put(ledger, [0], [1.0])
    assert_equal(before, [0, 0, 0, 0])
    assert_equal(ledger.read("x"), [1, 0, 0, 0])
    assert_equal(ledger.read("r")[0], [NAN, NAN])


def test_rows_may_change_in_place_between_writes():
    ledger = make_ledger(Column("x"))
    rows = torch.tensor([0, 0])
    ledger.write("x", rows, torch.tensor([1.0, 2.0]), stamp=0)
    rows[1] = 1
    ledger.write("x", rows, torch.tensor([3.0, 4.0]), stamp=1)
    assert_equal(ledger.read("x"), [3, 4, NAN, NAN])


def test_empty_write_changes_nothing():
    ledger = make_ledger(Column("x"), Column("r", rule="ring", keep=2), Column("s", rule="sum"))
    for name in ("x", "r", "s"):
        ledger.write(name, torch.empty(0, dtype=torch.int64), torch.empty(0), stamp=0)
    assert ledger.filled("x").sum() == ledger.filled("r").sum() == ledger.read("s").sum() == 0


def test_stamps_never_go_back_before_a_sync():
    ledger = make_ledger(Column("x"))
    put(ledger, [0], [1.0], stamp=5)
    with pytest.raises(LedgerError, match="stamp 5, and now at 4"):
        put(ledger, [0], [2.0], stamp=4)
    assert_equal(ledger.read("x")[0], 1)
    ledger.sync()
    put(ledger, [0], [2.0], stamp=0)
    assert_equal(ledger.read("x")[0], 2)


def test_second_owner_is_an_error_that_names_both():
    ledger = make_ledger(Column("x"))
    with pytest.raises(LedgerError, match="`x` belongs to `test`; `odd` cannot"):
        ledger.add("odd", Column("y"), Column("x"))
    assert not ledger.has("y")
    assert ledger.owner("x") == "test"


def test_same_owner_may_add_a_column_again():
    ledger = make_ledger(Column("x", init=NAN))
    put(ledger, [0], [1.0])
    ledger.add("test", Column("x"))
    assert_equal(ledger.read("x")[0], 1)
    with pytest.raises(LedgerError, match="exists as"):
        ledger.add("test", Column("x", rule="sum"))


def test_columns_keep_their_order():
    ledger = make_ledger(Column("b"), Column("a"))
    assert [column.name for column in ledger.columns] == ["b", "a"]


def test_unknown_column_is_named():
    ledger = make_ledger(Column("x"))
    for act in (ledger.read, ledger.filled, ledger.owner):
        with pytest.raises(LedgerError, match="no column `y`; it has: x"):
            act("y")
    with pytest.raises(LedgerError, match="no column `y`"):
        put(ledger, [0], [1.0], name="y")
    with pytest.raises(LedgerError, match=r"read `ledger\.given`"):
        ledger.read("given")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (Column("../x"), "name `../x`"),
        (Column("given"), "name `given`"),
        (Column("x", dtype=torch.bfloat16), "type `bfloat16`"),
        (Column("x", rule="mean"), "rule `mean`"),  # type: ignore[arg-type]
        (Column("x", keep=2), "keep=2 under rule `last`"),
        (Column("x", rule="ring", keep=0), "keep=0"),
        (Column("x", rule="sum", dtype=torch.bool), "sums booleans"),
        (Column("x", shape=(0,)), "shape `(0,)`"),
        (Column("x", dtype=torch.uint8, init=-1), "cannot start at `-1`"),
        (Column("x", dtype=torch.int64, init=NAN), "cannot start at `nan`"),
        (Column("x", dtype=torch.bool, init=2), "cannot start at `2`"),
        (Column("x", init="none"), "cannot start at `none`"),  # type: ignore[arg-type]
    ],
)
def test_columns_that_cannot_be_stored_are_refused(column: Column, message: str):
    with pytest.raises(LedgerError, match=re.escape(message)):
        make_ledger(column)


def test_every_name_of_the_vocabulary_can_be_added():
    ledger = make_ledger()
    for name, term in VOCABULARY.items():
        column = standard(name, shape=(2,) if term.per_class else None)
        assert column.name == name
        assert term.meaning
        ledger.add("all", column)
    assert len(ledger.columns) == len(VOCABULARY)


def test_standard_column_can_be_changed():
    column = standard("history", keep=10, shape=(3,))
    assert (column.rule, column.keep, column.shape) == ("ring", 10, (3,))
    assert standard("loss", dtype=torch.float64).dtype is torch.float64
    with pytest.raises(LedgerError, match="`prob_oof` has one number per class"):
        standard("prob_oof")
    with pytest.raises(SettingsError, match="did you mean `loss`"):
        standard("los")


@pytest.mark.parametrize(
    ("ids", "given", "classes", "message"),
    [
        (["a", "b", "a"], [0, 0, 0], ["x"], "id `a` is repeated"),
        (["a"], [0, 0], ["x"], "1 ids and 2 labels"),
        ([], [], ["x"], "0 ids"),
        (["a", 2], [0, 0], ["x"], "id `2` at place 1 is not text"),
        (["a"], [1], ["x"], "label `1` of id `a`"),
        (["a"], [-2], ["x"], "label `-2` of id `a`"),
        (["a"], [0.5], ["x"], "given labels are `float64`"),
        (["a"], [[0]], ["x"], "shape `(1, 1)`"),
        (["a"], [0], [], "there is no class"),
        (["a"], [0], ["x", "x"], "class `x` is repeated"),
        (["a"], [0], [7], "class `7` at place 0 is not text"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    ids: list[str], given: list[int], classes: list[str], message: str
):
    with pytest.raises(LedgerError, match=re.escape(message)):
        Ledger(ids, given, classes)


def test_given_labels_are_copied():
    labels = np.array([0, 1])
    ledger = Ledger(["a", "b"], labels, ["x", "y"])
    labels[0] = 1
    assert_equal(ledger.given, [0, 1])


def test_fingerprint_depends_on_ids_labels_and_order():
    def name(ids: list[str], given: list[int]) -> str:
        return Ledger(ids, given, ["x", "y"]).fingerprint

    variants = [
        (["a", "b"], [0, 1]),
        (["b", "a"], [0, 1]),
        (["a", "b"], [1, 0]),
        (["ab", ""], [0, 1]),
    ]
    assert len({name(*variant) for variant in variants}) == 4
    assert name(["a", "b"], [0, 1]) == name(["a", "b"], [0, 1])


def test_state_resumes_every_rule_to_the_bit():
    columns = (Column("x"), Column("r", rule="ring", keep=3), Column("s", rule="sum"))
    ledger, other = make_ledger(*columns), make_ledger(*columns)
    for step in range(4):
        for name in "xrs":
            put(ledger, [0, step, 0], [0.1 * step, 1.0, 0.3], stamp=step, name=name)
    other.load_state(ledger.state())
    for one in (ledger, other):
        for name in "xrs":
            put(one, [0, 1], [7.0, 8.0], stamp=9, name=name)
    for name, tensor in ledger.state().items():
        assert_equal(other.state()[name], tensor)


def test_state_is_a_snapshot():
    ledger = make_ledger(Column("x"))
    state = ledger.state()
    put(ledger, [0], [1.0])
    assert set(state) == {"x", "x.filled"}
    assert_equal(state["x.filled"], [0, 0, 0, 0])
    ledger.load_state(state)
    assert_equal(ledger.read("x"), [NAN] * 4)


def test_columns_added_later_survive_an_older_state():
    state = make_ledger(Column("x")).state()
    ledger = make_ledger(Column("x"), Column("y", init=3))
    ledger.load_state(state)
    assert_equal(ledger.read("y"), [3] * 4)


def test_state_that_does_not_fit_is_refused():
    ledger = make_ledger(Column("x"))
    with pytest.raises(LedgerError, match="saved column `y` is unknown"):
        ledger.load_state(make_ledger(Column("x"), Column("y", rule="sum")).state())
    with pytest.raises(LedgerError, match=r"saved column `x` is torch\.float64"):
        ledger.load_state(make_ledger(Column("x", dtype=torch.float64)).state())
    with pytest.raises(LedgerError, match=r"lacks `x\.filled`"):
        ledger.load_state({"x": torch.zeros(4)})
    assert_equal(ledger.read("x"), [NAN] * 4)


def saved(path: Path) -> Ledger:
    ledger = make_ledger(
        Column("x"),
        Column("n", dtype=torch.int32, rule="sum"),
        Column("r", shape=(2,), dtype=torch.float16, rule="ring", keep=2, init=float("inf")),
        Column("flag", dtype=torch.bool),
        standard("prob", shape=(2,), top="prob_class"),
    )
    put(ledger, [0, 2], [1.0, 2.0])
    put(ledger, [1, 1], [1, 1], name="n")
    put(ledger, [0, 0, 0], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], name="r")
    put(ledger, [3], [True], name="flag")
    ledger.save(path)
    return ledger


def assert_same_ledger(left: Ledger, right: Ledger) -> None:
    assert (left.ids, left.classes, left.fingerprint) == (
        right.ids,
        right.classes,
        right.fingerprint,
    )
    assert_equal(left.given, right.given)
    assert [str(column) for column in left.columns] == [str(column) for column in right.columns]
    assert [left.owner(c.name) for c in left.columns] == [right.owner(c.name) for c in left.columns]
    for name, tensor in left.state().items():
        assert_equal(right.state()[name], tensor)


@pytest.mark.parametrize("memmap", [True, False])
def test_saved_ledger_comes_back(tmp_path: Path, memmap: bool):
    ledger = saved(tmp_path / "ledger")
    assert_same_ledger(ledger, Ledger.load(tmp_path / "ledger", memmap=memmap))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["ledger"]


def test_files_are_readable_with_numpy_alone(tmp_path: Path):
    saved(tmp_path / "ledger")
    arrays = {
        path.name.removesuffix(".npy"): np.load(path, allow_pickle=False)
        for path in (tmp_path / "ledger").glob("*.npy")
    }
    assert arrays["given"].tolist() == [0, 1, 1, -1]
    assert arrays["n"].tolist() == [0, 2, 0, 0]
    assert arrays["n"].dtype == np.int32
    assert arrays["r"][0].tolist() == [[3, 4], [5, 6]]
    assert arrays["r.filled"].tolist() == [2, 0, 0, 0]
    assert arrays["flag"].dtype == np.bool_
    assert "n.filled" not in arrays
    schema = json.loads((tmp_path / "ledger" / "schema.json").read_text())
    assert schema["version"] == 1
    assert schema["columns"][0] == {
        **{"name": "x", "owner": "test", "rule": "last", "dtype": "float32", "shape": []},
        **{"keep": 1, "init": None, "top": "", "unit": "", "meaning": ""},
    }
    assert schema["columns"][4]["top"] == "prob_class"
    assert schema["columns"][4]["unit"] == "0 to 1"


def test_writes_to_a_loaded_ledger_leave_its_files_alone(tmp_path: Path):
    saved(tmp_path / "ledger")
    ledger = Ledger.load(tmp_path / "ledger")
    put(ledger, [1], [5.0])
    put(ledger, [0], [[7.0, 8.0]], name="r")
    assert_equal(ledger.read("r")[0], [[5, 6], [7, 8]])
    assert_equal(Ledger.load(tmp_path / "ledger").read("x"), [1, NAN, 2, NAN])
    ledger.save(tmp_path / "ledger")
    assert_same_ledger(ledger, Ledger.load(tmp_path / "ledger"))


def test_format_version_1_is_readable_for_ever():
    ledger = Ledger.load(GOLDEN)
    assert ledger.ids == ("img/a.png", "two\nlines, one \\", "café \udcff")
    assert ledger.classes == ("cat", "dog")
    assert_equal(ledger.given, [1, -1, 0])
    assert_equal(ledger.read("loss"), [0.5, NAN, 2.25])
    assert_equal(ledger.filled("loss"), [1, 0, 1])
    assert_equal(ledger.read("times_seen"), [1, 0, 2])
    assert ledger.read("times_seen").dtype is torch.int32
    history = [[[NAN, NAN], [0.25, 0.75]], [[NAN, NAN]] * 2, [[0.5, 0.5], [0.125, 0.875]]]
    assert_equal(ledger.read("history"), history)
    assert_equal(ledger.filled("history"), [1, 0, 2])
    assert ledger.owner("history") == "history"
    ledger.check(ledger.ids, ledger.given)


def test_newer_format_is_refused(tmp_path: Path):
    saved(tmp_path)
    schema = json.loads((tmp_path / "schema.json").read_text())
    (tmp_path / "schema.json").write_text(json.dumps(schema | {"version": 2}))
    with pytest.raises(LedgerError, match="format version 2; this errata reads up to 1"):
        Ledger.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("schema.json", b"{", "is damaged"),
        ("schema.json", b'{"version": 1}', "`columns` is missing"),
        ("ids.txt", b"a\nb\nc\nd", "cut off"),
        ("ids.txt", b"a\nb\nc\n\\x\n", r"unknown escape `\\x`"),
        ("ids.txt", b"a\nb\nc\ne\n", "do not match the fingerprint"),
        ("x.npy", b"\x93NUMPY", "is damaged"),
        ("x.npy", None, "`x.npy` is missing"),
        ("x.filled.npy", None, "`x.filled.npy` is missing"),
    ],
)
def test_damaged_ledger_is_refused(tmp_path: Path, file: str, content: bytes | None, message: str):
    saved(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(LedgerError, match=message):
        Ledger.load(tmp_path)


def test_column_file_that_contradicts_the_schema_is_refused(tmp_path: Path):
    saved(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros(3, np.float32))
    with pytest.raises(LedgerError, match=re.escape("x.npy is float32 (3,), schema.json says")):
        Ledger.load(tmp_path)


def test_missing_ledger_is_named(tmp_path: Path):
    with pytest.raises(LedgerError, match=r"nowhere` holds no ledger"):
        Ledger.load(tmp_path / "nowhere")


def test_ledger_of_other_data_is_refused(tmp_path: Path):
    ledger = saved(tmp_path / "ledger")
    loaded = Ledger.load(tmp_path / "ledger")
    loaded.check(list(ledger.ids), ledger.given)
    theirs = Ledger(["a", "b", "c"], [0, 1, 1], ["cat", "dog"])
    with pytest.raises(LedgerMismatchError) as caught:
        loaded.check(theirs.ids, theirs.given)
    assert str(caught.value).startswith(
        f"ledger `{tmp_path / 'ledger'}` belongs to other data: 4 rows, fingerprint "
        f"`{ledger.fingerprint[:4]}`; got 3 rows, `{theirs.fingerprint[:4]}`\nhint: ids of the "
        "ledger that are missing now: 1; new ids: 0;"
    )


@pytest.mark.parametrize(
    ("ids", "given", "hint"),
    [
        ("abdc", [0, 1, 1, -1], "the same in another order"),
        ("abcd", [0, 0, 0, -1], "given labels that differ: 2"),
        ("abce", [0, 1, 1, -1], "missing now: 1; new ids: 1"),
    ],
)
def test_mismatch_says_what_differs(ids: str, given: list[int], hint: str):
    with pytest.raises(LedgerMismatchError, match="this ledger belongs to other data") as caught:
        make_ledger().check(list(ids), given)
    assert hint in caught.value.hint


class Full:
    """Lets some calls of `os.fsync` pass, then finds the disk full."""

    def __init__(self, calls: int, error: BaseException) -> None:
        self.calls, self.error, self.real = calls, error, os.fsync

    def __call__(self, handle: int) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise self.error
        self.real(handle)


@pytest.mark.parametrize("calls", [0, 1, 5])
@pytest.mark.parametrize("exists", [False, True])
def test_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int, exists: bool
):
    path = tmp_path / "ledger"
    ledger = saved(path if exists else tmp_path / "other")
    before = sorted(tmp_path.iterdir())
    changed = Ledger(ledger.ids, [1, 1, 1, 1], ledger.classes)
    changed.add("test", Column("x"), Column("y"))
    monkeypatch.setattr(os, "fsync", Full(calls, OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OutputError, match=r"cannot be written to .*: No space left") as caught:
        changed.save(path)
    assert "free some space" in caught.value.hint
    assert sorted(tmp_path.iterdir()) == before
    if exists:
        assert_same_ledger(ledger, Ledger.load(path))


def test_interrupted_save_is_swept_up_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "ledger"
    ledger = saved(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Full(3, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            ledger.save(path)
    assert_same_ledger(ledger, Ledger.load(path))
    assert len(list(tmp_path.iterdir())) == 2
    ledger.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ledger"]


def test_kill_in_the_middle_of_the_swap_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, real = tmp_path / "ledger", Path.replace
    ledger = saved(path)

    def die_at_the_second_rename(self: Path, target: Path) -> Path:
        if self.name == ".ledger.new":
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die_at_the_second_rename)
        with pytest.raises(KeyboardInterrupt):
            ledger.save(path)
    assert not path.exists()
    assert_same_ledger(ledger, Ledger.load(path))
    ledger.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ledger"]


def test_save_never_replaces_what_is_not_a_ledger(tmp_path: Path):
    ledger = make_ledger(Column("x"))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    (tmp_path / "arrays").mkdir()
    (tmp_path / "arrays" / "x.npy").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("file", "is a file"),
        ("folder", "something else than a ledger: `thesis.tex`"),
        ("arrays", "something else than a ledger: `x.npy`"),
        ("file/below", "cannot be written"),
    ):
        with pytest.raises(OutputError, match=message):
            ledger.save(tmp_path / name)
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "mine"
    ledger.save(tmp_path / "empty")
    assert_same_ledger(ledger, Ledger.load(tmp_path / "empty"))
