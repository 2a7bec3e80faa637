# Every target works from a bare machine with Python 3.11 or newer: it creates .venv when needed.
# Torch's own threads are off in tests: two test processes on two cores would otherwise fight.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests: one thread per process, one process per core. `make test JOBS=0` runs in this process.
JOBS ?= 2
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest
OUT ?= demo-out
DEMO_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow doctest lint types layers check bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## create .venv with everything that development needs

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "phosphene needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade "pip>=25.1"
	$(BIN)/python -m pip install -qq torch==2.13.0
	$(BIN)/python -m pip install -qq --constraint constraints.txt \
		--editable '.[demo,fmri,hf,h5,bids,generate]' --group dev --group docs
	@touch $@

demo: $(STAMP) ## simulate, train, compare and report (make demo DEMO_ARGS=--quick is the short one)
	$(BIN)/phosphene demo --out $(OUT) $(DEMO_ARGS)

test: $(STAMP) ## run the tests (under four minutes on two cores)
	$(PYTEST) -n $(JOBS) --dist worksteal -m "not slow"

test-slow: $(STAMP) ## run the long checks only
	$(PYTEST) -m slow

doctest: $(STAMP) ## run the examples in the docstrings
	$(PYTEST) -n $(JOBS) --dist loadfile --doctest-modules src/phosphene

lint: $(STAMP) ## check style and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP) ## check types
	$(BIN)/mypy

check: $(STAMP) ## run the public checks over everything registered
	$(ONE_THREAD) $(BIN)/phosphene check

bench: $(STAMP) ## measure; prints ratios and writes benchmarks/results/*.json
	$(BIN)/python benchmarks/run.py

docs: $(STAMP) ## build the documentation into docs/_build/html
	$(ONE_THREAD) $(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

clean: ## remove what can be built again (not .venv)
	rm -rf build dist docs/_build docs/gallery docs/api/generated benchmarks/results $(OUT)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find src tests examples docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
