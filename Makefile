# One command on a fresh machine: make up

VENV ?= .venv
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
MODELS := smollm2 gemma-3-270m

# Where the tests look for the real models. Name another folder to use files that are already on this machine.
ifndef BYENATOS_TEST_MODELS
BYENATOS_TEST_MODELS := $(CURDIR)/.cache/models
endif
export BYENATOS_TEST_MODELS

# Tests wait more than they compute: one more file at a time than there are cores, up to four.
TEST_WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n + 1 : 4)))

# Instructions of newer x86 processors that llama.cpp 0.3.36 is better compiled without, where the compiler knows them.
# With AVX512-FP16 attention over heads of 64 numbers is not vectorized (its vectors take 128): a token takes 1.3 times as
# long at 512 tokens of context and 1.8 times at 4,096. With AMX, which `repack = true` uses, GCC 12.2 drops what
# configures the tiles, and the process dies.
WITHOUT = $(foreach flag,-mno-avx512fp16 -mno-amx-int8,$(shell \
	$(CC) $(flag) -E -x c /dev/null >/dev/null 2>&1 && echo $(flag)))

INSTALLED := $(VENV)/.installed
BYENATOS := $(VENV)/bin/byenatos

.DEFAULT_GOAL := help
.PHONY: help up test lint bench chaos pictures test-models clean

help:
	@echo 'make up     set everything up, pull two small models, start the kernel and chat'
	@echo '            (without a terminal: a demonstration that swaps the models under a running answer)'
	@echo 'make test   run the tests, those with real models too'
	@echo 'make lint   ruff, import-linter, mypy'
	@echo 'make bench  measure the data path'
	@echo 'make chaos  swap, kill, halt and restart under load, a thousand times (SEED=, SWAPS=, KILLS=, RESTARTS=;'
	@echo '            REAL=1: with two real models)'
	@echo 'make pictures  take the pictures of the console that the README shows (needs chromium and a Chinese font)'
	@echo 'make clean  remove what the above made in this folder'

# On a terminal the kernel starts before the second model arrives, so that the first one, which follows instructions,
# takes the slot that the chat talks to.
up: $(INSTALLED)
	@if test -t 0 && test -t 1; then \
		$(BYENATOS) models pull $(firstword $(MODELS)) && $(BYENATOS) up --detach && \
		$(BYENATOS) models pull $(MODELS) && { $(BYENATOS) chat || test $$? -eq 130; } && \
		echo 'The kernel goes on. Stop it with: $(BYENATOS) down'; \
	else \
		$(BYENATOS) models pull $(MODELS) && $(BYENATOS) demo; \
	fi

test: $(INSTALLED) test-models
	@$(VENV)/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(INSTALLED)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/mypy

bench: $(INSTALLED) test-models
	@$(VENV)/bin/python -m tests.bench $(BENCH_ARGS)

SWAPS ?= 1000
KILLS ?= 1000
RESTARTS ?= 20
chaos: $(INSTALLED) $(if $(REAL),test-models)
	@$(VENV)/bin/python -m tests.chaos.storm --swaps $(SWAPS) --kills $(KILLS) --restarts $(RESTARTS) \
		$(if $(SEED),--seed $(SEED)) $(if $(REAL),--real)

pictures: $(INSTALLED) test-models
	@BYENATOS_PICTURES=$(CURDIR)/tests/system/pictures $(VENV)/bin/python -m pytest tests/system/test_pictures.py

test-models: $(INSTALLED)
	@for model in $(MODELS); do \
		test -f "$$BYENATOS_TEST_MODELS/$$model.gguf" || \
			$(BYENATOS) models pull $$model --into "$$BYENATOS_TEST_MODELS" || exit 1; \
	done

# pip runs in the foreground, so that Ctrl-C ends it and its compilers; a line now and then shows that it is alive.
$(INSTALLED): pyproject.toml
	@test -n '$(PYTHON)' || { \
		echo 'make: expected Python 3.11 or newer (python3.11 to python3.14 or python3), found none.' >&2; \
		echo '      Install it (Debian, Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path' >&2; \
		exit 1; }
	@$(VENV)/bin/python -c 'import pip' 2>/dev/null || '$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'make: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv' >&2; \
		exit 1; }
	@$(VENV)/bin/python -c 'import pip' 2>/dev/null || '$(PYTHON)' -m venv $(VENV)
	@echo 'Installing into $(VENV): llama.cpp is compiled for this machine, which takes minutes the first time.'
	@echo 'The log: $(VENV)/install.log'
	@begin=$$(date +%s); \
	while sleep 15 >/dev/null 2>&1; do echo "  … still at it, $$(($$(date +%s) - begin)) s"; done & ticker=$$!; \
	trap 'kill $$ticker 2>/dev/null' EXIT; trap 'exit 130' INT TERM; \
	CMAKE_BUILD_PARALLEL_LEVEL="$${CMAKE_BUILD_PARALLEL_LEVEL:-$$(getconf _NPROCESSORS_ONLN)}" \
	CFLAGS="$${CFLAGS-} $(WITHOUT)" CXXFLAGS="$${CXXFLAGS-} $(WITHOUT)" \
	$(VENV)/bin/python -m pip install -e '.[llamacpp,dev,http]' >$(VENV)/install.log 2>&1 || { \
		tail -n 30 $(VENV)/install.log >&2; \
		command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
			echo 'make: found no C++ compiler; on Debian and Ubuntu: apt install build-essential' >&2; \
		echo 'make: the installation failed, see above; the whole log: $(VENV)/install.log' >&2; \
		exit 1; }
	@touch $@

clean:
	rm -rf $(VENV) .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find kernel plugins sandbox sdk tests -name __pycache__ -type d -prune -exec rm -rf {} +
