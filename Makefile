# Everything that people and machines run in this project. `make help` lists it.
SHELL := /bin/bash
PY := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check nomad clients bench conformance chaos property fuzz generate release-baseline wheel lock format

help: ## What can be made here
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## The environment: venv with hashed lock; as root also Debian's bubblewrap and PostgreSQL

.venv/.ready: requirements.lock.txt pyproject.toml tools/setup.sh tools/vendor.py tools/vendor.lock.json
	@bash tools/setup.sh
	@touch $@

demo: setup ## The main job, everything embedded: Core's request in, replicas run, Core told, bill made
	@serai demo

test: setup ## All tests; about 20 minutes on 2 cores
	@python -m pytest -n 2 -q

# -rsP: what was skipped and why, and what the tests measured
nomad: setup ## The tests that need a real Nomad agent: `nomad` on PATH, root; also dockerd and a static busybox for the drivers
	@command -v nomad > /dev/null || { echo "nomad is not on PATH: see CONTRIBUTING.md" >&2; exit 1; }
	@python -m pytest -q -rsP tests/e2e tests/conformance --ignore tests/conformance/nomad -k 'nomad and (real or drivers or docker)'
	@python -m pytest -q -rs tests/conformance/nomad tests/integration/nomad tests/unit/nomad

# In a process of its own and one after the other: compilers use all cores by themselves.
clients: setup ## The clients in other languages: built, their own tests, and their examples against a live Serai
	@python -m pytest -v clients/testing

check: setup ## Format, lint, types, imports, protos, what the last release promised, drift of generated code
	@ruff format --check . && ruff check .
	@basedpyright
	@lint-imports
	@python tools/generate.py --imports && buf lint && buf format proto --diff --exit-code > /dev/null
	@PYTHONPATH=tools python -m contract.baseline check
	@python tools/generate.py --check 2>/dev/null

format: setup ## Write what `make check` wants of formatting
	@ruff format . && ruff check --fix-only . && python tools/generate.py --imports && buf format proto -w

generate: setup ## Write proto/gen, docs/api, and the clients' code that is committed, from proto/
	@python tools/generate.py
	@PYTHONPATH=clients python -m testing.generate

release-baseline: setup ## Note what this version promises (proto/releases), before it is tagged: CONTRIBUTING.md, Changing the API
	@python tools/generate.py --imports && PYTHONPATH=tools python -m contract.baseline make

wheel: setup ## dist/: the wheel, and the list of what it needs, by hash; docs/production.md installs from there
	@rm -f dist/serai-*.whl && python -m hatchling build -t wheel -d dist > /dev/null && cp requirements.run.lock.txt dist/
	@ls dist/serai-*.whl dist/requirements.run.lock.txt

bench: setup ## Ratios of speed, side by side in one run
	@python -m bench

conformance: setup ## The conformance kit against Serai on both backends, and against a provider with planted faults; part of `make test`
	@python -m pytest -q -n 2 tests/e2e/test_conformance_kit.py tests/unit/conformance

chaos: setup ## The long form of the tests that kill and break things: 1,000 kills, half an hour and more; logs of 100 MiB with cuts
	@SERAI_CHAOS=long python -m pytest -q tests/chaos
	@SERAI_FOLLOW_MIB=100 python -m pytest -q -rP tests/e2e/test_follow.py

property: setup ## 10,000 random lives of jobs in each generation of Core, every bill compared with an oracle; a million events of a cluster
	@SERAI_PROPERTY=long python -m pytest -q -n 2 tests/property -rP

fuzz: setup ## A million wrong inputs at everything that reads or listens; FUZZ=short is the same in two minutes, as CI runs it
	@python -m fuzz $(if $(filter short,$(FUZZ)),--short) $(if $(SEED),--seed $(SEED))

lock: ## Write requirements.lock.txt anew from pyproject.toml, and from that what only runs Serai, and the Python client's
	@uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --extra dev pyproject.toml -o requirements.lock.txt -q
	@uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --extra envoy --extra otel pyproject.toml -c requirements.lock.txt -o requirements.run.lock.txt -q
	@uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --extra test clients/python/pyproject.toml -c requirements.lock.txt -o clients/python/requirements.lock.txt -q
