# The verbs of this repository; `make` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow bench docs lint clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(INSTALLED)  ## make .venv and install what requirements.txt names

$(INSTALLED): requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -r requirements.txt
	@touch $@

$(INSTALLED_TEST): requirements-test.txt requirements-export.txt $(INSTALLED)
	$(BIN)/pip install --quiet -r requirements-test.txt
	@touch $@

demo: $(INSTALLED)  ## simulate events, pretrain, fine-tune, compare: the main job at a small size
	$(BIN)/python reproduce.py --config configs/demo.yaml

test: $(INSTALLED_TEST)  ## run the test suite, but for what takes long
	$(BIN)/python -m pytest -m "not slow" $(SIDE_BY_SIDE) --dist loadfile --no-loadscope-reorder

test-slow: $(INSTALLED_TEST)  ## run what takes long: kills at many moments, thousands of steps
	$(BIN)/python -m pytest -m slow $(SIDE_BY_SIDE) --dist worksteal

bench: $(INSTALLED)  ## measure speed against the published way, some minutes; leave the machine alone meanwhile
	$(BIN)/python -m benchmarks.speed

docs: $(INSTALLED)  ## write docs/configuration.md from the schema
	$(BIN)/python docs/make_configuration.py

lint: $(INSTALLED)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove what the tools have made (runs/ and data/ stay)
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
