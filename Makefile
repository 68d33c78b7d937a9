PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test check clean

setup: .venv/installed

# torch comes first and pinned: a plain resolve would take its newest CUDA build.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/opticaldr demo --out demo-run

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check src tests experiments tools
	$(BIN)/ruff format --check src tests experiments tools
	$(BIN)/python -m pytest

clean:
	rm -rf .venv demo-run build dist
