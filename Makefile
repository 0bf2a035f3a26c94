# Two targets are all a newcomer needs: `make quickstart` and `make test`. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-fast test-slow cluster cluster-stop test-cluster browser lint bench bench-full bench-environments bench-tune bench-micro clean

quickstart: $(VENV)/.installed
	$(BIN)/hf-finetune train recipes/quickstart.yaml
	$(BIN)/hf-finetune predict runs/quickstart docs/digit.png

# A worker for each core, four at the most: each holds torch and more (up to 2 GB). A file's tests stay on one worker,
# since they share what a fixture trained; in the order of the folders, the short files come last and fill both ends.
test: $(VENV)/.test-installed lint
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
	$(MAKE) bench-micro

# What starts no process and trains nothing: for between two edits, in under two minutes on two cores.
test-fast: $(VENV)/.test-installed
	$(BIN)/python -m pytest -m "not e2e and not slow and not cluster" --numprocesses logical --maxprocesses 4 --dist loadfile

test-slow: $(VENV)/.test-installed
	$(BIN)/python -m pytest -m slow

# Slurm (Debian's packages) with two nodes on this machine, and Ray in an environment of its own, for the tests of
# docs/cluster/. All of it lies in CLUSTER, and `make cluster-stop` ends all of it.
CLUSTER ?= .cluster

cluster: $(VENV)/.test-installed
	@if ! command -v slurmctld >/dev/null; then \
		sudo=; if [ "$$(id -u)" != 0 ]; then sudo="sudo -n"; fi; \
		apt="$$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120"; \
		$$apt update && $$apt install --no-install-recommends slurm-wlm munge; \
	fi
	$(BIN)/python tests/cluster/slurm.py start $(CLUSTER)/slurm
	$(BIN)/python tests/cluster/ray_environment.py $(CLUSTER)/ray

cluster-stop:
	$(BIN)/python tests/cluster/slurm.py stop $(CLUSTER)/slurm

test-cluster: $(VENV)/.test-installed
	HF_FINETUNE_CLUSTER=$(abspath $(CLUSTER)) $(BIN)/python -m pytest -m cluster tests/cluster

# Chromium for the tests that open a page, from Debian's packages. Without it they are skipped, saying so, and whatever
# goes wrong here fails nothing.
browser:
	@if command -v chromium >/dev/null; then echo "Chromium is there."; \
	elif ! command -v apt-get >/dev/null; then echo "No apt-get here: tests in a browser want a chromium on the path."; \
	else \
		sudo=; if [ "$$(id -u)" != 0 ]; then sudo="sudo -n"; fi; \
		apt="$$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120"; \
		{ $$apt update && $$apt install --no-install-recommends chromium; } \
			|| echo "Chromium could not be installed: tests in a browser are skipped."; \
	fi

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

# Benchmarks beside the references: figures in docs/results/, tables in docs/tables.md. Runs that are there are kept;
# delete their folder to measure anew. DATA holds weights/ and datasets/, SCRATCH what can be thrown away. fastai and
# AutoGluon run in environments of their own, some gigabytes each, which bench-environments makes. A case is measured on
# one machine: SMALL= or FULL=docs/results/NAME keeps the figures of another one.
DATA ?= ../shared/data
SCRATCH ?= .bench
SMALL ?= docs/results/bench-small
FULL ?= docs/results/bench-full
COMPARE = $(BIN)/python benchmarks/compare.py $(DATA) $(SCRATCH)
TABLE = $(BIN)/python benchmarks/table.py --into docs/tables.md

bench-environments: $(VENV)/.test-installed
	$(BIN)/python benchmarks/environments.py $(SCRATCH)/environments

# After a comparison of the case has made its photos.
bench-tune: $(VENV)/.test-installed
	$(BIN)/python benchmarks/tune.py --model $(DATA)/weights/vit_tiny_timm --data $(SCRATCH)/cases/trashnet-500/photos \
		--environments $(SCRATCH)/environments --out $(SCRATCH)/tuning --into benchmarks/tuned/trashnet.json

bench: $(VENV)/.test-installed
	$(COMPARE) $(SMALL) --cases hymenoptera-100 --small
	$(TABLE) $(SMALL)

bench-full: $(VENV)/.test-installed
	$(COMPARE) $(FULL)
	$(TABLE) $(FULL)
