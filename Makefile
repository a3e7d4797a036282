# Everything one does with this repository. `make help` lists it.
#
# Needs Python >= 3.10 with venv, a C compiler and make; the rest is installed into .venv, or
# with apt where that is possible. PYTHON=python3.12 chooses another Python for .venv.
# Targets can be run alone and again: what is done is not done twice, see the stamps.

PYTHON ?= python3
# Where `make serve` listens.
ADDRESS ?= 127.0.0.1:8000
export ADDRESS
# 1: compiler warnings are errors.
PMC_WERROR ?=
export PMC_WERROR

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
VENV6 := .venv-django6
WHEELS := build/wheel$(if $(PMC_WERROR),-strict)
REPORTS := build/test
STEPS := $(PYTHON) tools/run_steps.py
PIP_QUIET := --quiet --disable-pip-version-check
# cmake and ninja come from .venv.
WITH_TOOLS := PATH="$(CURDIR)/$(BIN):$$PATH"

PACKAGE_SOURCES := pyproject.toml README.md $(shell find native pmemcache integrations -type f \
	-not -path '*/__pycache__/*' -not -path 'native/tests/*' -not -path 'native/bench/*' \
	-not -path 'native/fuzz/*' -not -path 'native/model/*')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help format demo test bench bench-tools bench-python bench-django bench-speed bench-stampede bench-tiers bench-tiers-replay bench-replay bench-space bench-restart bench-plots serve lint clean venv install sample dev redis headers browser \
	faults lint-c lint-python types ctest ctest-plain ctest-asan ctest-tsan ctest-faults memcheck fuzz fuzz-short soak soak-engine soak-site model test-core \
	test-django test-django-app test-django6 test-sample test-compare test-packaging run-demo run-serve

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

# The commands of the README.

demo: ## the sample site on each cache, side by side: build/demo/report.html; FULL=1: all of it
	@$(STEPS) --setup headers venv install sample redis memcached --then run-demo

test: ## every test, as continuous integration runs them
	@$(STEPS) --reports $(REPORTS) --setup headers venv install dev redis memcached browser \
		--beside model fuzz-short test-packaging \
		--then lint-python types lint-c ctest-plain memcheck ctest-asan ctest-tsan ctest-faults \
		test-core test-django test-django-app test-django6 test-sample test-compare

bench: ## benchmarks against peers and targets: build/bench/*.json and plots
	@$(STEPS) --setup headers venv install bench-tools redis --then bench-python bench-django bench-speed bench-stampede \
		bench-tiers bench-tiers-replay bench-replay bench-space bench-restart bench-plots

serve: ## the sample site in a browser
	@$(STEPS) --setup headers venv install sample --then run-serve

clean: ## remove all that make has made
	rm -rf build dist $(VENV) $(VENV6) .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Setting up. A stamp per step, in the environment it is about.

headers: ## the C compiler and the headers of Python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "$(PYTHON) is older than Python 3.10: make PYTHON=/path/to/python3"; exit 1; }
	@tools/peers.sh compiler
	@PYTHON=$(PYTHON) tools/peers.sh python-headers

venv: $(STAMPS)/venv ## .venv, a virtual environment
install: $(STAMPS)/package ## build pmemcache and install it into .venv (at first a few seconds)
sample: $(STAMPS)/sample ## what the sample site and the comparison need (at first half a minute)
bench-tools: $(STAMPS)/bench ## peers and tools of the benchmarks
dev: $(STAMPS)/dev ## what tests and linters need (at first half a minute)

$(STAMPS)/venv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_QUIET) --upgrade pip
	@mkdir -p $(STAMPS) && touch $@

$(WHEELS)/stamp: $(PACKAGE_SOURCES) | $(STAMPS)/venv
	@rm -rf $(WHEELS)
	$(BIN)/python -m pip wheel $(PIP_QUIET) --no-deps --wheel-dir $(WHEELS) \
		$(if $(PMC_WERROR),-Ccmake.define.PMC_WERROR=ON) .
	@touch $@

