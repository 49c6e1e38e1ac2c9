# make demo, make test and make bench do all of their own set-up through tools/setup.

PYTHON_IN_VENV := .venv/bin/python

# bootstrap and the tools carry no suffix, so ruff and mypy have to be told which of them are Python.
SCRIPTS := $(filter-out %.py,$(shell grep -lsE '^.!/.*python' bootstrap $(wildcard tools/*)))
TYPED := sandbox $(wildcard tests tools/*.py) $(SCRIPTS)

.PHONY: help setup demo test test-clients evaluate lint types pytest bench clean

help:
	@echo 'make demo    learn a profile, enforce it, and attack it: one table (sets itself up)'
	@echo 'make test    ruff, mypy --strict and the tests (sets itself up)'
	@echo 'make test-clients   train and serve functions with real clients, in an environment of their own'
	@echo 'make evaluate   attack functions with vulnerable libraries, and write docs/evaluation.md'
	@echo 'make bench   the benchmarks as tables (sets itself up)'
	@echo 'make setup   only the set-up: system packages, .venv, emulator'
	@echo 'make clean   remove .venv, the emulator and the caches'

setup:
	@tools/setup

demo: setup
	@$(PYTHON_IN_VENV) tools/demo

test: lint types pytest

lint: setup
	.venv/bin/ruff check . $(SCRIPTS)

types: setup
	.venv/bin/mypy $(TYPED)

# The longest files first, in this order: a file is one worker's, and the last ones would keep it busy while the others
# have ended. Left to itself, xdist begins with the files of most tests, which are not the longest.
FOLDERS := tests/roundtrip tests/e2e tests/attacks tests/kernel tests/unit

pytest: setup
	$(PYTHON_IN_VENV) -m pytest -q -n auto --dist loadfile --no-loadscope-reorder --promises=SPECIFICATION.md $(FOLDERS)

test-clients: setup
	@tools/clients
	@tools/environment fleet pyspark
	.cache/fleet/bin/python -m pytest -q -c tests/fleet/pytest.ini --rootdir . --confcutdir . --promises=SPECIFICATION.md tests/fleet
	$(PYTHON_IN_VENV) -m pytest -q -n auto --dist loadgroup --promises=SPECIFICATION.md tests/clients

evaluate: setup
	@tools/environment clients
	@tools/environment exploits pyyaml
	$(PYTHON_IN_VENV) tools/evaluate

bench: setup
	$(PYTHON_IN_VENV) tools/bench learn
	$(PYTHON_IN_VENV) tools/bench start
	$(PYTHON_IN_VENV) tools/bench supervise
	$(PYTHON_IN_VENV) tools/bench calls
	$(PYTHON_IN_VENV) tools/bench egress
	$(PYTHON_IN_VENV) tools/bench warm
	$(PYTHON_IN_VENV) tools/bench origin
	$(PYTHON_IN_VENV) tools/bench compile

clean:
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
