# The commands of this project. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STACK ?= sandbox
SANDBOX := $(BIN)/python -m sandbox
# Pulumi in the sandbox's world: its endpoints, tokens and state backend, nothing of yours.
IN_SANDBOX := eval "$$($(SANDBOX) env)" &&
ARGS ?=
# Tests at a time: most of them wait, so more than there are cores.
JOBS ?= 4
# Of those with whole services: they keep the machine busier, and some measure time.
CONFIG_JOBS ?= 2

# Every command that `make help` lists; none of them is a file.
.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## list the commands
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.stamp: requirements-uv.txt requirements-dev.txt
	@test -x $(BIN)/python || { echo "Creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing the pinned Python packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements-dev.txt
	@touch $@

venv: $(VENV)/.stamp ## make the Python environment

lock: ## resolve pyproject.toml into the hashed requirements files
	@$(BIN)/uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header -o requirements.txt
	@$(BIN)/uv pip compile -q pyproject.toml --group sandbox --group dev -c requirements.txt \
	  --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header -o requirements-dev.txt
	@$(BIN)/uv pip compile -q dashboard/requirements.in -c requirements-dev.txt \
	  --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header -o dashboard/requirements.txt
	@awk '/^uv==/{on=1} on&&(/^uv==/||/--hash/){print;next} on{exit}' requirements-dev.txt \
	  | sed '$$ s/ \\$$//' > requirements-uv.txt

install: venv ## fetch or build the tools and images of the sandbox (cached, first time minutes)
	@$(SANDBOX) install

world: install ## start the cloud in a box with an empty stack, and nothing in it
	@$(SANDBOX) up
	@$(IN_SANDBOX) { pulumi stack select $(STACK) 2>/dev/null || pulumi stack init $(STACK); }

up: world ## bring up the pair on a cloud in a box, or change it
	@$(IN_SANDBOX) pulumi up -s $(STACK) --yes --skip-preview $(ARGS)
	@$(SANDBOX) status --patience 60

preview: ## show what `make up` would change
	@$(IN_SANDBOX) pulumi preview -s $(STACK) $(ARGS)

refresh: ## read the live state of every resource and show the drift
	@$(IN_SANDBOX) pulumi refresh -s $(STACK) --preview-only --diff $(ARGS)

status: ## what runs, and whether it is healthy
	@$(SANDBOX) status

ssh: ## open a shell on a node: make ssh node=vps-01
	@$(SANDBOX) ssh $(node)

logs: ## the tails of all logs of the sandbox
	@$(SANDBOX) logs

destroy: ## remove the sandbox, but buckets with data; ARGS="--all-buckets" or "--bucket NAME"
	@$(SANDBOX) destroy $(ARGS)

clean: destroy ## remove the sandbox and the Python environment; the download cache stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

test: venv ## unit and contract tests: Python alone, no root, no Docker, no cloud
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

web-test: ## build the dashboard page, its unit tests and format; needs Node.js 20.19 or newer
	@cd dashboard/web && npm ci --no-audit --no-fund --loglevel=error && npm run --silent lint \
	  && npm run --silent build && npm run --silent test:unit

web-browser-test: web-test browser ## the built page in Chromium; screenshots go to dashboard/web/test-artefacts
	@cd dashboard/web && npm run --silent test:browser

provider-test: ## what is written in Go: the stand-ins for Pulumi's plugins, the checker; needs Go 1.26 or newer
	@cd sandbox/providers && go vet ./... && go test ./...
	@cd chaos/linearizability && go vet ./... && go test ./...

witness-test: ## types, format and tests of the arbiter under workerd; needs Node.js 20.19 or newer
	@cd witness && npm ci --no-audit --no-fund --loglevel=error && npm run --silent lint \
	  && npm run --silent test

images-check: venv ## ask each registry for the images of the catalogue; needs the internet
	@$(BIN)/python -m stack.check_images

lint: venv ## format check, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

fmt: venv ## format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

browser: ## a Chromium for the end-to-end tests, from the distribution
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  export DEBIAN_FRONTEND=noninteractive; apt-get -qq update; \
	  echo "Installing chromium"; apt-get -qq install -y --no-install-recommends chromium >/dev/null; }

tracer: ## strace for the test of the power cut, from the distribution
	@command -v strace >/dev/null || { \
	  export DEBIAN_FRONTEND=noninteractive; apt-get -qq update; \
	  echo "Installing strace"; apt-get -qq install -y --no-install-recommends strace >/dev/null; }

config-test: install tracer ## every rendered file checked by its own program
	@$(BIN)/python -m pytest -n $(CONFIG_JOBS) --dist loadfile --no-loadscope-reorder \
	  tests/config tests/contract/test_worker_runtime.py --durations=15 $(ARGS)

e2e: install browser config-test ## boot the sandbox, run the real engine against it, break things
	@$(BIN)/python -m pytest tests/e2e -s --timeout=1800 --durations=15 $(ARGS)

chaos: install ## random faults against the running sandbox while devices post; ARGS="--rounds 100 --seed 1"
	@$(BIN)/python -m chaos $(ARGS)

bench: install ## times of up, preview and rebuild, as ratios to floors of the same run
	@$(BIN)/python -m bench $(ARGS)

bench-preview: install ## a preview without a change beside an empty program's; a minute, no servers
	@$(BIN)/python -m bench.preview $(ARGS)

bench-ingest: venv ## statuses a second through the API, as ratios to COPY and SELECT 1 of the same run
	@$(BIN)/python -m bench.ingest $(ARGS)

bench-backup: install ## a full backup, a restore and posts beside a backup, and floors of the same run; ARGS="--gigabytes 10"
	@$(BIN)/python -m bench.backup $(ARGS)

load: install ## 500 devices against the sandbox for ten minutes: all counted, every limit; ARGS="--minutes 2"
	@$(BIN)/python -m load $(ARGS)

bench-queries: install ## every query of dashboards, rules and page on 50,000 series; some minutes
	@$(BIN)/python -m bench.queries $(ARGS)

bench-page: install browser ## the fleet page in Chromium with 500 and 10,000 devices, and a status' way to it
	@$(BIN)/python -m bench.page $(ARGS)

drill: install ## lose both servers of the sandbox and get them back; ARGS="--megabytes 64" for less
	@$(BIN)/python -m drill $(ARGS)

recovery-kit: venv ## one sealed file with all that a new laptop needs: make recovery-kit STACK=prod
	@$(BIN)/python -m recovery $(STACK) $(ARGS)
