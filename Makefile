# `make demo` and `make test` set everything up first, in a virtual environment of
# their own. `make PYTHON=python3.13 VENV=.venv313 test` uses another Python.
PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= .venv-bench
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow coverage lint bench docs clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/python -m experiments.cost_sensitive demo --out outputs/demo

# What trains or runs whole experiments is apart: `make test` leaves it out.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

coverage: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov=jal --cov-report=term

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

bench: $(BENCH_VENV)/.ready
	$(BENCH_VENV)/bin/python -m benchmarks

# The libraries jal is measured beside have many requirements of their own.
$(BENCH_VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(BENCH_VENV)/bin/python -m pip install --quiet -c constraints.txt torch
	$(BENCH_VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BENCH_VENV)/bin/python -m pip install --quiet -c constraints.txt --no-deps batchbald_redux
	touch $(BENCH_VENV)/.ready

docs: $(READY)
	$(BIN)/pdoc jal -o outputs/docs

clean:
	rm -rf $(VENV) $(BENCH_VENV) outputs .cache
