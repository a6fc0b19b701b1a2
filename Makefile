# Two commands: `make run` and `make test`. Everything else serves them.
SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run setup test check prove prove-short mutants races bench clean vendor vendor-run

run: export ROASTOPS_SPEED := $(or $(ROASTOPS_SPEED),4)
run: $(RUN_STAMP) vendor-run
	@exec $(BIN)/python manage.py up --own-terminal

setup: $(DEV_STAMP) vendor

$(BIN)/python:
	@echo "The first time everything is installed: one to three minutes."
	$(PYTHON) -m venv $(VENV)

# Another Python, or changed pins: install again. Otherwise a stamp says that nothing is to do.
$(RUN_STAMP): requirements.txt | $(BIN)/python
	$(PIP) -r requirements.txt
	@touch $@

$(DEV_STAMP): requirements-dev.txt requirements.txt | $(BIN)/python
	$(PIP) -r requirements-dev.txt
	@touch $@ $(RUN_STAMP)

vendor: $(DEV_STAMP)
	@$(BIN)/python -m roastops.vendor

vendor-run: $(RUN_STAMP)
	@$(BIN)/python -m roastops.vendor

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/python manage.py check
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python -m pytest kernel/tests/test_architecture.py

test: check
	$(BIN)/python -m roastops.testing.suite

# What takes too long for every run (the marker `prove`): the simulation by SEEDS (docs/proof.md), the fleet killed at
# fifty random moments of an order, long outages and faults, the API tried for minutes. CI runs it with fewer of each.
prove: export SEEDS := $(or $(SEEDS),200)
prove: setup
	$(BIN)/python -m roastops.testing.suite --prove

prove-short: setup
	$(BIN)/python -m roastops.testing.suite --prove --short

# Every planted bug of lane A against seeds, and the table of docs/proof.md written anew (long: run it at night).
mutants: setup
	nice $(BIN)/python -m simulation.mutants --seeds $(or $(SEEDS),200) --write

# Every planted race of lane B against seeds, and the table of docs/proof-lane-b.md written anew.
races: setup
	nice $(BIN)/python -m simulation.race_hunt --seeds $(or $(SEEDS),200) --write

bench: setup
	$(BIN)/python manage.py bench --short

clean:
	rm -rf $(VENV) node_modules static/vendor .data staticfiles
