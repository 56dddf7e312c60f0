"""Rules that hold for every file under src, read from the source text and its syntax tree."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import errata
from errata.methods import recipe_names
from errata.parts.base import part_names

SRC = Path(__file__).resolve().parents[2] / "src" / "errata"
FILES = sorted(SRC.rglob("*.py"))
MODULES = sorted(m.name for m in pkgutil.walk_packages(errata.__path__, "errata."))

# Names of papers' methods beside the registered ones, so that the engine stays clean of those too.
METHODS = {
    *("odd", "mixup", "cutmix", "gce", "sce", "smp", "erm", "joint", "dividemix", "divide-mix"),
    *("coteach", "coteaching", "co-teaching", "mentor", "mentornet", "elr", "sop", "ssr", "promix"),
    *("jocor", "dmi", "lccn", "nnaqc", "cleannet", "mlnt", "curriculum", "phantom", "warp"),
}
# Recipes whose names are ordinary words of training code.
PLAIN_WORDS = {"forward", "backward", "row", "soft", "balanced", "ramp", "peer", "dropout"}

# Imports that read or write pickles.
PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
MOST_LINES = 400
MAY_NAME_TRUTH = {"auditing.py", "engine/evaluate.py"}


def _method_names() -> set[str]:
    parts = {part for name in recipe_names() for part in name.split("+")}
    return (METHODS | parts | set(part_names())) - PLAIN_WORDS


def _names(text: str, method: str) -> bool:
    spelling = r"[-_]?".join(map(re.escape, re.split(r"[-_]", method)))
    return re.search(rf"(?<![A-Za-z]){spelling}(?![A-Za-z])", text, re.IGNORECASE) is not None


def _dangers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (n.name for n in names if n.name.split(".")[0] in PICKLERS)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in PICKLERS:
                yield module
            case ast.Attribute(value=ast.Name(id="torch"), attr="load" | "save"):
                yield f"torch.{node.attr}"
            case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
                yield name
            case ast.keyword(arg="allow_pickle", value=value):
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield "allow_pickle"


def _short(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def test_the_rules_see_the_package():
    assert len(FILES) > 20
    assert "errata.types" in MODULES


@pytest.mark.parametrize("path", sorted((SRC / "engine").glob("*.py")), ids=lambda p: p.name)
def test_engine_names_no_method(path: Path):
    text = path.read_text()
    found = [name for name in _method_names() if _names(text, name)]
    assert not found, f"the engine knows {found}; a method belongs into a part"


def test_method_names_are_found_however_they_are_written():
    for text in ("x = mixup(y)", "# co_teaching", "use DivideMix", '"odd-phantom"'):
        assert any(_names(text, name) for name in _method_names()), text
    assert not any(_names("model.forward(rows)  # add mixed", name) for name in _method_names())


def test_truth_is_named_by_data_evaluation_and_audit_alone():
    word = re.compile(r"\bTruth\b")
    named = {_short(p) for p in FILES if word.search(p.read_text())}
    outside = {n for n in named if not n.startswith("data/")} - MAY_NAME_TRUTH
    assert not outside, f"{sorted(outside)} name `Truth`; only evaluation may know clean labels"


@pytest.mark.parametrize("path", FILES, ids=_short)
def test_nothing_pickles_or_runs_text(path: Path):
    assert not list(_dangers(ast.parse(path.read_text())))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import joblib",
        "torch.load('x')",
        "np.load('x', allow_pickle=True)",
        "np.load('x', allow_pickle=flag)",
        "eval('1')",
        "exec(code)",
    ],
)
def test_each_danger_is_recognised(code: str):
    assert list(_dangers(ast.parse(code)))


def test_evaluation_mode_and_plain_arrays_are_no_danger():
    assert not list(_dangers(ast.parse("model.eval(); np.load('x', allow_pickle=False)")))


@pytest.mark.parametrize("path", FILES, ids=_short)
def test_files_stay_short(path: Path):
    lines = len(path.read_text().splitlines())
    assert lines < MOST_LINES


@pytest.mark.parametrize("name", MODULES)
def test_exported_names_exist(name: str):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(exported) == len(set(exported))
    assert not [each for each in exported if not hasattr(module, each)]
