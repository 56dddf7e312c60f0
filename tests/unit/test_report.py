from __future__ import annotations

import base64
import errno
import hashlib
import io
import itertools
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from errata.directory import AuditDirectory
from errata.errors import OutputError, SettingsError
from errata.report import build_report
from errata.report.columns import Columns
from errata.report.curves import loss_figures, training_figures
from errata.report.figures import heat_map
from errata.report.histograms import histogram
from errata.report.pictures import LONGEST, inline_picture
from errata.report.sections import class_table, command_line, count_pairs, headline, tier_counts
from errata.report.svg import nice_ticks
from errata.report.words import percent

from .fake_audit import make_audit, picture

VOID = {"meta", "img", "br", "link", "input", "rect", "line", "path", "polyline", "circle"}


class Page(HTMLParser):
    """The elements and the visible text of a page; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def all(self, tag: str, style: str | None = None) -> list[dict[str, str | None]]:
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and (style is None or style in (attrs.get("class") or "").split())
        ]


def _report(audit: Path, show: Callable[[int], bytes] = picture, **more: Any) -> Page:
    out = audit / "report.html"
    build_report(AuditDirectory.open(audit), show=show, out=out, **more)
    return Page(out.read_text("utf-8"))


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_audit(
        tmp_path_factory.mktemp("made"),
        removal=True,
        unreadable=[("img/a.jpg", "img/a.jpg", "zero bytes")],
        conflicts=2,
        warnings=["odd dropped 71 % of class `puma`"],
    )


@pytest.fixture(scope="module")
def page(audit: Path) -> Page:
    return _report(audit, gallery=10)


# What stands in it


def test_every_section_is_there(page: Page):
    headings = {attrs.get("id") for tag, attrs in page.elements if tag in ("h1", "h2")}
    assert headings == {
        *("title", "warnings", "tiers", "samples", "classes", "confusion", "losses"),
        *("training", "planted", "problems", "repeat", "words"),
    }


def test_the_headline_says_how_much_is_wrong_in_words(audit: Path, page: Page):
    flagged = AuditDirectory.open(audit).summary["suspects"]
    share = f"{flagged / 2:.1f}"
    low, high = f"{flagged / 2 - 0.8:.1f}", f"{flagged / 2 + 0.9:.1f}"
    assert f"About {share} % of the labels look wrong" in page.text
    assert f"95 % interval {low} to {high} %." in page.text
    assert f"{flagged} of 200 rows are flagged." in page.text
    for fact in ("photos/cats", "odd+mixup", "small-conv", "1 min 23 s", "14 March 2026"):
        assert fact in page.text


def test_the_gallery_shows_the_worst_samples_in_order(audit: Path, page: Page):
    records = AuditDirectory.open(audit).worst(10)
    cards = page.all("li", "card")
    assert [card["data-given"] for card in cards] == [record.given for record in records]
    assert [card["data-proposed"] for card in cards] == [record.proposed for record in records]
    pictures = page.all("img")
    assert [each["src"] for each in pictures] == [
        "data:image/png;base64," + base64.b64encode(picture(record.row)).decode()
        for record in records
    ]
    assert [each["alt"] for each in pictures] == [
        f"Sample {record.id}, given {record.given}" for record in records
    ]
    assert len(page.all("svg", "spark")) == 10
    for record in records:
        assert record.reasons[0].text in page.text


def test_small_pictures_keep_their_pixels(page: Page):
    assert all(each["class"] == "tiny" for each in page.all("img"))
    assert "image-rendering: pixelated" in page.html


def test_the_planted_errors_are_reported_with_their_meaning(page: Page):
    assert re.search(r"precision\s*100\s%\s*of the flagged rows are really wrong", page.text)
    assert re.search(r"AUROC\s*0\.987\s*chance that a wrong label is ranked", page.text)


def test_files_that_need_attention_are_listed(page: Page):
    assert "1 unreadable file" in page.text
    assert "zero bytes" in page.text
    assert "2 groups of equal pictures with unlike labels" in page.text


def test_conflicts_are_named_where_their_rows_are_known(tmp_path: Path):
    text = _report(make_audit(tmp_path, conflicts=[[0, 1], [2, 3, 4]])).text
    assert "2 groups of equal pictures" in text
    for row, name in enumerate(("lynx", "ocelot", "serval", "caracal", "margay")):
        assert f"img/{name}/{row:04d}.jpg" in text


def test_how_to_repeat_it_is_written_down(page: Page):
    assert "errata audit photos/cats --recipe odd+mixup --epochs 30 --out audit" in page.text
    assert 'fingerprint = "' in page.text


def test_the_command_is_rebuilt_from_the_settings(tmp_path: Path):
    source = {"spec": "my data", "noise": "uniform:0.2", "tests": {"test": "t.csv"}}
    out = make_audit(tmp_path, settings={"source": source, "command": None, "model": "conv"})
    assert command_line(AuditDirectory.open(out)) == (
        "errata audit 'my data' --noise uniform:0.2 --recipe erm --model conv --epochs 30 "
        "--seed 0 --out audit --test test=t.csv"
    )


def test_several_test_sets_are_named(tmp_path: Path):
    both = {"test": {"rows": 10, "accuracy": 0.9}, "hard": {"rows": 5, "accuracy": 0.125}}
    text = _report(make_audit(tmp_path, summary={"test": both})).text
    assert re.search(r"test\s*10\s*90\.0\s%", text)
    assert re.search(r"hard\s*5\s*12\.5\s%\s*\u2013", text)


# How it is made


def test_it_loads_nothing_and_runs_only_its_own_script(page: Page):
    assert "http://" not in page.html
    assert "https://" not in page.html
    assert not page.all("link")
    assert not re.search(r"url\(|@import", page.html)
    assert all((each["src"] or "").startswith("data:image/") for each in page.all("img"))
    (policy,) = (m["content"] for m in page.all("meta") if "content" in m and m.get("http-equiv"))
    script = re.search(r"<script>(.*?)</script>", page.html, re.S)
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_markup_in_names_is_shown_and_never_run(tmp_path: Path):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    out = make_audit(
        tmp_path,
        rows=60,
        classes=3,
        wrong=0.4,
        names=[f"{evil}{i}" for i in range(3)],
        ids=[f"{evil}/{i}.jpg" for i in range(60)],
        unreadable=[(evil, evil, evil)],
        conflicts=[[0, 1]],
        warnings=[evil],
        settings={"source": evil, "command": f"errata audit {evil}"},
        summary={"noise": evil, "recipe": evil, "model": evil, "test": {evil: {"rows": 1}}},
    )
    page = _report(out)
    assert len(page.all("script")) == 1
    assert all((each["src"] or "").startswith("data:") for each in page.all("img"))
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert f"{evil}0" in page.text


def test_it_can_be_read_by_everybody(page: Page):
    assert page.all("html") == [{"lang": "en-GB"}]
    assert all(each.get("alt") for each in page.all("img"))
    assert all(each.get("role") == "img" and each.get("aria-label") for each in page.all("svg"))
    assert all(each.get("scope") in ("row", "col") for each in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    labels = Counter(a["aria-label"] for t, a in page.elements if a.get("role") == "region")
    assert max(labels.values()) == 1


def test_ids_are_unique_and_links_lead_somewhere(page: Page):
    ids = Counter(attrs["id"] for _, attrs in page.elements if "id" in attrs)
    assert max(ids.values()) == 1
    for link in page.all("a"):
        assert (link["href"] or "").removeprefix("#") in ids
    for _, attrs in page.elements:
        if "aria-labelledby" in attrs:
            assert attrs["aria-labelledby"] in ids


def test_the_same_audit_gives_the_same_bytes(audit: Path, page: Page):
    assert _report(audit, gallery=10).html == page.html


def test_a_full_disk_leaves_the_old_report(tmp_path: Path, monkeypatch):
    out = make_audit(tmp_path, rows=40)
    (out / "report.html").write_text("old")

    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="no space left"):
        _report(out)
    assert (out / "report.html").read_bytes() == b"old"


@pytest.mark.parametrize("package", ["jinja2", "PIL"])
def test_a_missing_package_is_named_with_its_cure(tmp_path: Path, monkeypatch, package: str):
    shown = picture(0)
    out = make_audit(tmp_path, rows=40)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingsError, match=r"pip install 'errata\[report\]'"):
        _report(out, show=lambda row: shown)


# What it copes with


def test_nothing_flagged_still_shows_the_most_suspicious(tmp_path: Path):
    out = make_audit(tmp_path, flag=False, planted=False)
    page = _report(out)
    assert "No label looks wrong" in page.text
    assert "0 of 200 rows are flagged" in page.text
    assert "The most suspicious samples" in page.text
    assert len(page.all("li", "card")) == 12
    assert "No flagged row has a proposed label" in page.text


def test_unlabelled_rows_are_counted_apart(tmp_path: Path):
    audit = make_audit(tmp_path, unlabelled=7)
    page = _report(audit)
    assert "200, 7 without a label" in page.text
    assert re.search(r"of 193 rows are flagged", page.text)
    tiers = {t["name"]: t["rows"] for t in tier_counts(Columns(AuditDirectory.open(audit)))}
    assert tiers["unlabelled"] == 7
    assert sum(tiers.values()) == 200


def test_a_source_without_any_label_has_a_report(tmp_path: Path):
    out = make_audit(tmp_path, rows=30, unlabelled=30, columns=False, planted=False, log=False)
    page = _report(out)
    assert "No row has a label" in page.text
    assert not page.all("li", "card")


def test_missing_columns_and_logs_leave_sections_out(tmp_path: Path):
    out = make_audit(tmp_path, columns=False, log=False, summary={"test": None})
    ids = {attrs.get("id") for _, attrs in _report(out).elements}
    assert not {"losses", "training"} & ids
    assert {"samples", "classes", "planted"} <= ids


def test_an_almost_empty_summary_is_enough(tmp_path: Path):
    out = make_audit(tmp_path, rows=50, settings={"source": {"spec": "digits"}})
    (out / "summary.json").write_text("{}")
    page = _report(out)
    assert "digits" in page.text
    assert re.search(r"\d+ of 50 rows (is|are) flagged", page.text)
    assert "was not estimated" in page.text


def test_a_thousand_classes_become_lists(tmp_path: Path):
    page = _report(make_audit(tmp_path, rows=3000, classes=1000, epochs=3, wrong=0.3))
    assert "The other 970 classes" in page.text
    assert "30 most frequent of" in page.text
    assert not page.all("div", "map")
    assert len(page.html) < 1_000_000


def test_vectors_become_cards_without_pictures(tmp_path: Path):
    page = _report(make_audit(tmp_path), show=lambda row: b"")
    assert page.all("li", "card")
    assert not page.all("div", "plate")


def test_a_vanished_picture_becomes_a_placeholder(tmp_path: Path):
    out = make_audit(tmp_path)
    worst = AuditDirectory.open(out).worst(3)

    def show(row: int) -> bytes:
        if row == worst[0].row:
            raise FileNotFoundError("gone")
        return b"no picture at all" if row == worst[1].row else picture(row)

    page = _report(out, show=show, gallery=3)
    assert len(page.all("img")) == 1
    assert page.text.count("picture not available") == 2


def test_large_pictures_are_scaled_down():
    from PIL import Image

    rng = np.random.Generator(np.random.PCG64(0))
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (300, 900, 3), dtype=np.uint8)).save(file, "PNG")
    found = inline_picture(file.getvalue())
    assert (found.width, found.height) == (LONGEST, 85)
    assert found.uri.startswith("data:image/jpeg;base64,")
    # The worst case there is: noise does not compress.
    assert len(found.uri) < 60_000
    assert not found.tiny


def test_transparency_survives():
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGBA", (400, 400), (255, 0, 0, 0)).save(file, "PNG")
    found = inline_picture(file.getvalue())
    shown = Image.open(io.BytesIO(base64.b64decode(found.uri.split(",")[1])))
    assert (shown.mode, shown.size) == ("RGBA", (256, 256))


def test_sixty_thousand_rows_take_seconds_and_little_room(tmp_path: Path):
    out = make_audit(
        tmp_path, rows=60_000, classes=10, epochs=4, names=[f"c{i}" for i in range(10)]
    )
    shown = picture(1, 256, mode="RGB")
    began = time.process_time()
    page = _report(out, show=lambda row: shown)
    # Under a second here; the margin is for slower machines.
    assert time.process_time() - began < 5
    assert len(page.html) < 5_000_000


# The numbers behind it


def test_histograms_count_by_hand():
    edges, (kept, flagged) = histogram(
        [
            ("kept", "kept", np.array([0.0, 0.1, 0.9, np.nan])),
            ("flagged", "flagged", np.array([1.0, 2.0, 2.0])),
            ("none", "null", np.array([np.nan])),
        ],
        bins=4,
    )
    assert edges.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert kept.counts.tolist() == [2, 1, 0, 0]
    assert flagged.counts.tolist() == [0, 0, 1, 2]
    assert (kept.median, flagged.median) == (0.1, 2.0)


@given(
    hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(0, 1e6)),
    hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(0, 1e6)),
)
def test_every_row_is_in_one_bin(left, right):
    edges, found = histogram([("a", "kept", left), ("b", "flagged", right)])
    assert [group.total for group in found] == [len(left), len(right)]
    assert np.all(np.diff(edges) > 0)


def test_the_loss_figure_counts_kept_flagged_and_random_labels(audit: Path):
    opened = AuditDirectory.open(audit)
    columns = Columns(opened)
    flagged = int(columns.flagged.sum())
    mean = columns.mean("loss_sum")
    curves = opened.ledger.read("loss_curve").double().numpy()
    # The curve is kept in 16 bits, the sum in 32.
    np.testing.assert_allclose(mean, np.nanmean(curves, axis=1), rtol=2e-3)
    spread, removal = loss_figures(columns)
    for words in (f"kept, {200 - flagged} rows", f"flagged, {flagged} rows", "random label, 200"):
        assert words in spread.svg
    dropped = int(columns.dropped.sum())
    assert f"dropped, {dropped} rows" in removal.svg
    assert f"stayed, {200 - dropped} rows" in removal.svg
    assert "threshold 1.61" in removal.svg
    assert f"dropped {dropped} rows" in removal.caption


def test_rows_never_seen_have_no_mean_loss(tmp_path: Path):
    opened = AuditDirectory.open(make_audit(tmp_path, rows=30))
    opened.ledger.load_state(
        {
            "times_seen": opened.ledger.read("times_seen").index_fill(
                0, opened.ledger.given.new_tensor([4]), 0
            )
        }
    )
    mean = Columns(opened).mean("loss_sum")
    assert np.flatnonzero(np.isnan(mean)).tolist() == [4]


def test_training_curves_mark_the_removal_and_name_the_tests(audit: Path):
    loss, shares, rate = training_figures(Columns(AuditDirectory.open(audit)))
    assert "rows dropped" in loss.svg
    assert [name for _, name in shares.legend] == ["agreement in training", "test accuracy"]
    assert "Learning rate per epoch, from 0.1 to" in rate.svg


def test_sparse_test_accuracies_are_drawn_as_points(tmp_path: Path):
    out = make_audit(tmp_path, epochs=10)
    lines = (out / "log.jsonl").read_text().splitlines()
    thin = [re.sub(r', "test": \{[^}]*\}', "", x) if i % 5 else x for i, x in enumerate(lines)]
    thin = [re.sub(r', "train_agreement": [\d.]+', "", x) for x in thin]
    (out / "log.jsonl").write_text("\n".join(thin) + "\n")
    _, shares, _ = training_figures(Columns(AuditDirectory.open(out)))
    assert shares.title == "Test accuracy"
    assert shares.svg.count("<circle") == 2


def test_pairs_and_classes_are_counted(audit: Path):
    columns = Columns(AuditDirectory.open(audit))
    pairs = count_pairs(columns)
    slow = Counter(
        (columns.classes[g], columns.classes[p])
        for g, p, f in zip(columns.given, columns.proposed, columns.flagged, strict=True)
        if f
    )
    assert {(pair.given, pair.proposed): pair.rows for pair in pairs} == slow
    assert [pair.rows for pair in pairs] == sorted(slow.values(), reverse=True)
    table = class_table(columns, pairs)
    assert sum(line.rows for line in table) == 200
    assert sum(line.flagged for line in table) == columns.flagged.sum()
    shares = [line.share for line in table]
    assert shares == sorted(shares, reverse=True)
    for line in table:
        towards = {p: n for (g, p), n in slow.items() if g == line.name}
        assert line.towards_rows == max(towards.values(), default=0)


def test_the_table_of_classes_says_which_share_of_each_was_dropped(
    audit: Path, page: Page, tmp_path: Path
):
    columns = Columns(AuditDirectory.open(audit))
    table = class_table(columns, [])
    for line in table:
        own = columns.given == columns.classes.index(line.name)
        assert line.dropped_share == pytest.approx(columns.dropped[own].mean())
    assert len({line.dropped_share for line in table}) > 1
    header = "Dropped from training"
    assert header in page.text
    assert f'<td class="number">{percent(table[0].dropped_share)}</td></tr>' in page.html
    assert header not in _report(make_audit(tmp_path, rows=30)).text


def test_the_map_holds_every_count():
    drawn = heat_map(np.array([[0, 7], [3, 0]]), ["a & b", "c"], label="map")
    assert "<title>a &amp; b to c: 7</title>" in drawn
    assert "<title>c to a &amp; b: 3</title>" in drawn
    assert drawn.count('class="same"') == 2


def test_an_estimate_of_nothing_is_put_in_words(tmp_path: Path):
    rate = {"estimate": 0.0, "low": 0.0, "high": 0.001, "method": "x"}
    opened = AuditDirectory.open(make_audit(tmp_path, summary={"noise_rate": rate}))
    said = headline(opened, Columns(opened))
    assert said["title"] == "Hardly any label looks wrong"
    assert said["interval"].replace("\u00a0", " ") == "95 % interval 0 to 0.1 %"


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float):
    high = low + span
    if high <= low:
        return
    ticks = nice_ticks(low, high)
    slack = 1e-6 * (abs(low) + abs(high) + span)
    assert len(ticks) <= 6
    assert all(low - slack <= tick <= high + slack for tick in ticks)


def test_the_recipe_says_how_many_labels_were_right_at_each_step(tmp_path: Path):
    stages = [{"rows": 200, "right": 0.75}, {"rows": 1160, "right": None}]
    labels = {"before": 0.6, "first": None, "last": 0.9, "stages": stages}
    found = {"labels": labels, "notes": {"cascade": {"stage_1_rows": 200}}}
    page = _report(make_audit(tmp_path / "made", summary=found))
    assert "Right labels:" in page.text
    for words in ("60.0 % as given", "90.0 % after the last correction"):
        assert words in page.text
    assert "75.0 % among the 200 rows of stage 1" in page.text
    assert "stage 2:" not in page.text
    assert "first correction" not in page.text
