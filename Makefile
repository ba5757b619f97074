# Rearguard: images in, proved classifier in the car out. `make help` lists the targets.
SHELL := /bin/bash
PY := .venv/bin/python

# Names and paths reach the commands as they are written: `value` leaves $ alone, `quote` makes one word for the shell.
quote = '$(subst ','\'',$(1))'
override DATA := $(value DATA)
override RUN := $(or $(value RUN),$(if $(DATA),$(shell basename -- $(call quote,$(DATA))),demo))
override GROUP := $(value GROUP)
override ONLY := $(value ONLY)
override SOURCE := $(or $(value SOURCE),synthetic://)
SIZE ?= $(if $(DATA),,64)
EPOCHS ?=
RECIPE ?= edge
MODELS ?= mobilenet_inspired squeezenet_inspired resnet_inspired
SEED ?= 0
JOBS ?= $(shell nproc)
ARGS ?=

SOURCE_DATA = $(if $(DATA),$(call quote,$(DATA)),synthetic)
BY_GROUP = $(if $(GROUP),--group $(call quote,$(GROUP)))
run_path = $(call quote,runs/$(RUN)$(1))

# A short spin at OpenMP's barriers: when another process holds a core, torch is 4 to 6 times faster by it.
export GOMP_SPINCOUNT ?= 2000

TEACHER = runs/$(RUN)/compare/edge/seed0/resnet_inspired/best.safetensors
COMPARE = @$(PY) -m training compare --pack $(call run_path,/pack) --out $(call run_path,/compare) $(if $(EPOCHS),--epochs $(EPOCHS)) --jobs $(JOBS) --threads 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test prove gpu-check compare train export benchmark run peers benchmark-compare lock lint types

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
	@.venv/bin/python -c 'import os, site; open(site.getsitepackages()[0] + "/rearguard.pth", "w").write(os.getcwd())'
	@touch $@

demo: ROAD = @$(MAKE) --no-print-directory RUN=demo DATA= RESUME=1
# the budget: on a busy machine every candidate may miss the 33 ms of a camera, and none would be chosen
demo: setup ## the whole road on embedded synthetic data: train, export, benchmark, choose, run
	$(ROAD) train SIZE=48 RECIPE=edge EPOCHS=7 GROUP= SEED=0 ARGS='--scale-schedule --batch 64 --learning-rate 3e-3'
	@$(PY) -m export runs/demo --precisions fp32 int8 || \
		{ [ $$? = 1 -a $$(ls runs/demo/*/bundle/bundle.json | wc -l) = 3 ] && echo "a precision failed its gate (see above): the demo goes on without it" >&2; }
	$(ROAD) benchmark ARGS='--demo --budget-ms 1000'
	$(ROAD) run SOURCE=synthetic:// ARGS='--frames 300'

test: setup lint types ## lint, types and the test suite
	@$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

prove: setup ## the long proofs: hours; with DATA= `compare` too; dated results go into docs/results
	@mkdir -p docs/results
	@set -o pipefail; $(PY) -m pytest -m prove -o timeout=0 -rA $(ARGS) | tee docs/results/$$(date +%F)-prove.txt
	$(if $(DATA),@$(MAKE) --no-print-directory compare)

gpu-check: $(if $(filter file,$(origin PY)),setup) ## [PY=python3 DATA= ONLY= EPOCHS=]: what needs a GPU, proved on this machine
	@exec $(PY) -m tests.gpu $(if $(DATA),--data $(call quote,$(DATA))) $(if $(ONLY),--only $(call quote,$(ONLY))) \
		$(if $(EPOCHS),--epochs $(EPOCHS)) $(ARGS)

compare: setup ## DATA= [MODELS= SIZE= EPOCHS= GROUP=]: the recipes side by side over 5 seeds, and what each change does: hours
	@test -f $(call run_path,/pack/pack.json) || $(PY) -m training pack $(SOURCE_DATA) --out $(call run_path,/pack) \
		--size $(or $(SIZE),224) $(BY_GROUP)
	$(COMPARE) before after edge --models $(MODELS) --seeds 5 --name recipes
	$(COMPARE) after:schedule=one_cycle after --models squeezenet_inspired --seeds 3 --name restarts
	$(COMPARE) after:epochs=100 after:epochs=100,stop_patience=0 after:epochs=100,stop_patience=0,schedule=one_cycle \
		edge:epochs=100 after --models squeezenet_inspired --seeds 1 --name patience
	$(COMPARE) --ablate before after --models squeezenet_inspired --seeds 3 --name to_after
	$(COMPARE) --ablate edge after --models squeezenet_inspired --seeds 3 --name to_edge
	$(COMPARE) edge:weight_decay=0.05 edge:balanced=True edge:mixup_alpha=0.2,mix_p=0.5 edge:cutmix_alpha=1.0,mix_p=0.5 \
		edge:warmup_epochs=0 $(if $(filter resnet_inspired,$(MODELS)),$(call quote,edge:teacher=$(TEACHER))) edge \
		--models squeezenet_inspired --seeds 3 --name tried
	$(COMPARE) edge:average_decay=0 edge:cutmix_alpha=1,mix_p=0.5 edge --models resnet_inspired --name resnet
	@mkdir -p docs/results
	@for name in recipes restarts patience to_after to_edge tried resnet; do for kind in md png; do cp $(call run_path,/compare)/$$name.$$kind \
		docs/results/$$(date +%F)-$(call quote,$(RUN))-$$name.$$kind; done; done

benchmark-compare: setup ## RUN=name: time its hot paths by pytest-benchmark and compare with the last time
	@RUN=$(call quote,$(RUN)) $(PY) -m pytest tests/benchmarks/measure/speed/test_latency.py -p no:randomly --benchmark-only --benchmark-autosave \
		--benchmark-compare --benchmark-columns=min,median,iqr,rounds $(ARGS)

peers: setup ## DATA=split/class folder [SIZE= EPOCHS= GROUP=]: the same data through Ultralytics, timm and ours
	@$(PY) -m benchmarks.peers $(call quote,$(DATA)) --size $(or $(SIZE),224) $(if $(EPOCHS),--epochs $(EPOCHS)) $(BY_GROUP) $(ARGS)

lint: setup ## ruff, the import rules, dead code, dependencies
	@.venv/bin/ruff check --quiet . && .venv/bin/ruff format --check --quiet .
	@.venv/bin/lint-imports
	@.venv/bin/vulture && .venv/bin/deptry --no-ansi .

types: setup ## mypy
	@.venv/bin/mypy --no-error-summary

train: setup ## DATA=folder [RUN= SIZE= EPOCHS= RECIPE= MODELS= GROUP= SEED=]: pack, train, leaderboard
	$(if $(DATA),,@echo "no DATA: the embedded synthetic data are trained on; DATA=folder takes yours" >&2)
	@exec $(PY) -m training train $(SOURCE_DATA) --out $(call run_path) --recipe $(RECIPE) --models $(MODELS) \
		$(if $(SIZE),--size $(SIZE)) --seed $(SEED) $(if $(EPOCHS),--epochs $(EPOCHS)) $(BY_GROUP) $(if $(RESUME),--resume) $(ARGS)

export: setup ## RUN=name: the best checkpoint of each architecture -> verified bundle
	@exec $(PY) -m export $(call run_path) $(ARGS)

benchmark: setup ## RUN=name: latency x accuracy of every bundle, report, production choice
	@exec $(PY) -m benchmarks $(call run_path) $(ARGS)

run: setup ## RUN=name SOURCE=uri: the camera runner on the production bundle
	@exec $(PY) -m inference run $(call run_path,/production) --source $(call quote,$(SOURCE)) --out $(call run_path,/drive) $(ARGS)

# the device gets the versions of the machine that proved the files; ONNX Runtime has another name with CUDA
AS_PROVED = -c <(sed -nE 's/^([a-z0-9._-]+)==([^ ]+).*/\1==\2/; s/^onnxruntime-gpu/onnxruntime/; /==/p' requirements/dev.txt)
COMPILE = .venv/bin/uv pip compile --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-emit-index-url
DEVICE_LOCK = $(COMPILE) --quiet --no-header --no-annotate $(AS_PROVED) pyproject.toml --extra edge

lock: setup ## resolve the dependencies again: write requirements/dev.txt, and the device's locks with the same versions
	@$(COMPILE) pyproject.toml --extra train --extra dev -o requirements/dev.txt
	@$(DEVICE_LOCK) --extra web -o export/device/x86-64.txt
	@$(DEVICE_LOCK) <(printf '%s\n' jinja2 markupsafe matplotlib pillow psutil scipy) -o export/device/benchmark.txt
