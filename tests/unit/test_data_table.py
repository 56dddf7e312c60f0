"""Tables of image paths and labels."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from errata.data import open_source
from errata.data.table import read_columns
from errata.errors import SettingsError, SourceError


def save(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path)


@pytest.fixture
def table(tmp_path):
    for number, name in enumerate(["a.png", "deep/b, c.png", 'q"q.png', "d.png"]):
        save(tmp_path / name, number)

    def write(text, name="t.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding, "surrogateescape"))
        return str(path)

    return write


ROWS = 'image,label\na.png,cat\n"deep/b, c.png",dog\n"q""q.png",cat\nd.png,\n'


def test_rows_keep_their_order_and_paths_are_the_ids(table):
    train = open_source(table(ROWS)).train
    assert train.ids == ["a.png", "deep/b, c.png", 'q"q.png', "d.png"]
    assert train.given.tolist() == [0, 1, 0, -1]
    assert train.classes == ("cat", "dog")
    assert train.pixels(np.arange(4))[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_mark_is_no_part_of_a_name(table, encoding):
    assert open_source(table(ROWS, encoding=encoding)).train.given.tolist() == [0, 1, 0, -1]


def test_header_may_have_spaces_and_capitals_and_lines_may_end_like_windows(table):
    text = "Label, Image \r\ncat,a.png\r\ndog,d.png\r\n\r\n"
    assert open_source(table(text)).train.ids == ["a.png", "d.png"]


def test_tsv_is_separated_by_tabs(table):
    text = "image\tlabel\na.png\tcat\ndeep/b, c.png\tdog\n"
    assert open_source(table(text, name="t.tsv")).train.ids == ["a.png", "deep/b, c.png"]


def test_ids_of_the_table_are_taken(table):
    text = "id,image,label\nx1,a.png,cat\nx2,a.png,dog\n"
    opened = open_source(table(text))
    assert opened.train.ids == ["x1", "x2"]
    assert opened.conflicts == ((0, 1),)


def test_labels_that_are_numbers_are_sorted_as_numbers(table):
    text = "image,label\na.png,10\nd.png,9\ndeep/../a.png,-1\n"
    train = open_source(table(text)).train
    assert train.classes == ("9", "10")
    assert train.given.tolist() == [1, 0, -1]


def test_split_column_makes_test_sets(table):
    text = "image,label,split\na.png,cat,train\nd.png,dog,\na.png,dog,test\nd.png,dog,Valid\n"
    opened = open_source(table(text))
    assert opened.train.ids == ["a.png", "d.png"]
    assert opened.tests["test"].given.tolist() == [1]
    assert opened.tests["val"].ids == ["d.png"]


@pytest.mark.parametrize("column", ["truth", "true_label"])
def test_truth_column_goes_to_the_truth_alone(table, column):
    text = f"image,label,{column}\na.png,cat,dog\nd.png,dog,\n"
    opened = open_source(table(text))
    assert opened.train.given.tolist() == [0, 1]
    assert opened.truth.clean.tolist() == [1, -1]


def test_images_may_lie_elsewhere(table, tmp_path):
    save(tmp_path / "far/x.png", 8)
    save(tmp_path / "far/y.png", 9)
    text = f"image,label\nx.png,cat\ny.png,dog\n{tmp_path}/a.png,dog\n"
    train = open_source(table(text), images=tmp_path / "far").train
    assert train.pixels(np.arange(3))[:, 0, 0, 0].tolist() == [8, 9, 0]
    with pytest.raises(SourceError, match="is no folder"):
        open_source(table(text), images=tmp_path / "nowhere")


def test_names_that_are_no_utf8_are_found(table, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    save(tmp_path / name, 5)
    train = open_source(table(f"image,label\n{name},{name}\na.png,dog\n")).train
    assert train.ids == ["caf%E9.png", "a.png"]
    assert train.classes == ("caf%E9.png", "dog")


def test_missing_images_are_listed_and_all_missing_is_an_error(table):
    opened = open_source(table("image,label\na.png,cat\nd.png,dog\ngone.png,cat\n"))
    assert [bad.id for bad in opened.unreadable] == ["gone.png"]
    assert len(opened.train.ids) == 2
    with pytest.raises(SourceError, match=r"none of the 2 image files can be read"):
        open_source(table("image,label\nx.png,cat\ny.png,dog\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("image,label\n", "has no rows"),
        ("image,class\na.png,cat\n", "no column `label`; it has: `image`, `class`"),
        ("file,class\na.png,cat\n", "no column `image`, `label`"),
        ("image,label\na.png,cat,3\n", "3 cells in the row that ends in line 2"),
        ('image,label\n"a.png,cat\n', "cannot be read as a table"),
        ("image,image,label\na.png,a.png,cat\n", "two columns `image`"),
        ("image,label\n,cat\nd.png,dog\n", "empty `image` in row 0"),
        ("image,label\na.png,cat\na.png,dog\n", "id `a.png` twice"),
        ("id,image,label\n1,a.png,cat\n1,d.png,dog\n", "id `1` twice"),
        ("id,image,label\n,a.png,cat\n1,d.png,dog\n", "empty id in row 0"),
        ("image,label\na.png,1\nd.png,NaN\n", "label `NaN` in the row with id `d.png`"),
        ("image,label\na.png,cat\nd.png,cat\n", "only the class `cat`"),
        ("image,label\na.png,\nd.png,\n", "no labelled row"),
        ("image,label,split\na.png,cat,tset\n", "split `tset` in row 0"),
        ("image,label,split\na.png,cat,test\n", "no training rows"),
        ("image,label,split\na.png,cat,\nd.png,dog,\na.png,fox,test\n", "first `fox`"),
        ("image,label,truth\na.png,cat,fox\nd.png,dog,dog\n", "the true labels.*first `fox`"),
    ],
)
def test_bad_tables_are_refused(table, text, words):
    with pytest.raises(SourceError, match=words):
        open_source(table(text))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("image;label\na.png;cat\n", "commas"),
        ("width,height,label\n1,2,cat\n", "npz"),
        ("image,label\na.png,cat\na.png,dog\n", "column `id`"),
    ],
)
def test_likely_mistakes_have_a_hint(table, text, hint):
    with pytest.raises(SourceError) as caught:
        open_source(table(text))
    assert hint in caught.value.hint


def test_parquet_is_read(table, tmp_path):
    table("")
    columns = {"image": ["a.png", "d.png", 'q"q.png'], "label": [3.0, 10.0, None]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    train = open_source(str(tmp_path / "t.parquet")).train
    assert train.classes == ("3", "10")
    assert train.given.tolist() == [0, 1, -1]


def test_damaged_parquet_is_refused(table):
    with pytest.raises(SourceError, match="parquet"):
        open_source(table("no table", name="t.parquet"))


def test_limit_is_stratified(table, tmp_path):
    lines = [f"p{number}.png,{'cat' if number < 15 else 'dog'}" for number in range(20)]
    for number in range(20):
        save(tmp_path / f"p{number}.png", number)
    train = open_source(table("image,label\n" + "\n".join(lines)), limit=4).train
    assert np.bincount(train.given).tolist() == [3, 1]


def test_folder_in_place_of_a_table_is_named(tmp_path):
    with pytest.raises(SourceError, match="is no file"):
        read_columns(tmp_path, needed=("id",))


def test_images_make_sense_with_a_table_alone(tmp_path):
    with pytest.raises(SettingsError, match="with a table only"):
        open_source("digits", images=tmp_path)
