# make demo: the main job on the built-in data. make test: lint, types and tests.
# make docs: the documentation site. All set themselves up in VENV first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CLASSIC ?= .venv-classic

.PHONY: demo docs test test-fast test-long test-gpu test-classic lint format clean

demo: $(VENV)/installed
	$(BIN)/python tools/run_pipeline.py configs/pipelines/demo.py

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal -m "not long"

# What takes most of a minute each: mostly runs by two processes, and damaged disks.
test-long: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal -m long

# All but the tests that take seconds each.
test-fast: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal -m "not slow and not long"

# The same tests on OpenMMLab's classic packages. It compiles mmcv, 10 to 30 minutes on two
# cores, and needs a C++ compiler.
test-classic: $(CLASSIC)/installed
	OMP_NUM_THREADS=1 $(CLASSIC)/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal

# What needs a GPU, on a machine that has one: about eight minutes.
test-gpu: $(VENV)/installed
	$(BIN)/python -W ignore tests/checks/gpu.py

# The documentation site, in site/.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A new environment at every change of the requirements: pip never removes what is no
# longer asked for.
$(VENV)/installed: setup.py $(wildcard requirements/*.txt)
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@echo "Installing OpenMMLab and torch; this takes minutes and some gigabytes."
	$(BIN)/pip install --quiet --disable-pip-version-check \
	    -c requirements/constraints-onedl.txt -e ".[onedl,demo,docs,review,tests]"
	touch $@

$(CLASSIC)/installed: setup.py $(wildcard requirements/*.txt)
	rm -rf $(CLASSIC)
	$(PYTHON) -m venv $(CLASSIC)
	$(CLASSIC)/bin/pip install --quiet --disable-pip-version-check \
	    -c requirements/constraints-openmmlab.txt \
	    "setuptools<70" wheel ninja numpy torch torchvision
	MMCV_WITH_OPS=1 $(CLASSIC)/bin/pip install --disable-pip-version-check \
	    -c requirements/constraints-openmmlab.txt --no-build-isolation mmcv
	$(CLASSIC)/bin/pip install --quiet --disable-pip-version-check \
	    -c requirements/constraints-openmmlab.txt --no-build-isolation \
	    -e ".[openmmlab,demo,review,tests]"
	touch $@

# What make has made; never work_dirs/ as a whole, which holds reviews and trainings.
clean:
	rm -rf $(VENV) $(CLASSIC) site work_dirs/demo data/context_shapes
