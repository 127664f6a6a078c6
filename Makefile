# Development tasks; `make help` lists them. Needs Rust, Python 3.10 or newer and make. Every other tool is pinned and
# installed into .tools/.

PYTHON ?= python3
CARGO ?= cargo
VENV := .tools/venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SAM := SAM_CLI_TELEMETRY=0 $(BIN)/sam
# The processor of the function. The default is the template's.
ARCHITECTURE ?= x86_64
TEMPLATES := $(wildcard template.yaml watchdog/template.yaml examples/consumer/template.yaml)

INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_DIST := .tools/dist/.installed
INSTALLED_NODE := .tools/node/.installed
INSTALLED_MINISTACK := .tools/ministack/.installed
INSTALLED_CHECKOV := .tools/checkov/.installed

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := .tools/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny
CARGO_FUZZ_VERSION := 0.13.2
CARGO_FUZZ := .tools/cargo-fuzz-$(CARGO_FUZZ_VERSION)/bin/cargo-fuzz
CARGO_MUTANTS_VERSION := 27.1.0
CARGO_MUTANTS := .tools/cargo-mutants-$(CARGO_MUTANTS_VERSION)/bin/cargo-mutants
CARGO_NEXTEST_VERSION := 0.9.143
CARGO_NEXTEST := .tools/cargo-nextest-$(CARGO_NEXTEST_VERSION)/bin/cargo-nextest

# cargo-nextest where it is installed; cargo's own test runner otherwise.
HAS_NEXTEST = $(shell $(CARGO) nextest --version 2>/dev/null)
RUST_TESTS = $(if $(HAS_NEXTEST),nextest run,test --lib --bins --tests)

.DEFAULT_GOAL := help
.PHONY: help setup run watch send redrive events check lint advisories test soak fuzz build dist bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## install the tools of `run` and `watch` into .tools/

run: $(INSTALLED) ## send every file in events/ through the function to a local SQS and a consumer, and print the results
	@$(BIN)/python scripts/local.py run

watch: $(INSTALLED) ## keep the same stack running and rebuild the function when its code changes
	@$(BIN)/python scripts/local.py watch

send: $(INSTALLED) ## send an event to the stack of `make watch`: make send EVENT=contact-created
	@$(BIN)/python scripts/local.py send "$(EVENT)"

redrive: ## forward quarantined messages that can be parsed: make redrive ARGS=--dry-run
	$(CARGO) run --quiet --package so-webhook -- redrive $(ARGS)

events: ## regenerate events/*.json and tests/vectors from events/payloads
	$(CARGO) run --quiet --package test-support --bin sample-events
	$(PYTHON) scripts/make_vectors.py

check: ## the fast checks: format, clippy, unit tests of the library
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --lib --locked

lint: $(INSTALLED_DEV) $(INSTALLED_CHECKOV) $(CARGO_DENY) ## all static checks: code, documentation, spelling, dependencies, template, workflow
	$(CARGO) fmt --all --check
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/typos
	@if command -v actionlint >/dev/null; then actionlint; else echo "actionlint is not installed: skipped"; fi
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --no-default-features --lib --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	$(CARGO_DENY) --locked check bans licenses sources
	$(BIN)/cfn-lint -a cfn_lint_serverless.rules -- $(TEMPLATES)
	$(dir $(INSTALLED_CHECKOV))bin/checkov --file $(TEMPLATES) --framework cloudformation --compact --quiet --skip-download
	@set -e; for template in $(TEMPLATES); do \
		$(SAM) validate --lint --region eu-north-1 --template-file $$template; \
	done

advisories: $(CARGO_DENY) ## check the dependencies for security advisories; needs access to GitHub
	$(CARGO_DENY) --locked check advisories

test: $(INSTALLED_DEV) $(INSTALLED_NODE) $(INSTALLED_MINISTACK) ## all tests: Rust, then Python against a local SQS and a local AWS
	$(CARGO) $(RUST_TESTS) --workspace --locked
	$(CARGO) test --workspace --doc --locked
	$(CARGO) test --no-default-features --lib --locked
	$(BIN)/python -m pytest

build: $(INSTALLED_DEV) ## prepare .aws-sam/ for `sam deploy`: make build ARCHITECTURE=x86_64, or arm64
	PATH="$(CURDIR)/$(BIN):$$PATH" $(SAM) build --parameter-overrides Architecture=$(ARCHITECTURE)

dist: $(INSTALLED_DIST) ## build a release in dist/ for all installed Rust targets: make dist ARCHITECTURES="x86_64 arm64"
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} \
		$(<D)/bin/python scripts/make_dist.py $(ARCHITECTURES)

.PHONY: deploy-local smoke
deploy-local: $(INSTALLED_DEV) $(INSTALLED_MINISTACK) ## deploy the template into a local AWS and run until Ctrl-C; ARGS=--dev builds faster
	@$(BIN)/python scripts/deploy_local.py $(ARGS)

