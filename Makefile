# make train | test | check | venv. Each makes .venv first if it is missing.
#
#   make train ARGS="--epochs 1 --data fashion-mnist"     any option of `vitlab train`
#   make venv TORCH_INDEX=https://download.pytorch.org/whl/cpu     a smaller, CPU-only torch

PYTHON ?= python3
ARGS ?=
TORCH_INDEX ?=
BIN := .venv/bin

.PHONY: train test check venv clean

train: venv
	$(BIN)/vitlab train $(ARGS)

test: venv
	$(BIN)/pytest $(ARGS)

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

venv: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "vitlab needs Python 3.11 or newer, this is %s; name one: make PYTHON=python3.12" % sys.version.split()[0])'
	@echo "installing into .venv; the first time this takes a few minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv
