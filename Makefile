# whorl's front door. `make` or `make help` lists the targets; each does all of its own set-up.
#
# Set-up is kept in stamp files in the virtual environment, so that a second run starts at once, and a changed
# requirements file, or a changed line of Rust, brings on just the step that depends on it.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.SUFFIXES:
SHELL := /bin/sh
MAKEFLAGS += --no-builtin-rules --no-print-directory

# ------------------------------------------------------------------------------------------------------ settings

# The interpreter: a command, a path, or a version (make test PYTHON=3.14t).
PYTHON ?= python3
# Handed on to pytest, or to the program that the target runs (make test ARGS="-k timers").
ARGS ?=
# What pytest runs.
TESTS ?= tests
# The profile that the extension is built by. `checked` has assertions in it, and a panic ends the process.
PROFILE ?= release
# The pages that `make run` and `make gui` fetch; empty: those of a local site that it starts.
URLS ?=
# The database that `make database` uses; empty: SQLite, in a temporary file.
DATABASE ?=
# The toolkit of the window that `make gui` opens: tk or qt.
GUI ?= tk
# The set of measurements that `make bench` takes.
BENCH ?= loop
# Seconds for each fuzz target.
FUZZ_SECONDS ?= 60

comma := ,
say = @printf '\n==> %s\n' "$(1)"

# -------------------------------------------------------------------------------------------------- what is here

GOALS := $(or $(MAKECMDGOALS),help)
ifneq ($(filter-out help clean,$(GOALS)),)
  PREFLIGHT := $(shell sh tools/preflight.sh "$(PYTHON)")
  ifneq ($(firstword $(PREFLIGHT)),ok)
    $(error $(or $(PREFLIGHT),need a POSIX shell with the usual tools))
  endif
  INTERPRETER := $(word 2,$(PREFLIGHT))
  TAG := $(word 3,$(PREFLIGHT))
  VERSION := $(word 4,$(PREFLIGHT))
endif

# The default interpreter has .venv and cargo's usual target directory. Each other one has its own pair: the
# extension's dependency on the interpreter is at the very top of the graph, and sharing would rebuild it every time.
ifeq ($(PYTHON),python3)
  VENV := $(CURDIR)/.venv
  TARGET := $(CURDIR)/target
else
  VENV := $(CURDIR)/.venvs/$(TAG)
  TARGET := $(CURDIR)/target/python-$(TAG)
endif
STAMPS := $(VENV)/.stamps
BUILT := $(STAMPS)/built-$(PROFILE)
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)
# The references of the measurements that need OpenSSL's headers are checked where these are.
OPENSSL := $(shell pkg-config --exists openssl 2>/dev/null && echo --features whorl-bench-native/openssl)
# In a checkout where Cargo.toml has just been edited the lock file follows; in CI it has to be right already.
LOCKED := $(if $(CI),--locked)

# maturin sets these for the cargo it runs. With the same ones for our own runs of cargo neither rebuilds the
# other's work (https://github.com/PyO3/pyo3/issues/5439).
export PYO3_PYTHON := $(PY)
export VIRTUAL_ENV := $(VENV)
export MYPYPATH := $(CURDIR)/python
unexport PYTHONHOME PYTHONPATH CONDA_PREFIX

RUST_SOURCES := Cargo.toml $(wildcard Cargo.lock) $(shell find crates -name '*.rs' -o -name Cargo.toml)

# ------------------------------------------------------------------------------------------------------- targets

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## "; print "make <target> [PYTHON=3.14t] [ARGS=…]\n" } \
	      /^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: $(STAMPS)/examples $(BUILT) ## Fetch the pages of a local site in three ways; URLS="https://… …" for others
	$(call say,running the demonstration on $(TAG))
	@$(PY) -m examples.demo $(ARGS) $(foreach url,$(URLS),'$(url)')

.PHONY: database
database: $(STAMPS)/examples $(BUILT) ## Make 1,000 queries in three ways, on asyncio's loop and on whorl's (DATABASE=postgresql://…)
	$(call say,making queries on $(TAG))
	@$(PY) -m examples.database_demo $(ARGS) $(if $(DATABASE),'$(DATABASE)')

.PHONY: gui
gui: $(STAMPS)/examples $(if $(filter qt,$(GUI)),$(STAMPS)/qt) $(BUILT) ## A window that stays responsive while it fetches and computes (GUI=qt)
	$(call say,opening a window on $(TAG))
	@$(PY) -m examples.window --toolkit $(GUI) $(ARGS) $(foreach url,$(URLS),'$(url)')

.PHONY: build
build: $(BUILT) ## Build the extension into the virtual environment (PROFILE=checked: with assertions)

.PHONY: test
test: lint test-core test-python ## Lint, then every test there is (PYTHON=… for another interpreter)

