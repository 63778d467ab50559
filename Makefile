# make demo   predicts shadows with the starter, then trains the task on practice images and shows what it predicts on images it has never seen
# make test   checks style and types and runs the tests
# make test-lowest   runs them with the lowest version of every dependency, in an environment of its own
# make docs   builds the documentation site, build/docs/index.html, without a network; warnings are errors
# make gpu    measures on a GPU what is promised of one; without one it goes as far as it can
# make dist   builds what is published, into dist/, and says how large each file is
# make outsider   hands the whole program to strangers: thousands of wrong calls, odd files, broken plugins
# All first make the environment .venv, and make it again only when what it depends on has changed.

VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.complete
DEMO := demo

# The newest Python that works. A name on the path may be a launcher for a version that is not installed, hence the trial.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	$$name -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$name && break; done)
endif

# Options for every `pip install`, e.g. an index with the CPU build of torch, which is smaller by gigabytes.
PIP_FLAGS ?=
# The CUDA kernels take minutes to build: only where there is a driver (and nvcc).
export FOCUS_BUILD_CUDA ?= $(if $(shell command -v nvidia-smi),auto,0)

TEST_WORKERS ?= 2
EXTRAS := test,docs

.PHONY: outsider gpu dist test-lowest demo test docs lint environment clean
.DELETE_ON_ERROR:

environment: $(STAMP)

$(STAMP): pyproject.toml $(wildcard starter/pyproject.toml starter/focus_framework_starter/* csrc/pyproject.toml csrc/setup.py csrc/src/* csrc/src/*/* csrc/focus_ops/*.py)
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer with venv and ensurepip is needed and was not found; \
	install it (Debian: apt install python3 python3-venv) or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is \
	$$($(PYTHON) --version 2>&1); Python 3.11 or newer is needed" >&2; exit 1; }
	@echo "making the environment $(VENV) with $$($(PYTHON) --version); the first time this downloads torch"
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --editable '.[$(EXTRAS)]' 'setuptools>=77'
	@if [ -f csrc/pyproject.toml ]; then \
		echo "building the native deformable attention"; \
		$(RUN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --no-build-isolation --no-deps ./csrc || \
		echo "warning: the native deformable attention was not built (is a C++ compiler installed?); plain PyTorch does its work, slower" >&2; \
	fi
	$(RUN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) --no-build-isolation --no-deps ./starter
	@touch $@

demo: environment
	rm -rf $(DEMO)
	$(RUN)/focus data generate shadow --split test --count 32 --size 128 --out $(DEMO)/test
	$(RUN)/focus predict $(DEMO)/test/images --task-plugin shadow --out $(DEMO)/starter --save mask,overlay
	$(RUN)/focus evaluate --predictions $(DEMO)/starter/mask --masks $(DEMO)/test/masks --task-plugin shadow
	@echo "that was the starter, which has never seen such images; now a network learns them"
	$(RUN)/focus train --task-plugin shadow --out $(DEMO)/run
	$(RUN)/focus predict $(DEMO)/test/images --checkpoint $(DEMO)/run/best.safetensors --out $(DEMO)/predictions --save mask,overlay
	$(RUN)/focus evaluate --predictions $(DEMO)/predictions/mask --masks $(DEMO)/test/masks --task-plugin shadow
	@echo "image, truth and prediction side by side: $(DEMO)/run/samples/best.png; masks and overlays: $(DEMO)/predictions"

test: lint
	OMP_NUM_THREADS=1 $(RUN)/pytest -n $(TEST_WORKERS) -q

test-lowest:
	mkdir -p build
	$(PYTHON) tests/lowest.py > build/lowest.txt
	$(MAKE) environment VENV=.venv-lowest EXTRAS=test,docs,datasets,export,wandb PIP_FLAGS="$(PIP_FLAGS) --prefer-binary --constraint $(CURDIR)/build/lowest.txt"
	OMP_NUM_THREADS=1 .venv-lowest/bin/pytest -n $(TEST_WORKERS) -q

docs: environment
	$(RUN)/sphinx-build -q -W --keep-going -n -d build/doctrees docs build/docs
	@echo "the documentation: build/docs/index.html"

outsider: environment
	OMP_NUM_THREADS=1 OUTSIDER=whole $(RUN)/pytest -n $(TEST_WORKERS) -q tests/outsider

DISTRIBUTIONS := . csrc starter runtime

dist: environment
	rm -rf dist
	$(RUN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) 'build>=1.2'
	@mkdir -p build && for folder in $(DISTRIBUTIONS); do \
		$(RUN)/python -m build --no-isolation --outdir dist $$folder >build/dist.log 2>&1 || { cat build/dist.log; exit 1; }; done
	@ls -l dist

gpu: environment
	$(RUN)/python -m benchmarks.gpu --out build/gpu

lint: environment
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports --no-logo

clean:
	rm -rf $(VENV) .venv-lowest $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache
