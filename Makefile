# Every target makes the set-up first; on a fresh machine only Python (3.11 or newer) and make are
# needed. macOS has GNU make 3.81 and BSD's sed, grep and xargs: nothing here needs more.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
BIN := .venv/bin
export SAMEVOICE_CACHE ?= $(CURDIR)/out/cache
export PYANNOTE_METRICS_ENABLED := 0

.PHONY: setup convert parity parity-all gallery release test test-long test-all fuzz kill ports \
	check check-workflows bench bench-models docs notebook clean

setup: .venv/ready

# torch first and pinned: an open range would pull several GB of CUDA libraries.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		f"samevoice needs Python 3.11 or newer, not {sys.version.split()[0]}: make PYTHON=python3.12")'
	@PYTHONPATH=src $(PYTHON) -c 'import samevoice'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[all]'
	touch $@

# The reference models have the architectures whose weights are gated, with seeded ones. The open
# models are trained. What cannot be fetched here, these or an original, is left out, and the page
# says so.
LEFT_OUT := out/left-out
UNREACHABLE := grep -qE "no network|pip finds no|HF_HUB_OFFLINE is set|the original of .* needs"

convert: setup
	$(BIN)/samevoice convert reference:segmentation --mlx-path out/segmentation --overwrite --quiet
	$(BIN)/samevoice convert reference:embedding --mlx-path out/embedding --overwrite --quiet
	$(BIN)/samevoice convert reference:full --mlx-path out/full --overwrite --quiet
	@rm -rf out/open $(LEFT_OUT)
	@mkdir -p $(LEFT_OUT)
	$(BIN)/samevoice convert open:diarization --mlx-path out/open --quiet 2> $(LEFT_OUT)/open \
		|| { sed -i.was 's/^samevoice/open:diarization/' $(LEFT_OUT)/open; cat $(LEFT_OUT)/open >&2; \
			$(UNREACHABLE) $(LEFT_OUT)/open; }

RESULTS := $(patsubst %,out/parity/%/result.json,segmentation embedding plda pipeline)
OPEN := $(patsubst %,out/parity/open/%/result.json,segmentation embedding pipeline)

# Of every other family a small made-up model that has all kinds of its layers, several at once with
# a thread each, on few inputs. parity-all takes every architecture in its real shape.
SHAPE ?= /small
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
NAMES := $(BIN)/samevoice models --references | $(if $(SHAPE),cut -d ' ' -f 1,tr ' ' '\n')

