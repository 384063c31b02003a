# `make demo` and `make test` are all that is needed; both install what they need first.

PYTHON ?= python3
VENV ?= .venv
CORES ?= all
# Three, on two cores: tests under SLURM mostly wait. Files in order: those that run studies first.
PYTEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# What was installed: compared by content, since a checkout changes the files' times.
INSTALLED := $(VENV)/installed.txt
WANTED := requirements.lock pyproject.toml
# The environment's commands first, as after `. .venv/bin/activate`.
ACTIVE := PATH="$(abspath $(VENV))/bin:$$PATH"

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' | expand -t 18

.PHONY: venv
venv: ## Install the pinned environment into .venv, unless it exists
	@if ! cat $(WANTED) | cmp -s - $(INSTALLED); then \
	    $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'; \
	    echo "Installing into $(VENV): a few minutes, once"; \
	    $(PYTHON) -m venv $(VENV); \
	    cat $(WANTED) > $(INSTALLED).part; \
	    $(VENV)/bin/python -m pip install --quiet --requirement requirements.lock; \
	    $(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .; \
	    mv $(INSTALLED).part $(INSTALLED); \
	fi

.PHONY: demo
demo: venv ## Run the default study and print its result
	@echo "The demo takes 7 to 20 minutes on two cores; after Ctrl-C, run make demo again to resume."
	@$(ACTIVE) snakemake --cores $(CORES) --quiet host reason

.PHONY: test
test: venv ## Run all tests
	@# Hundreds of processes start: what one has compiled, the next ones find.
	@unset PYTHONDONTWRITEBYTECODE; $(ACTIVE) OMP_NUM_THREADS=1 pytest $(PYTEST_ARGS)

.PHONY: lint
lint: venv ## Check format, style, types and the workflow
	$(ACTIVE) ruff format --check .
	$(ACTIVE) ruff check .
	$(ACTIVE) mypy
	$(ACTIVE) snakefmt --check Snakefile workflow
	$(ACTIVE) snakemake --lint
	$(ACTIVE) lint-imports
	$(ACTIVE) python -m vrp.config.reference config --check
	$(ACTIVE) python -m vrp.study.reference docs --check

.PHONY: docs
docs: venv ## Build the site in build/site, with a gallery if the demo is finished
	@$(ACTIVE) NO_MKDOCS_2_WARNING=1 mkdocs build

.PHONY: reference
reference: venv ## Rewrite config/README.md, config/schema.json and docs/stages.md
	@$(ACTIVE) python -m vrp.config.reference config
	@$(ACTIVE) python -m vrp.study.reference docs

.PHONY: dist
dist: venv ## Build wheel and sdist into build/dist and check them
	rm -rf build/dist
	$(ACTIVE) python -m build --no-isolation --outdir build/dist .
	$(PYTHON) -m venv build/twine-venv
	build/twine-venv/bin/python -m pip install --quiet twine
	build/twine-venv/bin/twine check --strict build/dist/*

.PHONY: lock
lock: ## Renew requirements.lock (a fresh install of pyproject.toml today) and envs/
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade pip setuptools
	build/lock/bin/python -m pip install --quiet --editable '.[workflow,dev,docs]'
	build/lock/bin/python -m pip freeze --all --exclude-editable \
	    | sed -E 's/\+[a-z0-9.]+$$//' | grep -vE '^(pip|wheel)==' > requirements.lock
	{ sed '/^  - pip:$$/q' envs/environment.yaml; sed 's/^/      - /' requirements.lock; } \
	    > build/environment.yaml
	mv build/environment.yaml envs/environment.yaml
