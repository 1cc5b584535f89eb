# Two commands for a fresh machine (Python 3.11+, make, git):
#   make demo   installs and runs the main job offline
#   make test   installs, lints, type-checks and runs the tests
# and before a release:
#   make test-release   also runs the tests marked `release`

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
CHROMIUM := /usr/bin/chromium

.PHONY: demo test test-release lint clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[app,earth,archive,mapping,planetary-computer,gpp,diffusion,steer,explore,benchmarks,docs,test]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps satellitetools
	touch $@

# The browser that the end-to-end tests of the app drive; without one they are skipped.
$(CHROMIUM):
	@if command -v apt-get >/dev/null && { [ "$$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes chromium >/dev/null; \
	else echo "no Chromium at $@ and no way to install it: its tests will be skipped"; fi

demo: $(INSTALLED)
	$(BIN)/thalweg earth demo demo/earth
	$(BIN)/thalweg steer demo demo/steer

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell src docs tests benchmarks scripts README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Two files of tests at a time, and a file's tests one after the other: they share what is costly to make.
test: lint $(CHROMIUM)
	$(BIN)/pytest --numprocesses 2 --dist loadfile -m "not release"

test-release: lint $(CHROMIUM)
	$(BIN)/pytest --numprocesses 2 --dist loadfile

clean:
	rm -rf .venv demo
