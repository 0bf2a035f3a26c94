# Two targets are all a newcomer needs: `make quickstart` and `make test`. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-slow lint clean

quickstart: $(VENV)/.installed
	$(BIN)/hf-finetune train recipes/quickstart.yaml
	$(BIN)/hf-finetune predict runs/quickstart docs/digit.png

# A worker for each core, four at the most: each holds torch and more (up to 2 GB). A file's tests stay on one worker,
# since they share what a fixture trained; in the order of the folders, the short files come last and fill both ends.
test: $(VENV)/.test-installed lint
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.test-installed
	$(BIN)/python -m pytest -m slow

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
