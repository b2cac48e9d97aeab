# `make demo` and `make test` each work as the first command after a clone; `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?= -n 3

# No Airflow process, no database of Airflow: a few minutes.
FAST_TESTS := tests/common tests/expressions tests/flow tests/storage tests/engine tests/distributed \
  tests/inspection tests/timetables tests/picture tests/cli tests/conformance/test_vectors.py tests/test_layers.py

.PHONY: help setup newest-airflow demo test test-fast test-slow test-celery lint format typecheck unit coverage bench fuzz schemas constraints clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## create .venv from constraints.txt (once, and when it or pyproject.toml changes)

# Every package, including uv, is checked against the hashes of constraints.txt. Byte code is compiled right away:
# without it importing Airflow takes three times as long, and many processes import it.
$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	bootstrap=$$(mktemp); trap 'rm -f "$$bootstrap"' EXIT; \
	awk '/^uv==/{p=1} p{print} p&&!/\\$$/{exit}' constraints.txt > "$$bootstrap"; \
	$(BIN)/python -m pip install --quiet --require-hashes -r "$$bootstrap"
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r constraints.txt
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

newest-airflow: setup ## replace Airflow in .venv by the newest release, ignoring the upper bound of pyproject.toml
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --upgrade --override .ci/newest-airflow.txt -e '.[dev]'
	$(BIN)/python -m airflow version

demo: setup ## run both example flows on a real Airflow of its own; FLOW=tickets: one that asks a model
	$(BIN)/python -m demo $(if $(FLOW),--flow $(FLOW)) $(DEMO_ARGS)

test: lint typecheck unit ## lint, typecheck and all tests but the slow ones

test-fast: setup ## the tests that need no Airflow process
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(FAST_TESTS)

test-slow: setup ## the tests that take a minute or more: outages, bursts, thousands of calls
	$(BIN)/python -m pytest -m slow

test-celery: setup ## two Celery workers, one is killed; installs redis-server and postgresql (apt) if missing
	.ci/install-servers --no-browser
	$(BIN)/python -m pytest tests/test_celery.py

lint: setup ## ruff (rules and format) and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

format: setup ## let ruff fix and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: setup ## mypy, strict
	$(BIN)/mypy

unit: setup ## every test; PYTEST_ARGS replaces "-n 3"
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# Apart from `make test`: tracing every branch takes time.
coverage: setup ## every test, with the line and branch coverage of airflow_allma
	$(BIN)/python -m pytest --cov=airflow_allma --cov-report=term-missing $(PYTEST_ARGS)

bench: setup ## one benchmark: make bench NAME=engine
	$(BIN)/python -m benchmarks $(NAME)

fuzz: setup ## damaged flow files, expressions, manifests, random flows: minutes; FUZZ_ARGS="--seed 1"
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

schemas: setup ## write the JSON Schemas of the package after a change of the flow language's models
	$(BIN)/python -c 'from airflow_allma.flow.schema_files import write_schemas; write_schemas()'

constraints: setup ## compile constraints.txt from pyproject.toml; UPGRADE=--upgrade allows newer versions
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --extra dev \
	  $(UPGRADE) --output-file constraints.txt pyproject.toml

clean: ## remove what the commands above created
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* build dist *.egg-info
