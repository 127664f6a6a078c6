# Development tasks; `make help` lists them. Needs Rust, Python 3.10 or newer and make. Every other tool is pinned and
# installed into .tools/.

PYTHON ?= python3
CARGO ?= cargo
BIN := .tools/venv/bin
# The processor of the function. The default is the template's.
ARCHITECTURE ?= x86_64
TEMPLATES := $(wildcard template.yaml */template.yaml examples/*/template.yaml)
# Containers often set it. Then each start of SAM compiles its modules again, in half of the time that it needs.
unexport PYTHONDONTWRITEBYTECODE

UV_VERSION := 0.13.9
# Groups of packages in pyproject.toml. All are installed into .tools/venv.
RUN_TOOLS := .tools/run.installed
DEV_TOOLS := .tools/dev.installed
NODE_TOOLS := .tools/node/.installed
RELEASE_TOOLS := .tools/release/.installed

CARGO_DENY := .tools/cargo-deny@0.20.2/bin
CARGO_FUZZ := .tools/cargo-fuzz@0.13.2/bin
CARGO_MUTANTS := .tools/cargo-mutants@27.1.0/bin
CARGO_NEXTEST := .tools/cargo-nextest@0.9.143/bin

# cargo-nextest where it is installed; cargo's own test runner otherwise.
HAS_NEXTEST = $(shell $(CARGO) nextest --version 2>/dev/null)
# The tests mostly wait for local servers, so there are more of them at a time than cores.
THREADS = $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN))
RUST_TESTS = $(if $(HAS_NEXTEST),nextest run --test-threads $(THREADS),test --lib --bins --tests)

.DEFAULT_GOAL := help
.PHONY: help setup run watch send events check lint advisories test build dist test-dist deploy-local demo
.PHONY: bench soak fuzz mutants clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DEV_TOOLS) ## install the packages for all targets into .tools/

run: $(RUN_TOOLS) ## send every file in events/ through the function to a queue and a consumer, and print the results
	@$(BIN)/python scripts/local.py run

watch: $(DEV_TOOLS) ## run the function with a local AWS and rebuild it when its code changes
	@$(BIN)/python scripts/local.py watch

send: $(DEV_TOOLS) ## send an event to the function of `make watch`: make send EVENT=contact-created
	@$(BIN)/python scripts/local.py send "$(EVENT)"

events: ## regenerate events/*.json, the schema of entities and tests/vectors
	$(CARGO) run --quiet --package test-support --bin sample-events
	$(PYTHON) scripts/make_vectors.py

check: ## the fast checks: format, clippy, unit tests of the library
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --lib --locked

lint: $(DEV_TOOLS) $(CARGO_DENY) ## all static checks: code, documentation, spelling, dependencies, template, workflow
	$(CARGO) fmt --all --check
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/typos
	@if command -v actionlint >/dev/null; then actionlint; else echo "actionlint is not installed: skipped"; fi
	$(BIN)/zizmor --offline --quiet .github
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --no-default-features --lib --locked -- -D warnings
# With examples, Cargo selects the same features as clippy and checks no dependency twice.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --lib --examples --locked
	$(CARGO_DENY)/cargo-deny --locked check bans licenses sources
	$(BIN)/cfn-lint -a cfn_lint_serverless.rules -- $(TEMPLATES)
	$(BIN)/checkov --file $(TEMPLATES) --framework cloudformation --compact --quiet --skip-download

advisories: $(CARGO_DENY) ## check the dependencies for security advisories; needs access to GitHub
	$(CARGO_DENY)/cargo-deny --locked check advisories

test: $(DEV_TOOLS) $(NODE_TOOLS) ## all tests: Rust, then Python against a local AWS
	$(CARGO) $(RUST_TESTS) --workspace --locked
	$(CARGO) test --workspace --doc --locked
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

build: $(DEV_TOOLS) ## prepare .aws-sam/ for `sam deploy`: make build ARCHITECTURE=x86_64, or arm64
	PATH="$(CURDIR)/$(BIN):$$PATH" SAM_CLI_TELEMETRY=0 $(BIN)/sam build --parameter-overrides Architecture=$(ARCHITECTURE)

dist: $(RELEASE_TOOLS) ## build a release in dist/ for all installed Rust targets: make dist ARCHITECTURES="x86_64 arm64"
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} \
		$(<D)/bin/python scripts/make_dist.py $(ARCHITECTURES)

test-dist: $(DEV_TOOLS) ## deploy the files in dist/ into a local AWS, from the first deployment to the deletion
	RELEASE=dist $(BIN)/python -m pytest tests/deploy/test_release.py

deploy-local: $(DEV_TOOLS) ## deploy the template into a local AWS and run until Ctrl-C; ARGS=--dev builds faster
	@$(BIN)/python scripts/local.py deploy $(ARGS)

demo: $(DEV_TOOLS) ## show in a local AWS that the mirror's table equals SuperOffice after outages; ARGS=--persons adds persons
	@$(BIN)/python scripts/local.py demo $(ARGS)

bench: ## compare the function with equivalent implementations and write the results into the documentation
	$(CARGO) run --quiet --profile support --package bench

soak: ## send 100,000 deliveries to one process and check its memory and open files
	$(CARGO) test --test it soak -- --ignored --nocapture

FUZZ_SECONDS ?= 60
# A sanitizer finds errors of unsafe code only, which the project forbids, and doubles the time to compile.
fuzz: ## run every fuzz target for FUZZ_SECONDS; needs a nightly compiler
	@$(CARGO) +nightly --version >/dev/null 2>&1 || { echo "make fuzz: no nightly compiler is installed: skipped"; exit 0; }; \
	set -e; \
	$(MAKE) --no-print-directory $(CARGO_FUZZ); \
	export PATH="$(CURDIR)/$(CARGO_FUZZ):$$PATH"; \
	for target in $$($(CARGO) +nightly fuzz list); do \
		mkdir -p fuzz/found/$$target; \
		$(CARGO) +nightly fuzz run --sanitizer none $$target fuzz/found/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1 $(ARGS); \
	done

mutants: $(CARGO_MUTANTS) $(if $(HAS_NEXTEST),,$(CARGO_NEXTEST)) ## change the code in each place and expect a failing test: make mutants ARGS="--shard 0/16"
	PATH="$(CURDIR)/$(CARGO_NEXTEST):$$PATH" $(CARGO_MUTANTS)/cargo-mutants mutants --workspace --output target $(ARGS)

clean: ## remove everything that was built or installed
	$(CARGO) clean
	rm -rf .tools .aws-sam bench/target dist examples/node/node_modules

# Tools. A stamp file is newer than the list of packages once they are installed.
$(BIN)/uv:
	@command -v $(CARGO) >/dev/null || { echo "Rust is required: $(CARGO) is not on the PATH" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is required; choose one with: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) lacks the modules venv and ensurepip (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Creating a Python environment in .tools/venv"
	@$(PYTHON) -m venv .tools/venv
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install uv==$(UV_VERSION)

$(RUN_TOOLS) $(DEV_TOOLS): .tools/%.installed: pyproject.toml requirements.txt | $(BIN)/uv
	@echo "Installing the packages of the group $* into .tools/venv (once)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --group $* --constraint requirements.txt
	@touch $@

# Only what makes the files of a release, with hashes, and therefore without uv.
$(RELEASE_TOOLS): requirements-release.txt
	@echo "Installing cargo-lambda and the tools for a release into $(@D) (once)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@

$(NODE_TOOLS): $(addprefix tests/e2e/,package.json package-lock.json) $(addprefix examples/node/,package.json package-lock.json)
	@mkdir -p $(@D)
	@cp tests/e2e/package.json tests/e2e/package-lock.json $(@D)
	@if command -v npm >/dev/null; then \
		echo "Installing the npm packages of the tests and of the example into $(@D) and examples/node (once)" && \
		for folder in $(@D) examples/node; do \
			npm ci --prefix $$folder --ignore-scripts --no-audit --no-fund --loglevel=error || exit 1; \
		done && \
		touch $@; \
	else \
		echo "npm is not installed: the tests that need it are skipped"; \
	fi

# Without optimization: it compiles five times faster, and the tools are fast enough.
.tools/cargo-%/bin:
	@echo "Installing cargo-$* into .tools (some minutes, once)"
	@CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install cargo-$* --locked --quiet --debug --root $(@D)
