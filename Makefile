# Everything runs in .venv; nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAKE ?= lake
ARGS ?=
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps

# some environments forbid Python to store what it compiled, and each of hundreds of processes compiles it again
export PYTHONDONTWRITEBYTECODE =

.PHONY: setup run test check wheel wheel-test ui bench lock clean

setup: $(READY)

$(READY): requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	awk '/^[a-z]/ {n++} {print > ("$(VENV)/half" n % 2)}' requirements-dev.lock  # pip works on one core
	$(PIP) --require-hashes -r $(VENV)/half0 & $(PIP) --require-hashes -r $(VENV)/half1; second=$$?; wait $$! && exit $$second
	@$(BIN)/python -m compileall -qq -j 0 -x "/tests?/" $(VENV)/lib >/dev/null || true  # what pip would do on one core
	$(PIP) --no-build-isolation --editable .
	touch $@

run: setup  ## whole job on the sample; other data: make run ARGS="--source files --data DIR"
	$(BIN)/etf-pipeline run --lake $(LAKE) $(ARGS)

test: setup
	$(BIN)/python -m pytest -n 3 --dist loadgroup --max-worker-restart 0 $(ARGS)  # a deadline ends the worker; another would hang in the same test

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: setup  ## what docs/deployment.md installs, in dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

wheel-test: setup  ## the sample from the wheel: in an empty environment outside the checkout, which cannot be written
	$(BIN)/python -m tests.deployment.try_wheel

ui: setup  ## Dagster UI on http://localhost:3000 over the same lake
	$(BIN)/etf-pipeline ui --lake $(LAKE) $(ARGS)

bench: setup
	$(BIN)/python -m benchmarks.hp_filter
	$(BIN)/python -m benchmarks.scale

COMPILE := .venv-lock/bin/pip-compile --quiet --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate

lock: ## pin what pyproject.toml resolves to, with hashes and without any index address: to run, and to develop
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet pip-tools
	$(COMPILE) --extra akshare --extra postgres --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra dev --all-build-deps --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) $(LAKE) dist
