# make demo | test | check | bench | soak | fuzz | run SITE=...   (everything installs what it needs)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := tests/e2e/ocpp_rpc
ARGS ?=
SITE ?= site_configs/home.yaml
ONLY ?=
JSON ?=
FUZZ_S ?= 600
# Most tests wait for real sockets and clocks: three at a time, a file on one worker. What failed on a busy machine is run
# once more, alone; it must pass there.
PYTEST := $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not soak"
AGAIN := $(BIN)/pytest --last-failed --last-failed-no-failures none -m "not soak"

.PHONY: install dev system peers demo run test check bench soak fuzz clean
install: $(VENV)/.installed
dev: $(VENV)/.dev

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

# Debian's broker, browser and node, where this user may install them; what needs one says so when it is missing.
system:
	@deploy/system-packages mosquitto chromium nodejs npm

# The tests' OCPP stations and CSMS of another make, which validate strictly.
peers: $(PEERS)/node_modules/.package-lock.json
$(PEERS)/node_modules/.package-lock.json: $(PEERS)/package-lock.json | system
	@if command -v npm >/dev/null; then npm ci --prefix $(PEERS) --silent --no-audit --no-fund; else \
		echo "no npm here: the tests with strict OCPP peers cannot run (they need node 18 or later and npm)"; fi

demo: install
	@deploy/system-packages mosquitto
	$(BIN)/cem demo $(ARGS)

run: install
	$(BIN)/cem run $(SITE) $(ARGS)

check: dev system peers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(PYTEST) $(ARGS) || $(AGAIN) $(ARGS)

test: dev system peers
	$(PYTEST) $(ARGS) || $(AGAIN) $(ARGS)

bench: dev
	$(BIN)/python -m tests.benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(JSON),--json $(JSON))

soak: dev system peers
	$(BIN)/pytest -m soak --timeout 3600 $(ARGS)

# Coverage-guided, for FUZZ_S seconds; what it learns stays in .fuzz, what breaks is left there as crash-*.
fuzz: dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	@mkdir -p .fuzz/corpus
	$(BIN)/python -m tests.csms.fuzz_atheris .fuzz/corpus -max_total_time=$(FUZZ_S) -max_len=4000 -artifact_prefix=.fuzz/

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
