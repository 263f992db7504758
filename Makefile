# make help shows what there is. A run is a folder; a stage is a notebook; a stamp in <run>/stamps says that a stage is done.

PROFILE ?=
BUDGET ?=
METHOD ?=
SEED ?= 0
DATA ?= rendered
ROOT ?=
LABELLED ?=
UNLABELLED ?=
EVALUATE ?=
SET ?=
METHODS ?=
SEEDS ?=
JOBS ?=
# folders that are written to: never taken from the environment
OUT =
RUNS =
PUBLISH =
# what demo shows; make's own, as environments have an INPUT for other things
INPUT =
WEIGHTS =
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

quote = '$(subst ','\'',$(1))'
# the options that name a run's folder; their defaults, and the folder's name, are those of the command line
scale = $(if $(PROFILE),--profile $(call quote,$(PROFILE))) $(if $(BUDGET),--budget $(call quote,$(BUDGET)))
names = $(scale) $(if $(METHOD),--method $(call quote,$(METHOD))) --seed $(SEED) --data $(call quote,$(DATA))
lists = $(if $(ROOT),--root $(call quote,$(ROOT))) $(if $(LABELLED),--labelled $(LABELLED)) \
	$(if $(UNLABELLED),--unlabelled $(UNLABELLED)) $(if $(EVALUATE),--evaluate $(EVALUATE)) $(if $(SET),--set $(call quote,$(SET)))
options := PROFILE BUDGET METHOD SEED DATA ROOT LABELLED UNLABELLED EVALUATE SET
given := $(strip $(foreach o,$(options),$(if $(filter-out file,$(origin $(o))),$(o))))
alone :=
ifeq ($(findstring command,$(origin RUN)),)
RUN := $(shell $(PYTHON) -m tsal run-folder $(names) 2>/dev/null)
ifneq ($(PYTHON),)
ifeq ($(RUN),)
$(error $(shell $(PYTHON) -m tsal run-folder $(names) 2>&1 >/dev/null | tail -n 1))
endif
endif
# without RUN, what is not given has its default
names += --anew
else ifeq ($(given),)
# a run that is named alone is what its config.json says; while it has none, what its first try was given
alone := $(wildcard $(RUN)/config.json)
tried := $(if $(alone),,$(wildcard $(RUN)/stamps/settings))
unknown := $(if $(alone)$(tried),,$(RUN))
names := $(if $(tried),$(shell sed -n 1p $(tried)))
lists := $(if $(tried),$(shell sed -n 2p $(tried)))
else
# a run that is named with options keeps what they do not say
names = $(scale) $(if $(METHOD),--method $(call quote,$(METHOD))) $(if $(filter SEED,$(given)),--seed $(SEED)) \
	$(if $(filter DATA,$(given)),--data $(call quote,$(DATA)))
endif

# threads that wait spin for a tenth of a millisecond: sleeping at once costs half the speed where cores are free, spinning for
# long costs many times more where they are shared
export GOMP_SPINCOUNT ?= 100000

PY := .venv/bin/python
S = $(RUN)/stamps

