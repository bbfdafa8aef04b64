# `make sample` and `make test` work from a bare checkout: they make .venv and install what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What the compiled core is made of: it is optional, so an installation without a compiler succeeds.
NATIVE := $(wildcard engine/native/src/*)
# A room is a top-level folder of the package; each is marked as typed.
ROOMS := $(patsubst %/py.typed,%,$(wildcard */py.typed))

BASE := $(VENV)/.base-installed
DEV := $(VENV)/.dev-installed
LOCK := requirements-dev.txt
# A published generator with its weights, the readers of MDS, Optuna and Opacus, for the tests: their packages ask for the
# clients of six clouds, an older NumPy, a database and a torch of their own, which what is used of them does not need.
UNLOCKED := gan-face-generate==1.1.1 mosaicml-streaming==0.13.0 optuna==5.0.0 colorlog==6.12.0 opacus==1.6.0
# What development installs of the package's extras.
EXTRAS := train evaluate photographs jpeg parquet tfrecord s3 compile cuda tensorrt-rtx

.DEFAULT_GOAL := help
.PHONY: help sample test test-fast fuzz coverage lint lock docs bench bench-vs peers gpu hooks clean
.DELETE_ON_ERROR:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

sample: $(BASE) ## Write 100,000 samples of the shipped generator to out/demo
	$(BIN)/gen-engine sample --count 100000 --out out/demo
	@echo "Look at out/demo/preview.png"

test: lint docs ## Run all that CI runs: linters, types, import rules, documentation, every test
	$(BIN)/pytest --numprocesses auto --dist worksteal

test-fast: $(DEV) ## Run the tests that take seconds
	$(BIN)/pytest --numprocesses auto --dist worksteal -m "not slow"

fuzz: $(DEV) ## Damage every kind of file 10,000 times, and a million calls of the compiled core: hours
	FUZZ_CASES=10000 FUZZ_CALLS=1000000 $(BIN)/pytest --numprocesses auto --dist worksteal tests/fuzz tests/native

coverage: $(DEV) ## Run every test and list the lines that none of them reaches
	$(BIN)/pytest --numprocesses auto --dist worksteal --cov --cov-report=term-missing:skip-covered

lint: $(DEV) ## Run ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=.typing $(BIN)/lint-imports --no-logo

bench: $(DEV) ## Measure: the benchmarks, with real timing
	$(BIN)/pytest benchmarks --benchmark-enable

bench-vs: $(DEV) ## Measure this tree against another revision: make bench-vs REV=main
	@test -n "$(REV)" || { echo "Say which revision: make bench-vs REV=main" >&2; exit 2; }
	$(BIN)/python benchmarks/bench_vs.py "$(REV)" --report out/bench-vs.md

peers: $(DEV) ## Measure compiled generators against the usual alternatives: a quarter of an hour
	$(BIN)/python -W ignore benchmarks/compiled.py --chart docs/peers.png --json out/peers.json

gpu: $(DEV) ## Try everything on the NVIDIA GPU that is here: three minutes, docs/gpu.md says more
	$(BIN)/python benchmarks/gpu.py --record out/gpu-record.json

lock: | $(BIN)/pip ## Resolve the development environment anew and write requirements-dev.txt
	@$(PIP) install --quiet uv
	@$(BIN)/uv pip compile --quiet pyproject.toml --group dev $(EXTRAS:%=--extra %) --constraint constraints.txt \
		--universal --python-version 3.10 --no-annotate --no-emit-package torch --upgrade \
		--custom-compile-command "make lock" --output-file $(LOCK)

docs: $(DEV) ## Build the documentation into build/site, and fail on a broken link or reference
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

hooks: $(DEV) ## Run the linters before every commit
	$(BIN)/pre-commit install

clean: ## Remove the environment, caches and build outputs (out/ and runs/ stay)
	rm -rf $(VENV) .typing build dist *.egg-info .coverage .coverage.* engine/native/*.so
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is the last thing that venv puts there, so a venv that failed half-way is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "gen-engine needs Python 3.10 or newer: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(BASE): pyproject.toml $(NATIVE) | $(BIN)/pip
	@echo "Installing gen-engine into $(VENV)"
	@$(PIP) install --quiet --editable .
	@touch $@

# Everything is locked and nothing is resolved: pip alone tries versions of the S3 clients for more than ten minutes. torch
# comes last and with its dependencies: a CPU build needs no more than the lock has, a CUDA build brings its own libraries.
# Type checkers cannot follow an editable install, so they get a folder of links.
$(DEV): pyproject.toml $(LOCK) $(NATIVE) | $(BIN)/pip
	@echo "Installing gen-engine and its development tools into $(VENV): minutes, the first time"
	@$(PIP) install --quiet --no-deps --requirement $(LOCK)
	@$(PIP) install --quiet "$$(sed -n 's/^torch==/&/p' constraints.txt)" --constraint $(LOCK)
	@$(PIP) install --quiet --no-deps $(UNLOCKED)
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@rm -rf .typing && mkdir -p .typing/gen_engine
	@for room in $(ROOMS); do ln -s ../../$$room .typing/gen_engine/$$room; done
	@ln -s ../../cli/package/__init__.py .typing/gen_engine/__init__.py
	@touch $(BASE) $@
