# Two commands for a fresh machine (Python 3.11+, make, git):
#   make demo   installs and runs the main job offline
#   make test   installs, lints, type-checks and runs the tests

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[earth,archive,gpp,diffusion,steer,benchmarks,test]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/thalweg earth demo demo/earth
	$(BIN)/thalweg steer demo demo/steer

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

clean:
	rm -rf .venv demo
