# Roost. `make` lists the targets. PYTHON picks the interpreter, VENV where its environment goes:
#   make test PYTHON=python3.13 VENV=.venv-3.13
override PYTHON := $(or $(PYTHON),python3)
override VENV := $(or $(VENV),.venv)
override UV := $(or $(UV),uv)
LOCK ?= requirements/dev.txt
SEED ?=

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := $(VENV)/bin
RUN := $(BIN)/python
# Named after the interpreter's version, so that another PYTHON makes the environment anew.
READY := $(VENV)/.ready-$(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z.-]+:.*## ' Makefile | sed -E 's/^([a-z.-]+):[^#]*## /  make \1\t/' | expand -t 20

.PHONY: venv
venv: $(READY) ; @: ## the environment, from the pinned and hashed requirements
.PHONY: .venv
.venv: $(READY) ; @:

$(READY): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "make: $(PYTHON) is missing or older than 3.11: set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "make: $(PYTHON) has no venv module: on Debian and Ubuntu run 'apt install python3-venv'" >&2; exit 1; }
	@test ! -e $(VENV) || test -e $(VENV)/.made-by-make || \
	  { echo "make: $(VENV) was not made by this Makefile, which would replace it: set VENV" >&2; exit 1; }
	@echo "setting up $(VENV) (once; later runs reuse it)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $(VENV)/.made-by-make
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-input --prefer-binary \
	  --require-hashes --no-deps -r $(LOCK)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-input \
	  --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: demo
demo: $(READY) ## the main job on real input: three hosts, 1,500 documents or more, one SIGKILL
	@$(RUN) -m bench.demo

.PHONY: test
test: $(READY) ## the whole test suite, repetitions reduced
	@$(RUN) -m pytest $(ARGS)

.PHONY: test-full
test-full: $(READY) ## every count and bound that the suite knows; wants the machine for itself
	@ROOST_FULL=1 $(RUN) -m pytest -o faulthandler_timeout=1800 $(ARGS)

# Rustic AI wants Python 3.13 and pins of its own, so it has an environment of its own.
PYTHON313 ?= $(shell .ci/python3.13)
RUSTIC_VENV ?= .venv-rustic

.PHONY: test-rustic
test-rustic: ## Rustic AI's own conformance test and ours of its engine (needs Python 3.13)
	@$(or $(PYTHON313),false) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null || \
	  { echo "make: no Python 3.13 here, which Rustic AI needs: set PYTHON313=/path/to/python3.13" >&2; exit 1; }
	@$(MAKE) VENV=$(RUSTIC_VENV) PYTHON=$(PYTHON313) LOCK=requirements/rustic.txt venv
	@$(RUSTIC_VENV)/bin/python -m pytest tests/rustic $(ARGS)

.PHONY: check check-lint check-types check-layers
check: check-lint check-types check-layers ; @echo "check: clean" ## lint, format, types, layering
check-lint: $(READY)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
check-types: $(READY)
	@$(BIN)/mypy --strict --no-error-summary
check-layers: $(READY)
	@out=$$($(BIN)/lint-imports --no-cache 2>&1) || { echo "$$out"; exit 1; }

.PHONY: bench
bench: $(READY) ## the short form of all benchmarks
	@$(RUN) -m bench --short $(ARGS)

.PHONY: sim sim-mutants
sim: $(READY) ## simulate a cluster in virtual time; SEED=n replays a failure
	@$(RUN) -m tests.simulation $(if $(SEED),--seed $(SEED)) $(ARGS)
sim-mutants: $(READY) ## break the protocol on purpose and see the simulator find it
	@$(RUN) -m tests.simulation.mutants $(ARGS)

.PHONY: model
model: $(READY) ## search the protocol's core exhaustively, then each of its mutants
	@$(RUN) -m tests.simulation.model $(ARGS)
	@$(RUN) -m tests.simulation.model --mutant all

.PHONY: proto
proto: $(READY) ## compile wire/proto into wire/_generated
	@$(RUN) -m wire.proto.generate

.PHONY: lock
lock: ## pin and hash the requirements anew (needs uv)
	@command -v $(UV) >/dev/null || { echo "make: 'make lock' needs uv on PATH, or UV=/path/to/uv" >&2; exit 1; }
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" $(ARGS) pyproject.toml -o requirements/runtime.txt
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" $(ARGS) --extra dev pyproject.toml -o requirements/dev.txt
	@$(UV) pip compile --quiet --universal --python-version 3.13 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" $(ARGS) --extra rustic-dev pyproject.toml -o requirements/rustic.txt

.PHONY: clean
clean: ## remove every environment made here, and every cache
	@for made in $(VENV) $(RUSTIC_VENV); do test ! -e $$made/.made-by-make || rm -rf $$made; done
	@rm -rf .venv .venv-rustic .venv-k8s-schemas .venv-peers *.egg-info build dist \
	  .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
