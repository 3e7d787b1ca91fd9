# Virtual environment, tests and demo. STACK=upstream takes the second set of pins, in its own environment.
export STACK ?= openmmlab
PYTHON ?= python3
SIZE ?= mini
VENV_openmmlab := .venv
VENV_upstream := .venv-upstream
BIN := $(VENV_$(STACK))/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4

.DEFAULT_GOAL := help
.PHONY: help env demo test test-slow test-all test-matrix bench lint format docs clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

env: ## Make the virtual environment, or do nothing when it stands
	@$(PYTHON) tools/setup_env.py

demo: env ## Write a small data set, train on it, evaluate, draw rankings (SIZE=tiny: in two minutes)
	@$(BIN)/python tools/demo.py --size $(SIZE)

test: env ## Run the tests, without those marked slow (ARGS='-k oim' is handed to pytest)
	@$(PYTEST) -m 'not slow' $(ARGS)

test-slow: env ## Run the slow tests, and those that read the real annotation files in MMPS_TEST_DATA
	@$(PYTEST) -m 'slow or data' $(ARGS)

bench: env ## Run the benchmarks and write benchmarks/RESULTS.md (ARGS='--only oim inference'; needs make demo)
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/run_all.py $(ARGS)

test-all: test test-slow demo ## Run every test, then the demo

test-matrix: ## Run the tests in fresh clones on Python 3.10 to 3.13 and on the upstream stack
	@tools/test_matrix.sh

lint: env ## Check style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: env ## Mend style and format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: env ## Build the documentation, docs/_build/html/index.html; a warning is an error
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html

clean: ## Remove build products and caches; environments, data and work_dirs stay
	@rm -rf build dist docs/_build *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find mmps_kd tools tests configs benchmarks -name __pycache__ -type d -exec rm -rf {} + 2>/dev/null || true
