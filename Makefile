# Everything that a person runs. Each target sets up what it needs in .venv, from a bare checkout with
# Python 3.11 or later and a C++ compiler.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(shell find native -type f) CMakeLists.txt pyproject.toml
# An editable install knows the packages that there were when it was made.
PACKAGES := $(shell find src -name __init__.py)
NATIVE_TESTS := $(shell find tests/native -name '*.cc' -o -name '*.h')
MODEL := smollm2-135m-instruct
# scikit-build-core builds with these; installed first so that a rebuild is incremental. An installed wheel has
# its bytecode; the editable install gets it from compileall, so that starts are as quick.
BUILD_TOOLS := scikit-build-core nanobind cmake ninja

.PHONY: install test-environment demo test check soak image bench docs clean

install: $(VENV)/.installed
$(VENV)/.installed: $(NATIVE) $(PACKAGES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(BUILD_TOOLS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable .
	$(BIN)/python -m compileall -q src/weft
	touch $@

test-environment: install $(VENV)/.tested
$(VENV)/.tested: pyproject.toml $(NATIVE_TESTS) $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
	  --config-settings cmake.define.WEFT_TESTS=ON --editable '.[test,dev]'
	-$(BIN)/python -m tests.support.browser
	touch $@

demo: install
	$(BIN)/weft pull $(MODEL)
	$(BIN)/weft info
	$(BIN)/weft chat $(MODEL) --prompt "What is a loom, in two sentences?" --seed 1 -n 96
	$(BIN)/weft bench -m $(MODEL) --quick
	rm -rf demo-out && $(BIN)/python tools/demo_data.py demo-out/data
	$(BIN)/weft eval -m $(MODEL) --data demo-out/data --split valid
	$(BIN)/weft train -m $(MODEL) --data demo-out/data --out demo-out/run --steps 12 --batch-size 4 \
	  --learning-rate 1e-4 --warmup-steps 2 --eval-every 0 --seed 1
	$(BIN)/weft eval -m demo-out/run --data demo-out/data --split valid

test: test-environment
	$(BIN)/python -m pytest -q -m "not soak"

check: test-environment
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/mypy
	$(BIN)/python tools/make_docs.py --check

soak: test-environment
	$(BIN)/python -m pytest -q -m soak
	$(BIN)/python -m tests.fuzz.fuzz_gguf --runs 1000000
	$(BIN)/python -m tests.fuzz.fuzz_safetensors --runs 1000000
	$(BIN)/python -m tests.fuzz.fuzz_models --runs 100000
	$(BIN)/python -m tests.fuzz.fuzz_weights --runs 1000000
	PATH=$(abspath $(BIN)):$$PATH PYTHON=$(abspath $(BIN))/python tools/sanitize.sh all tools/sanitize_generation.py
	TESTS=- PATH=$(abspath $(BIN)):$$PATH PYTHON=$(abspath $(BIN))/python tools/sanitize.sh all tools/sanitize_training.py
	tools/emulate_avx512.sh
	tools/check_aarch64.sh
	tools/check_free_threaded.sh
	PYTHON=$(abspath $(BIN))/python tools/check_package.sh

# Builds and runs the Dockerfile without a container engine; needs root, debootstrap and the network.
image: test-environment
	$(BIN)/python tools/check_image.py

bench: test-environment
	$(BIN)/python benchmarks/compare.py

docs: test-environment
	$(BIN)/python tools/make_docs.py

clean:
	rm -rf $(VENV) build
