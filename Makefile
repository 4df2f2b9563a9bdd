# make app    set up, fetch the default model once, serve the dashboard on http://127.0.0.1:8501
# make test   set up, check (ruff, pyright, eslint, tsc) and run every test
# make help   everything else

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
JS := tests/js
HAS_NODE := $(shell command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 && node -e \
	'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)' && echo yes)
PORT ?= 8501

.DEFAULT_GOAL := help
.PHONY: help app setup setup-dev model test check check-js test-js no-node format bench notebook report models-table screenshots \
	architecture clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

app: setup model ## serve the dashboard on 127.0.0.1:8501 (PORT=… for another port)
	$(BIN)/python -m analysis app --port $(PORT)

setup: $(VENV)/.installed ## make .venv and install this checkout into it, with requirements.txt

setup-dev: $(VENV)/.installed-dev ## the same, with what tests need

model: setup ## fetch and convert the default model, once
	@$(BIN)/python -m analysis fetch

test: setup-dev model check test-js ## check and run every test (7 minutes on two fast cores, 20 on slow ones)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check: setup-dev check-js ## ruff and pyright, eslint and tsc
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

check-js: $(if $(HAS_NODE),$(JS)/node_modules/.installed,no-node) ## eslint and tsc alone
ifdef HAS_NODE
	$(JS)/node_modules/.bin/eslint --config $(JS)/eslint.config.js analysis ui $(JS)
	$(JS)/node_modules/.bin/tsc --project $(JS)
endif

test-js: $(if $(HAS_NODE),,no-node) ## the tests of the scripts alone
ifdef HAS_NODE
	node --test --test-reporter=spec $(JS)/*.test.js
else
	@:
endif

no-node:
	@echo "Node.js 20.19 or newer with npm is not installed: the scripts are not checked and their tests are not run."

format: setup-dev ## let ruff format and fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup-dev model ## measure what docs/benchmarks.md reports (about 15 minutes)
	$(BIN)/python benchmarks/saliency_pass.py
	$(BIN)/python benchmarks/canvas_frames.py
	$(BIN)/python -m analysis relearn --prune-top 0.01 --steps 24 --seed 0 --json

notebook: setup-dev model ## execute docs/notebook.md on the default model and write its output (some minutes)
	$(BIN)/python scripts/notebook_page.py

report: setup-dev model ## measure what docs/removal.md reports; goes on where it was stopped (many hours)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/removal_report.py

models-table: setup-dev ## try everything on every architecture and write docs/models.md (about half an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.architectures --write docs/models.md

screenshots: setup-dev model ## photograph every page, light and dark, into docs/screenshots
	$(BIN)/python scripts/screenshots.py

architecture: setup-dev ## draw docs/architecture.svg anew from the imports
	$(BIN)/python scripts/architecture.py --svg docs/architecture.svg

clean: ## remove the virtual environment and caches (models and runs stay)
	rm -rf $(VENV) $(JS)/node_modules .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer is needed; install it or call: make PYTHON=/path/to/python3 app"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt requirements.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[dev]"
	@touch $@ $(VENV)/.installed

$(JS)/node_modules/.installed: $(JS)/package.json $(JS)/package-lock.json
	npm ci --prefix $(JS) --no-audit --no-fund
	@touch $@