ifeq ($(findstring command,$(origin RUN))$(strip $(RUN)),command)
$(error RUN is empty: give it the run's folder, or leave RUN out)
endif
ifneq ($(if $(PYTHON),$(words $(RUN)),1),1)
$(error RUN='$(RUN)': make cannot have a run's folder with spaces in its name (DATA, BUDGET, PROFILE, METHOD and SEED make it))
endif

# a setting that would be ignored is an error
ignore_set := setup demo report one-step gallery test faults fuzz soak audit lock bench bench-gpu pretrain weights explore clean-run
ifneq ($(and $(strip $(SET)),$(MAKECMDGOALS)),)
ifeq ($(filter-out $(ignore_set),$(MAKECMDGOALS)),)
$(error 'make $(MAKECMDGOALS)' does not use SET, which changes the settings of a run: 'make reproduce SET=...' first, with the other options as here)
endif
endif
# a mistyped RUN would train the default run; reproduce and data make a new one
later := tracker train pseudo evaluate figures report one-step
ifneq ($(and $(unknown),$(filter $(later),$(MAKECMDGOALS))),)
ifeq ($(filter reproduce data,$(MAKECMDGOALS)),)
runs := $(patsubst %/config.json,%,$(wildcard $(sort outputs/*/config.json $(dir $(RUN))*/config.json)))
$(error RUN=$(RUN): no run there$(if $(runs),; runs: $(wordlist 1,12,$(runs))$(if $(word 13,$(runs)), ...)); \
to make one of this name: 'make reproduce RUN=$(RUN)' with its options)
endif
endif
ifneq ($(filter bench-methods,$(MAKECMDGOALS)),)
ifneq ($(METHOD)$(filter-out file,$(origin SEED)),)
$(error 'make bench-methods' compares several methods over several seeds: give METHODS and SEEDS, not METHOD and SEED)
endif
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# two stages cannot work in one folder; make -jN is for bench-methods
.NOTPARALLEL:
.PHONY: help setup demo reproduce data tracker train pseudo evaluate figures report one-step gallery test faults fuzz soak audit lock bench bench-gpu bench-methods pretrain weights explore clean-run FORCE OTHERS LOST

help:
	@echo "make setup       install .venv from the lock files (pip checks their hashes), and check what the operating system must have"
	@echo "make demo        the trained detector on a photograph and a rendered clip, or on INPUT=photo.jpg|video.mp4|folder; in outputs/demo"
	@echo "make reproduce   every stage in order, then the table and the figures"
	@echo "make data | tracker | train | pseudo | evaluate | figures     up to that stage"
	@echo "make report      print the table of a run again"
	@echo "make explore     JupyterLab on notebook 04 with the explorer of pseudo-labels: of the run that RUN= or the options below name; it offers the runs beside it too"
	@echo "make one-step    notebook 00 on a trained run: one step of the method by hand"
	@echo "make gallery     a run's executed notebooks as HTML in outputs/gallery; PUBLISH=<folder>: up to six of its figures there"
	@echo "make test        every test"
	@echo "make faults      25 runs (KILLS=), and 25 of two processes, each killed at a seeded moment, started again and compared with one left alone: an hour"
	@echo "make fuzz        10000 broken and generated files for every reader (FUZZ=), on every core: an hour or more"
	@echo "make soak        two hours (SOAK= seconds) of small steps: does memory, do files or handles grow?"
	@echo "make audit       known vulnerabilities of the locked packages (needs pip-audit)"
	@echo "make lock        write the lock files again from requirements.txt (needs uv)"
	@echo "make bench-methods   compare METHODS (configs/methods) over SEEDS, JOBS (or -j) at a time, LAUNCHER=local|slurm|ray; results in outputs/methods or OUT=<folder>, runs in outputs/methods or RUNS=<folder>"
	@echo "make bench       speed of loader, steps, predict and tracker here, in four minutes (TSAL_REALDATA=<folder>: real faces too)"
	@echo "make bench-gpu   one GPU in eight minutes (ROOT=<folder>: a training on real faces too)"
	@echo "make pretrain    train again the tracker that runs start from (tsal/weights/tracker.pt)"
	@echo "make weights     train again the detector that ships, from ROOT=<folder of real faces> (tsal/weights/face68.pt, docs/model-card.md)"
	@echo "make clean-run   delete the run's folder"
	@echo
	@echo "PROFILE=$(PROFILE)   scale: demo (rendered faces), faces (your own), finetune (few labels), face68 (many), smoke, paper, or a YAML file"
	@echo "BUDGET=$(BUDGET)    data: lists of configs/budgets, such as 300w-120; or LABELLED= UNLABELLED= EVALUATE= lists, each one or more"
	@echo "METHOD=$(METHOD)    targets: tsal, mean-teacher, ... (configs/methods)"
	@echo "SET='$(SET)'   any setting, such as SET=\"semi.steps=2000 semi.ema_decay=0.99\"; see: python -m tsal config show"
	@echo "DATA=$(DATA) ROOT='$(ROOT)'   rendered, or a name and folder for faces of your own"
	@echo "SEED=$(SEED)   RUN=$(RUN)   PYTHON=$(PYTHON)"

# --- environment -----------------------------------------------------------------------------------------------------------

setup: .venv/.done

# only files whose SHA-256 is in a lock file, and nothing that would have to be built
hashed := $(PY) -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r

.venv/.done: requirements.txt $(wildcard locks/*.lock) pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed and was not found; install it, or name it: make PYTHON=/path/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1)" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "error: $(PYTHON) has no venv module; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	@grep -v '^#' requirements.txt | while read pin; do grep -q "^$$pin " locks/requirements.lock || \
		{ echo "error: requirements.txt wants $$pin, locks/requirements.lock another or none: make lock" >&2; exit 2; }; done
	$(PYTHON) -m venv .venv
	@$(hashed) locks/cpu.lock >/dev/null 2>&1 || true
	$(hashed) locks/requirements.lock
	@if grep -q '^Requires-Dist: nvidia' .venv/lib/python*/site-packages/torch-*.dist-info/METADATA; then \
		echo "torch's CUDA packages, locks/cuda.lock" && $(hashed) locks/cuda.lock; fi
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@missing=$$($(PY) -c 'import cv2' 2>&1 | tail -n 1); if [ -n "$$missing" ]; then \
		echo "opencv-python cannot start ($$missing): taking opencv-python-headless; for the full one: apt-get install libgl1 libglib2.0-0"; \
		$(PY) -m pip uninstall --quiet --yes opencv-python && \
		$(hashed) locks/headless.lock --force-reinstall && $(PY) -c 'import cv2'; fi
	@touch $@

# --- stages ----------------------------------------------------------------------------------------------------------------
# What a stage's result depends on, by the layout rule: the core (tsal/*.py, tsal/data, tsal/tracker; precision and processes of
# tsal/utils) and whole packages, as tsal/stages/table.py says. A stage reruns where a file of it changes; trainings whose settings, data and code are as before are
# skipped then.

core := $(wildcard tsal/*.py tsal/data/*.py tsal/tracker/*.py) tsal/utils/distributed.py tsal/utils/environment.py
package = $(wildcard $(patsubst %,tsal/%/*.py,$(1)))

data_code := $(core) $(call package,prepare synthetic) tsal/stages/data.py
tracker_code := $(core) $(call package,evaluation synthetic) tsal/stages/tracker.py
train_code := $(core) tsal/stages/train.py
pseudo_code := $(core) $(call package,audit evaluation) tsal/stages/pseudo.py
evaluate_code := $(core) $(call package,evaluation) tsal/stages/evaluate.py
figures_code := $(call package,figures audit) tsal/stages/figures.py

run_notebook = $(PY) -m tsal notebook $< --run $(call quote,$(RUN))

# The results that a stage leaves; the last one written is that of tsal/stages/table.py. Its stamp names those that there are, and
# where one of them is gone (LOST), deleted or not copied with the run, the stage is not done.
data_files := manifest.json
tracker_files := tracker/model.pt tracker/metrics.json
train_files := */model.pt semi/tracker-*/model.pt
pseudo_files := audit/labels.parquet audit/frames.csv audit/ground_truth.npz
evaluate_files := predictions.npz metrics.json
figures_files := figures/*
results = cd $(call quote,$(RUN)) && for f in $($(@F)_files); do [ ! -e "$$f" ] || echo "$$f"; done
stamp = @mkdir -p $(S) && ($(results)) > $@
gone := $(shell cd $(call quote,$(RUN)) 2>/dev/null && for s in data tracker train pseudo evaluate figures; do \
	[ ! -e stamps/$$s ] || while read -r f; do [ -e "$$f" ] || echo $$s; done < stamps/$$s; done)
lost = $(if $(filter $(1),$(gone)),LOST)

data: $(S)/data
tracker: $(S)/tracker
train: $(S)/train
pseudo: $(S)/pseudo
evaluate: $(S)/evaluate
figures: $(S)/figures

# the options that were found right last, or of a first try, are kept in stamps/settings; OTHERS: these are others, or the run's
# settings were changed without make since
asked = printf '%s\n' $(call quote,$(names)) $(call quote,$(lists))
config = $(call quote,$(RUN)/config.json)
others := $(if $(alone),,$(shell [ ! $(config) -nt $(call quote,$(S)/settings) ] && \
	$(asked) | cmp -s - $(call quote,$(S)/settings) || echo OTHERS))

# the lists that the settings name, or that the run has, wherever they may lie, and the weights that it starts from: where one has
# changed, the data are checked anew
kept := $(if $(wildcard $(RUN)/config.json),$(shell sed -n '/^  "data"/,/^  }/s/^ *\("name": \|"root": \|\)"\([^"]*\)",*$$/\2/p' $(RUN)/config.json))
words = $(sort $(subst ',,$(filter-out --%,$(names) $(lists))) $(kept))
roots = $(words) $(addprefix data/prepared/,$(words))
places = $(addsuffix /$(1),$(roots)) $(addsuffix /lists/$(1),$(roots)) data/prepared/$(subst :,/lists/,$(1))
start := $(if $(wildcard $(RUN)/config.json),$(shell sed -n 's/^ *"\(weights\|vgg16_weights\|init\)": "\([^"]*\)",*$$/\2/p' $(RUN)/config.json))
start_file = $(wildcard $(start) $(addprefix tsal/weights/,$(addsuffix .pt,$(start))))
list_files = $(wildcard $(foreach l,$(words),$(call places,$(l))))

# also where notebook 01 or 'tsal data' has given the run other settings since; and 'make data' looks at the files themselves:
# what was made of them goes on unless one has changed
checked = $(call quote,$(RUN))/manifest.json
$(S)/data: notebooks/01_data.ipynb $(others) $(data_code) $(wildcard configs/*/*.yaml $(PROFILE)) $(list_files) $(start_file) \
		$(wildcard $(RUN)/config.json) $(if $(filter data,$(MAKECMDGOALS)),FORCE) $(call lost,data) | .venv/.done
	@mkdir -p $(S) && rm -f $@.former && $(if $(filter-out FORCE,$?),rm -f $@.checked,mv $@ $@.former)
	@[ -e $(config) ] || $(asked) > $(S)/settings
	$(run_notebook) $(names) $(lists)
	@cmp -s $(checked) $@.checked && mv $@.former $@ || ($(results)) > $@
	@cp $(checked) $@.checked 2>/dev/null || true; $(if $(alone),,$(asked) > $(S)/settings;) rm -f $@.former

$(S)/tracker: notebooks/02_tracker.ipynb $(S)/data $(tracker_code) $(call lost,tracker) | .venv/.done
	$(run_notebook)
	$(stamp)

$(S)/train: notebooks/03_train.ipynb $(S)/data $(S)/tracker $(train_code) $(call lost,train) | .venv/.done
	$(run_notebook)
	$(stamp)

$(S)/pseudo: notebooks/04_pseudo_labels.ipynb $(S)/train $(pseudo_code) $(call lost,pseudo) | .venv/.done
	$(run_notebook)
	$(stamp)

$(S)/evaluate: notebooks/05_evaluate.ipynb $(S)/train $(evaluate_code) $(call lost,evaluate) | .venv/.done
	$(run_notebook)
	$(stamp)

$(S)/figures: notebooks/06_figures.ipynb $(S)/tracker $(S)/pseudo $(S)/evaluate $(figures_code) $(call lost,figures) | .venv/.done
	$(run_notebook)
	$(stamp)

# the table once a result; said and left alone where nothing has changed
$(S)/reported: $(S)/figures
	@$(PY) -m tsal report --run $(call quote,$(RUN))
	$(stamp)

reproduce: $(S)/reported
	@echo "$(RUN) is complete; nothing is left to do ('make report' prints its table again)"

report: | .venv/.done
	@$(PY) -m tsal report --run $(call quote,$(RUN))

# no stages: they show what a run has
one-step: notebooks/00_one_step.ipynb | .venv/.done
	$(run_notebook)

gallery: | .venv/.done
	$(PY) -m tsal gallery --run $(call quote,$(RUN)) $(if $(PUBLISH),--publish $(call quote,$(PUBLISH)))

# --- the rest --------------------------------------------------------------------------------------------------------------

# with a trained detector that is named, or the one that comes with the project
demo: .venv/.done
	@$(PY) -m tsal demo $(if $(INPUT),$(call quote,$(INPUT))) $(if $(WEIGHTS),--weights $(call quote,$(WEIGHTS))) \
		$(if $(OUT),--out $(call quote,$(OUT)))

test: .venv/.done
	$(PY) -m ruff check --quiet .
	$(PY) -m ruff format --check --quiet .
	$(PY) -m pytest -q --numprocesses auto --maxprocesses 8 --dist loadfile

# docs/faults.md has what they found
KILLS ?= 25
FUZZ ?= 10000
SOAK ?= 7200
faults: .venv/.done
	OMP_NUM_THREADS=1 TSAL_KILLS=$(KILLS) $(PY) -m pytest -q -s tests/test_resume.py

fuzz: .venv/.done
	OMP_NUM_THREADS=1 FUZZ=$(FUZZ) $(PY) -m pytest -q --numprocesses auto --maxprocesses 8 tests/test_fuzz.py

soak: .venv/.done
	OMP_NUM_THREADS=1 TSAL_SOAK=$(SOAK) $(PY) -m pytest -q -s tests/test_soak.py

# strict: a package that cannot be looked up is an error, not a pass
audit:
	@command -v pip-audit >/dev/null || { echo "error: pip-audit is not installed: pipx install pip-audit" >&2; exit 2; }
	pip-audit --strict --disable-pip --require-hashes --requirement locks/requirements.lock --requirement locks/cuda.lock

lock:
	@$(PYTHON) locks/lock.py

bench: .venv/.done
	$(PY) -m tsal bench

bench-gpu: .venv/.done
	$(PY) -m tsal bench-gpu $(if $(ROOT),--realdata $(call quote,$(ROOT)))

# runs that are missing, then one table; the defaults are those of the command line. make -jN runs N side by side, as JOBS=N does
side = $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS)))
bench-methods: .venv/.done
	$(PY) -m tsal bench-methods $(scale) --data $(call quote,$(DATA)) $(lists) $(if $(METHODS),--methods $(METHODS)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(or $(JOBS),$(side)),--jobs $(or $(JOBS),$(side))) \
		$(if $(LAUNCHER),--launcher $(LAUNCHER)) $(if $(OUT),--out $(call quote,$(OUT))) $(if $(RUNS),--runs $(call quote,$(RUNS)))

