# Everything one does with this project; `make help` lists it. Needs Rust, Python 3.9 or newer and make; what else is
# needed is installed, pinned, into .tools/.

PYTHON ?= python3
CARGO ?= cargo
VENV := .tools/venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SAM := SAM_CLI_TELEMETRY=0 $(BIN)/sam
# The function's processor: the template's own default.
ARCHITECTURE ?= arm64

INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_NODE := .tools/node/.installed

.DEFAULT_GOAL := help
.PHONY: help setup run watch send redrive events lint test soak fuzz build bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## install the tools of `run` and `watch` into .tools/

run: $(INSTALLED) ## send every file in events/ through the function into a local SQS and on to a consumer, and show it all
	@$(BIN)/python scripts/local.py run

watch: $(INSTALLED) ## keep the same stack up, rebuilding the function when the code changes
	@$(BIN)/python scripts/local.py watch

send: $(INSTALLED) ## send one event to the stack of `make watch`: make send EVENT=contact-created
	@$(BIN)/python scripts/local.py send "$(EVENT)"

redrive: ## send on what is in quarantine and understood by now: make redrive ARGS=--dry-run (docs/fallback.md)
	$(CARGO) run --quiet --example redrive -- $(ARGS)

events: ## rewrite events/*.json and tests/vectors from events/payloads
	$(CARGO) run --quiet --example sign -- envelopes
	$(PYTHON) scripts/make_vectors.py

lint: $(INSTALLED_DEV) ## formatting, clippy and rustdoc without a warning, ruff, the template
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --no-default-features --lib --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/cfn-lint template.yaml
	$(SAM) validate --lint --region eu-north-1

test: $(INSTALLED_DEV) $(INSTALLED_NODE) ## everything: Rust tests, then the function under cargo lambda against a local SQS
	$(CARGO) test --workspace
	$(CARGO) test --no-default-features --lib
	$(BIN)/python -m pytest

build: $(INSTALLED_DEV) ## make .aws-sam/ ready for `sam deploy`: make build ARCHITECTURE=x86_64, or arm64
	PATH="$(CURDIR)/$(BIN):$$PATH" $(SAM) build --parameter-overrides Architecture=$(ARCHITECTURE)

bench: ## measure the function beside others that do the same job, and write the README's figures
	$(CARGO) run --quiet --profile support --package bench

soak: ## 100,000 deliveries in one process: memory and open files
	$(CARGO) test --test soak -- --ignored --nocapture

# cargo-fuzz works with nightly compilers only.
FUZZ_SECONDS ?= 60
fuzz: ## look for a body or header for which a promise does not hold; needs a nightly compiler
	@$(CARGO) +nightly --version >/dev/null 2>&1 || { echo "make fuzz: no nightly compiler, nothing is fuzzed"; exit 0; }; \
	set -e; \
	if ! [ -x .tools/cargo-fuzz/bin/cargo-fuzz ]; then \
		echo "Installing cargo-fuzz into .tools/cargo-fuzz (about a minute, once)"; \
		$(CARGO) install cargo-fuzz --version 0.13.2 --locked --quiet --root .tools/cargo-fuzz; \
	fi; \
	for target in body header; do \
		mkdir -p fuzz/found/$$target; \
		PATH="$(CURDIR)/.tools/cargo-fuzz/bin:$$PATH" $(CARGO) +nightly fuzz run $$target \
			fuzz/found/$$target fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1; \
	done

clean: ## remove what was built and installed
	$(CARGO) clean
	rm -rf .tools .aws-sam bench/target

# The tools. A stamp is younger than its requirements once they are installed.
$(BIN)/python:
	@command -v $(CARGO) >/dev/null || { echo "Rust is needed: $(CARGO) is not on the PATH" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || \
		{ echo "Python 3.9 or newer is needed; name one with: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) lacks the modules venv and ensurepip (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Making a Python environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): scripts/requirements.txt | $(BIN)/python
	@echo "Installing cargo-lambda and moto's server into $(VENV) (about a minute, once)"
	@$(PIP) install -r $<
	@touch $@

$(INSTALLED_DEV): scripts/requirements-dev.txt $(INSTALLED)
	@echo "Installing the tools of the tests into $(VENV) (once)"
	@$(PIP) install -r $<
	@touch $@

$(INSTALLED_NODE): tests/e2e/package.json tests/e2e/package-lock.json
	@mkdir -p $(@D)
	@cp $^ $(@D)
	@if command -v npm >/dev/null; then \
		echo "Installing the CloudEvents SDK for Node into $(@D) (once)" && \
		npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel=error && \
		touch $@; \
	else \
		echo "npm is not installed: the tests that need it are skipped"; \
	fi
