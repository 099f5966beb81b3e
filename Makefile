# GlioLens, for its developers. `make help` lists the targets.
#
# One virtual environment, .venv, serves everything, `make demo` included: a second one, without the development
# tools, would cost a second copy of torch and could drift from the one that is tested.

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
ORACLE := $(VENV)/.oracle
PIP   := $(BIN)/python -m pip --disable-pip-version-check

# constraints.txt was made with Python 3.11, so that is tried first.
PYTHONS ?= python3.11 python3.12 python3.13 python3
# Tests of one file run in one process: the code blocks of a page build on one another.
PYTEST ?= -n 2 --dist loadfile
# One thread a process: programs of PyTorch that share cores slow each other down many times.

.DEFAULT_GOAL := help
.PHONY: help setup demo test check style types layers docs oracle weights clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv and install GlioLens in it; redone when pyproject.toml or constraints.txt changes

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || for python in $(PYTHONS); do \
	  $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  echo "$$python -m venv $(VENV)"; $$python -m venv $(VENV); break; \
	done
	@test -x $(BIN)/python || { \
	  echo "make: no Python 3.11 or newer with its venv module under any of these names: $(PYTHONS)" >&2; \
	  echo "make: install one (on Debian and Ubuntu: python3 and python3-venv), or name it: make setup PYTHONS=/path/to/python" >&2; \
	  exit 1; }
	$(PIP) install --progress-bar off -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## the whole story on the built-in cohort, ending in a report
	$(BIN)/gliolens demo

test: setup ## all tests, the code blocks of the documentation among them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST)

check: style types layers docs ## style, types, layers, and the documentation built strictly

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports --no-cache

docs: setup ## the documentation, in docs/_build/html; a warning is an error
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html

oracle: $(ORACLE) ## PyRadiomics, against which some tests compare; it has no wheel and may fail to build

$(ORACLE): $(READY)
	$(PIP) install --progress-bar off -c constraints.txt numpy cython versioneer setuptools wheel
	$(PIP) install --progress-bar off -c constraints.txt --no-build-isolation pyradiomics==3.0.1
	@touch $@

# Real data on which the answers are fitted and the outline is measured (docs/answers.md, docs/outline.md).
DATA ?= ../shared/data

weights: setup ## make the built-in weights anew and measure them: an hour and a half on two cores; goes on where it stopped
	mkdir -p build docs/tables docs/pictures
	$(BIN)/python training/answers.py --tables $(DATA)/tables -o src/gliolens/weights/answers.json
	$(BIN)/python training/outline.py -o src/gliolens/weights/outline
	$(BIN)/python training/encoder.py -o src/gliolens/weights/encoder
	$(BIN)/python benchmarks/outline.py $(DATA) --write > build/outline.md && mv build/outline.md docs/tables/outline.md
	$(BIN)/python benchmarks/pictures.py $(DATA) docs/pictures

clean: ## remove what was built, but not .venv
	rm -rf build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
