# Everything a newcomer, a developer and the continuous integration need. `make help` lists it.

VENV := .venv
DATA ?= data
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
TEST := $(VENV)/.test-installed
# Tools that look at the environment from outside, so that they are no part of it.
TOOLS := $(VENV)/tools
TOOLING := uv==0.13.9 pip-audit==2.10.1 cyclonedx-bom==7.5.0
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Files are installed only if their hashes are in requirements/*.lock. UNLOCKED=1 goes by the pins in constraints.txt
# alone: for another build of torch, or an index that builds its own files.
UNLOCKED ?=

# The first Python that is new enough; say PYTHON=... to choose another.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help venv demo demo-search test test-faults test-schemathesis test-docs docs serve check fuzz lock sbom vulnerabilities \
	organisms bench bench-load bench-detection bench-paper bench-search openapi reference figures clean

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(TEST) ## make .venv with everything: the service, the examples, the tests

demo: $(RUNTIME) ## audit a model with a backdoor and one without; needs nothing but this
	$(BIN)/python -m examples.demo --data "$(DATA)"

demo-search: $(RUNTIME) ## let the service find the trigger of the demo's model, and nothing in the harmless one
	$(BIN)/python -m examples.demo --search --data "$(DATA)"

serve: $(RUNTIME) ## run the whole stack on this machine until Ctrl-C
	$(BIN)/backdoor-audit serve --data-dir "$(DATA)"

test: $(TEST) ## run all tests, in two processes
	$(BIN)/python -m pytest -n 2

test-faults: $(TEST) ## run every row of the fault matrix
	$(BIN)/python -m pytest tests/faults tests/service/webhooks/test_row_16_webhooks.py -m ""

test-docs: $(TEST) ## run the commands of README and how-tos, then the demo without a network (half an hour)
	$(BIN)/python -m tests.docs.commands

docs: $(TEST) ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

test-schemathesis: $(TEST) ## try a hundred examples of each call of the API, and sequences of calls
	SCHEMATHESIS_EXAMPLES=100 $(BIN)/python -m pytest tests/service/openapi_document/test_schemathesis.py

check: $(TEST) ## lint, format, types, import directions, drift of OpenAPI, reference and figures, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m service.openapi_document --check
	$(BIN)/python -m tools.reference --check
	$(BIN)/python -m tools.unasync --check
	$(BIN)/python -m tools.figures --check
	@$(MAKE) --no-print-directory vulnerabilities

fuzz: $(TEST) ## change checkpoints at random, 10,000 times; writes tests/hostile/long_run.json
	$(BIN)/python -m tests.hostile.fuzz --inputs 10000 --load 2000 --out tests/hostile/long_run.json

vulnerabilities: ## look the locked packages up among the known vulnerabilities; says when it cannot
	@$(MAKE) --no-print-directory --silent $(TOOLS)/.installed || echo "vulnerabilities: the tools could not be installed"
	@$(BIN)/python tools/vulnerabilities.py $(TOOLS)/bin/pip-audit requirements/test.lock

sbom: $(RUNTIME) $(TOOLS)/.installed ## list what is installed, as CycloneDX, in sbom.cdx.json
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file sbom.cdx.json $(BIN)/python

lock: $(TOOLS)/.installed ## write requirements/*.lock: the pins of constraints.txt with the hashes of their files
	$(BIN)/python tools/lock.py $(TOOLS)/bin/uv

organisms: $(RUNTIME) ## train the example models again, into the data folder
	$(BIN)/python -m examples.organisms.make_all --base "$(DATA)/models/smollm2-135m" --out "$(DATA)/trained"

bench: $(TEST) ## measure, and write benchmarks/results/
	$(BIN)/python -m benchmarks

bench-load: $(TEST) ## 200 queued audits, 4 workers, 50 clients on this machine; writes benchmarks/results/load.json
	$(BIN)/python -m benchmarks.load

bench-detection: $(TEST) ## train, audit and score the detection benchmark; hours, goes on where it stopped
	$(BIN)/python -m benchmarks.detection --data "$(DATA)/detection"

bench-paper: $(TEST) ## make the seed paper's table again; goes on where it stopped
	$(BIN)/python -m benchmarks.paper --data "$(DATA)/detection"

bench-search: $(TEST) ## search the organisms of benchmarks/search for their triggers; goes on where it stopped
	$(BIN)/python -m benchmarks.search --data "$(DATA)/search"

openapi: $(TEST) ## write openapi/openapi.json from the code
	$(BIN)/python -m service.openapi_document --write

reference: $(TEST) ## write docs/reference from the code
	$(BIN)/python -m tools.reference --write

figures: $(TEST) ## fill the figures in the documentation from the committed records
	$(BIN)/python -m tools.figures --write

clean: ## remove .venv and caches; leaves the data folder alone
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment whose interpreter is gone (the system's Python was upgraded) is made anew.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: sudo apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments here: sudo apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

$(RUNTIME): pyproject.toml client/pyproject.toml constraints.txt requirements/run.lock | $(BIN)/python
	@echo "Installing into $(VENV); the first time takes some minutes."
ifndef UNLOCKED
	@$(PIP_INSTALL) --require-hashes --no-deps -r requirements/torch-cpu.lock >/dev/null 2>&1 || true
	$(PIP_INSTALL) --require-hashes --no-deps -r requirements/run.lock
	@$(BIN)/python tools/torch_build.py || $(PIP_INSTALL) --require-hashes --no-deps -r requirements/cuda.lock
	$(PIP_INSTALL) --no-deps --no-build-isolation -e ./client -e .
else
	$(PIP_INSTALL) -c constraints.txt -e ./client -e '.[examples]'
	$(PIP_INSTALL) -c constraints.txt --no-deps -r requirements/unlisted.in
endif
	@touch $@

$(TEST): $(RUNTIME) requirements/test.lock
ifndef UNLOCKED
	$(PIP_INSTALL) --require-hashes --no-deps -r requirements/test.lock
else
	$(PIP_INSTALL) -c constraints.txt -e ./client -e '.[test]'
	$(PIP_INSTALL) -c constraints.txt --no-deps -r requirements/unlisted-test.in
endif
	@touch $@

$(TOOLS)/.installed: Makefile | $(BIN)/python
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(TOOLING)
	@touch $@
