.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
UNIT := tests/unit -q -n logical --maxprocesses 8

.PHONY: help venv lock demo test test-faults fuzz check format docs bench bench-parse bench-loader bench-soak \
	bench-collection bench-forecast bench-rollup bench-history bench-alerting wheel services clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'

venv: $(STAMP) ## Make the virtual environment from the hashed lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock \
		|| $(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

lock: ## Resolve the dependencies anew
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --quiet --upgrade -o requirements.lock

demo: $(STAMP) ## Run the real pipeline on real servers, with a capacity report (ARGS=--once ends by itself)
	$(BIN)/python -m demo $(ARGS)

test: $(STAMP) ## All tests, on real Kafka, Cassandra and sshd
	$(BIN)/python -m services prepare
ifeq ($(ARGS),)
	$(BIN)/python -m pytest $(UNIT); unit=$$?; $(BIN)/python -m pytest --ignore tests/unit && exit $$unit
else
	$(BIN)/python -m pytest $(ARGS)
endif

test-faults: $(STAMP) ## Servers and tasks killed and frozen, the long way (some 30 minutes; make test has it short)
	$(BIN)/python -m services prepare
	RESTRACK_FAULTS=full $(BIN)/python -m pytest tests/faults --verbose $(ARGS)

fuzz: $(STAMP) ## A million arbitrary records through decoder and encoders (ARGS='--inputs 1000 --seed 7')
	$(BIN)/python -m tests.fuzz $(or $(ARGS),--inputs 1000000)

check: $(STAMP) ## Format, lint, types, import contracts, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.metrics_reference --check
	$(BIN)/python -m pytest $(UNIT)

format: $(STAMP) ## Format the code and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP) ## Write the generated pages and pictures of docs/
	$(BIN)/python -m docs.metrics_reference
	$(BIN)/python -m docs.report_pictures

bench: bench-parse bench-loader bench-collection bench-forecast bench-rollup bench-history bench-alerting ## All benchmarks; JSON under build/bench

bench-parse: $(STAMP) ## What the provider adds to the parse of a DAG file
	$(BIN)/python -m benchmarks.parse $(ARGS)

bench-loader: $(STAMP) ## Rows a second from Kafka into Cassandra beside Go (ARGS='--scale 0.1' for a trial)
	$(BIN)/python -m benchmarks.loader $(ARGS)

bench-soak: $(STAMP) ## One task over 5 million rows: memory and rate over time (some five minutes)
	$(BIN)/python -m benchmarks.loader.soak $(ARGS)

bench-collection: $(STAMP) ## A thousand hosts beside Ansible, ssh and a task per host (ARGS='--works 1 10' for a trial)
	$(BIN)/python -m benchmarks.collection $(ARGS)

bench-forecast: $(STAMP) ## Days until a disk is full beside the rules of Prometheus, Zabbix and Netdata (ARGS='--series 3')
	$(BIN)/python -m benchmarks.forecast $(ARGS)

bench-alerting: $(STAMP) ## Ten rules over fleets, and alerts on lost samples, beside Prometheus (ARGS='--hosts 100 --series 5')
	$(BIN)/python -m benchmarks.alerting $(ARGS)

bench-rollup: $(STAMP) ## Samples a second and core into rollups beside polars (ARGS='--hosts 5' for a trial)
	$(BIN)/python -m benchmarks.rollup $(ARGS)

bench-history: $(STAMP) ## Reading 90 days of a metric, an hour a bucket (ARGS='--runs 10' for a trial)
	$(BIN)/python -m benchmarks.history $(ARGS)

services: $(STAMP) ## Start Kafka, Cassandra and three sshd hosts (python -m services stop ends them)
	$(BIN)/python -m services start

wheel: $(STAMP) ## Build the wheel and the source distribution into dist
	$(BIN)/python -m build --no-isolation --outdir dist .

clean: ## Remove build output (not the environment and not the servers' data)
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
