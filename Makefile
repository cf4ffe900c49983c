# The two commands a newcomer needs: `make demo` and `make test`.
# They need Python 3.11 or newer with venv, and pip; no compiler.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_FLAGS ?= --disable-pip-version-check --quiet

.PHONY: demo test dev check lint types tests bench accuracy sizes pages digits clean

demo: $(VENV)/demo-installed ## Build, run and measure two models
	$(BIN)/bessemer demo

test: dev lint types tests ## Everything that CI runs

dev: $(VENV)/dev-installed ## The environment for developers

check: test ## The same as test

lint: $(VENV)/dev-installed
	$(BIN)/ruff check src tests examples bench docs

types: $(VENV)/dev-installed
	$(BIN)/mypy

tests: $(VENV)/dev-installed
	$(BIN)/python -m pytest

bench: $(VENV)/dev-installed ## Speed beside every other runtime that is installed
	$(BIN)/python bench/side_by_side.py

accuracy: $(VENV)/dev-installed ## Accuracy of every network of the zoo at full size
	$(BIN)/python bench/zoo_accuracy.py

sizes: ## Lines of code per folder, and the difference to the last commit
	@for folder in src/bessemer/*/ tests examples; do \
		printf '%7s  %s\n' "$$(find $$folder -name '*.py' -exec cat {} + | wc -l)" "$$folder"; \
	done
	@git diff --stat HEAD -- src tests examples | tail -1

pages: $(VENV)/dev-installed ## Writes the generated pages of docs/ anew
	$(BIN)/python docs/make_map.py
	$(BIN)/python docs/make_cli.py
	$(BIN)/python docs/make_tables.py
	$(BIN)/python docs/make_operators.py

digits: $(VENV)/dev-installed ## Trains the demo's network anew
	$(BIN)/python examples/digits/train.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[demo]'
	@touch $@

$(VENV)/dev-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[dev]'
	@touch $@

clean: ## Removes what the commands above made
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