.PHONY: lint
lint: lint-rust lint-python ## Formatters, clippy, rustdoc, ruff, mypy, and the stubs against the built module

.PHONY: test-core
test-core: ## The tests of the Rust core: no Python needed, the quick way round
	$(call say,testing the core with cargo)
ifeq ($(NEXTEST),yes)
	@cargo nextest run $(LOCKED) -p whorl-core --no-fail-fast --status-level fail
	@cargo test $(LOCKED) -p whorl-core --doc --quiet
else
	@cargo test $(LOCKED) -p whorl-core --no-fail-fast --quiet
endif

.PHONY: loom
loom: ## The models of what threads share in the core, under every interleaving (loom)
	$(call say,running the models with loom)
	@RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$(CURDIR)/target/loom cargo test $(LOCKED) -p whorl-core --lib --quiet models

.PHONY: miri
miri: ## The core's tests under miri, which finds undefined behaviour; needs a nightly Rust with miri
	@cargo +nightly miri --version >/dev/null 2>&1 || { \
	    echo "need miri: run 'rustup +nightly component add miri'"; exit 1; }
	$(call say,running the tests of the core under miri)
	@# Left out: system calls that miri has not got (epoll, fork), and zlib-rs, in which it reports the crate itself.
	@MIRIFLAGS="-Zmiri-disable-isolation" PROPTEST_CASES=8 \
	    cargo +nightly miri test $(LOCKED) -p whorl-core --lib -- --skip reactor --skip injection_queue \
	    --skip only_the_child --skip client::coding --skip websocket::deflate

.PHONY: test-python
test-python: $(STAMPS)/dev $(STAMPS)/programs $(STAMPS)/gui $(BUILT) ## The Python tests (TESTS=tests/event_loop ARGS="-k timers")
	$(call say,running pytest on $(TAG))
	@$(PY) -m pytest $(TESTS) $(ARGS)

.PHONY: soak
soak: $(STAMPS)/dev $(STAMPS)/programs $(BUILT) ## The long tests, which look for growth
	$(call say,running the soak tests on $(TAG): some minutes)
	@$(PY) -m pytest tests/soak -m soak -o timeout=1800 $(ARGS)

.PHONY: conformance
conformance: $(STAMPS)/dev $(BUILT) ## CPython's own asyncio test-suite on whorl's loop
	$(call say,running the asyncio test-suite of CPython $(VERSION))
	@$(PY) -m tests.conformance $(ARGS)

.PHONY: gui-conformance
gui-conformance: $(STAMPS)/dev $(STAMPS)/gui $(BUILT) ## The same in the main loops of Tk, PySide6, PyQt6 and GLib
	@for loop in tk pyside6 pyqt6 glib; do $(PY) -m tests.conformance --loop $$loop $(ARGS) || exit 1; done

