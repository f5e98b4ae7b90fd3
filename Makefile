# Python 3.11 or newer, a package index, and make: nothing else is needed.
#
#   PYTHON  which Python makes the virtual environment:   make test PYTHON=python3.13 VENV=.venv-3.13
#   VENV    where that is kept
#   BENCH   which of bench/ to run:                     make bench BENCH=list
#   JOBS    how many processes run the tests:           make test JOBS=0 ARGS=-s   (0: none but pytest's own)
#   ARGS    more for pytest or the bench:               make test ARGS="-k resume -x"
#   FUZZ_EXAMPLES   generated requests per operation:   make fuzz FUZZ_EXAMPLES=5000
#   RUNS    how often servers are killed, on each database:  make chaos RUNS=200 ARGS="-k 'sqlite or mysql'"
#
# Other variables on the command line reach what is run:  make run PORT=9000
#                                                         make test DATABASE_URL=mysql://user:password@127.0.0.1/chat

PYTHON = python3
VENV = .venv
BENCH = relay
JOBS = 4
ARGS =
FUZZ_EXAMPLES = 500
RUNS = 200

# Other makers' clients. The lock files name no addresses: those that npm and pip are configured with are asked.
NPM_CLIENTS = tests/clients/npm/node_modules
PYTHON_CLIENTS = $(patsubst tests/clients/python/%.lock,tests/clients/python/.venv-%,$(wildcard tests/clients/python/*.lock))
CLIENTS = $(NPM_CLIENTS) $(PYTHON_CLIENTS)

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check -q

.DEFAULT_GOAL = help
.DELETE_ON_ERROR:
.PHONY: help run dev migrate test clients fuzz chaos cluster bench docs check lint types walls composed locked newest lock audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/.installed ## Install what is missing, migrate the embedded database, serve
	@exec $(BIN)/chatcore serve

dev: $(VENV)/.installed ## The same, and start again whenever a source file changes
	@exec $(BIN)/chatcore serve --reload

migrate: $(VENV)/.installed ## Bring the database of DATABASE_URL up to date
	@exec $(BIN)/chatcore migrate

test: $(VENV)/.developing ## Run the tests, on SQLite, MariaDB and PostgreSQL; DATABASE_URL=… : on that server alone
	$(BIN)/pytest --numprocesses $(JOBS) --dist worksteal $(ARGS)

clients: $(addsuffix /.installed,$(CLIENTS)) ## Install other makers' clients, which tests/clients tries on the server

fuzz: $(VENV)/.developing ## Requests made up from the OpenAPI document, other ones each time, for minutes
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest tests/integration/test_schemathesis.py $(ARGS)

chaos: $(VENV)/.developing ## Kill servers at random moments, RUNS times: is all there that they had promised?
	CHAOS_RUNS=$(RUNS) PAUSE=30 $(BIN)/pytest tests/integration/test_chaos.py \
		tests/integration/test_paused_and_cut_off.py $(ARGS)

cluster: $(VENV)/.developing ## Three servers on Galera and on Group Replication (MYSQL_TREE=…), one node of which dies
	$(BIN)/pytest tests/cluster --capture=no $(ARGS)

bench: $(VENV)/.developing ## Measure: BENCH=relay (a stream's CPU), list, history, replies (MariaDB, PostgreSQL), sign_ins, hostile
	$(BIN)/python bench/$(BENCH).py $(ARGS)

docs: $(VENV)/.developing ## Build the site of docs/ in site/; a link to a missing page or heading fails
	$(BIN)/sphinx-build -W --keep-going -n -q -d $(VENV)/.doctrees docs site
	@echo "Open site/index.html"

check: lint types walls composed locked ## Lint, format, types, the walls between packages, compose and lock files

lint: $(VENV)/.developing
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.developing
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	@for each in $(TYPED); do PATH="$(BIN):$$PATH" pyright --verifytypes $$each --ignoreexternal \
		>$(VENV)/typed.log || { cat $(VENV)/typed.log; exit 1; }; done

# Those whose every public name has its type written down, as other type checkers need it.
TYPED = chatcore chatcore_app chatcore_asgi chatcore_cli chatcore_demo chatcore_django chatcore_fastapi chatcore_flask \
	chatcore_http chatcore_litestar chatcore_memory chatcore_openai chatcore_quart chatcore_security chatcore_sql \
	chatcore_starlette chatcore_testing

walls: $(VENV)/.developing
	$(BIN)/lint-imports

composed: $(VENV)/.developing
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml tests/compose.yaml
	@if docker compose version >/dev/null 2>&1; then \
		SECRET_KEY=x ENCRYPTION_KEYS=x MYSQL_PASSWORD=x docker compose --profile '*' config -q; fi

# The lock files, made from pyproject.toml by uv: hashes for every platform, and the address of no index, though the
# one that pip is configured with is asked, if it has one of its own. Pins that are there already are kept.
INDEX = index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(PIP) config get global.index-url 2>/dev/null)}}"; \
	env $${index:+UV_DEFAULT_INDEX="$$index"}
COMPILE = $(INDEX) $(BIN)/uv pip compile -q pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock" --cache-dir $(VENV)/.uv-cache
RUNTIME = --extra all --group build $(UNUSED:%=--no-emit-package %)
# What the others name and chatcore never imports: Litestar's for made-up examples, fastapi-offline's for its own pages.
UNUSED = faker polyfactory tzdata fastapi starlette annotated-doc
DEVELOPMENT = --all-extras --group dev --constraints requirements.lock

newest: $(VENV)/.developing ## Put the newest versions that pyproject.toml allows into VENV, and show which are not locked
	@$(INDEX) $(BIN)/uv pip install -q --python $(BIN)/python --cache-dir $(VENV)/.uv-cache --upgrade \
		--no-build-isolation --editable '.[all]' --group dev
	@$(BIN)/uv pip freeze -q --python $(BIN)/python --exclude-editable | while read -r each; do \
		grep -qiF "$$each " requirements-dev.lock || echo "not locked: $$each"; done

lock: $(VENV)/.developing ## Write the lock files after pyproject.toml; UPGRADE=1 takes the newest of everything
	$(COMPILE) $(RUNTIME) $(if $(UPGRADE),--upgrade) -o requirements.lock
	$(COMPILE) $(DEVELOPMENT) $(if $(UPGRADE),--upgrade) -o requirements-dev.lock

locked: $(VENV)/.developing
	@echo "Do the lock files say what pyproject.toml says?"
	@cp requirements.lock $(VENV)/runtime.lock
	@cp requirements-dev.lock $(VENV)/development.lock
	@$(COMPILE) $(RUNTIME) -o $(VENV)/runtime.lock >/dev/null
	@$(COMPILE) $(DEVELOPMENT) -o $(VENV)/development.lock >/dev/null
	@diff requirements.lock $(VENV)/runtime.lock && diff requirements-dev.lock $(VENV)/development.lock \
		|| { echo "They do not: run 'make lock'." >&2; exit 1; }

audit: $(VENV)/.developing ## Known holes in what requirements.lock names; one that could not be looked up fails too
	@$(INDEX) $(BIN)/uv tool run -q --cache-dir $(VENV)/.uv-cache pip-audit --strict --disable-pip --require-hashes \
		-r requirements.lock $(ARGS)

clean: ## Remove the virtual environments, the site and the caches; the data in var/ stays
	rm -rf $(VENV) $(CLIENTS) site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# ---- what is installed: each of these files is the mark of a step that was completed ------------------------------

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "chatcore needs Python 3.11 or newer, which '$(PYTHON)' is not." >&2; \
		echo "Name one that is, for example: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make virtual environments: its modules venv and ensurepip are not installed." >&2; \
		echo "On Debian and Ubuntu they are in the package python3-venv." >&2; exit 1; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/pyvenv.cfg requirements.lock pyproject.toml
	@echo "Installing requirements.lock and chatcore into $(VENV): once, and about a minute"
	@$(PIP) install --no-deps --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.developing: $(VENV)/.installed requirements-dev.lock
	@echo "Installing requirements-dev.lock into $(VENV): once, and about half a minute"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

$(NPM_CLIENTS)/.installed: tests/clients/npm/package-lock.json
	@command -v npm >/dev/null || { echo "There is no npm here, which comes with Node.js 20 or newer." >&2; exit 1; }
	@echo "Installing clients from npm into $(@D)"
	@npm ci --prefix tests/clients/npm --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

tests/clients/python/.venv-%/.installed: tests/clients/python/%.lock $(VENV)/.developing
	@echo "Installing clients from $< into $(@D)"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(@D)
	@$(INDEX) $(BIN)/uv pip install -q --no-deps --python $(@D)/bin/python --cache-dir $(VENV)/.uv-cache -r $<
	@touch $@
