# What a newcomer types: `make demo`, `make test`. Needs Python 3.11 or newer and a package index.
#   make setup   .venv with everything needed to run, train, export and test (no GPU)
#   make demo    segments the synthetic clip and writes demo/phantom.mp4 and demo/phantom.jsonl
#   make bench   the benchmark's tables of the README, without a GPU, within 10 minutes: three nets, other
#                programs beside ours, the pipeline, streams side by side; writes benchmarks/results/
#   make test    the tests                  make check   lint, types and import rules
#   make test-slow   the tests marked slow: rare paths at a high price; installs Ray (260 MB) into build/ray
#   make counterparts   labels there and back through the labelling programs themselves (1.8 GB in build/)
#   make docs    the documentation site, docs/_build/html/index.html; warnings are errors
#   make gpu     on a machine with an NVIDIA GPU: parity, precision and speed of the engines in under 8 minutes
#                (called again it goes on with what is missing); writes GPU_OUT, benchmarks/results
#   make gpu-full   the rest of it in pieces of at most 8 minutes (PIECE=3/6 for one of them), the GPU tests, and
#                the README's table of the nets there
#   make weights the default weights from nothing to the shipped engine and its figures: hours, resumable
#   make gpu-train  the replication and the yardsticks at full size: hours, resumable
#                GPU_PYTHON=python3 takes a Python that has torch, where no package index can be reached
#   make clean   removes .venv and what tools left behind

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The first that is there, works and is new enough; a name may be a stub that only prints an error.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
# Where the CPU build of torch is found on Linux. The plain index would bring a CUDA build of some gigabytes.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

RAY := build/ray
HAS_RAY = $(BIN)/python -c 'import ray' 2>/dev/null
COUNTERPARTS := build/counterparts

# Labelled images for `make gpu-train` and `make weights`, and where their runs go (they resume).
DATA ?= ../shared/data/usgra-seg
GPU_RUNS ?= runs/gpu
WEIGHTS_RUNS ?= runs/weights

# Images without nerve that `make weights` trains on, and the licence note of all its images and initial weights.
WITHOUT ?= ../shared/data/muscle $(wildcard ../shared/data/muscle-cut)
LICENCE ?= usgra-seg by T. M. K. (tmkand), CC BY 4.0; muscle stills by T. J. van der Zee (TimTrack), CC0 1.0; \
  muscle screens by O. Seynnes and N. Cronin, CC BY 4.0; EfficientNet-Lite0, Apache-2.0
TRAIN_WEIGHTS = $(BIN)/streamseg train $(DATA) --net lite_unet --recipe best --batch 12 --restyle 0.6 --settle 0.25 \
  --phantom 4000 --phantom-batch 2 $(WITHOUT:%=--absent %) --absent-batch 2 --resume

GPU_PYTHON ?= $(BIN)/python
GPU_OUT ?= benchmarks/results
GPU_SETUP := $(if $(filter $(BIN)/python,$(GPU_PYTHON)),setup)
PIECE ?= all
PIECES := $(if $(filter all,$(PIECE)),1/6 2/6 3/6 4/6 5/6 6/6,$(PIECE))

