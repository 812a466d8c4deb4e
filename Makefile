# Each target works from a bare clone: it makes .venv first where that is missing or outdated.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install install-minimum quickstart test test-rest test-all lint bench docs clean

help:
	@echo "make quickstart   train a small denoiser and look at what it does (less than eight minutes after the install)"
	@echo "make test         run the tests that are enough to trust a change (under 5 minutes on two idle cores)"
	@echo "make test-all     run all tests (about half an hour)"
	@echo "make lint         check style and types"
	@echo "make docs         build the documentation, docs/_build/html; warnings are errors"
	@echo "make bench        measure speed, beside PyTorch where .venv has it (under 10 minutes)"
	@echo "make install      only make .venv; PYTHON=python3.12 chooses the interpreter"

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "lcdnet_jax needs Python 3.11 or newer; choose one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	@touch $@

# The oldest versions that pyproject.toml allows. Needs uv, since pip cannot choose them.
install-minimum:
	uv venv --quiet --clear --python $(PYTHON) $(VENV)
	uv pip install --quiet --python $(BIN)/python --resolution lowest-direct --editable ".[test]"
	@touch $(STAMP)

quickstart: install
	$(BIN)/python quickstart.py

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

test: install
	$(PYTEST) -m "not extended"

# What `make test` leaves out.
test-rest: install
	$(PYTEST) -m extended

test-all: install
	$(PYTEST)
	LCDNET_JAX_SLOW_TESTS=1 $(PYTEST) -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install
	$(BIN)/python docs/architecture.py
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "written: docs/_build/html/index.html"

# Large pages: JAX on CPU takes fresh memory for each step, and most of the time of a small step
# would go into mapping it 4 KiB at a time. Ignored where the C library is another.
FAST_CPU := GLIBC_TUNABLES=glibc.malloc.hugetlb=1

bench: install
	$(FAST_CPU) $(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) quickstart docs/_build
