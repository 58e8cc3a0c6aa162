# The few commands of this repository. `make` alone lists them.
# Set-up is tools/setup_environment.py; everything else runs inside .venv.

PYTHON ?= python3
STATE ?= ./var
PORT ?= 8443
MINUTES ?= 60
VENV := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup run test clients test-offline test-boxes lint format lock docs seed-model bundle bench bench-serving bench-serving-gpu bench-training bench-hardening clean bench-soak

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv from the locks; does nothing when it is up to date
	@$(PYTHON) -m tools.setup_environment

run: setup ## start the appliance in ./var and walk the tour
	@$(VENV)/intramuros tour --state $(STATE) --port $(PORT)

test: setup clients ## the whole gate: linters, types, contracts, unit and flow tests
	@$(VENV)/python -m pytest

test-offline: setup clients ## the gate twice more: with the network cut, and with a route that swallows everything; needs root
	@tools/without_network.sh cut $(VENV)/python -m pytest
	@tools/without_network.sh swallowed $(VENV)/python -m pytest

clients: ## make the environment of a client of the API that the gate asks with
	@$(PYTHON) -m tools.setup_environment --llamaindex

test-boxes: setup bundle ## install, attack and measure real Debian boxes; needs root, four to five hours
	@$(VENV)/python -m tools.setup_boxes
	@$(VENV)/python -m pytest tests/boxes -m "boxes or not boxes"

lint: setup ## only the quick part of the gate
	@$(VENV)/python -m pytest tests/quality

format: setup ## rewrite the sources in the one format
	@$(VENV)/ruff check --fix --quiet .
	@$(VENV)/ruff format --quiet .

lock: setup ## resolve the dependencies again and write requirements/*.lock
	@$(VENV)/python -m tools.write_locks

docs: setup ## write the generated pages: error codes, settings, recipes, answers
	@$(VENV)/python -m tools.write_error_codes
	@$(VENV)/python -m tools.write_settings_page
	@$(VENV)/python -m tools.write_recipes_page
	@$(VENV)/python -m tools.write_controls_page
	@$(VENV)/python -m tools.write_answers_page

seed-model: setup ## train the small model that a bundle carries; prints its path (kept in the cache)
	@$(VENV)/python -m tools.build_seed_model

bundle: setup ## build a developer's bundle into build/bundle/medium, with developer keys beside it; GPU=vulkan or GPU=cuda
	@$(VENV)/python -m tools.build_bundle

bench: setup ## measure against the peers; builds them first (half an hour the first time)
	@$(PYTHON) -m tools.setup_environment --bench
	@$(VENV)/python -m tools.build_llama_server
	@$(VENV)/python -m benchmarks.serving
	@$(VENV)/python -m benchmarks.training
	@$(VENV)/python -m benchmarks.footprint

bench-serving: setup ## measure serving against llama-server and LiteLLM: writes benchmarks/results/serving.json and .svg
	@$(PYTHON) -m tools.setup_environment --litellm
	@$(PYTHON) -m tools.setup_environment --plot
	@$(VENV)/python -m tools.build_llama_server
	@$(VENV)/python -m benchmarks.serving
	@.venv-plot/bin/python -m benchmarks.plot serving

bench-serving-gpu: setup ## the same on an NVIDIA card, whose toolkit must be there: results/serving-gpu.json
	@$(VENV)/python -m benchmarks.serving --cuda --backend-sampling --scenarios S1 S3

bench-soak: setup ## serve 16 streams for MINUTES and tell how memory grows: writes benchmarks/results/soak.json
	@$(VENV)/python -m benchmarks.soak --minutes $(MINUTES)

bench-training: setup ## measure training against TRL and its promises: writes benchmarks/results/training.json and .svg
	@$(PYTHON) -m tools.setup_environment --bench
	@$(PYTHON) -m tools.setup_environment --plot
	@$(VENV)/python -m benchmarks.training
	@.venv-plot/bin/python -m benchmarks.plot training

bench-hardening: setup bundle ## harden containers beside clones of others' roles (DEVSEC=, LOCKDOWN=): writes hardening.json
	@$(PYTHON) -m tools.setup_environment --hardening
	@$(VENV)/python -m tools.setup_boxes
	@$(VENV)/python -m benchmarks.hardening $(if $(DEVSEC),--dev-sec $(DEVSEC)) $(if $(LOCKDOWN),--lockdown $(LOCKDOWN))

clean: ## remove the environments and caches of this clone; state in ./var stays
	rm -rf .venv .venv-* build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