.PHONY: compat
compat: $(STAMPS)/dev $(STAMPS)/compat $(BUILT) ## aiohttp's own tests with whorl's HTTP client
	$(call say,running aiohttp's own tests on $(TAG))
	@$(PY) -m tests.compat $(ARGS)

.PHONY: db-compat
db-compat: $(STAMPS)/dev $(STAMPS)/programs $(BUILT) ## The suites of database drivers on whorl's loop and asyncio's (ARGS="--suite redis")
	$(call say,running the suites of the database drivers on $(TAG): several minutes)
	@$(PY) -m tests.foreign --group databases $(ARGS)

.PHONY: matrix
matrix: $(STAMPS)/dev ## make test on every interpreter that is found
	$(call say,testing on every interpreter found)
	@$(PY) tools/matrix.py $(ARGS)

.PHONY: bench
bench: $(STAMPS)/dev $(STAMPS)/bench $(if $(filter gui,$(BENCH)),$(STAMPS)/gui) $(STAMPS)/built-dist ## Measure against the peers (BENCH=loop for event loops, http for HTTP clients, db for databases, gui for GUI main loops)
	@# As pip does when it installs: what imports cost is measured.
	@$(PY) -m compileall -q python/whorl
	$(call say,measuring $(BENCH) on $(TAG))
	@$(PY) -m bench $(BENCH) $(ARGS)

.PHONY: fuzz
fuzz: ## Fuzz everything that parses (FUZZ_SECONDS=60 for each target)
	@test -f fuzz/Cargo.toml || { echo 'nothing to fuzz yet: there is no fuzz/Cargo.toml'; exit 1; }
	@cargo fuzz --version >/dev/null 2>&1 || { echo "need cargo-fuzz: run 'cargo install cargo-fuzz'"; exit 1; }
	@cargo +nightly --version >/dev/null 2>&1 || { echo "need nightly Rust: run 'rustup toolchain install nightly'"; exit 1; }
	@for target in $$(cargo +nightly fuzz list); do \
	    printf '\n==> fuzzing %s for %s s\n' "$$target" '$(FUZZ_SECONDS)'; \
	    cargo +nightly fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

.PHONY: wheel
wheel: $(STAMPS)/dev ## Build a wheel into dist/
	$(call say,building a wheel for $(TAG))
	@CARGO_TARGET_DIR=$(TARGET) $(VENV)/bin/maturin build $(LOCKED) --profile dist --interpreter $(PY) --out dist

.PHONY: format
format: $(STAMPS)/dev ## Put the sources into their standard form
	@cargo fmt --all
	@$(VENV)/bin/ruff check --quiet --fix --exit-zero .
	@$(VENV)/bin/ruff format --quiet .

.PHONY: clean
clean: ## Remove everything that was built, environments included
	rm -rf target fuzz/target dist .venv .venvs .build .mypy_cache .ruff_cache .pytest_cache
	rm -f python/whorl/_core*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --------------------------------------------------------------------------------------------------------- lints

.PHONY: lint-rust
lint-rust: $(STAMPS)/venv ## The half of lint that is about Rust
	$(call say,cargo fmt$(comma) clippy and rustdoc)
	@cargo fmt --all --check
	@CARGO_TARGET_DIR=$(TARGET) cargo clippy $(LOCKED) --workspace $(OPENSSL) --all-targets --quiet -- -D warnings
	@# For its links. The documentation is read with its private items, so a public one may refer to them.
	@CARGO_TARGET_DIR=$(TARGET) RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" \
	    cargo doc $(LOCKED) --workspace $(OPENSSL) --no-deps --document-private-items --quiet

.PHONY: lint-python
lint-python: $(STAMPS)/dev $(BUILT) ## The half of lint that is about Python
	$(call say,ruff$(comma) mypy and stubtest on $(TAG))
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --check --quiet . || { $(VENV)/bin/ruff format --check .; exit 1; }
	@$(PY) -m mypy python/whorl
	@$(PY) -m mypy.stubtest whorl._core --mypy-config-file pyproject.toml --allowlist tools/stubtest-allowlist.txt

# -------------------------------------------------------------------------------------------------------- set-up

$(STAMPS)/venv:
	$(call say,making the environment $(VENV) with CPython $(VERSION))
	@if ! [ -x $(PY) ] || [ "$$($(PY) -c 'import platform; print(platform.python_version())')" != $(VERSION) ]; then \
	    rm -rf $(VENV); $(INTERPRETER) -m venv $(VENV) || exit 1; fi
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/dev: requirements/dev.txt $(STAMPS)/venv
	$(call say,installing the development tools)
	@$(PIP) -r $<
	@touch $@

$(STAMPS)/examples: requirements/examples.txt $(STAMPS)/venv
	$(call say,installing what the examples use)
	@$(PIP) -r $<
	@touch $@

$(STAMPS)/qt: requirements/gui.txt $(STAMPS)/venv
	$(call say,installing PySide6)
	@$(PIP) PySide6_Essentials -c $<
	@touch $@

GIL_ONLY := $(if $(filter %t,$(TAG)),,requirements/programs-gil.txt)
$(STAMPS)/programs: requirements/programs.txt requirements/examples.txt $(GIL_ONLY) $(STAMPS)/venv
	$(call say,installing the programs that the tests run)
	@$(PIP) -r $< $(addprefix -r ,$(GIL_ONLY))
	@touch $@

# Free-threaded builds have Tk alone. PyGObject is compiled, which fails where its libraries are missing: its tests say so.
GUI_ONLY := $(if $(filter %t,$(TAG)),,requirements/gui.txt requirements/gui-glib.txt)
$(STAMPS)/gui: $(GUI_ONLY) $(STAMPS)/venv
ifneq ($(GUI_ONLY),)
	$(call say,installing the GUI toolkits)
	@$(PIP) -r requirements/gui.txt
	@$(PIP) -r requirements/gui-glib.txt || echo 'PyGObject could not be compiled: GTK goes untested'
endif
	@touch $@

$(STAMPS)/compat: requirements/compat.txt requirements/examples.txt $(STAMPS)/venv
	$(call say,installing what aiohttp's tests import)
	@$(PIP) -r $<
	@touch $@

$(STAMPS)/bench: requirements/bench.txt requirements/programs.txt requirements/examples.txt $(GIL_ONLY) $(STAMPS)/venv
	$(call say,installing the peers)
	@$(PIP) -r $< $(addprefix -r ,$(GIL_ONLY))
	@touch $@

# Builds of one file by several profiles: each takes the others' stamps away.
$(STAMPS)/built-%: $(RUST_SOURCES) pyproject.toml $(STAMPS)/dev
	$(call say,building the extension for $(TAG) ($*))
	@rm -f $(STAMPS)/built-*
	@CARGO_TARGET_DIR=$(TARGET) $(VENV)/bin/maturin develop $(LOCKED) --profile $* --quiet
	@touch $@
