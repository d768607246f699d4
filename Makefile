VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
CODE := $(wildcard parley tests examples scripts/*.py)

# What must be there before the server starts.
SERVABLE := $(VENV)/.runtime

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# `exec`, so that Ctrl-C and SIGTERM reach the server itself.
.PHONY: up
up: $(SERVABLE) ## Install what is missing, then serve
	@exec $(BIN)/parley serve

.PHONY: demo
demo: $(SERVABLE) ## Serve with people and rooms to look at; nothing is kept
	@exec $(BIN)/python scripts/demo.py

.PHONY: venv
venv: $(VENV)/.runtime ## Make .venv with the parley command
	@echo "Ready: $(BIN)/parley"

.PHONY: test
test: $(VENV)/.dev ## Run all tests (ARGS="-k name" goes to pytest)
	@scripts/test-servers postgresql redis rabbitmq strace curl
	@$(BIN)/pytest $(ARGS)

.PHONY: test-quick
test-quick: $(VENV)/.dev ## Run the tests that are not slow and need no other server
	@$(BIN)/pytest -m "not slow and not servers" $(ARGS)

.PHONY: test-delivery
test-delivery: $(VENV)/.dev ## Run the delivery matrix, every fault at length, and print its table
	@scripts/test-servers postgresql redis rabbitmq
	@PARLEY_TEST_DELIVERY=long $(BIN)/pytest tests/delivery $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev ## Look for mistakes, wrong types and imports that point outward
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(CODE)
	@found=$$($(BIN)/lint-imports --no-logo) || { echo "$$found"; exit 1; }; echo "$$found" | tail -n 1

.PHONY: format
format: $(VENV)/.dev ## Format the code
	@$(BIN)/ruff check --quiet --select I --fix .
	@$(BIN)/ruff format .

.PHONY: format-check
format-check: $(VENV)/.dev ## Say what `make format` would change
	@$(BIN)/ruff format --check .

.PHONY: check
check: format-check lint test ## Everything that CI runs

.PHONY: bench
bench: $(VENV)/.dev ## Measure every store, and two nodes over every bus (ARGS="--seconds 2")
	@scripts/test-servers postgresql redis rabbitmq
	@$(BIN)/python scripts/bench-stores $(ARGS)
	@$(BIN)/python scripts/bench-nodes $(ARGS)

.PHONY: docker docker-up docker-down proto
docker: ## Build the container image (later)
docker-up: ## Start the server and its neighbours in containers (later)
docker-down: ## Stop those containers (later)
proto: ## Generate the gRPC code (later)
docker docker-up docker-down proto:
	@echo "make $@ comes with a later release." >&2; exit 1

.PHONY: lock
lock: ## Lock the dependencies anew (ARGS=--regenerate takes the newest)
	@scripts/lock $(ARGS)

.PHONY: clean
clean: ## Remove .venv, caches and builds, never data
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment knows where it was made; one that was moved, or has lost its Python, is made anew.
SOUND := $(shell test -x $(BIN)/python && test -x $(BIN)/pip && \
	grep -qsF " $(CURDIR)/$(VENV)" $(VENV)/pyvenv.cfg && echo yes)

.PHONY: new-venv
new-venv:
	@scripts/new-venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml $(if $(SOUND),,new-venv)
	@echo "Installing what Parley needs"
	@$(PIP) install --require-hashes -r $<
	@echo "Installing the parley command"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	@echo "Installing the development tools"
	@$(PIP) install --require-hashes -r $<
	@touch $@
