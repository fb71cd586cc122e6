# Everything runs from .venv, made by the first target that needs it. PYTHON is the interpreter to make it from.
PYTHON ?= python3.11
BIN := .venv/bin
# A .venv of another version of Python than is asked for is made anew: the mark that one is ready names its version.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
IS_RIGHT := import sys; sys.exit("$(VERSION)" not in ("", "%d.%d" % sys.version_info[:2]))
# Of fuzzing, for each reader.
SECONDS ?= 600
READY := .venv/.ready$(VERSION)
# Tests open the HTML report in a real browser, and ask real shells for completions.
TOOLS := chromium zsh fish
MISSING = $(shell for tool in $(TOOLS); do command -v $$tool >/dev/null || echo $$tool; done)
# GitHub's machines and most desktops have a user who may become root, without a question at best.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n)
APT = { $(AS_ROOT) apt-get update -qq && $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq $(MISSING) >/dev/null; } \
  || echo "install $(MISSING), or tests/test_report.py and tests/test_completion.py will fail" >&2

.PHONY: demo test test-fast test-gpu lint docs pages bench damage fuzz setup clean

demo: setup  ## set everything up, then the main job: train, convert, export, verify; leaves all in demo/
	$(BIN)/zoo demo -o demo

test: setup  ## set everything up, then the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: setup  ## the tests for between two edits: no full-size network, series of proofs, environment, browser, shell or run of training
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow'

test-gpu: setup  ## the tests that only a CUDA GPU can run; each says why where it cannot
	$(BIN)/python -m pytest -m gpu -rs

lint: setup  ## format, style, types, and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

docs: setup  ## the site, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pages: setup  ## write anew what is written by a command: the pages of reference, and the pictures
	for page in api cli fields kinds; do $(BIN)/python docs/$$page.py || exit 1; done
	for model in alexnet caffenet; do $(BIN)/zoo show $$model --svg docs/$$model.svg --force || exit 1; done

bench: setup  ## measure everything beside its peers and renew the tables in docs/, in an hour and more
	$(BIN)/python -m benchmarks

damage: setup  ## 10,000 damaged inputs for every reader, 100 kills and 50 signals of every command: a part of bench
	$(BIN)/python -m benchmarks.damage

# atheris is there for Linux alone, and nothing else needs it.
fuzz: setup  ## inputs led by the branches they take, SECONDS for every reader; what is found lies in build/fuzz
	$(BIN)/python -m pip install -q 'atheris>=3.0'
	$(BIN)/python -m benchmarks.fuzz --seconds $(SECONDS)

setup: $(READY)

# torch < 2.14 keeps pip on CPU builds where those are offered. caffe2onnx pins an onnx of 2019 and comes without its
# dependencies; what it really needs is supplied by converters/exporters/caffe.py.
$(READY): pyproject.toml
	$(BIN)/python -c '$(IS_RIGHT)' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q 'torch<2.14'
	$(BIN)/python -m pip install -q -e '.[all,dev,docs]'
	$(BIN)/python -m pip install -q --no-deps caffe2onnx==2.0.1
	$(if $(MISSING),$(APT))
	touch $@

clean:  ## remove what was built; .venv stays
	rm -rf demo build dist *.egg-info
