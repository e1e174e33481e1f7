# make install set the environment up
# make demo    set everything up, run the demo job on the embedded data, say where the report is
# make test    set everything up, run all checks and tests
# make check   format, lint, types, and the house's own rules (tests/test_rooms.py)
# make base-yaml   write jobs/base.yaml from the dataclasses
# make clean   remove the environment

# the first Python on the PATH that runs and is one of the supported versions
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install demo test check base-yaml clean

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/synthaug run jobs/demo.yaml

# two processes of one thread each: most tests are too small for a second thread to help
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers 2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet tests/test_rooms.py

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(FITS)' \
	  || { echo "synthaug needs Python 3.11, 3.12 or 3.13; name it: make PYTHON=/path/to/python3.11 demo"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

base-yaml: $(STAMP)
	$(BIN)/python -m synthaug.pipeline.config.base_yaml > jobs/base.yaml.tmp
	mv jobs/base.yaml.tmp jobs/base.yaml

clean:
	rm -rf $(VENV)
