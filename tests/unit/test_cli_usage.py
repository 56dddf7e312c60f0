"""Bad input at the command line: exit 2, what is wrong, what is allowed, what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .cli_runner import Done, run_cli


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(done: Done, *words: str) -> None:
    """Check that a command was refused in one clear message, and that nothing was printed."""
    assert done.code == 2, done.err
    assert done.out == ""
    assert sum(line.startswith("error: ") for line in done.err.splitlines()) == 1, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


TYPOS = [
    (("audti", "digits"), "`errata audti` is unknown", "did you mean `audit`?"),
    (("bench", "nxt"), "`errata bench nxt` is unknown", "did you mean `next`?"),
    (("scoer", "p.npy", "l.npy"), "`errata scoer` is unknown", "did you mean `score`"),
    (("audit", "digits", "--recipie", "odd"), "`--recipie`", "did you mean `--recipe`?"),
    (("audit", "digits", "--zzz"), "`--zzz` is unknown", "`errata audit --help`"),
    (("audit",), "`SOURCE` is missing", "errata audit digits"),
    (("noise", "digits"), "`--noise SPEC` is missing", "for example"),
    (("audit", "digits", "--recipe"), "--recipe", "requires an argument"),
    (("audit", "digits", "more"), "unexpected extra argument", "more"),
    (("audit", "digits", "--epochs", "x"), "`--epochs` is `x`", "Passes over the data"),
    (("audit", "digits", "--epochs=0"), "`--epochs` is `0`", "1"),
    (("audit", "digits", "--limit", "0"), "`--limit` is `0`", "1"),
    (("audit", "digits", "--seed", "-1"), "`--seed` is `-1`", "0"),
    (("audit", "digits", "--obvious", "2"), "`--obvious` is `2`", "1"),
    (("audit", "digits", "--recipe", "od"), "recipe `od` is unknown", "did you mean `odd`?"),
    (("audit", "digits", "--recipe", "odd+odd"), "twice", "name each recipe once"),
    (("train", "digits", "--model", "resnet19"), "allowed: conv,", "did you mean `resnet18`?"),
    (("audit", "digits", "--noise", "unifrom:0.2"), "`unifrom`", "did you mean `uniform`?"),
    (("noise", "digits", "--noise", "uniform:2"), "rate `2`", "0 to 1"),
    (("audit", "digits", "--noise", "matrix:no.npy"), "`no.npy`", "does not exist"),
    (("audit", "digits", "--augment", "flop"), "`flop` is unknown", "did you mean `flip`?"),
    (("audit", "digits", "--device", "gpu"), "device `gpu` is unknown", "allowed: auto, cpu"),
    (("audit", "digits", "--precision", "float31"), "`float31`", "did you mean `float32`?"),
    (("audit", "digits", "--folds", "1"), "folds `1`", "2 and above"),
    (("audit", "digits", "--flag", "fdr:2"), "`fdr:2`", "allowed"),
    (("audit", "digits", "--set", "sed=1"), "setting `sed` is unknown", "did you mean `seed`?"),
    (("audit", "digits", "--set", "seed"), "is not PATH=VALUE", "for example"),
    (("audit", "digits", "--set", "seed=abc"), "`seed` is `abc`", "valid integer\n"),
    (("audit", "digits", "--set", "stage=3"), "`stage` is `3`", "valid list"),
    (("audit", "digits", "--set", "stage.5.epochs=1"), "nowhere at `5`", "allowed: 0\n"),
    (("audit", "digits", "--set", "stage.step=sam"), "step `sam` is unknown", "plain"),
    (("audit", "digits", "--set", "recipe.x=1"), "does not end at a value", "settings.toml"),
    (
        ("audit", "digits", "--set", "stage.parts.odd.percentil=4"),
        "`stage.0.parts.odd.percentil` is unknown",
        "did you mean `percentile`?",
    ),
    (("audit", "digits", "--test", "a=digits", "--test", "a=x"), "called `a`", "a-2=x"),
    (("audit", "digits", "--clean", "digits"), "--clean", "`errata recipes --needs clean`"),
    (("recipes", "ood"), "recipe `ood` is unknown", "did you mean `odd`?"),
    (("recipes", "--needs", "clan"), "need `clan` is unknown", "did you mean `clean`?"),
    (("show", "nowhere"), "audit `nowhere` does not exist", "errata audit"),
    (("report", "nowhere"), "audit `nowhere` does not exist", "errata audit"),
    (("predict", "nowhere", "digits"), "`nowhere` holds no model", "errata train"),
    (("bench", "table", "fashion"), "suite `fashion` is unknown", "did you mean"),
    (("bench", "run", "fashion-10k", "odd"), "cell `odd`", "for example"),
]


@pytest.mark.parametrize(("argv", "first", "second"), TYPOS, ids=[" ".join(t[0]) for t in TYPOS])
def test_a_typo_is_refused_with_what_to_do(argv: tuple[str, ...], first: str, second: str):
    refused(run_cli(*argv), first, second)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("name", ["audit", "train"])
def test_names_are_checked_before_data_are_read(name: str):
    # The source does not exist; the recipe is complained about all the same.
    done = run_cli(name, "no-such-folder", "--recipe", "od")
    refused(done, "recipe `od`")
    assert "reading samples" not in done.err


def arrays(**changed: object) -> str:
    """Write a source of 20 small pictures in two classes and give its name."""
    rng = np.random.default_rng(0)
    fields: dict[str, object] = {
        "x": rng.integers(0, 255, (20, 8, 8), dtype=np.uint8),
        "y": np.arange(20) % 2,
    }
    np.savez("data.npz", **{**fields, **changed})  # type: ignore[arg-type]
    return "data.npz"


BROKEN = {
    "one class": ({"y": np.zeros(20, int)}, "only the class", "two classes"),
    "labels out of range": ({"y": np.arange(20) - 3}, "out of range", "-1 for unlabelled"),
    "labels NaN": ({"y": np.array([*range(19), np.nan])}, "nan", "allowed"),
    "labels of another length": ({"y": np.arange(19) % 2}, "19", "20"),
    "duplicate ids": ({"ids": np.array(["a"] * 20)}, "`a` twice", "unique ids"),
    "pixels NaN": ({"x": np.full((20, 8, 8), np.nan)}, "NaN or infinite", "finite"),
    "pixels infinite": ({"x": np.full((20, 8, 8), np.inf)}, "NaN or infinite", "finite"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("command", ["audit", "train"])
def test_arrays_that_cannot_be_used_are_refused(command: str, name: str):
    changed, first, second = BROKEN[name]
    refused(run_cli(command, arrays(**changed), "--epochs", 1), first, second)
    assert [path.name for path in Path.cwd().iterdir()] == ["data.npz"]


def test_a_missing_path_is_refused():
    Path("pictures").mkdir()
    refused(run_cli("audit", "picture"), "`picture` does not exist", "did you mean `pictures`?")


def test_an_empty_folder_is_refused():
    Path("pictures").mkdir()
    refused(run_cli("audit", "pictures"), "holds no class folders", "one subfolder for each class")


def test_a_table_without_the_column_is_refused():
    Path("table.csv").write_text("picture,label\na.png,cat\n")
    refused(run_cli("audit", "table.csv"), "no column `image`", "it has: `picture`")


def test_a_folder_of_broken_pictures_alone_is_refused():
    for name in ("a", "b"):
        Path("pictures", name).mkdir(parents=True)
        Path("pictures", name, "1.png").write_bytes(b"not a picture")
        Path("pictures", name, "2.jpg").touch()
    refused(run_cli("audit", "pictures"), "none of the 4 image files can be read", "check")


@pytest.mark.parametrize("command", ["audit", "train"])
def test_a_place_that_holds_something_else_is_refused_before_reading(command: str):
    Path("out").mkdir()
    Path("out", "mine.txt").write_text("precious")
    done = run_cli(command, "digits", "--out", "out")
    refused(done, "exists and is not an audit", "nothing was changed")
    assert "reading samples" not in done.err
    assert Path("out", "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("argv", [("noise", "--noise", "pair:0.1"), ("predict", "model")])
def test_an_output_never_replaces_an_input(argv: tuple[str, ...]):
    Path("table.csv").write_text("image,label\na.png,cat\n")
    done = run_cli(*argv, "table.csv", "--out", "table.csv")
    refused(done, "`table.csv` is read by this command", "another name")
    assert Path("table.csv").read_text() == "image,label\na.png,cat\n"


def test_an_output_that_is_a_folder_is_refused():
    refused(run_cli("noise", "digits", "--noise", "pair:0.1", "--out", "."), "`.` is a folder")


def test_noise_and_truth_need_two_files():
    done = run_cli(
        *("noise", "digits", "--noise", "pair:0.1", "--out", "a.csv", "--truth", "a.csv")
    )
    refused(done, "both name `a.csv`", "leave --truth out")


def test_a_name_with_control_codes_cannot_reach_the_terminal():
    done = run_cli("audit", "digits", "--recipe", "o\x1b[31md")
    refused(done, r"o\x1b[31md")
    assert "\x1b" not in done.err
