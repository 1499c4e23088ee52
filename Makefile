# make tour            set up and run the main job: leaves minikfac-tour/report.html
# make lab             open the tutorials in JupyterLab
# make lint            style, types and import rules
# make test            lint and tests (some minutes)
# make test-tutorials  run the notebooks and see that they still say what they say
# make test-browser    open the explorer and the slides in Chromium; skipped where there is none
# make tutorials       run the notebooks and save their outputs
# make test-all        all of it: notebooks, slow tests, long property profiles, parity with PyTorch libraries
# make slides          build the slides of two lectures into docs/_build/slides, one HTML file each
# make docs            build the site into docs/_build/html; warnings are errors
# make bench           run the scripts in benchmarks/
# make bench-gpu       on a machine with an NVIDIA GPU: the gpu tests, and benchmarks/gpu.py
# make clean           remove .venv, builds and caches
#
# Everything is installed into .venv. Another interpreter: make PYTHON=/path/to/python3.13 tour

.DEFAULT_GOAL := help
.PHONY: help tour lab lint test tutorials test-tutorials test-browser test-all docs slides bench bench-gpu clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
USABLE := import sys; assert sys.version_info >= (3, 11); import venv, ensurepip

help:
	@sed -n '/^# make/s/^# //p' Makefile

# Setting up. A stamp file says what .venv holds, so that a second run installs nothing.

$(VENV)/.base: pyproject.toml
	@set -e; python=""; \
	for candidate in $(or $(PYTHON),$(CANDIDATES)); do \
	    if "$$candidate" -c '$(USABLE)' >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "minikfac needs Python 3.11 or newer with its venv module; tried: $(or $(PYTHON),$(CANDIDATES)). Say which to use: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	fi; \
	if ! "$(BIN)/python" -c '$(USABLE); import pip' >/dev/null 2>&1; then \
	    echo "Making $(VENV) with $$("$$python" --version) ..."; \
	    rm -rf $(VENV); \
	    "$$python" -m venv $(VENV); \
	fi
	@echo "Installing minikfac into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.base
	@echo "Installing the test tools into $(VENV) ..."
	@$(PIP) --editable ".[test]"
	@touch $@

$(VENV)/.tutorials: $(VENV)/.test
	@echo "Installing Jupyter into $(VENV) ..."
	@$(PIP) --editable ".[test,tutorials]"
	@touch $@

$(VENV)/.oracles: $(VENV)/.tutorials tests/parity/constraints.txt
	@echo "Installing PyTorch, curvlinops and nngeometry into $(VENV) (large) ..."
	@$(PIP) --constraint tests/parity/constraints.txt --editable ".[oracles]"
	@touch $@

# Without playwright the tests are skipped, so that it cannot be installed is no reason to fail.
$(VENV)/.browser: $(VENV)/.test
	@echo "Installing playwright into $(VENV) ..."
	@if $(PIP) --editable ".[test,browser,slides]"; then touch $@; else echo "playwright or reveal.js cannot be installed here" >&2; fi

$(VENV)/.docs: $(VENV)/.base
	@echo "Installing Sphinx into $(VENV) ..."
	@$(PIP) --editable ".[docs]"
	@touch $@

$(VENV)/.slides: $(VENV)/.base
	@echo "Installing reveal.js and MathJax into $(VENV) ..."
	@$(PIP) --editable ".[slides]"
	@touch $@

# PyTorch is the one with CUDA, which PyPI has for Linux; [ctk] are the libraries that CuPy needs beside a driver.
$(VENV)/.gpu: $(VENV)/.oracles
	@echo "Installing CuPy with CUDA's libraries into $(VENV) (large) ..."
	@$(PIP) --constraint tests/parity/constraints.txt --editable ".[gpu]" "cupy-cuda12x[ctk]"
	@touch $@

# Running.

tour: $(VENV)/.base
	$(BIN)/minikfac tour

lab: $(VENV)/.tutorials
	$(BIN)/jupyter lab tutorials

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# One BLAS thread per process: there is a process per core.
test: lint
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile --doctest-modules tests minikfac

tutorials: $(VENV)/.tutorials
	$(BIN)/python tutorials/run.py

test-tutorials: $(VENV)/.tutorials
	$(BIN)/pytest --numprocesses auto -m tutorial tests/tutorials/test_notebooks.py

test-browser: $(VENV)/.browser
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -m browser -rs tests/explorer tests/docs/test_slides.py

test-all: $(VENV)/.oracles lint
	HYPOTHESIS_PROFILE=long OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -m "" --numprocesses auto --dist loadfile --doctest-modules tests minikfac

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -q -a -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

slides: $(VENV)/.slides
	$(BIN)/python docs/slides/build.py

bench: $(VENV)/.oracles
	@set -e; for script in $(addprefix benchmarks/,exact_fisher.py exact_fisher_memory.py kfac_factors.py autoencoder.py conv.py conv_memory.py scaling.py overlap.py small_nets.py growth.py); do \
	    echo "== $$script"; $(BIN)/python "$$script"; \
	done

bench-gpu: $(VENV)/.gpu
	$(BIN)/python -c 'import minikfac; minikfac.use_device("cuda")'
	$(BIN)/pytest -m gpu tests/devices/test_gpu.py
	$(BIN)/python benchmarks/gpu.py

clean:
	rm -rf $(VENV) build dist docs/_build docs/tutorials/*.ipynb docs/_static/gallery docs/_static/explorer.html minikfac-tour .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
