# Two commands on a fresh machine: `make build` and `make test`. Both make their own environment first.
# Variables become options: TARGET= (-t), K= (-k), M= (-m), ENV= (environment overlay), JOBS= (workers), ARGS= (for pytest).

PYTHON ?= python3
VENV   := .venv
BIN    := $(abspath $(VENV))/bin
READY  := $(VENV)/.ready
export PATH := $(BIN):$(PATH)

# Quoted for the shell: an expression such as `K=web and not slow` is one word.
quote   = '$(subst ','\'',$(1))'
option  = $(if $(2),$(1) $(call quote,$(2)))
OPTIONS = $(call option,-t,$(TARGET)) $(call option,-k,$(K)) $(call option,-m,$(M)) $(call option,--build-env,$(ENV)) \
          $(call option,-n,$(JOBS))

.DEFAULT_GOAL := help
.PHONY: help build build-plan test lint schema bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(READY): pyproject.toml
	@echo "make: creating $(VENV) (once, and when pyproject.toml changes)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --upgrade pip
	@$(VENV)/bin/python -m pip install --progress-bar off --editable '.[dev,tools]' | sed -n 's/^Successfully/make: &/p'
	@touch $@

build: $(READY) ## build the example workspace and this project's wheel
	@pytest-build build $(OPTIONS) -- $(ARGS)

build-plan: $(READY) ## what `make build` would do, and why
	@pytest-build build --dry-run $(OPTIONS) -- $(ARGS)

test: $(READY) ## the tests of this project
	@python -m pytest tests -n $(or $(JOBS),2) --dist loadfile $(call option,-k,$(K)) $(call option,-m,$(M)) $(ARGS)

lint: $(READY) ## ruff and mypy
	@ruff check build_tests builders tests benchmarks examples conftest.py
	@mypy

schema: $(READY) ## write config/build.schema.json, for editors
	@pytest-build schema >config/build.schema.json

bench: $(READY) ## measure against ninja, doit and make
	@python benchmarks/run.py $(ARGS)

clean: ## remove what builds have left, and the environment
	@rm -rf .build .pytest_cache $(VENV)
