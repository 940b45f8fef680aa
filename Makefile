# Every job of the project by name; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The data sets live beside the checkout; HEED_DATA names another folder.
ifneq ($(wildcard ../shared/data/.),)
export HEED_DATA ?= $(abspath ../shared/data)
endif

# A file that includes torch takes up to 1.3 GB to compile, so memory bounds the jobs too.
JOBS ?= $(shell awk -v cores="$$(nproc)" '/^MemAvailable/ { m = int($$2 / 1500000); print m < 1 ? 1 : m < cores ? m : cores }' /proc/meminfo)
PYTHON := .venv/bin/python
CXX_SOURCES = $(shell find $(wildcard heed cli tests bench examples) -name '*.h' -o -name '*.cpp' -o -name '*.inc')
PY_SOURCES = $(wildcard python tests bench examples scripts)

# $(call build,FOLDER,PRESET,NINJA_ARGUMENTS): a first configuration by preset, then ninja, which configures again when it must.
build = { test -f $(1)/build.ninja || cmake --preset $(2) --log-level=NOTICE; ninja -C $(1) -j $(JOBS) $(3); } >&2

.PHONY: help
help: ## List these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

.PHONY: demo
demo: setup program ## Translate a sentence and show where the model looked
	@build/bin/heed translate --model assets/en-zh --attention --html build/demo.html "I love you."

.PHONY: build
build: setup ## Build the program build/bin/heed and the Python package in .venv
	@$(call build,build,release,bin/heed heed_python)

# ccache tells compilers apart by name, and CMake's own choice is c++: so the objects of `build` serve here too.
.PHONY: wheel
wheel: setup ## Build the Python package, build/dist/heed-*.whl
	@CXX="$${CXX:-c++}" CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) $(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir build/dist . >&2
	@ls -t build/dist/*.whl | head -n 1

.PHONY: test
test: setup-test lint ## Build everything and run every test that takes seconds
	@$(call build,build,release)
	@ctest --test-dir build --output-on-failure -j $(JOBS) -LE slow
	@$(PYTHON) -m pytest tests/python -m "not slow" -n $(JOBS) --dist loadfile

.PHONY: test-slow
test-slow: test ## The tests above, those that take minutes, and the core under sanitisers
	@$(call build,build/asan,asan)
	@ctest --test-dir build/asan --output-on-failure -j $(JOBS)
	@ctest --test-dir build --output-on-failure -j $(JOBS) -L slow
	@$(PYTHON) -m pytest tests/python -m slow

.PHONY: conformance
conformance: setup-test build ## Run other people's test suites on Heed and print one table
	@$(PYTHON) tests/conformance

.PHONY: bench
bench: build ## Time the kernels against torch's, after checking that they agree
	@$(PYTHON) bench/attention.py

.PHONY: docs
docs: setup program ## Redraw the pictures of docs/mechanisms, each from a lesson learnt anew
	@$(PYTHON) scripts/draw_mechanisms.py

.PHONY: format
format: setup-test ## Format C++ and Python in place
	@clang-format -i $(CXX_SOURCES)
	@$(PYTHON) -m ruff format --quiet $(PY_SOURCES)
	@$(PYTHON) -m ruff check --quiet --fix $(PY_SOURCES)

.PHONY: clean
clean: ## Remove what was built; .venv stays
	@rm -rf build

.PHONY: setup setup-test program lint
setup:
	@scripts/setup
setup-test:
	@scripts/setup --test
program:
	@$(call build,build,release,bin/heed $(if $(wildcard build/bin/heed),--quiet))
lint:
	@clang-format --dry-run --Werror $(CXX_SOURCES)
	@$(PYTHON) -m ruff check --quiet $(PY_SOURCES)
	@$(PYTHON) -m ruff format --quiet --check $(PY_SOURCES)
	@$(PYTHON) -m mypy --no-error-summary
