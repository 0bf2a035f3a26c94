# Two targets are all a newcomer needs: `make quickstart` and `make test`. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-slow bench-micro lint clean

quickstart: $(VENV)/.installed
	$(BIN)/hf-finetune train recipes/quickstart.yaml
	$(BIN)/hf-finetune predict runs/quickstart docs/digit.png

test: $(VENV)/.test-installed lint
	$(BIN)/python -m pytest
	$(MAKE) bench-micro

test-slow: $(VENV)/.test-installed
	$(BIN)/python -m pytest -m slow

# Parts of the product beside what others would use, held to benchmarks/micro/baseline.json. One thread: two on a busy
# machine wait for each other. MICRO=--update-baseline records the ratios of this run; MICRO="-k lora" runs some; the
# slow ones are run by MICRO="-m slow".
bench-micro: $(VENV)/.test-installed
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest benchmarks/micro $(MICRO)

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist
