# Works with Python 3.11 or newer, pip, make and a C compiler; everything else goes into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL = test -x $(BIN)/pip || $(PYTHON) -m venv .venv; $(BIN)/pip install -c constraints.txt

.PHONY: demo test test-all check docs bench clean

demo: .venv/.ready
	$(BIN)/errata audit digits --noise uniform:0.2 --out audit --overwrite
	@echo "open audit/report.html in a browser; it needs no network"

# Tests are small and run in two processes: more threads each would only wait for one another.
test test-all: export OMP_NUM_THREADS = 1

test: .venv/.ready-dev
	$(BIN)/pytest -q -n 2 --dist loadfile

test-all: .venv/.ready-dev
	$(BIN)/pytest -q -n 2 --dist loadfile -m ""

# The theme's advertisement is no message of ours.
check docs: export NO_MKDOCS_2_WARNING = 1

check: .venv/.ready-dev
	$(BIN)/ruff format --check && $(BIN)/ruff check && $(BIN)/mypy && $(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet

docs: .venv/.ready-dev
	$(BIN)/mkdocs build --strict && echo "open site/index.html"

bench: .venv/.ready
	$(BIN)/errata bench next fashion-10k --minutes 30 && $(BIN)/errata bench table fashion-10k

clean:
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.venv/.ready: pyproject.toml constraints.txt
	$(INSTALL) -e '.[all]' && touch $@

.venv/.ready-dev: pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]' && touch .venv/.ready $@
