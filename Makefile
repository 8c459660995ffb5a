# asyncio-guest. `make help` lists the targets; PYTHON= chooses the interpreter, SANITIZE= instruments the C code,
# SUITE= is another release of Debian, in a root directory that debootstrap makes (ci/suites.toml).

PYTHON   ?= /usr/bin/python3
SANITIZE ?=
SUITE    ?=
# Arguments for the harness and for pytest: make conformance ARGS='guest/tk::T.*', make test ARGS='-k waiter'
ARGS     ?=

TAG  = $(shell $(PYTHON) ci/build.py --tag --sanitize "$(SANITIZE)")
TOP  = $(CURDIR)/build/$(TAG)
SITE = $(TOP)/site
DEPS = $(TOP)/deps

# What a run of the tree needs in its environment. The interpreter itself is not instrumented: leaks of
# its own would drown ours (detect_leaks=0), and its small-object allocator would hide our overruns. A segmentation
# fault is faulthandler's to report, and stays one (handle_segv=0): the harness tells crashes by their signal.
runtime = $(shell $(CC) -print-file-name=$(1))
ENV = PYTHONPATH="$(SITE):$(DEPS)$${PYTHONPATH:+:$$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1 ASYNCIO_GUEST_SITE="$(SITE)" AG_BUILD="$(TOP)/meson"
ifneq ($(findstring address,$(SANITIZE)),)
ENV += LD_PRELOAD="$(call runtime,libasan.so)" ASAN_OPTIONS=suppressions=$(CURDIR)/ci/asan.supp:detect_leaks=0:handle_segv=0:abort_on_error=1:detect_stack_use_after_return=1
endif
ifneq ($(findstring thread,$(SANITIZE)),)
ENV += PATH="$(CURDIR)/ci/uninstrumented:$$PATH" LD_PRELOAD="$(call runtime,libtsan.so)" TSAN_OPTIONS=suppressions=$(CURDIR)/ci/tsan.supp:halt_on_error=1:die_after_fork=0
endif
ifneq ($(SANITIZE),)
ENV += PYTHONMALLOC=malloc UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 AG_SANITIZE=$(SANITIZE)
endif
RUN = $(ENV) $(PYTHON)
# Folders with tests that exist; a fresh backend is found like any other.
TESTS = $(wildcard guest/tests backends/*/test_*.py backends/*/tests harness/tests scenarios/tests)

TARGETS = all setup build conformance suite test full gate gate-examples leaks selftest report dist bench fuzz samples clean help
.PHONY: $(TARGETS)
.NOTPARALLEL:
.DEFAULT_GOAL := all

ifneq ($(SUITE),)
# The same make, inside; variables only if they were given. What the environment has of ARGS and SANITIZE goes along.
export ARGS SANITIZE
given = $(filter-out file default undefined,$(origin $(1)))
$(filter-out help,$(TARGETS)):
	@/usr/bin/python3 ci/suite.py "$(SUITE)" $@ $(if $(call given,PYTHON),--python "$(PYTHON)") \
	    $(foreach name,TESTS PATCH SECONDS,$(if $(call given,$(name)),"$(name)=$($(name))"))
else

all: setup build conformance ## install what is missing, build, run the conformance suite (quick tier), print the table

setup: ## install what is missing (as root), or print the command that does
	@sh ci/setup "$(PYTHON)" "$(if $(filter /usr/bin/python3,$(PYTHON)),,$(DEPS))"
	@$(PYTHON) ci/environments.py

build: ## compile and lay out the package in build/<interpreter>/site
	@$(PYTHON) ci/build.py --sanitize "$(SANITIZE)"

conformance: build ## run the conformance suite (quick tier); ARGS= takes selectors and options of `harness run`
	@$(RUN) -m harness run $(ARGS)

full: setup build ## every strategy and engine, test_asyncio, other projects' suites, large cases, peers, in shards: ARGS='--shard 1/8', '--left --of 8', '--leaks'
	@$(PYTHON) ci/environments.py --all
	@$(RUN) -m harness full $(ARGS)

leaks: setup build ## repeat cases in one process and see what grows; PYTHON=/usr/bin/python3-dbg counts references too
	@$(RUN) -m harness leaks $(ARGS)

selftest: setup build ## seed faults into the guest, the backends and the harness, and see that each is caught
	@$(RUN) -m harness selftest $(ARGS)

