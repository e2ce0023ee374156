# The commands of the project; `make` alone lists them. Only Python 3.11, 3.12 or 3.13 must be there beforehand.
#
#   PYTHON   which Python makes the environment      make env PYTHON=python3.12
#   VENV     where the environment is                make test VENV=$CONDA_PREFIX    (an environment you have is used as it is)
#   SCALE    smoke (embedded data), small (real), imagenet (images of your own) or paper (its own size)   make paper SCALE=small
#   PAG_DATA where the data sets are or will go      make paper SCALE=small PAG_DATA=~/data

VENV ?= .venv
SCALE ?= smoke
CHAPTER ?= $(wildcard nbs/[0-9]*.ipynb nbs/*/[0-9]*.ipynb)
WORKERS ?= 2

# The first Python here that the project can use
SUITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c '$(SUITS)' 2>/dev/null && echo $$python && break; done)

# make cannot name a file whose path has spaces; the project's own folder may have them, the environment's may not
ifneq ($(words $(VENV)),1)
$(error VENV = "$(VENV)" has spaces, or none at all: name a folder without spaces, such as VENV=.venv)
endif

BIN := $(VENV)/bin
# What is installed there: RUN to run the experiments, DEV also to test and change them, SITE to build the pages
RUN := $(VENV)/.pag_companion-run
DEV := $(VENV)/.pag_companion-dev
SITE := $(VENV)/.pag_companion-site
# Tests leave their runs here, so that a report never mixes them with yours: below the project's folder, which is where
# every line of a rule starts; the shell puts the folder's name in front, whatever characters it has
TEST_RUNS := build/test-runs

, := ,
# $(call stage,TITLE,COMMAND): say what runs, run it, say how long it took; a failure stops make
stage = printf '\n== %s\n' '$(1)'; began=$$(date +%s); \
	{ $(2); } || { printf '== failed: %s\n' '$(1)' >&2; exit 1; }; printf '   (%s s)\n' $$(($$(date +%s) - began))

# $(call install,WHAT): install by pip, quietly
install = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(1)

.PHONY: help env paper bench test test-slow sync outputs site layers words lab hooks clean
.DEFAULT_GOAL := help

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

env: $(DEV) ## set up the environment in .venv, once

$(RUN): pyproject.toml settings.ini
	@test -n "$(strip $(PYTHON))" || test -x $(BIN)/python || \
		{ echo "No Python 3.11, 3.12 or 3.13 found. Install one, or name it: make env PYTHON=/path/to/python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -c '$(SUITS)' || \
		{ echo "$(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not there); the project needs Python 3.11, 3.12 or 3.13: make env PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "== making $(VENV)"; $(PYTHON) -m venv $(VENV); } || \
		{ echo "$(PYTHON) cannot make an environment (on Debian and Ubuntu: install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -c '$(SUITS)' || \
		{ echo "$(VENV) holds $$($(BIN)/python --version); the project needs 3.11, 3.12 or 3.13: remove $(VENV) and try again" >&2; exit 1; }
	@$(call stage,installing into $(VENV) (PyTorch is large: the first time takes minutes),$(call install,-e ".[run]"))
	@touch $@

$(DEV): $(RUN)
	@$(call stage,installing what tests need into $(VENV), \
		$(call install,-e ".[dev]") && $(call install,--no-deps torchattacks==3.5.1))
	@touch $@

paper: $(RUN) ## run the paper's experiments and write runs/report/index.html (SCALE=smoke|small|imagenet|paper)
	@test -f grids/$(SCALE).toml || \
		{ echo "There is no grids/$(SCALE).toml; SCALE is one of: $(basename $(notdir $(wildcard grids/*.toml)))" >&2; exit 1; }
	@$(BIN)/python -m pag_companion.sweep run grids/$(SCALE).toml; swept=$$?; \
		$(BIN)/python -m pag_companion.report build && exit $$swept

bench: $(DEV) ## measure speed on this machine, about 10 minutes on 2 cores (results/benchmarks, runs/benchmarks)
	@mkdir -p runs/benchmarks
	@$(call stage,benchmarks at scale small: leave the machine alone meanwhile, \
		$(BIN)/python -m papermill --cwd nbs/lab nbs/lab/98c_benchmarks.ipynb runs/benchmarks/98c_benchmarks.ipynb -k python3 -p scale small)
	@$(BIN)/python -m papermill --cwd nbs/lab nbs/lab/98j_targets.ipynb runs/benchmarks/98j_targets.ipynb -k python3

test: $(DEV) ## everything CI checks, about six minutes on 2 cores
	@$(call stage,in step: notebooks$(,) library$(,) tests$(,) badges,$(BIN)/python -m pag_companion.lab.development --check)
	@$(call stage,no unused or unknown names (ruff),$(BIN)/python -m ruff check --quiet)
	@$(call stage,types (mypy),$(BIN)/python -m mypy)
	@rm -rf ./$(TEST_RUNS)
	@$(call stage,notebooks run from top to bottom (nbdev_test),PAG_RUNS="$$PWD/$(TEST_RUNS)" OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers $(WORKERS))
	@printf '\n== tests (pytest)\n'; PAG_PEERS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" \
		-n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-slow: $(DEV) $(SITE) ## what takes longer than that, what needs a GPU, and all notebooks as in Colab (results/logs/colab.md)
	@rm -rf ./$(TEST_RUNS)
	@$(call stage,slow cells of the notebooks (nbdev_test),PAG_RUNS="$$PWD/$(TEST_RUNS)" OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers $(WORKERS) --flags slow)
	@printf '\n== slow tests (pytest)\n'; $(BIN)/python -m pytest -m "slow or gpu"
	@$(call stage,all notebooks as in Colab: about an hour on one core$(,) 6 GB in build/colab,OMP_NUM_THREADS=1 $(BIN)/python -m pag_companion.lab.colab build/colab)

sync: $(DEV) ## after editing a notebook: clean notebooks, write badges, library and test files, remove what has none
	@$(BIN)/nbdev_clean
	@$(BIN)/python -m pag_companion.lab.development --badges
	@$(BIN)/nbdev_export
	@$(BIN)/python -m pag_companion.lab.development

outputs: $(DEV) ## run notebooks anew and keep their figures (CHAPTER=nbs/library/14_attacks.ipynb for one)
	@for chapter in $(CHAPTER); do echo "$$chapter"; \
		$(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level WARN $$chapter || exit 1; done
	@$(BIN)/nbdev_clean

# The pages need neither PyTorch nor the project itself: only what the extra "site" names
$(SITE): pyproject.toml settings.ini
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed: make site PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(call stage,installing what the site needs into $(VENV), \
		$(call install,$$(sed -n "s/^site_requirements = //p" settings.ini)))
	@touch $@

site: $(SITE) ## make pages to read in build/site: chapters, claims, figures, API, explorer (runs no notebook)
	@rm -rf ./build/site
	@$(call stage,pages in build/site,$(BIN)/python -m pag_companion.lab.site build/site)

layers: $(RUN) ## print and draw which module imports which (results/figures/layers.png)
	@$(BIN)/python -m pag_companion.lab.layers

words: $(RUN) ## list what is left of the project's old words; fails if there are any
	@$(BIN)/python -m pag_companion.lab.words

lab: $(RUN) ## open the chapters in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir nbs

hooks: $(DEV) ## let git and Jupyter clean notebooks by themselves (also changes ~/.jupyter)
	@$(BIN)/nbdev_install_hooks

clean: ## remove caches and build leftovers; environment, data and runs stay
	@rm -rf build dist .pytest_cache
	@find pag_companion tests nbs '(' -name __pycache__ -o -name .ipynb_checkpoints ')' -type d -prune -exec rm -rf {} +
