# make demo   the main job: fit a simulated market and write its report
# make test   everything that must hold: format, lint, types, import rules, tests
# make bench  the benchmarks (NAME=one of them, SEED=0)
# make format write the code as `make test` wants it
# Each makes the virtual environment .venv first where it is missing or out of date.

.DEFAULT_GOAL := help
.PHONY: help demo test bench format clean
SHELL := /bin/sh
VENV := .venv
RUN := $(VENV)/bin
PIP := $(RUN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := src tests benchmarks conftest.py
SEED ?= 0

## the first Python on the path that is new enough; PYTHON=/path/to/python overrides
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

help:
	@sed -n 's/^# //p' Makefile

demo: $(VENV)/installed
	@$(RUN)/volgrad demo $(DEMO)

test: $(VENV)/installed-test
	@echo "ruff format"  && $(RUN)/ruff format --quiet --check --output-format concise $(SOURCES) || \
		{ echo "make format mends this."; exit 1; }
	@echo "ruff check"   && $(RUN)/ruff check --quiet $(SOURCES)
	@echo "pyright"      && PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(RUN)/pyright --pythonpath $(RUN)/python
	@echo "lint-imports" && $(RUN)/lint-imports --no-cache > $(VENV)/lint-imports.log 2>&1 || \
		{ cat $(VENV)/lint-imports.log; exit 1; }
	@echo "pytest"       && $(RUN)/python -m pytest --numprocesses auto --maxprocesses 4 $(PYTEST)

bench: $(VENV)/installed-bench
	@for name in $(or $(NAME),$(basename $(notdir $(shell grep -l __main__ benchmarks/*.py)))); do \
		mkdir -p out/bench && echo "benchmarks.$$name" && \
		$(RUN)/python -m benchmarks.$$name --seed $(SEED) --json out/bench/$$name.json || exit 1; done

format: $(VENV)/installed-test
	@$(RUN)/ruff check --quiet --fix $(SOURCES); $(RUN)/ruff format --quiet $(SOURCES)

clean:
	@rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis out

$(VENV)/made:
	@test -n "$(PYTHON)" || { echo "volgrad needs Python 3.11 or newer with venv; found none. \
	Set PYTHON=/path/to/python." >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) && touch $@

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/made
	@echo "Installing volgrad into $(VENV) (about a minute) ..."
	@$(PIP) --editable . && touch $@

$(VENV)/installed-%: pyproject.toml constraints.txt | $(VENV)/made
	@echo "Installing volgrad and what '$*' needs into $(VENV) (a minute or two) ..."
	@$(PIP) --editable ".[$*]" && touch $@
