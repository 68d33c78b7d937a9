PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo docs browser test check clean

setup: .venv/installed

# torch comes first and pinned: a plain resolve would take its newest CUDA build.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/opticaldr demo --out demo-run

docs: setup
	$(BIN)/mkdocs build --strict

# For tests/test_browser.py: Chromium from Debian, where that needs no question (root, apt). It never
# fails; without a browser those tests are skipped and say so.
browser:
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || test "$$(id -u)" != 0 || \
	timeout 900 sh -c 'apt-get update && apt-get install -y --no-install-recommends chromium fonts-dejavu-core' \
	>/dev/null 2>&1 </dev/null || true

test: setup browser
	$(BIN)/python -m pytest

check: setup browser
	$(BIN)/ruff check src tests experiments examples tools
	$(BIN)/ruff format --check src tests experiments examples tools
	$(BIN)/python -m pytest

clean:
	rm -rf .venv demo-run site build dist