$(STAMPS)/package: $(WHEELS)/stamp
	$(BIN)/python -m pip install $(PIP_QUIET) --force-reinstall --no-deps $(WHEELS)/*.whl
	$(BIN)/python -m pip install $(PIP_QUIET) $(WHEELS)/*.whl
	@touch $@

# The wheel, not the name: the extras come from what was just built.
$(STAMPS)/sample $(STAMPS)/dev $(STAMPS)/bench: pyproject.toml | $(STAMPS)/package
	$(BIN)/python -m pip install --disable-pip-version-check --quiet "$$(echo $(WHEELS)/*.whl)[$(@F)]"
	@touch $@

redis: ## redis-server, with apt where that is possible
	@tools/peers.sh redis-server

# pylibmc comes as a wheel, or is built with libmemcached's headers; without it pymemcache is measured.
.PHONY: memcached
memcached: $(STAMPS)/package ## memcached and its client in C, where that is possible
	@tools/peers.sh memcached
	@$(BIN)/python -c 'import pylibmc' 2>/dev/null \
		|| $(BIN)/python -m pip install $(PIP_QUIET) --only-binary :all: pylibmc 2>/dev/null \
		|| { tools/peers.sh libmemcached && $(BIN)/python -m pip install $(PIP_QUIET) pylibmc 2>/dev/null; } \
		|| echo "  pylibmc cannot be installed here: pymemcache takes its place, as the report says"

browser: ## chromium, with apt where that is possible
	@tools/peers.sh chromium

# The parts of demo and serve.

run-demo: ## the comparison
	cd sample_project && ../$(BIN)/python -m compare --output ../build/demo $(if $(FULL),--full)

.PHONY: publish-demo
publish-demo: $(STAMPS)/sample ## the last demo's headline, table and picture into README.md and docs/images
	cd sample_project && ../$(BIN)/python -m compare.publish

DEMONSTRATIONS := show_kill show_restart show_deploy show_stampede show_edit show_redis_stopped

.PHONY: demonstrations
demonstrations: $(STAMPS)/sample ## what others cannot: killed, restarted, deployed, stampeded, edited
	cd sample_project && for name in $(DEMONSTRATIONS); do \
		../$(BIN)/python manage.py $$name || exit 1; done

run-serve: ## the site
	cd sample_project && ../$(BIN)/python manage.py load_places
	@echo "The sample site is at http://$(ADDRESS)/ until you press Ctrl-C."
	@echo "What its cache does is at http://$(ADDRESS)/ops/."
	cd sample_project && ../$(BIN)/gunicorn config.wsgi --workers 4 --bind $(ADDRESS)

# The parts of bench. Figures go to build/bench and benchmarks/results, with the machine that made them.

bench-python: ## one call from Python, beside py-lmdb
	$(BIN)/python benchmarks/python_calls.py

bench-django: ## one call of the Django backend, beside LocMemCache, RedisCache and django-redis
	$(BIN)/python benchmarks/django_calls.py

bench-speed: ## the engine, beside a memcpy
	$(BIN)/python benchmarks/speed.py

bench-stampede: ## loads of a cold key, by kind of cache
	$(BIN)/python benchmarks/stampede.py

bench-tiers: ## hits of the tiers and of a cached function, beside LocMemCache and cachetools
	$(BIN)/python benchmarks/tiers.py

bench-tiers-replay: ## hot share of hits on traces (PMEMCACHE_TRACES) or synthetic ones
	$(BIN)/python benchmarks/tiers_replay.py

bench-replay: ## hit ratios on traces (PMEMCACHE_TRACES) or synthetic ones
	$(BIN)/python benchmarks/replay.py

bench-space: ## payload in a full pool
	$(BIN)/python benchmarks/space.py

bench-restart: ## opening a pool that was left full
	$(BIN)/python benchmarks/restart.py

bench-plots: ## plots of what was measured
	$(BIN)/python benchmarks/plots.py

# The parts of test. Each can be run alone once `make dev` has been. Django has one configuration
# per process, so the folders that set one up are run apart.

lint: ## ruff, mypy strict, clang-format, import directions
	@$(STEPS) --setup headers venv install dev --then lint-python types lint-c

lint-python: ## ruff, its formatter, and the directions of imports and includes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest -q tests/architecture

# From another folder, so that mypy sees the installed package and not the source tree.
types: ## mypy, strict
	@mkdir -p build
	cd build && ../$(BIN)/mypy --config-file ../pyproject.toml --package pmemcache
	cd build && ../$(BIN)/mypy --config-file ../pyproject.toml ../tests/decorator/typing_examples.py
	$(BIN)/mypy tools
	cd sample_project && ../$(BIN)/mypy

lint-c: ## clang-format
	find native -name '*.[ch]' -not -name '*.cdef.h' -print0 \
		| xargs -0 $(BIN)/clang-format --dry-run -Werror

format: ## rewrite Python and C as the linters want them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find native -name "*.[ch]" -not -name "*.cdef.h" -exec $(BIN)/clang-format -i {} +

ctest: ctest-plain ctest-asan ctest-tsan ctest-faults ## the engine's tests in every build

ctest-plain: ## the engine's tests
ctest-asan: ## the same under AddressSanitizer and UndefinedBehaviorSanitizer
ctest-tsan: ## the same under ThreadSanitizer
ctest-faults: ## the same with faults compiled in, and the kill storm

ctest-plain ctest-asan ctest-tsan ctest-faults: ctest-%:
	@mkdir -p $(REPORTS)
	cd native && $(WITH_TOOLS) cmake --preset $* -DPMC_WERROR=$(or $(PMC_WERROR),0) >/dev/null
	cd native && $(WITH_TOOLS) cmake --build --preset $*
	cd native && $(WITH_TOOLS) ctest --preset $* --output-junit $(CURDIR)/$(REPORTS)/$@.xml
	@sort -u build/native/$*/Testing/Temporary/LastTest.log | grep '^skipped:' || true

