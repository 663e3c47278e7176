# The book's commands. Each makes the environment in .venv first, when it is missing or older than its description.
#
#   make book     build the executed book into _build/html
#   make test     run the whole test suite (builds the book when it is missing or stale: its pages are tested)
#   make lab      open the chapters as notebooks in JupyterLab
#   make lint     ruff
#   make kit      build the book, and a course kit in _build: notebooks, solutions, slides, a PDF
#   make bench    measure speed against peers and print the ratios
#   make env      only the environment;  make clean  removes build products, not the environment
#
# No GPU? `make env CPU=1` (or CPU=1 before any other target's first run) takes the CPU build of torch from PyTorch's
# own index and saves about 5 GB of CUDA libraries.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# The first of these that exists and is new enough; override with PYTHON=/path/to/python.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# A process of tests for each core, files in alphabetical order, so that the book and Slurm, with few and long tests, do
# not come last; PARALLEL= runs them in one process.
PARALLEL ?= --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

# One thread per process: on small machines several multi-threaded processes slow each other down many times over.
export OMP_NUM_THREADS ?= 1
# Keep freed memory for the next tensor (see KEEP_MEMORY in diffusab_book/chapters.py).
export MALLOC_TRIM_THRESHOLD_ ?= 4000000000
export MALLOC_MMAP_THRESHOLD_ ?= 4000000000

.PHONY: help env book lab test lint bench kit browser clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt scripts/lab_settings.json
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found: install one, or say PYTHON=/path/to/python." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)." >&2; rm -rf $(VENV); exit 1; }
	@echo "Installing the pinned environment into $(VENV) (a few minutes the first time) ..."
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(CPU),$(BIN)/python -m pip install --quiet -c constraints.txt --index-url $(TORCH_CPU_INDEX) torch torchvision,)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[photos,tools,lab,book,features,sweeps,dev]'
	@# JupyterLab of this environment only opens the text chapters as notebooks; the user's own settings stay as they are.
	@mkdir -p $(VENV)/share/jupyter/lab/settings && cp scripts/lab_settings.json $(VENV)/share/jupyter/lab/settings/overrides.json
	@touch $@

browser:
	@scripts/ensure_browser.sh

book: env
	$(BIN)/python scripts/build_book.py --if-stale

lab: env
	JUPYTER_PREFER_ENV_PATH=1 $(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/02_dct.py

test: env browser
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: env
	$(BIN)/python -m benchmarks

kit: book browser
	$(BIN)/python scripts/build_kit.py $(KIT_ARGS)

clean:
	rm -rf _build .pytest_cache .ruff_cache book/_static/vendor
