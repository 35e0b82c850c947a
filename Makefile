# What people type. `make demo` and `make test` set up everything they need; a second run starts in seconds.
SHELL := /bin/bash
# Python then keeps what it compiles: without that the tests' hundreds of processes compile the package anew, each.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
VENV ?= .venv
UV ?= uv
PY := $(VENV)/bin/python
# CPython 3.11 to 3.13; the first of these that really runs (a version manager's shim may not).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { echo $$p; break; }; done)
READY := $(VENV)/.ready-$(shell cat pyproject.toml requirements/*.lock 2>/dev/null | cksum | cut -d' ' -f1)
# Wheels only, each with a hash that the lock file names: no package's own code runs at set-up.
INSTALL = -m pip install --disable-pip-version-check --require-hashes --only-binary :all:

.PHONY: help setup demo test test-slow check lint lock types e2e up bench bench-audit bench-cache bench-compress bench-guard \
	bench-hostile bench-pluginserver mcp-conformance docs release clean

help: ## List the recipes
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

$(READY):
	@[ -n "$(PYTHON)" ] || { echo "error: needs CPython 3.11, 3.12 or 3.13 (PYTHON=/path/to/python)" >&2; exit 2; }
	@echo "[1/3] virtual environment $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "[2/3] packages (about 250 MB, a minute or two)"
	@$(PY) $(INSTALL) --quiet --progress-bar on -r requirements/dev.lock -r requirements/build.lock
	@$(PY) -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.ready-* && touch $@

setup: $(READY) ## Make the virtual environment and build the models
	@[ -f $(VENV)/.models ] || echo "[3/3] models (a 90 MB download and half a minute, once)"
	@$(VENV)/bin/tenantgate models build --quiet-if-built && touch $(VENV)/.models

demo: setup ## Start the gateway, send real traffic, show what each part does
	@$(PY) -m tenantgate.demo

# One more than processors, since many tests wait for processes.
WORKERS := $(shell n=$$(nproc); echo $$(( n < 4 ? n + 1 : 4 )))

test: setup ## All tests, on all cores up to four; ARGS="-n 0 tests/unit -k …" for some of them in one process
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: setup ## The tests that `make test` leaves out: the load harness, and more ways of dying
	@$(PY) -m pytest -m slow $(ARGS)

e2e: setup ## End-to-end tests; KONG_BIN=/path/to/kong or GATEWAY_URL=… runs them on a real Kong
	@$(PY) -m pytest -m e2e tests/e2e $(if $(KONG_BIN),--kong-bin=$(KONG_BIN)) $(if $(GATEWAY_URL),--gateway-url=$(GATEWAY_URL)) \
		$(if $(MOCK_URL),--mock-url=$(MOCK_URL)) $(if $(REDIS_URL),--redis-url=$(REDIS_URL)) $(ARGS)

check: setup lint types ## Style, types and the architecture's rules

lint: $(READY) ## Style, and the rule of what may import what
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/lint-imports && $(VENV)/bin/vulture

types: $(READY) ## Types, strictly
	@$(VENV)/bin/mypy

up: setup ## The embedded gateway with tenants.yaml (FILE=…), until Ctrl-C
	@$(VENV)/bin/tenantgate up $(if $(FILE),-f $(FILE)) $(ARGS)

bench-audit: setup ## PII=pii.jsonl: what the audit log leaks, and its speed
	@$(PY) benchmarks/bench_audit.py $(if $(PII),--pii $(PII)) $(ARGS)

bench: setup ## What the plugins cost and give, beside the same gateway without them; KONG_BIN=… on a real Kong
	@$(VENV)/bin/tenantgate bench $(if $(KONG_BIN),--kong $(KONG_BIN)) $(ARGS)

bench-cache: setup ## PAIRS=pairs.jsonl TRAFFIC=traffic.jsonl: the cache's quality and speed; without them, on its own tables
	@$(PY) benchmarks/bench_cache_tables.py
	@[ -z "$(PAIRS)" ] || $(PY) benchmarks/bench_cache.py $(if $(PAIRS),--pairs $(PAIRS)) $(if $(TRAFFIC),--traffic $(TRAFFIC)) $(ARGS)

bench-compress: setup ## MEETINGS=… PROBLEMS=… PROMPTS=…: what compression saves, keeps and takes
	@$(PY) benchmarks/bench_compress.py $(if $(MEETINGS),--meetings $(MEETINGS)) \
		$(if $(PROBLEMS),--problems $(PROBLEMS)) $(if $(PROMPTS),--prompts $(PROMPTS)) $(ARGS)

bench-guard: setup ## ATTACKS=… OTHER=… PII=pii.jsonl TEXTS="a.jsonl …": the guardrails' quality and speed
	@$(PY) benchmarks/bench_guard.py $(if $(ATTACKS),--attacks $(ATTACKS) $(OTHER)) $(if $(PII),--pii $(PII)) \
		$(if $(TEXTS),--texts $(TEXTS)) $(ARGS)

bench-hostile: setup ## What costly requests cost, and what they cost others; KONG_BIN=… on a real Kong
	@$(PY) benchmarks/bench_hostile.py $(if $(KONG_BIN),--kong-bin $(KONG_BIN)) $(ARGS)

bench-pluginserver: setup ## The plugin server beside kong-pdk's own
	@$(PY) benchmarks/bench_pluginserver.py $(ARGS)

mcp-conformance: setup ## MCP's own conformance suite, from npm (NODE=/path/to/node, 22 or later); KONG_BIN=… on a real Kong
	@$(PY) benchmarks/mcp_conformance.py --packages $(VENV)/mcp-conformance $(if $(NODE),--node $(NODE)) \
		$(if $(KONG_BIN),--kong-bin $(KONG_BIN)) $(ARGS)

lock: ## Resolve all packages anew and write their hashes; UV=/path/to/uv, ARGS=--upgrade
	@compile() { $(UV) pip compile "$$@" --universal --python-version 3.11 --generate-hashes --no-build --no-header \
		--no-emit-index-url --no-emit-find-links --quiet $(ARGS); }; \
	compile pyproject.toml --extra dev-host --extra dev -o requirements/dev.lock \
	&& compile pyproject.toml -c requirements/dev.lock -o requirements/runtime.lock \
	&& compile pyproject.toml -c requirements/dev.lock --extra mock -o requirements/mock.lock \
	&& compile requirements/build.in -c requirements/dev.lock -o requirements/build.lock \
	&& compile requirements/release.in -c requirements/dev.lock -o requirements/release.lock

docs: setup ## Write the generated parts of the documentation anew
	@$(VENV)/bin/tenantgate docs

release: check test ## Build and check the release of this version into dist/, and print what to push
	@.ci/release

clean: ## Remove what the recipes made in this folder
	rm -rf $(VENV) .tenantgate dist reports .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
