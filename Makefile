# Short recipes; every one does its own set-up.   make demo · test · lint · bench · kafka · chaos · fuzz
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

SEEDS  ?= 20

.PHONY: demo test lint bench kafka chaos fuzz format lock clean

demo: $(READY)          ## the main job on a temporary node: pull, validate, seal, cascade, receipt
	$(BIN)/exchange demo

test: $(READY)          ## every test; starts its own PostgreSQL, MariaDB and Kafka on loopback
	$(PYTHON) tools/servers.py
	$(BIN)/pytest -n auto --maxprocesses 4

lint: $(READY)          ## ruff, formatting, mypy strict, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)         ## the full set of figures of docs/performance.md (about 13 minutes)
	$(PYTHON) tools/servers.py
	$(BIN)/exchange bench --full

kafka: $(READY)         ## an Apache Kafka to try, on 127.0.0.1:9092 (or the next free port), data in .kafka
	$(BIN)/python -m exchange.devtools.servers.kafka

chaos: $(READY)         ## break brokers, workers and the province by a seeded plan and count what is lost: docs/chaos.md
	$(BIN)/python -m tests.chaos --seeds $(SEEDS)

fuzz: $(READY)          ## fifty times the spoilt inputs of `make test` for every parser: docs/threat-model.md (20 minutes)
	EXCHANGE_FUZZ=50 $(BIN)/pytest tests/tamper/test_fuzz.py

lock:                   ## resolve the pinned, hashed requirements again (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --all-extras pyproject.toml requirements/dev.in \
	  -o requirements/dev.txt

$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
