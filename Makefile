# Rearguard: images in, proved classifier in the car out. `make help` lists the targets.
SHELL := /bin/bash
PY := .venv/bin/python

DATA ?=
RUN ?= $(if $(DATA),$(notdir $(patsubst %/,%,$(DATA))),demo)
SIZE ?= $(if $(DATA),224,64)
EPOCHS ?=
RECIPE ?= after
MODELS ?= mobilenet_inspired squeezenet_inspired resnet_inspired
GROUP ?=
SEED ?= 0
JOBS ?= $(shell nproc)
SOURCE ?= synthetic://
ARGS ?=

# A short spin at OpenMP's barriers: when another process holds a core, torch is 4 to 6 times faster by it.
export GOMP_SPINCOUNT ?= 2000

TEACHER = runs/$(RUN)/compare/edge/seed0/resnet_inspired/best.safetensors
COMPARE = @$(PY) -m training compare --pack runs/$(RUN)/pack --out runs/$(RUN)/compare $(if $(EPOCHS),--epochs $(EPOCHS)) --jobs $(JOBS) --threads 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test prove compare train export benchmark run peers benchmark-compare lock lint types

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-18s %s\n", $$1, $$2}'
	@echo
	@echo "  variables: DATA RUN SIZE EPOCHS RECIPE MODELS GROUP SEED SOURCE; ARGS='--any-flag 1' is passed on"

setup: .venv/.ready ## make the environment (.venv), once

.venv/.ready: requirements/dev.txt requirements/uv.txt
	@echo "making .venv (about 7 GB, once)" >&2
	@python3 -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@.venv/bin/uv pip sync --quiet --require-hashes --python .venv/bin/python requirements/dev.txt requirements/uv.txt
	@touch $@

demo: ROAD = @$(MAKE) --no-print-directory RUN=demo DATA= RESUME=1
demo: setup ## the whole road on embedded synthetic data: train, export, benchmark, choose, run
	$(ROAD) train SIZE=48 RECIPE=edge EPOCHS=7 GROUP= SEED=0 ARGS='--scale-schedule --batch 64 --learning-rate 3e-3'
	@$(PY) -m export runs/demo --precisions fp32 int8 || \
		{ [ $$? = 1 -a $$(ls runs/demo/*/bundle/bundle.json | wc -l) = 3 ] && echo "the demo goes on without it" >&2; }
	$(ROAD) benchmark ARGS=--thin
	$(ROAD) run SOURCE=synthetic:// ARGS='--frames 300'

test: setup lint types ## lint, types and the test suite
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

prove: setup ## the long proofs: hours; with DATA= `compare` too; dated results go into benchmarks/results
	@mkdir -p benchmarks/results
	@set -o pipefail; $(PY) -m pytest -m prove -o timeout=0 -rA $(ARGS) | tee benchmarks/results/$$(date +%F)-prove.txt
	$(if $(DATA),@$(MAKE) --no-print-directory compare)

compare: setup ## DATA= [MODELS= SIZE= EPOCHS= GROUP=]: the recipes side by side over 5 seeds, and what each change does: hours
	@test -f runs/$(RUN)/pack/pack.json || $(PY) -m training pack $(if $(DATA),'$(DATA)',synthetic) --out runs/$(RUN)/pack \
		--size $(SIZE) $(if $(GROUP),--group '$(value GROUP)')
	$(COMPARE) before after edge --models $(MODELS) --seeds 5 --name recipes
	$(COMPARE) after:schedule=one_cycle after --models squeezenet_inspired --seeds 3 --name restarts
	$(COMPARE) after:epochs=100 after:epochs=100,stop_patience=0 after:epochs=100,stop_patience=0,schedule=one_cycle \
		edge:epochs=100 after --models squeezenet_inspired --seeds 1 --name patience
	$(COMPARE) --ablate before after --models squeezenet_inspired --seeds 3 --name to_after
	$(COMPARE) --ablate edge after --models squeezenet_inspired --seeds 3 --name to_edge
	$(COMPARE) edge:weight_decay=0.05 edge:balanced=True edge:mixup_alpha=0.2,mix_p=0.5 edge:cutmix_alpha=1.0,mix_p=0.5 \
		edge:warmup_epochs=0 $(if $(filter resnet_inspired,$(MODELS)),edge:teacher=$(TEACHER)) edge \
		--models squeezenet_inspired --seeds 3 --name tried
	$(COMPARE) edge:average_decay=0 edge:cutmix_alpha=1,mix_p=0.5 edge --models resnet_inspired --name resnet
	@mkdir -p benchmarks/results
	@for name in recipes restarts patience to_after to_edge tried resnet; do for kind in md png; do cp runs/$(RUN)/compare/$$name.$$kind \
		benchmarks/results/$$(date +%F)-$(RUN)-$$name.$$kind; done; done

benchmark-compare: setup ## RUN=name: time its hot paths by pytest-benchmark and compare with the last time
	@RUN=$(RUN) $(PY) -m pytest tests/benchmarks/test_latency.py -p no:randomly --benchmark-only --benchmark-autosave \
		--benchmark-compare --benchmark-columns=min,median,iqr,rounds $(ARGS)

peers: setup ## DATA=split/class folder [SIZE= EPOCHS= GROUP=]: the same data through Ultralytics, timm and ours
	@$(PY) -m benchmarks.peers '$(DATA)' --size $(SIZE) $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(GROUP),--group '$(value GROUP)') $(ARGS)

lint: setup
	@.venv/bin/ruff check . && .venv/bin/ruff format --check --quiet .

types: setup
	@.venv/bin/mypy --no-error-summary

train: setup ## DATA=folder [RUN= SIZE= EPOCHS= RECIPE= MODELS= GROUP= SEED=]: pack, train, leaderboard
	@exec $(PY) -m training train $(if $(DATA),'$(DATA)',synthetic) --out runs/$(RUN) --recipe $(RECIPE) --models $(MODELS) \
		--size $(SIZE) --seed $(SEED) $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(GROUP),--group '$(value GROUP)') \
		$(if $(RESUME),--resume) $(ARGS)

export: setup ## RUN=name: the best checkpoint of each architecture -> verified bundle
	@exec $(PY) -m export runs/$(RUN) $(ARGS)

benchmark: setup ## RUN=name: latency x accuracy of every bundle, report, production choice
	@exec $(PY) -m benchmarks runs/$(RUN) $(ARGS)

run: setup ## RUN=name SOURCE=uri: the camera runner on the production bundle
	@exec $(PY) -m inference run runs/$(RUN)/production --source '$(SOURCE)' --out runs/$(RUN)/drive $(ARGS)

lock:
	@uv pip compile pyproject.toml --extra train --extra dev --generate-hashes --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 --no-emit-index-url -o requirements/dev.txt
