# Two commands on a fresh machine with Python and make:  make demo  and  make test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Python compiles what it imports; pip would compile the rest too, for most of a minute.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
# One thread a process: two that share two cores train nine times slower than one each.
export OMP_NUM_THREADS ?= 1
# Where it is set, each of the hundreds of processes of the tests would compile PyTorch again, in 2 to 6 seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup format check style types pages test all demo bench gpu docs site

help:  ## Say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(BIN)/.user  ## Make .venv and install attngraft into it

format: $(BIN)/.dev  ## Format the source and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: style types pages  ## Check style, types, layers, spelling and generated pages (with -j 2 in half the time)

style: $(BIN)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/codespell src tests docs benchmarks examples tools README.md CHANGELOG.md CONTRIBUTING.md

types: $(BIN)/.dev
	$(BIN)/mypy

pages: $(BIN)/.dev
	$(BIN)/python tools/catalogue.py --check
	$(BIN)/python tools/speed_tables.py --check
	$(BIN)/python tools/models_page.py --check
	$(BIN)/python tools/reference_pages.py --check
	$(BIN)/python tools/notebooks.py --check
	$(BIN)/python tools/release.py --check
	$(BIN)/python tools/site.py --check
	$(BIN)/python tools/attention_page.py --check

test: $(BIN)/.dev  ## Run every test (about 20 minutes on 2 cores, no network)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

all: check test  ## Run what CI runs

demo: $(BIN)/.user  ## Study attention on the built-in data, in miniature (under 5 minutes), and name the report to open
	$(BIN)/attngraft demo

bench: $(BIN)/.dev  ## Run every benchmark in a small setting (some minutes; nothing kept)
	$(BIN)/python benchmarks/mhsa.py --quick
	$(BIN)/python benchmarks/circulated.py --quick
	$(BIN)/python benchmarks/detectors.py --quick
	$(BIN)/python benchmarks/deployed.py --quick
	$(BIN)/python benchmarks/maps.py --quick
	$(BIN)/python benchmarks/bootstrap.py --images 200 --resamples 50 --seeds 2
	$(BIN)/python benchmarks/judging.py --arms 2 --seeds 4 --images 200
	$(BIN)/python benchmarks/retrieve/text.py
	$(BIN)/python benchmarks/retrieve/speed.py --quick
	$(BIN)/python benchmarks/retrieve/images/grocery_mosaic.py --quick
	$(BIN)/python benchmarks/retrieve/images/factors.py --quick
	$(BIN)/python benchmarks/retrieve/images/mine.py --quick

gpu: $(BIN)/.dev  ## Use an accelerator for 12 minutes: its tests, its tables, and probes for the time that is left
	$(BIN)/python tools/gpu.py

docs: $(BIN)/.dev  ## Write the generated pages
	$(BIN)/python tools/catalogue.py
	$(BIN)/python tools/speed_tables.py
	$(BIN)/python tools/models_page.py
	$(BIN)/python tools/attention_page.py
	$(BIN)/python tools/reference_pages.py
	$(BIN)/python tools/notebooks.py

site: $(BIN)/.dev  ## Build the documentation site, in both languages, into build/site
	$(BIN)/python tools/site.py --check

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(BIN)/.user: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing attngraft with PyTorch and Ultralytics into $(VENV): about 6 GB, some minutes"
	$(PIP) --editable '.[study]'
	@touch $@

$(BIN)/.dev: $(BIN)/.user
	@echo "installing the test tools into $(VENV)"
	$(PIP) --editable '.[dev]'
	@touch $@