# the tracker that comes with the project, made anew: an hour and a half of one core
pretrain: .venv/.done
	$(PY) -m tsal data --anew --profile pretrain --run outputs/pretrain
	$(PY) -m tsal tracker --run outputs/pretrain
	mkdir -p tsal/weights && cp outputs/pretrain/tracker/model.pt tsal/weights/tracker.pt

# the detector that comes with the project, made anew from ROOT, the folder of 300-W and YouTube Faces (docs/model-card.md);
# it continues where it was stopped
weights: .venv/.done
	$(PY) -m tsal bench-methods --profile face68 --budget 300w-1057-all --data realdata --root $(call quote,$(ROOT)) \
		--methods mean-teacher-corrected --seeds 0 --runs outputs/face68/all --out outputs/face68/results-all
	$(PY) -m tsal bench-methods --profile face68 --budget 300w-1057-dense --data realdata --root $(call quote,$(ROOT)) \
		--methods tsal --seeds 0 --runs outputs/face68/dense --out outputs/face68/results-dense --set semi.steps=1800
	$(PY) -m tsal export --weights outputs/face68/all/mean-teacher-corrected-s0/semi/model.pt \
		outputs/face68/dense/tsal-s0/semi/model.pt --out tsal/weights/face68.pt

# notebook 04 reads TSAL_RUN where no parameter names its run
explore: .venv/.done
	@test -e $(config) || { echo "error: $(RUN): no run there yet; 'make reproduce' with these options makes it" >&2; exit 2; }
	TSAL_RUN=$(call quote,$(RUN)) JUPYTER_CONFIG_PATH='$(CURDIR)/tsal/explorer/jupyter'$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH} $(PY) -m jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/04_pseudo_labels.ipynb

clean-run:
	@test ! -e $(call quote,$(RUN)) -o -e $(call quote,$(RUN)/config.json) -o -d $(call quote,$(S)) || \
		{ echo "error: $(RUN) is no run: it has neither config.json nor stamps" >&2; exit 2; }
	rm -rf $(call quote,$(RUN))

FORCE OTHERS LOST:
