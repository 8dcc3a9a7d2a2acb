# Everything a person types. `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip
QUIETLY := --quiet --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup up demo-app tools screenshots test style tests check test-fast test-long mutants lint fmt bench bench-cpu bench-pipeline bench-dispatch bench-adhoc bench-memory bench-growth bench-jobs bench-year bench-soak bench-limiters bench-saturation bench-pools bench-sizes bench-ledger bench-pages bench-flower chaos advisories sbom lock docs revision clean

help:  ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock requirements.uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Paceline needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "The venv module is missing (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Installing into $(VENV) (once, about ten seconds) ..." >&2
	@$(PIP) install $(QUIETLY) --require-hashes -r requirements.uv.lock && \
	  UV_PYTHON=$(BIN)/python $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock || { \
	  echo "uv could not install it: now with pip, which takes half a minute ..." >&2; \
	  $(PIP) install $(QUIETLY) --require-hashes -r requirements.lock; }
	@$(PIP) install $(QUIETLY) --no-deps --no-build-isolation -e .
	@touch $(READY)

setup: $(READY)  ## Prepare ./.venv, where the program is .venv/bin/paceline

up: $(READY)  ## Run everything in the foreground: servers, sandbox, beat, workers, dashboard, Flower
	@$(BIN)/paceline up

demo-app: $(READY)  ## Beside a running `make up`: the reference application's tables, connected, and a page of them
	@$(BIN)/python -m examples.demo_app

tools: $(READY)  ## Install what the tests need from Debian: Chromium (as root), promtool and PgBouncer (into .venv)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || \
	  echo "no chromium, so the browser tests are skipped: make tools, as root on Debian" >&2
	@test -x $(BIN)/promtool || command -v promtool >/dev/null || { unpacked=$$(mktemp -d) && \
	  { (cd $$unpacked && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb .) >/dev/null 2>&1 && \
	    cp $$unpacked/usr/bin/promtool $(BIN)/ || \
	    echo "no promtool, so the alert rules are only parsed: make tools, on Debian" >&2; }; rm -rf $$unpacked; }
	@test -x $(VENV)/pgbouncer/usr/sbin/pgbouncer || { unpacked=$$(mktemp -d) && \
	  { (cd $$unpacked && apt-get download -qq pgbouncer \
	      $$(apt-cache depends pgbouncer | sed -n 's/^ *Depends: //p' | grep -E '^lib(c-?ares|event)') && \
	    for package in *.deb; do dpkg-deb -x $$package unpacked; done) >/dev/null 2>&1 && \
	    mv $$unpacked/unpacked $(VENV)/pgbouncer || \
	    echo "no PgBouncer, so the pooler's test is skipped: make tools, on Debian" >&2; }; rm -rf $$unpacked; }

screenshots: $(READY) tools  ## Take the pictures of the README anew
	@$(BIN)/python -m pytest -q tests/browser -k clean
	@for name in overview usage agents-ada; do for scheme in light dark; do \
	  cp .screenshots/$$name-$$scheme.png docs/images/; done; done

test: $(READY) tools  ## Run what every change must pass (five to six minutes); the tests start their own servers
	@$(MAKE) --no-print-directory --jobs 2 style tests

style: $(READY)  # behind the tests, where both run at once
	@nice -n 15 sh -c '$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache'

tests: $(READY)
	@$(BIN)/python -m pytest -m "not long" --numprocesses 4 --dist loadfile --no-loadscope-reorder

test-long: $(READY) tools  ## Run the tests that take longer: whole fleets and their faults (ten minutes); writes docs/long-tests.json
	@rm -f docs/long-tests.json
	@$(BIN)/python -m pytest -m "long and not alone" --numprocesses 2 --dist loadfile --record=docs/long-tests.json
	@$(BIN)/python -m pytest -m alone --record=docs/long-tests.json

check: style  ## The inner loop, under a minute: style, types, imports, and the tests of single parts
	@$(BIN)/python -m pytest -q --numprocesses 2 tests/unit tests/property tests/house

test-fast: $(READY)  ## Run the tests that start no processes of the program
	@$(BIN)/python -m pytest -m "not acceptance and not long" --numprocesses 3 --dist loadfile

mutants: $(READY)  ## Break each promise once and see that a test notices (40 minutes); writes docs/mutants.json
	@$(BIN)/python -m tests.mutants --out docs/mutants.json

lint: $(READY)  ## Check style, types and imports
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

fmt: $(READY)  ## Put the code into shape
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

docs: $(READY)  ## Write the generated files: .env.example, docs/settings.md, docs/cli.md
	@$(BIN)/python -m tests.house.generated

BENCHES := cpu pipeline dispatch adhoc memory growth jobs year pages ledger pools sizes flower limiters saturation soak

bench: $(addprefix bench-,$(BENCHES))  ## Every bench, one after the other (over three hours); writes docs/*.json, tables and plots
	@$(BIN)/python -m bench.report

bench-pipeline: $(READY)  ## CPU per call beside the bare client and three others (20 minutes); writes docs/pipeline.json
	@$(BIN)/python -m bench.pipeline --out docs/pipeline.json

bench-dispatch: $(READY)  ## 100 to 100,000 due agents, Redis near and 2 ms away (10 minutes); writes docs/dispatch.json
	@$(BIN)/python -m bench.dispatch --out docs/dispatch.json

bench-adhoc: $(READY)  ## How soon a person's run starts behind a backlog (5 minutes); writes docs/adhoc.json
	@$(BIN)/python -m bench.adhoc --out docs/adhoc.json

bench-memory: $(READY)  ## Memory of a worker, idle and per call in flight (3 minutes); writes docs/memory.json
	@$(BIN)/python -m bench.memory --out docs/memory.json

bench-jobs: $(READY)  ## Each periodic job over a day's ledger of 100 to 100,000 agents (25 minutes); writes docs/jobs.json
	@$(BIN)/python -m bench.jobs --out docs/jobs.json

bench-year: $(READY)  ## A year of a fleet: what tables weigh, bloat, the forecast (15 minutes); writes docs/year.json
	@$(BIN)/python -m bench.year --agents 4 --out docs/year.json

bench-growth: $(READY)  ## A cycle, pages, reports at three sizes (20 minutes); writes docs/growth.json
	@$(BIN)/python -m bench.growth --out docs/growth.json

bench-soak: $(READY)  ## An hour at saturation: is memory flat?; writes docs/soak.json
	@$(BIN)/python -m bench.soak --out docs/soak.json

bench-limiters: $(READY)  ## Compare limiters side by side, five runs each (70 minutes); writes docs/limiters.*
	@$(BIN)/python -m bench.limiters

bench-saturation: $(READY)  ## The cap end to end, at 4 and 50 calls/s, quiet and with both cores busy (20 minutes); writes docs/saturation.json
	@$(BIN)/python -m bench.saturation --rate 4 --seconds 600 --out docs/saturation.json
	@$(BIN)/python -m bench.saturation --rate 50 --seconds 300 --latency 0.5 --out docs/saturation.json
	@$(BIN)/python -m bench.saturation --rate 50 --seconds 40 --latency 0.5 --busy 2 --runs 3 --out docs/saturation.json

bench-cpu: $(READY)  ## CPU of a call, settings as they come, at 32 calls/s (15 minutes); writes docs/cpu.json
	@$(BIN)/python -m bench.cpu --out docs/cpu.json

bench-pools: $(READY)  ## Threads, prefork and gevent side by side (8 minutes); writes docs/pools.json
	@$(BIN)/python -m bench.pools --out docs/pools.json

bench-sizes: $(READY)  ## Fleets of 100, 500 and 1,000 agents (16 minutes); writes docs/sizes.json
	@$(BIN)/python -m bench.sizes --out docs/sizes.json

bench-pages: $(READY)  ## Every page over ten million calls and 100,000 agents (10 minutes); writes docs/pages.json
	@$(BIN)/python -m bench.pages --out docs/pages.json

bench-flower: $(READY)  ## Memory of Flower after 100,000 tasks (2 minutes); writes docs/flower.json
	@$(BIN)/python -m bench.flower --out docs/flower.json

bench-ledger: $(READY)  ## Ten million calls: rollups, retention, reports (8 minutes); writes docs/ledger.json
	@$(BIN)/python -m bench.ledger --out docs/ledger.json

chaos: $(READY)  ## A thousand faults at random, then the books (twenty minutes); writes docs/chaos.json
	@$(BIN)/python -m tests.chaos --faults 1000 --seed 7 --pause 0.6 --out docs/chaos.json

advisories: $(READY)  ## Look the locked packages up in the list of known vulnerabilities (needs the network)
	@away=$$(mktemp -d) && $(PYTHON) -m venv $$away && $$away/bin/pip install --quiet --disable-pip-version-check pip-audit && \
	  $$away/bin/pip-audit --require-hashes --disable-pip --requirement requirements.lock --format json > $$away/found.json; \
	  $(BIN)/python -m tests.house.advisories $$away/found.json; code=$$?; rm -rf $$away; exit $$code

sbom: $(READY)  ## A bill of materials of what is installed, with licences, as CycloneDX: sbom.json
	@away=$$(mktemp -d) && $(PYTHON) -m venv $$away && $$away/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom && \
	  $$away/bin/cyclonedx-py environment $(BIN)/python --output-format JSON --output-file sbom.json; code=$$?; rm -rf $$away; \
	  test $$code -eq 0 && echo "wrote sbom.json"; exit $$code

LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --quiet
EXTRAS := --extra build --extra tracing

lock: $(READY)  ## Resolve the dependencies anew: for all, for the image, and the installer
	@$(LOCK) pyproject.toml $(EXTRAS) --extra dev --extra bench --upgrade -o requirements.lock
	@$(LOCK) pyproject.toml $(EXTRAS) --constraint requirements.lock -o requirements.image.lock
	@echo uv | $(LOCK) - --upgrade -o requirements.uv.lock

revision: $(READY)  ## Draft a migration: make revision m="what it does"
	@$(BIN)/alembic revision --autogenerate -m "$(m)"

clean:  ## Remove the virtual environment (data in .paceline stays)
	@rm -rf $(VENV)