memcheck: ## the engine's quicker tests under valgrind
	@mkdir -p $(REPORTS)
	@tools/peers.sh valgrind
	cd native && $(WITH_TOOLS) cmake --preset plain -DPMC_WERROR=$(or $(PMC_WERROR),0) >/dev/null
	cd native && $(WITH_TOOLS) cmake --build --preset plain
	@cd native && if command -v valgrind >/dev/null; then \
		$(WITH_TOOLS) ctest --preset memcheck --output-junit $(CURDIR)/$(REPORTS)/$@.xml; \
	else echo "skipped: there is no valgrind here"; fi

# Long runs, by hand: FUZZ_SECONDS=3600 make fuzz. What was found interesting is kept in FUZZ_CORPUS, and is
# where the next run begins. FUZZ_SEED is 0 for another beginning each time.
FUZZ_SECONDS ?= 60
FUZZ_SEED ?= 0
FUZZ_CORPUS ?= build/fuzz
FUZZ_TARGETS := fuzz_attach fuzz_operations

fuzz: $(STAMPS)/dev ## fuzz damaged pools and sequences of operations, FUZZ_SECONDS each (needs clang)
	@tools/peers.sh clang
	cd native && $(WITH_TOOLS) cmake --preset fuzz >/dev/null
	cd native && $(WITH_TOOLS) cmake --build --preset fuzz
	@set -e; for target in $(FUZZ_TARGETS); do \
		mkdir -p $(FUZZ_CORPUS)/$$target; \
		echo "$$target, $(FUZZ_SECONDS) s"; \
		build/native/fuzz/$$target -max_total_time=$(FUZZ_SECONDS) -seed=$(FUZZ_SEED) -timeout=60 \
			-verbosity=0 -print_final_stats=1 -artifact_prefix=$(FUZZ_CORPUS)/$$target- \
			$(FUZZ_CORPUS)/$$target; \
	done