smoke: ## check a deployment, in AWS or local: make smoke URL=https://.../webhook
	@$(PYTHON) scripts/smoke.py "$(URL)" --tenant "$(TENANT)" $(ARGS)

.PHONY: outage
outage: $(INSTALLED_DEV) $(INSTALLED_MINISTACK) ## show in a local AWS how the watchdog recovers the events that outages lost
	@$(BIN)/python scripts/outage.py

bench: ## compare the function with equivalent implementations and write the results into the documentation
	$(CARGO) run --quiet --profile support --package bench

soak: ## send 100,000 deliveries to one process and check its memory and open files
	$(CARGO) test --test it soak -- --ignored --nocapture

FUZZ_SECONDS ?= 60
fuzz: ## run every fuzz target for FUZZ_SECONDS; needs a nightly compiler
	@$(CARGO) +nightly --version >/dev/null 2>&1 || { echo "make fuzz: no nightly compiler is installed: skipped"; exit 0; }; \
	set -e; \
	if ! [ -x $(CARGO_FUZZ) ]; then \
		echo "Installing cargo-fuzz into .tools (about a minute, once)"; \
		$(CARGO) install cargo-fuzz --version $(CARGO_FUZZ_VERSION) --locked --quiet \
			--root .tools/cargo-fuzz-$(CARGO_FUZZ_VERSION); \
	fi; \
	export PATH="$(CURDIR)/$(dir $(CARGO_FUZZ)):$$PATH"; \
	for target in $$($(CARGO) +nightly fuzz list); do \
		mkdir -p fuzz/found/$$target; \
		$(CARGO) +nightly fuzz run $$target fuzz/found/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1; \
	done

.PHONY: mutants
mutants: $(CARGO_MUTANTS) $(if $(HAS_NEXTEST),,$(CARGO_NEXTEST)) ## change the code in each place and expect a failing test: make mutants ARGS="--shard 0/16"
	PATH="$(CURDIR)/$(dir $(CARGO_NEXTEST)):$$PATH" $(CARGO_MUTANTS) mutants --workspace --output target $(ARGS)

clean: ## remove everything that was built or installed
	$(CARGO) clean
	rm -rf .tools .aws-sam bench/target dist

# Tools. A stamp file is newer than its requirements once they are installed.
$(BIN)/python:
	@command -v $(CARGO) >/dev/null || { echo "Rust is required: $(CARGO) is not on the PATH" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is required; choose one with: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) lacks the modules venv and ensurepip (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Creating a Python environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): scripts/requirements.txt | $(BIN)/python
	@echo "Installing cargo-lambda and moto into $(VENV) (about a minute, once)"
	@$(PIP) install -r $<
	@touch $@

$(INSTALLED_DEV): scripts/requirements-dev.txt $(INSTALLED)
	@echo "Installing the tools for tests and checks into $(VENV) (once)"
	@$(PIP) install -r $<
	@touch $@

# Only what makes the files of a release, with hashes.
$(INSTALLED_DIST): scripts/requirements-dist.txt | $(BIN)/python
	@echo "Installing cargo-lambda and the tools for a release into $(@D) (once)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@

$(INSTALLED_NODE): tests/e2e/package.json tests/e2e/package-lock.json
	@mkdir -p $(@D)
	@cp $^ $(@D)
	@if command -v npm >/dev/null; then \
		echo "Installing the npm packages of the tests into $(@D) (once)" && \
		npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel=error && \
		touch $@; \
	else \
		echo "npm is not installed: the tests that need it are skipped"; \
	fi

$(INSTALLED_MINISTACK) $(INSTALLED_CHECKOV): .tools/%/.installed: scripts/requirements-%.txt
	@echo "Installing $* into $(@D) (a minute, once)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install -r $<
	@touch $@

# Without optimization: it compiles five times faster, and a check takes two seconds.
$(CARGO_MUTANTS):
	@echo "Installing cargo-mutants into .tools (about a minute, once)"
	@CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install cargo-mutants --version $(CARGO_MUTANTS_VERSION) --locked --quiet --debug \
		--root .tools/cargo-mutants-$(CARGO_MUTANTS_VERSION)

$(CARGO_NEXTEST):
	@echo "Installing cargo-nextest into .tools (some minutes, once)"
	@CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install cargo-nextest --version $(CARGO_NEXTEST_VERSION) --locked --quiet --debug \
		--root .tools/cargo-nextest-$(CARGO_NEXTEST_VERSION)

$(CARGO_DENY):
	@echo "Installing cargo-deny into .tools (about a minute, once)"
	@CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install cargo-deny --version $(CARGO_DENY_VERSION) --locked --quiet --debug \
		--root .tools/cargo-deny-$(CARGO_DENY_VERSION)
