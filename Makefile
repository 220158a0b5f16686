# `make help` lists what there is. Everything runs in .venv, which the first target that needs it sets up.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= herd
PORT ?= 5151
HOST ?= 127.0.0.1
# the machine's npm where it has one (it knows the machine's settings), else the one that .venv has
NPM := $(or $(shell command -v npm),$(VENV)/bin/npm)
TEST_WORKERS ?= auto
STUDIO := .venv-label-studio
export FIFTYONE_DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
# jobs of MLflow's server judge answers of language models: processes of their own, for nothing here
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION := false
export ORT_DISABLE_TELEMETRY := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)
# some containers set it: each of the chain's and the tests' processes would compile what it imports anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup repro test tests test-all test-fast lint ruff types format docs inspect ui demo label-studio compare compare-detectors litert lock audit clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/ready ## install everything into .venv (the other targets do it by themselves)

# plain pip cannot be told to leave opencv-python out, and may mix wheels of torch: uv installs the lock
$(VENV)/ready: requirements.lock pyproject.toml
	@test -x $(BIN)/uv || echo 'setting up .venv'
	test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python --editable .
	touch $@

# what the page of `make demo` runs a model with; nothing else needs it
node_modules/ready: package-lock.json package.json .npmrc | $(VENV)/ready
	$(NPM) ci --loglevel=error
	touch $@

# Label Studio needs older libraries than the project, and 800 MB; few of its modules are ever imported: none is compiled
$(STUDIO)/ready: requirements-label-studio.lock | $(VENV)/ready
	test -e $(STUDIO)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(STUDIO)
	$(BIN)/uv pip sync --quiet --python $(STUDIO)/bin/python requirements-label-studio.lock
	touch $@

repro: setup ## run the chain: what params.yaml and the code have changed since the last time
	@$(BIN)/pocketlens repro

# a core each: threads of several workers would fight; a make that a test runs is none of this one's jobs
PYTEST := MAKEFLAGS= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS)

# types beside the tests, which leave a core idle now and then; NPM is as it was before .venv was on PATH
test: ruff ## lint, types and the tests of every promise; the exhaustive ones are left out
	@$(MAKE) --no-print-directory -j3 NPM='$(NPM)' types tests || { echo 'make test: types or tests have failed, see above'; exit 1; }

tests: node_modules/ready $(STUDIO)/ready
	$(PYTEST) -m 'not exhaustive'

test-all: lint node_modules/ready $(STUDIO)/ready ## lint, types and all tests
	$(PYTEST)

test-fast: lint ## lint, types and the tests that take a moment, while you work (the others are marked slow or exhaustive)
	$(PYTEST) -m 'not slow and not exhaustive'

lint: ruff types ## ruff and mypy

ruff: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

format: setup ## put the code into ruff's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## what is made from the code, as it is now: tables in docs/, resolved.yaml
	$(BIN)/python -m stages.params
	$(BIN)/python -m pipeline.config.doc_tables

inspect: setup ## the FiftyOne App: data, predictions and mistakes of RUN=herd
	$(BIN)/pocketlens inspect $(RUN) --port $(PORT)

ui: setup ## the MLflow UI with the runs to compare
	-$(BIN)/pocketlens track
	@echo 'runs to compare: http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning'
	$(BIN)/mlflow server --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000 --workers 1

demo: setup node_modules/ready ## RUN=herd in a browser, with images of your own; HOST=0.0.0.0 lets a phone in
	$(BIN)/pocketlens demo $(RUN) --host $(HOST) --port $(PORT)

label-studio: setup $(STUDIO)/ready ## Label Studio on http://127.0.0.1:PORT with this project's images, in an environment of its own (800 MB)
	mkdir -p data/ingested
	LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT='$(CURDIR)/data/ingested' \
	SENTRY_DSN= FRONTEND_SENTRY_DSN= COLLECT_ANALYTICS=false LATEST_VERSION_CHECK=false \
		$(STUDIO)/bin/label-studio start --no-browser --data-dir '$(CURDIR)/.label-studio' --port $(PORT) \
		--internal-host 127.0.0.1 --enable-legacy-api-token

compare: setup ## one run with one backbone after another (params.yaml, compare), side by side
	$(BIN)/pocketlens compare

compare-detectors: setup ## RUN=herd against SSDLite and Ultralytics' nano: the same images, cores and time (ARGS="--seconds 375")
	$(BIN)/python -m benchmarks.detectors $(RUN) $(ARGS)

litert: setup ## LiteRT's converter, in an environment of its own (6 GB), for the export target litert
	test -e $(VENV)/litert/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(VENV)/litert
	$(BIN)/uv pip sync --quiet --python $(VENV)/litert/bin/python requirements-litert.lock
	touch $(VENV)/litert/ready

lock: setup ## compile requirements.lock anew from pyproject.toml, and those of LiteRT and Label Studio
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --extra dev --universal --python-version 3.11 \
		--override overrides.txt --constraint constraints.txt --no-emit-index-url --no-header -o requirements.lock
	$(BIN)/uv pip compile requirements-litert.in --quiet --upgrade --universal --python-version 3.11 \
		--no-emit-index-url --no-header -o requirements-litert.lock
	$(BIN)/uv pip compile requirements-label-studio.in --quiet --upgrade --universal --python-version 3.11 \
		--no-emit-index-url --no-header -o requirements-label-studio.lock

# asks a server what is known of these versions: faults end the target in the end, no answer is said
define asked
said=$$($(2) 2>&1) && echo '$(1): no fault is known' || { echo "$$said"; \
	  if grep -Eq '[0-9]+ (known |low |moderate |high |critical |severity )*vulnerabilit' <<<"$$said"; then failed=1; \
	  else echo '$(1): not asked, see above'; fi; }
endef

audit: setup ## licences of all dependencies, and, where there is a network, known faults of their versions
	@failed=; \
	$(BIN)/python -m pytest -q tests/test_security_licences.py || failed=1; \
	$(call asked,pip-audit,$(BIN)/uv tool run --quiet pip-audit@2.10.1 --no-deps --disable-pip --progress-spinner off -r requirements.lock); \
	$(call asked,npm audit,$(NPM) audit --audit-level=high); \
	test -z "$$failed"

clean: ## remove what the chain made; DVC's cache brings it back with the next repro, and splits/ is no such thing: it stays
	rm -rf data/sample data/ingested data/augmented models exports reports .fetched .resume .features .fiftyone mlflow.db mlflow.db.lock mlruns mlartifacts .pocketlens.log