.PHONY: setup demo bench test test-slow counterparts check docs format weights gpu gpu-full gpu-train clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$($(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null || true); \
	  echo "error: streamseg needs Python 3.11 or newer, '$(PYTHON)' is $${found:-no Python that runs};" \
	       "install one and call: make PYTHON=/path/to/python3.11 setup" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: '$(PYTHON)' cannot make virtual environments; install them (Debian: apt install python3-venv)" >&2; \
	  exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV): some minutes, most of them for torch, which training and its tests need."
	@index=$$($(BIN)/python -c 'import urllib.request as u; u.urlopen("$(TORCH_INDEX)/torch/", timeout=5)' \
	    2>/dev/null && echo "--extra-index-url $(TORCH_INDEX)" || true); \
	  echo "$(BIN)/python -m pip install --quiet -c constraints.txt $$index -e .[dev]"; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $$index -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/streamseg replay phantom: --out demo/phantom.mp4 --records demo/phantom.jsonl --force
	@echo "Look at demo/phantom.mp4 (the picture) and demo/phantom.jsonl (the contours as records)."

bench: setup
	$(BIN)/python -m benchmarks.bench --readme

# One thread of torch's in each process: more would only wait for one another, which costs a fifth of the time.
# With two processes a processor, because half of a test's time is waiting. tests/scheduling.py: what each runs.
# Compiled files are kept whatever the user's environment says: hundreds of processes would compile them again.
TEST_RUN := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q

test: setup
	$(TEST_RUN) -n 4 --dist loadscope

test-slow: setup $(RAY)/.ready
	$(TEST_RUN) -n 2 --dist loadscope -m slow
	$(HAS_RAY) || ! test -d $(RAY)/ray || PYTHONPATH=$(CURDIR)/$(RAY) $(TEST_RUN) -m "slow or not slow" tests/cli/test_archive_ray.py

# Ray in a folder of its own, for its tests only: beside the other packages it would hold some of them back.
$(RAY)/.ready: $(VENV)/.ready
	@$(HAS_RAY) || $(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target $(RAY) 'ray==2.60.*' || \
	  echo "Ray cannot be installed here; its tests are skipped"
	@mkdir -p $(RAY) && touch $@

counterparts: setup
	for program in labelme datumaro label-studio-sdk; do \
	  test -x $(COUNTERPARTS)/$$program/bin/python || $(BIN)/python -m venv $(COUNTERPARTS)/$$program; \
	  $(COUNTERPARTS)/$$program/bin/pip install --quiet --disable-pip-version-check $$program; done
	STREAMSEG_COUNTERPARTS=$(CURDIR)/$(COUNTERPARTS) $(TEST_RUN) -m slow tests/annotation/test_counterparts.py

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Read anew as a whole (-E): pages are made from docstrings, commands and files outside docs/.
docs: setup
	$(BIN)/python -m sphinx -E -W --keep-going -q docs docs/_build/html

gpu: $(GPU_SETUP)
	$(GPU_PYTHON) -m benchmarks.gpu core --out $(GPU_OUT)

gpu-full: $(GPU_SETUP)
	$(GPU_PYTHON) -m pytest -q -m gpu tests/gpu
	for piece in $(PIECES); do $(GPU_PYTHON) -m benchmarks.gpu full --piece $$piece --out $(GPU_OUT); done
	$(GPU_PYTHON) -m benchmarks.bench --only nets --readme

# The judge holds a fifth back, and answers for the weights that are trained on all.
weights: setup
	$(TRAIN_WEIGHTS) --epochs 100 --validation 0.2 --seed 6 --out $(WEIGHTS_RUNS)/judge
	$(TRAIN_WEIGHTS) --epochs 160 --validation 0 --seed 5 --out $(WEIGHTS_RUNS)/all
	$(BIN)/python -m streamseg.export.defaults --data $(DATA) --absent $(WITHOUT) --licence '$(LICENCE)' \
	  $(WEIGHTS_RUNS)/all --judge $(WEIGHTS_RUNS)/judge --size 224 224
	$(BIN)/python -m benchmarks.accuracy lite_unet-openvino-int8
	$(BIN)/python -m benchmarks.readme

gpu-train: setup
	$(BIN)/streamseg reproduce $(DATA) --out $(GPU_RUNS)/reproduce --size 256x320 --epochs 80 --device gpu \
	  --export benchmarks/results/gpu
	$(BIN)/streamseg reproduce phantom:1000 --out $(GPU_RUNS)/reproduce-phantom --size 256x320 --epochs 30 \
	  --device gpu --export benchmarks/results/gpu
	$(BIN)/python benchmarks/yardsticks.py nets $(DATA) --out $(GPU_RUNS)/nets --size 192x224 --epochs 150 --device gpu
	$(BIN)/python benchmarks/yardsticks.py ladder $(DATA) --out $(GPU_RUNS)/ladder --size 128x160 --epochs 100 --device gpu

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist demo docs/_build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