# Without PYTHON= the newest interpreter that can be used; make tells zero from non-zero only, the exit code is in the results.
ifeq ($(origin PYTHON),file)
GATE_PYTHON = --python auto
endif
gate: ## is PATCH= (a diff, a pull request's .patch) to Lib/asyncio good enough? PYTHON=, ARGS='--quick', '-x' or cells (first in ARGS)
	@test -n "$(PATCH)" || { echo "make gate PATCH=file.diff [PYTHON=...]" >&2; exit 2; }
	@sh ci/setup "$(PYTHON)" "$(if $(filter /usr/bin/python3,$(PYTHON)),,$(DEPS))"
	@$(PYTHON) ci/build.py --sanitize "$(SANITIZE)"
	@$(RUN) -m harness gate $(GATE_PYTHON) "$(PATCH)" $(ARGS)

gate-examples: setup build ## the gate on the patches of ci/examples, whose verdicts are known
	@$(RUN) ci/examples/check.py $(ARGS)

suite: setup build ## CPython's own test_asyncio under each host, compared with plain asyncio; ARGS='guest/tk -m "test_tasks.*"'
	@$(RUN) -m harness suite test_asyncio $(ARGS)

test: setup ## the project's own tests, C unit tests included; SANITIZE=address|undefined|thread
	@$(PYTHON) ci/build.py --sanitize "$(SANITIZE)" c-tests
	@$(RUN) -m pytest $(TESTS) $(ARGS)

report: build ## the last results as one HTML page, JUnit and Markdown: results/latest/report.html
	@$(RUN) -m harness report $(ARGS)

dist: setup ## the wheels asyncio-guest and asyncio-guest-conformance: dist/
	@$(PYTHON) -m pip wheel -q --disable-pip-version-check --no-build-isolation --no-deps -w dist .
	@$(PYTHON) ci/conformance/build.py dist
	@ls dist

bench: setup ## speed and latency against plain asyncio: results/latest/bench.json
	@$(PYTHON) ci/build.py c-bench
	@mkdir -p results/latest
	@echo "== the core (Google Benchmark)"
	@if test -x "$(TOP)/meson/guest/bench/bench_core"; then \
	    $(ENV) "$(TOP)/meson/guest/bench/bench_core" --benchmark_min_time=0.2 \
	        --benchmark_out=results/latest/bench_core.json --benchmark_out_format=json 2>/dev/null; \
	else echo "NOTRUN: needs libbenchmark-dev and g++"; fi
	@echo "== calls of the package (pytest-benchmark)"
	@if $(RUN) -c "import pytest_benchmark" 2>/dev/null; then \
	    $(RUN) -m pytest -q guest/bench --benchmark-json=results/latest/bench_calls.json \
	        --benchmark-columns=median,iqr,rounds >results/latest/bench_calls.txt 2>&1 \
	    && tr '\r' '\n' <results/latest/bench_calls.txt | sed -n '/^Name/,/^---/p;/^test_/p' | sort -u \
	    || { cat results/latest/bench_calls.txt; exit 1; }; \
	else echo "NOTRUN: needs python3-pytest-benchmark"; fi
	@echo "== guests against plain asyncio"
	@$(RUN) -m harness bench $(ARGS)

fuzz: setup build ## programs made at random, against plain asyncio: SECONDS=60, ARGS='--seed 7 guest/tk'
	@$(RUN) -m harness fuzz --seconds $(or $(SECONDS),60) $(ARGS)

samples: setup build ## show the sample applications (one after the other; needs a display)
	@status=0; for sample in backends/*/sample.py; do \
	    python="$(TOP)/env/$$(basename "$$(dirname "$$sample")" | tr _ -)/bin/python"; \
	    test -x "$$python" || python="$(PYTHON)"; \
	    echo "$$sample"; $(ENV) "$$python" "$$sample" || status=1; \
	done; exit $$status

clean: ## remove everything that was built; with SUITE= that suite
	@if grep -q ' $(CURDIR)/build/' /proc/self/mountinfo 2>/dev/null; then \
	    echo "clean: something is mounted below build: umount it first" >&2; exit 1; fi
	rm -rf build dist results/latest

endif

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "Interpreter: PYTHON=$(PYTHON)"
	@echo "Releases of Debian: SUITE=$$(sed -n 's/^\[\(.*\)\]$$/\1/p' ci/suites.toml | paste -sd '|')"
