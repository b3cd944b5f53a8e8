# `make demo` and `make test` do all their set-up by themselves; nothing else is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types check clean

demo: $(VENV)/ready
	$(BIN)/rtr demo output

test: lint types check

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/pyright

check: $(VENV)/ready
	$(BIN)/pytest

# A Python that has torch already, as ComfyUI's does, lends it; else the pinned build is taken.
$(VENV)/ready: pyproject.toml constraints.txt
	if $(PYTHON) -c 'import torch' 2>/dev/null; \
	then $(PYTHON) -m venv --system-site-packages $(VENV) && $(BIN)/pip install -q -e '.[dev]'; \
	else $(PYTHON) -m venv $(VENV) && $(BIN)/pip install -q -c constraints.txt -e '.[dev]'; fi
	touch $@

clean:
	rm -rf $(VENV) output
