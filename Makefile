# make train | test | check | docs | notebooks | bench | proof | package |
# constraints | venv. Each creates .venv first if it is missing.
#
#   make train ARGS="--epochs 1 --data fashion-mnist"              with any options of `vitlab train`
#   make bench NAME=my-machine                                     the main measurements of README and docs
#   make proof NAME=my-machine                                     attack everything, and write docs/understand/reliability.md
#   make package                                                the files of a release, built, inspected and tried
#   make venv TORCH_INDEX=https://download.pytorch.org/whl/cpu     a smaller, CPU-only torch

PYTHON ?= python3
ARGS ?=
TORCH_INDEX ?=
NAME ?= here
RESULTS := benchmarks/results
# Changes to `accurate`, each measured alone: what does each ingredient contribute?
LESS := elastic=0 rotate=0/zoom=0/shift=0/shear=0/elastic=0 attn_form=none/attn_bias=false attn_bias=false \
	patch_overlap=0 pool=mean label_smoothing=0 clean_tail=0 embed_dim=64 depth=2 crop=none \
	optimizer=adamw/lr=0.002/weight_decay=0.05
BIN := .venv/bin
NPM := $(shell command -v node >/dev/null && command -v npm)

SITE := docs/_build

.PHONY: train test check check-page docs notebooks bench proof package constraints venv clean

train: venv
	$(BIN)/vitlab train $(ARGS)

# Two processes, each test file in one of them. Their threads yield while they wait, so the processes do not block each other.
test: venv
	OMP_WAIT_POLICY=passive $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 src
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin src
ifneq ($(NPM),)
	@$(MAKE) --no-print-directory check-page
else
	@echo "node and npm are not installed: the page's code was not checked"
endif

# The web page's scripts, style sheets and HTML: biome (linter, formatter) and TypeScript's type checker.
check-page: node_modules/ready
	$(NPM) run --silent lint
	$(NPM) run --silent types

# The docs site, docs/_build/html/index.html. A warning (a broken link, an unknown name) is an error.
# It needs no network, and the last check is that the pages load nothing from elsewhere.
docs: venv
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --write-all --fresh-env --doctree-dir $(SITE)/doctrees docs $(SITE)/html
	@! grep -rlE '<(script|img|iframe)[^>]+src="(https?:)?//|<link[^>]+href="(https?:)?//' $(SITE)/html --include='*.html' && \
		! grep -rlE 'url\(["'"'"']?(https?:)?//|@import' $(SITE)/html --include='*.css'
	@echo "the site is at $(SITE)/html/index.html"

# Executes the notebooks, in a minute or two; a warning is an error.
notebooks: venv
	$(BIN)/python -m docs.run_notebooks $(ARGS)

node_modules/ready: package.json package-lock.json .npmrc
	$(NPM) ci --silent
	@touch $@

# Takes hours on an otherwise idle machine. Duels and validation keep their finished runs, so you may interrupt and restart them.
# Not included, see docs/: the duel with cnn-tuned on other seeds, the duels of attention and of seed-best, the profile of a
# step, the validation runs of the log, everything on a GPU, and benchmarks.attention, drawn_digits,
# novelty, page_speed and serve_load.
bench: venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m benchmarks.throughput --out $(RESULTS)/throughput-$(NAME).json
	$(BIN)/python -m benchmarks.growth --out $(RESULTS)/growth-$(NAME).json --picture $(RESULTS)/growth-$(NAME).png
	$(BIN)/python -m benchmarks.cold_start fast small --out $(RESULTS)/cold-start-$(NAME).json
	$(BIN)/python -m benchmarks.inference fast small accurate keras-cnn --out $(RESULTS)/inference-$(NAME).json
	$(BIN)/python -m benchmarks.duel fast fast/attn_form=none/attn_bias=false cnn-tuned small keras:keras-cnn \
		--seeds 10 --out $(RESULTS)/duel-$(NAME).json
	$(BIN)/python -m benchmarks.duel accurate --against accurate --seeds 5 --out $(RESULTS)/duel-accurate-$(NAME).json
	$(BIN)/python -m benchmarks.validation accurate $(addprefix accurate/,$(LESS)) --knobs epochs=6 threads=1 \
		--seeds 2 --out $(RESULTS)/ablation-accurate-$(NAME).json
	$(BIN)/python -m benchmarks.duel fashion small/data=fashion-mnist --against small/data=fashion-mnist --seeds 5 \
		--out $(RESULTS)/duel-fashion-$(NAME).json

# Half an hour on a quiet machine with two cores. Fails if any attack succeeded, but writes the page in any case.
proof: venv
	@$(BIN)/python -m benchmarks.proof --out $(RESULTS)/proof-$(NAME).json $(ARGS); status=$$?; \
		$(BIN)/python docs/make_reliability.py $(RESULTS)/proof-$(NAME).json && exit $$status

# Sdist and wheel in dist/. Installs the wheel and all that it needs from the package index into a new environment, and
# uses it there. In CI, `python -m release.check` borrows the packages of .venv instead.
package: venv
	$(BIN)/python -m release.check --fresh $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(ARGS)

# constraints.txt again: the newest versions that pyproject.toml allows, installed into a new environment. Without the
# part of torch's version that names its build (+cpu), so that it fits every build.
constraints:
	rm -rf .venv-constraints
	$(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/python -m pip install --quiet --disable-pip-version-check \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[dev]'
	(grep '^#' constraints.txt; .venv-constraints/bin/python -m pip --disable-pip-version-check freeze --exclude-editable \
		| sed 's/+[a-z0-9.]*$$//') > .venv-constraints/constraints.txt
	mv .venv-constraints/constraints.txt constraints.txt
	rm -rf .venv-constraints

venv: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "vitlab needs Python 3.11 or newer, this is %s; name one: make PYTHON=python3.12" % sys.version.split()[0])'
	@echo "installing into .venv; the first time this takes a few minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv node_modules $(SITE)