# Networks, PLDA and whole pipelines, each layer and stage, both frameworks. The gate decides at the
# end, so that there are pages of what is red, too; results of an earlier run never count.
parity: convert
	rm -rf $(RESULTS) $(OPEN) out/families out/parity/families
	-$(NAMES) | $(if $(SHAPE),OMP_NUM_THREADS=1 MKL_NUM_THREADS=1) xargs -P $(JOBS) -n 1 sh -c '\
		$(BIN)/samevoice convert reference:$$0$(SHAPE) --mlx-path out/families/$$0 --quiet \
			2> $(LEFT_OUT)/$$0 || { sed -i.was "s/^samevoice/$$0/" $(LEFT_OUT)/$$0; \
			cat $(LEFT_OUT)/$$0 >&2; exec $(UNREACHABLE) $(LEFT_OUT)/$$0; }; \
		$(BIN)/samevoice parity out/families/$$0 --source reference:$$0$(SHAPE) \
			--inputs $(if $(SHAPE),brief,quick) --output out/parity/families/$$0'
	-$(BIN)/samevoice parity out/segmentation --source reference:segmentation --output out/parity/segmentation
	-$(BIN)/samevoice parity out/embedding --source reference:embedding --output out/parity/embedding
	-$(BIN)/samevoice parity out/full/plda --source reference:full --output out/parity/plda
	-$(BIN)/samevoice parity out/full --source reference:full --only pipeline --output out/parity
	-test ! -d out/open || $(BIN)/samevoice parity out/open --source open:diarization --output out/parity/open
	rm -f $(LEFT_OUT)/*.was
	set --; for note in $(LEFT_OUT)/*; do \
		! $(UNREACHABLE) $$note || set -- "$$@" --left-out "$$(cat $$note)"; done; \
		$(BIN)/samevoice report --index out/parity "$$@"
	$(BIN)/samevoice gate $(RESULTS) $$(test ! -d out/open || echo $(OPEN)) $$($(NAMES) | while read name; do \
		$(UNREACHABLE) $(LEFT_OUT)/$$name || echo out/parity/families/$$name/result.json; done)

parity-all:
	$(MAKE) parity SHAPE= JOBS=1

# All bugs of every network here, with the proofs of their causes: into the page that shows them.
GALLERY ?= reference:segmentation reference:embedding open:segmentation open:embedding

gallery: setup
	$(BIN)/samevoice gallery $(GALLERY) --prove --output out/gallery-of-all.md
	sed '/^### /,$$d' docs/gallery.md | cat - out/gallery-of-all.md > out/gallery-page.md
	mv out/gallery-page.md docs/gallery.md

# The reference models, marked as such: what they show is how a release is made and checked.
release: parity
	$(BIN)/samevoice gallery --output out/gallery.md
	$(BIN)/samevoice release out/segmentation --result out/parity --output out/release/segmentation --overwrite
	$(BIN)/samevoice release out/embedding --result out/parity --output out/release/embedding --overwrite
	$(BIN)/samevoice release out/full --result out/parity --output out/release/full --overwrite

# Two at once, each with one thread: most tests keep one core busy, and threads that wait for each
# other on a full machine take many times as long. Tests marked long are for the night.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile \
	--no-loadscope-reorder

test: setup
	$(PYTEST) -m "not long"

test-long: setup
	$(PYTEST) -m long

test-all: test test-long

# Thousands of damaged and hostile files; what fails is kept in out/fuzz/failures, and one of these
# runs again with FUZZ='--again out/fuzz/failures/NAME'.
fuzz: setup
	PYTHONPATH=tests:src $(BIN)/python -m fuzz.run $(FUZZ)

# Networks of other packages, which must be importable, ported with one command each.
ports: setup
	$(BIN)/python tests/ports/run.py $(PORTS)

# Commands killed at random moments: what they write must be whole or absent.
kill: setup
	PYTHONPATH=tests:src $(BIN)/python -m fuzz.kill $(KILL)

bench: setup
	$(BIN)/samevoice bench

# The tables of docs/benchmarks.md: both pipelines beside other engines, and where their time goes.
# With SENKO=PYTHON, a Python that has it, also beside senko.
bench-models: setup
	for model in open:diarization reference:full; do \
		$(BIN)/samevoice bench networks pipeline limits --model $$model --batch 1,8,16 --minutes 0.5 \
			--runs 3 $(if $(SENKO),--senko $(SENKO)) --output out/bench/$${model%:*} --overwrite || exit 1; \
	done

# The site, in out/docs, with a comparison made for it. A broken link fails, and a page left out.
docs: setup
	$(BIN)/samevoice convert reference:segmentation --mlx-path out/segmentation --overwrite --quiet
	$(BIN)/samevoice parity out/segmentation --source reference:segmentation
	$(BIN)/python docs/make_site.py out/docs --report out/segmentation-parity

# The outputs that are stored in docs/notebooks/.
notebook: setup
	$(BIN)/python tests/made_notebook.py

check: setup check-workflows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

SCHEMA := $(BIN)/check-jsonschema --quiet --builtin-schema vendor

check-workflows: setup
	$(BIN)/zizmor --offline --quiet .github action.yml
	$(SCHEMA).github-workflows .github/workflows/*.yml
	$(SCHEMA).github-actions action.yml
	$(SCHEMA).github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/model.yml
	$(SCHEMA).github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA).citation-file-format CITATION.cff

clean:
	rm -rf out build dist src/samevoice.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
