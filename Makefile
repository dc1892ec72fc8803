# `make demo` and `make test` need nothing but Python 3.11+ and this checkout: they make .venv/ themselves.
# What is installed is pinned, with hashes, in requirements/.

VENV   := .venv
BIN    := $(VENV)/bin
# The first interpreter that runs and is new enough; `make PYTHON=… test` chooses another.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
CODE   := $(wildcard consumer handlers tests bench)
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
ARGS   ?=
# Two halves of the suite at once, each with servers of its own; a file's tests stay together.
SIDE_BY_SIDE := --numprocesses 2 --dist loadfile --no-loadscope-reorder

export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.PHONY: help venv demo test check fmt coverage mutants bench bench-web storm rollout services lock clean deploy-check deploy-test image

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.runtime ## the example application, start to end, with no servers
	$(BIN)/python -m handlers.demo $(ARGS)

test: $(VENV)/.dev ## the whole test suite against real services (ARGS="-k name" for a part)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

check: $(VENV)/.dev ## format, lint, types, architecture: what to run before a commit
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary $(CODE)
	$(BIN)/lint-imports --no-logo

fmt: $(VENV)/.dev ## rewrite the code in the one format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .

coverage: $(VENV)/.dev ## the test suite with branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term --cov-report=html $(ARGS)

mutants: $(VENV)/.dev ## break the code on purpose; every break must fail a test
	$(BIN)/python -m tests.mutants $(ARGS)

bench: $(VENV)/.dev ## measure
	$(BIN)/python -m bench $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m bench.web)

bench-web: $(VENV)/.dev ## measure HTTP alone
	$(BIN)/python -m bench.web $(ARGS)

storm: $(VENV)/.dev ## four workers and their servers killed, stopped and restarted for five minutes; prints the books
	$(BIN)/python -m tests.storm $(ARGS)

rollout: $(VENV)/.dev ## 1 -> 4 -> 1 workers, each replaced, while 100,000 messages flow; prints the books
	$(BIN)/python -m tests.rollout $(ARGS)

deploy-check: ## chart, image and alerts, checked without a cluster (first time: builds its tools, 5 minutes)
	@deploy/tools/get.sh check
	@.cache/tools/venv/bin/python deploy/tools/check.py

deploy-test: ## install, upgrade, roll back and uninstall the chart on a real API server (first time: 15 minutes)
	@deploy/tools/get.sh cluster
	@deploy/tools/cluster_test.sh

image: ## build the image, on a base of our own where there is no registry, and try it
	@deploy/image/build.sh
	@deploy/image/try.sh

services: $(VENV)/.dev ## fetch Kafka, PostgreSQL and Redis ahead of the first test run
	$(BIN)/python -m tests.services fetch

venv: $(VENV)/.dev ## everything for development, in .venv/

lock: $(VENV)/.dev ## renew requirements/ from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --extra all --group dev --upgrade -o requirements/dev.txt $(LOCK)
	printf 'editables\nhatchling\n' | uv pip compile pyproject.toml - --extra all -c requirements/dev.txt \
		-o requirements/runtime.txt $(LOCK)

LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-header --no-annotate --quiet

clean: ## remove what was built and fetched
	rm -rf $(VENV) .cache .coverage* htmlcov dist build
	find . -name __pycache__ -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------------------------------- venv

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found (PYTHON=/path/to/python3 names one)." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment (Debian: install python3-venv)." >&2; exit 1; }

# --no-deps: the files list everything, and a resolver would ask for the newest of what somebody names with an extra.
$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(BIN)/python
	$(PIP) install --no-deps --require-hashes --requirement requirements/runtime.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	$(PIP) install --no-deps --require-hashes --requirement requirements/dev.txt
	@touch $@
