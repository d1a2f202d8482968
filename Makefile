# Everything a person or CI does here. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
STAMP := .venv/.installed
PACKAGES := flows monitoring models features infra benchmarks

# Passed on to `millrace demo`, each only when it is given.
DEMO = $(if $(SURFACE),--surface '$(SURFACE)') $(if $(LOG),--log '$(LOG)') $(if $(ITEMS),--items '$(ITEMS)') \
       $(if $(FEEDBACK),--feedback '$(FEEDBACK)') $(if $(UNTIL),--until '$(UNTIL)')

# Processes that run the tests, a file of tests each: more than cores, since many wait. 0: this one, for a debugger.
WORKERS ?= 3
IN_PARALLEL = --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder # the many small files come last

# So that bytecode is kept wherever this runs: without it every start of a program takes several times as long.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo up down test test-all chaos check format bench clean

help: ## This list
	@printf 'Millrace keeps rankers fresh from live feedback. From a fresh clone: make demo, or make test.\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1mmake %-9s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nOn your own log: make demo LOG=clicks.parquet [SURFACE=…] [ITEMS=…] [FEEDBACK=…] [UNTIL=2026-01-31]\n'

install: $(STAMP) ## Make .venv with the exact set of packages that was tested; the others do it by themselves
	@:

$(STAMP): pyproject.toml constraints.txt
	@./infra/make_venv.sh .venv
	@echo 'Installing Millrace and what it needs into .venv (about 3 minutes) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
	    --constraint constraints.txt --editable '.[dev,bench,kafka,otel,text]'
	@$(BIN)/python -m compileall -qq -j 0 .venv/lib $(PACKAGES) || true # a few packages ship files of other Pythons
	@if top=$$(git rev-parse --show-toplevel 2>/dev/null) && [ "$$top" -ef . ] \
	    && ! git config core.hooksPath >/dev/null; then git config core.hooksPath .githooks; fi
	@touch $@

demo: $(STAMP) ## The whole loop from nothing; leaves the stack running. SURFACE=feed|headlines|movies|search|shop
	@$(BIN)/millrace demo $(DEMO)

up: $(STAMP) ## Start PostgreSQL, Prefect, MLflow, Evidently, serving and the flows, in the background
	@$(BIN)/millrace up --detach

down: $(STAMP) ## Stop them
	@$(BIN)/millrace down

test: $(STAMP) ## The tests, without the slow ones and without chaos
	@$(BIN)/python -m pytest $(IN_PARALLEL) -m 'not slow and not chaos' $(ARGS)

test-all: $(STAMP) ## All tests
	@$(BIN)/python -m pytest $(IN_PARALLEL) $(ARGS)

chaos: $(STAMP) ## The tests that kill processes, an update at each of its steps among them
	@$(BIN)/python -m pytest -m chaos $(ARGS)

check: $(STAMP) ## Format, lint, types, order of imports: for the seconds between edits
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(STAMP) ## Put the code into the project's form
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

BENCHES = gate canary quality cold breadth ablation retrieval fold import update size delta score frame serve
ON_LOG = $(if $(LOG),--log '$(LOG)') $(if $(ITEMS),--items '$(ITEMS)')
UP_TO = $(ON_LOG) $(if $(UNTIL),--until '$(UNTIL)')
OPTIONS_gate = $(ON_LOG) $(if $(LOGS),--folder '$(LOGS)')
OPTIONS_canary = $(if $(EXPERIMENTS),--log '$(EXPERIMENTS)')
OPTIONS_quality = $(UP_TO)
OPTIONS_ablation = $(UP_TO)
OPTIONS_cold = $(UP_TO)
OPTIONS_retrieval = $(UP_TO)
OPTIONS_fold = $(UP_TO)
OPTIONS_breadth = $(if $(LOGS),--folder '$(LOGS)')

bench: $(STAMP) ## All benches, into benchmarks/RESULTS.md; on LOG= [ITEMS=] [UNTIL=] and LOGS=, else seeded logs. BENCHES='size delta'
	@missed=; $(foreach name,$(BENCHES),$(BIN)/python -m benchmarks $(name) $(OPTIONS_$(name)) --record benchmarks \
	    || missed="$$missed $(name)";) \
	if [ -n "$$missed" ]; then echo "goals missed, or not measured:$$missed"; exit 1; fi

clean: ## Stop the stack; remove .venv and caches. The state in .millrace stays
	@if [ -x $(BIN)/millrace ]; then $(BIN)/millrace down || true; fi
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
