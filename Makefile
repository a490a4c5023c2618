# `make` or `make help` lists what can be done here.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
ARGS ?=

# The build that is installed, else the one that fits this machine. ENGINE=cpu|cuda overrides.
ifndef ENGINE
ENGINE := $(or $(shell cat $(VENV)/.engine 2>/dev/null),$(shell scripts/detect-engine.sh))
endif
ifeq ($(filter $(ENGINE),cpu cuda),)
$(error ENGINE is cpu or cuda, not "$(ENGINE)")
endif

RUNTIME := $(VENV)/.runtime-$(ENGINE)
PROJECT := $(VENV)/.project
DEV := $(VENV)/.dev

# An environment that was copied or moved points into the old folder: it is made anew.
ifneq ($(CURDIR),$(shell cat $(VENV)/.root 2>/dev/null))
.PHONY: $(RUNTIME)
endif

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  ARGS=\"...\"          is passed on:   make test ARGS=\"-k policy -x\""
	@echo "  PYTHON=python3.12   chooses the Python, ENGINE=cpu|cuda the build of vLLM"

.PHONY: demo
demo: $(PROJECT)  ## install, then serve the demo model with its adapters on 127.0.0.1:8000
	@exec $(PY) -m adaptry demo $(ARGS)

.PHONY: test
test: $(PROJECT) $(DEV)  ## install what is missing, then run all tests
	@$(PY) -m pytest -n auto --dist loadscope $(ARGS)

.PHONY: lint
lint: $(PROJECT) $(DEV)  ## ruff (rules and format), shellcheck
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(VENV)/bin/shellcheck scripts/*.sh .ci/run

.PHONY: types
types: $(PROJECT) $(DEV)  ## mypy, strict
	@$(PY) -m mypy

.PHONY: contracts
contracts: $(PROJECT) $(DEV)  ## import-linter: which package may import which
	@$(VENV)/bin/lint-imports

.PHONY: hooks
hooks: $(PROJECT) $(DEV)  ## the commit hooks that are not in lint, types, contracts or the tests
	@SKIP=ruff-check,ruff-format,mypy,import-contracts,shellcheck,dashboard $(VENV)/bin/pre-commit run --all-files

.PHONY: console
console:  ## check and build the console from its locked packages (needs Node 20)
	@cd console && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build

.PHONY: check
check: lint types contracts hooks test  ## lint, types, contracts, hooks and tests

.PHONY: format
format: $(PROJECT) $(DEV)  ## let ruff repair what it can
	@$(PY) -m ruff check --fix-only .
	@$(PY) -m ruff format .

.PHONY: install
install: $(PROJECT)  ## only install what the server needs

.PHONY: mlflow
mlflow: $(VENV)/.mlflow  ## install an MLflow server of its own, which one of the tests needs

.PHONY: azurite
azurite: $(VENV)/.azurite  ## install Azurite, which the tests of azure:// sources need (npm)

.PHONY: peers
peers: $(VENV)/.peers  ## install clients of other servers, which one of the tests needs

.PHONY: demo-model
demo-model: $(PROJECT) $(DEV)  ## train the demo model and its adapters again (minutes)
	@$(PY) -m demo.train $(ARGS)

.PHONY: fuzz
fuzz: $(PROJECT) $(DEV)  ## look for input that hurts, for minutes (ARGS="--adapters 100000 --minutes 30 --seed 7")
	@$(PY) -m fuzz $(ARGS)

.PHONY: matrix
matrix: $(PROJECT) $(DEV)  ## base models and kinds of adapters against PEFT, over HTTP and offline; writes docs/inspection.md
	@$(PY) -m pytest --long tests/contract/test_matrix.py $(ARGS)
	@$(PY) -m tests.support.adapters.matrix

.PHONY: test-gpu
test-gpu: $(PROJECT) $(DEV)  ## modes of an engine on a GPU (ARGS="--engine-on cpu": those that the CPU has)
	@$(PY) -m pytest --engine-on cuda tests/gpu $(ARGS)

.PHONY: faults
faults: $(PROJECT) $(DEV)  ## faults and fuzzing in their long form: more rounds than in CI
	@$(PY) -m pytest --long -s tests/faults tests/fleet/test_faults.py tests/api/robustness $(ARGS)

.PHONY: soak
soak: $(PROJECT) $(DEV)  ## an hour in which everything changes (ARGS="--minutes 5"): nothing wrong, nothing grows
	@exec env OMP_NUM_THREADS=1 $(PY) -m benchmarks.soak $(ARGS)

.PHONY: docs
docs: $(PROJECT) $(DEV)  ## build the documentation into site/ (ARGS=serve: on 127.0.0.1:8001)
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs $(or $(ARGS),build) --strict

.PHONY: reference
reference: $(PROJECT) $(DEV)  ## write docs/reference, docs/openapi.json and the client's models from the code
	@$(PY) -m docs.generate

.PHONY: lock
lock: $(RUNTIME)  ## write requirements/*.txt from pyproject.toml (ARGS=--upgrade for newer ones)
	@scripts/lock.sh $(ARGS)

.PHONY: audit
audit: $(PROJECT) $(DEV)  ## ask for known vulnerabilities of all that is locked (needs the network)
	@$(PY) scripts/audit.py $(ARGS)

.PHONY: clean
clean:  ## remove the environment, the caches and the state of the demo
	rm -rf $(VENV) site .adaptry/demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist console/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): requirements/bootstrap.txt requirements/$(ENGINE).txt requirements/torch-cpu.txt
	@scripts/install.sh runtime $(ENGINE)

$(PROJECT): $(RUNTIME) pyproject.toml
	@scripts/install.sh project

$(DEV): $(RUNTIME) requirements/dev.txt
	@scripts/install.sh dev

$(VENV)/.mlflow: $(RUNTIME) requirements/mlflow.txt
	@scripts/install.sh mlflow

$(VENV)/.azurite: $(RUNTIME) requirements/azurite/package.json requirements/azurite/package-lock.json
	@scripts/install.sh azurite

$(VENV)/.peers: $(RUNTIME) requirements/peers.txt
	@scripts/install.sh peers
