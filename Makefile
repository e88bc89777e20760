# Short recipes; every one does its own set-up.   make demo · check · test · soak · lint · bench · kafka
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

SEEDS  ?= 20
FLOORS := seal:96 cascade:85 log:92
RUN    := -n auto --maxprocesses 4 --durations=25 --durations-min=1

.PHONY: demo check test soak coverage lint bench kafka chaos fuzz format lock release clean

demo: $(READY)          ## the main job on a temporary node: pull, validate, seal, cascade, receipt
	$(BIN)/exchange demo

check: lint             ## while you work: lint, and every test that needs no server (3 minutes)
	$(BIN)/pytest -m "not server" $(RUN)

test: $(READY)          ## every test; starts its own PostgreSQL, MariaDB and Kafka on loopback
	$(PYTHON) tools/servers.py
	$(BIN)/pytest $(RUN)

soak: $(READY) chaos coverage    ## what `make test` does a part of, whole: docs/testing.md (two hours)
	EXCHANGE_SOAK=1 $(BIN)/pytest -m soak $(RUN)

coverage: $(READY)      ## which lines of seal/, cascade/ and log/ their tests run; fails under a floor: docs/testing.md
	$(PYTHON) tools/servers.py
	$(BIN)/coverage run -m pytest tests/seal tests/cascade tests/receiver tests/log -p no:xdist
	for floor in $(FLOORS); do \
	  $(BIN)/coverage report --include="exchange/$${floor%:*}/*" --fail-under=$${floor#*:} || exit 1; \
	done

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

fuzz: $(READY)          ## three million spoilt inputs, some for every parser: docs/threat-model.md (20 minutes)
	EXCHANGE_SOAK=1 $(BIN)/pytest tests/tamper/test_fuzz.py $(RUN)

EXTRAS := node receiver postgres mysql kafka metrics sftp soap
LOCK   := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
          --no-emit-index-url --no-header --no-annotate

lock:                   ## resolve the pinned, hashed requirements again (needs uv)
	$(LOCK) --all-extras pyproject.toml requirements/dev.in -o requirements/dev.txt
	$(LOCK) -c requirements/dev.txt pyproject.toml -o requirements/verifier.txt
	for extra in $(EXTRAS); do \
	  $(LOCK) -c requirements/dev.txt --extra $$extra pyproject.toml -o requirements/$$extra.txt \
	  || exit 1; done
	$(LOCK) requirements/release.in -o requirements/release.txt

release: $(READY)       ## wheel (built twice), lists of components, licences and digests, into dist/
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/release.txt
	$(BIN)/python tools/release.py

KERNEL := tools/build_kernel.py exchange/seal/crypto/hash_kernel.c exchange/seal/crypto/hash_kernel_lanes.h

$(READY): requirements/dev.txt pyproject.toml $(KERNEL)
	@echo "installing $$(grep -c == requirements/dev.txt) packages of requirements/dev.txt into $(VENV), about a minute"
	@echo "正在把 requirements/dev.txt 的依赖安装到 $(VENV)，约一分钟"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) .venv-release dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