# Always from nothing and from the same seed, so that a run can be made again.
fuzz-short: ## the same for 20 s each from a fixed seed, where clang is or can be had
	@if tools/peers.sh clang; then \
		rm -rf build/fuzz-short; \
		$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=20 FUZZ_SEED=1 FUZZ_CORPUS=build/fuzz-short; \
	else echo "skipped: fuzzing needs clang, which cannot be had here"; fi

# Some minutes; SOAK_KILLS=1000000 SOAK_SECONDS=7200 SOAK_ROUNDS=1000000 make soak-engine takes hours. SOAK_SEED
# makes the same choices again.
SOAK_KILLS ?= 20000
SOAK_ROUNDS ?= 10000
SOAK_SECONDS ?= 1800
SOAK_SEED ?= $(shell date +%s)

soak: soak-engine soak-site ## both of these

soak-engine: $(STAMPS)/dev ## the kill storm and recorded histories at length: SOAK_KILLS, SOAK_ROUNDS
	cd native && $(WITH_TOOLS) cmake --preset faults >/dev/null
	cd native && $(WITH_TOOLS) cmake --build --preset faults --target storm histories
	build/native/faults/storm --kills $(SOAK_KILLS) --at-least $(SOAK_KILLS) --seconds $(SOAK_SECONDS) \
		--seed $(SOAK_SEED) --workers 6 --progress 10
	build/native/faults/histories --rounds $(SOAK_ROUNDS) --seed $(SOAK_SEED)

SOAK_SITE_SECONDS ?= 600

soak-site: $(STAMPS)/sample ## the site under load while its workers are recycled and killed: SOAK_SITE_SECONDS
	cd sample_project && ../$(BIN)/python -m soak --seconds $(SOAK_SITE_SECONDS) --output ../build/soak

PYTEST = $(BIN)/pytest --junitxml=$(REPORTS)/$@.xml

faults: $(STAMPS)/faults ## the package with planted bugs to choose from, for tests/tiers: build/faults

$(STAMPS)/faults: $(PACKAGE_SOURCES) | $(STAMPS)/venv
	@rm -rf build/faults build/faults-wheel
	$(BIN)/python -m pip wheel $(PIP_QUIET) --no-deps --wheel-dir build/faults-wheel \
		-Ccmake.define.PMC_FAULTS=ON .
	$(BIN)/python -m pip install $(PIP_QUIET) --no-deps --target build/faults build/faults-wheel/*.whl
	@touch $@

test-core: faults ## the package: pool, binding, serializers, processes
	$(PYTEST) tests --ignore=tests/django --ignore=tests/sample_project \
		--ignore=tests/compare --ignore=tests/django_app --ignore=tests/packaging --ignore=tests/model

model: ## the protocol, model-checked with spin
	@tools/peers.sh spin
	$(PYTEST) --capture=no tests/model

test-django: ## the Django backend and Django's own cache suite, Django 5.2
	$(PYTEST) tests/django

test-django-app: ## a site with pmemcache in INSTALLED_APPS: checks, commands, admin page, metrics
	$(PYTEST) tests/django_app

test-django6: $(WHEELS)/stamp ## the same with the newest Django 6, where Python >= 3.12 is
	@REPORT=$(REPORTS)/$@.xml tools/django6.sh $(VENV6) $(WHEELS)/*.whl tests/django
	@REPORT=$(REPORTS)/$@-app.xml tools/django6.sh $(VENV6) $(WHEELS)/*.whl tests/django_app

test-sample: ## the sample site, in a headless browser too
	$(PYTEST) tests/sample_project

# The soak waits most of its minute, so the others run beside it.
test-compare: ## the comparison's own parts
	$(PYTEST) -n 2 --dist loadgroup tests/compare

test-packaging: ## wheel, editable install and a wheel from the sdist, each in a fresh environment
	$(PYTEST) tests/packaging
