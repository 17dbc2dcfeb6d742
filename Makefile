# Everything a person does here; `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := producers outbox spool operations worker console
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run test check bench bench-quick chaos audit shop-django shop-flask shop-fastapi lint types imports package clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: .venv/ready ## start everything on this machine and send the ten example events
	@$(BIN)/python -m insend_relay.console.sandbox.quickstart

test: .venv/ready ## run every test, with branch coverage
	@$(BIN)/python -m pytest --numprocesses 3 --dist worksteal --cov --cov-report=

check: lint types imports test package ## what CI runs
	@$(BIN)/coverage report
	@echo "all checks passed"

chaos: .venv/ready ## break everything for MINUTES=10, PART=always, everysec, failover or peers; writes docs/reliability.md
	@$(BIN)/python tests/chaos/chaos_main.py $(or $(MINUTES),10) --part $(or $(PART),always) --seed "$(SEED)" \
		--page docs/reliability.md

shop-django: .venv/ready ## an example shop in Django, its worker and a sandbox tracker (likewise shop-flask, shop-fastapi)
shop-flask: .venv/ready
shop-fastapi: .venv/ready
shop-django shop-flask shop-fastapi:
	@$(BIN)/python examples/start.py $(@:shop-%=%)

bench: .venv/plots ## ours beside its peers, about an hour, or PART=throughput ... ROUNDS=5 RESUME=1; writes docs/benchmarks.md
	@$(BIN)/python benchmarks/bench_main.py $(PART:%=--part %) $(DELAY:%=--delay %) $(ROUNDS:%=--rounds %) $(SERVER:%=--server %) $(if $(RESUME),--resume)

bench-quick: .venv/ready ## the same in two minutes: a table, and no page
	@$(BIN)/python benchmarks/bench_main.py --quick

lint: .venv/ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .

types: .venv/ready
	@$(BIN)/mypy $(PACKAGES:%=.links/insend_relay/%) benchmarks tests

imports: .venv/ready
	@$(BIN)/lint-imports

audit: ## known vulnerabilities of what constraints.txt names, where the index's advisories can be reached
	@$(PYTHON) -m venv .audit && .audit/bin/python -m pip install --quiet pip-audit
	@.audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

package: .venv/ready
	@bash .ci/package

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --editable '.[dev]' >.venv/install.log 2>&1 \
		|| { cat .venv/install.log; exit 1; }
	@mkdir -p .links/insend_relay
	@for package in $(PACKAGES); do ln -sfn ../../$$package .links/insend_relay/$$package; done
	@touch $@

.venv/plots: .venv/ready
	@PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --editable '.[bench]' >.venv/install.log 2>&1 \
		|| { cat .venv/install.log; exit 1; }
	@touch $@

clean: ## remove what make has made, but not var/, which holds events
	rm -rf .venv .audit .links .peers .bench build dist *.egg-info .coverage* .*_cache .hypothesis
