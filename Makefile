# Two commands on a fresh machine: `make build` and `make test`. Both make their own environment first.
# Variables become options: TARGET= (-t), K= (-k), M= (-m), ENV= (environment overlay), JOBS= (workers). ARGS= is handed
# on to pytest as the shell reads it: make test ARGS="-x --durations=5"

VENV  := .venv
BIN   := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(BIN):$(PATH)

# Quoted for the shell: an expression such as K="web and not slow" is one word.
quote   = '$(subst ','\'',$(1))'
option  = $(if $(strip $(2)),$(1) $(call quote,$(2)))
OPTIONS = $(call option,-t,$(TARGET)) $(call option,-k,$(K)) $(call option,-m,$(M)) $(call option,--build-env,$(ENV)) \
          $(call option,-n,$(JOBS))

.DEFAULT_GOAL := help
.PHONY: help build build-plan build-profile build-watch build-clean-smart build-status build-explain build-log build-graph build-doctor build-import setup test lint schema bench bench-shop bench-cache clean FORCE

help: ## list the targets
	@echo "usage: make TARGET [VARIABLE=value]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 28
	@sed -n 's/^# \(Variables.*\)/\1/p; s/^# \(on to .*\)/\1/p' $(firstword $(MAKEFILE_LIST))

# Compared by content, so that neither a checkout nor a `touch` makes the environment anew.
$(READY): FORCE
	@if ! cmp -s pyproject.toml $(READY) || ! $(VENV)/bin/python -c '' 2>/dev/null; then \
	  for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.10 none; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && break; \
	  done; \
	  if [ "$$python" = none ]; then echo "make: Python 3.10 or newer is needed (apt install python3-venv)" >&2; exit 1; fi; \
	  echo "make: environment in $(VENV), once and whenever pyproject.toml changes (a minute or two)"; \
	  $(VENV)/bin/python -c '' 2>/dev/null || "$$python" -m venv --clear $(VENV) || \
	    { echo "make: no virtual environment can be made (apt install python3-venv)" >&2; exit 1; }; \
	  $(VENV)/bin/python -m pip install --disable-pip-version-check --progress-bar off --editable '.[dev,tools]' && \
	  cp pyproject.toml $(READY); \
	fi

build: $(READY) ## build the example workspace and this project's wheel
	@pytest-build build $(OPTIONS) -- $(ARGS)

build-plan: $(READY) ## what `make build` would do, and why
	@pytest-build build --dry-run $(OPTIONS) -- $(ARGS)

build-profile: $(READY) ## where the time of the last build went (TRACE=FILE writes a trace for ui.perfetto.dev)
	@pytest-build profile $(call option,--trace,$(TRACE)) $(ARGS)

build-status: $(READY) ## every step's state now, without running anything
	@pytest-build status $(call option,--build-env,$(ENV)) $(ARGS)

build-explain: $(READY) ## what will be built and why: TARGET=web (ARGS=--last: why it was)
	@pytest-build explain $(call option,,$(TARGET)) $(call option,--build-env,$(ENV)) $(ARGS)

build-log: $(READY) ## what the last run did (ARGS="failed", "output web:bundle", "diff last~1 last")
	@pytest-build log $(ARGS)

build-graph: $(READY) ## which step needs which, and the critical path (ARGS="--format mermaid")
	@pytest-build graph $(call option,,$(TARGET)) $(ARGS)

build-watch: $(READY) ## build what an edit affects, until Ctrl-C
	@pytest-build watch $(OPTIONS) $(ARGS)

build-doctor: $(READY) ## the tools, versions and servers that the build needs
	@pytest-build doctor $(ARGS)

build-import: $(READY) ## a build.yml from a Makefile (ARGS="-o -" prints it)
	@pytest-build import-makefile $(ARGS)

setup: $(READY) ## guided set-up in a repository that has no build file
	@pytest-build init $(ARGS)

build-clean-smart: $(READY) ## remove what is stale (DRY=1 says what, ARGS=--all takes the outputs too)
	@pytest-build clean $(if $(DRY),--dry-run) $(ARGS)

test: $(READY) ## the tests of this project
	@python -m pytest tests -n $(call quote,$(or $(JOBS),2)) --dist loadfile --timeout 600 $(call option,-k,$(K)) $(call option,-m,$(M)) $(ARGS)

lint: $(READY) ## ruff and mypy
	@ruff check build_tests builders tests benchmarks examples conftest.py
	@mypy

schema: $(READY) ## write config/build.schema.json, for editors, and docs/reference.md
	@pytest-build schema >config/build.schema.json
	@python docs/make_reference.py

bench: $(READY) ## measure against ninja, doit and make
	@python benchmarks/run.py $(ARGS)

bench-shop: $(READY) ## build the example workspace with its plain Makefile and with pytest-build
	@python benchmarks/shop.py $(ARGS)

bench-cache: $(READY) ## measure the artifact cache against a bare copy, ninja with a copying script, Turborepo
	@python benchmarks/cache.py $(ARGS)

clean: ## remove what builds have left, and the environment
	@rm -rf .build .pytest_cache $(VENV)
