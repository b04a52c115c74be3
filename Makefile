# make quickstart   watch soft labels being learned for a handful of real images (about six minutes on two cores)
# make test         the quick tests, the notebooks' own checks, and "export and clean change nothing"
# make test-slow    the other tests: kills, clusters, whole pages, many seeds, long cells of notebooks
# make docs         the documentation as a site in _site/, from the notebooks as committed; a warning or a dead link fails it
# make fuzz         made-up files and command lines for MINUTES=30; counts of what was refused, accepted or wrong
# make mutants      plant faults in copies of the package, and print the test that catches each (NAMES="one another", JOBS=2)
# make prepare      export and clean the notebooks, render the README; fails if that changes anything
# make results      execute nbs/results in place; renew papermill_runs/verdicts.csv and the README's table from the records
# make records      renew papermill_runs/RECORDS.sha256 after new runs
# make sets         do what is missing of the runs of the label sets that ship, and put them into the package
# make dist         build and check the distributions, dist/*
# make lock         renew requirements.lock from settings.ini
#
# Each of them makes its own .venv first, if need be.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# What is checked on its own, so that two processes are busy to the end.
CHECKED := $(wildcard nbs/*.ipynb) $(filter-out nbs/experiments/,$(sort $(dir $(wildcard nbs/*/*.ipynb))))
SLOW    := $(shell grep -l '\#| slow' -r nbs --include '*.ipynb')

# What exporting, cleaning and rendering may change, and its state.
TRACKED := nbs labeldistill README.md
STATE   := { git status --porcelain -- $(TRACKED); git diff -- $(TRACKED); } | git hash-object --stdin
SMOKE   := papermill_runs/results/smoke

.PHONY: quickstart test test-slow notebooks unit slow-notebooks slow-unit docs fuzz mutants prepare lint lock install results records sets dist

install: $(VENV)/installed

$(VENV)/installed: requirements.lock settings.ini setup.py
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else "expected Python 3.11 to 3.13, this is %d.%d: make PYTHON=python3.12 ..." % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[dev]'
	touch $@

quickstart: install
	mkdir -p $(SMOKE)/quickstart
	papermill --log-output --no-progress-bar nbs/experiments/quickstart.ipynb $(SMOKE)/quickstart/run.ipynb -p folder $(SMOKE)/quickstart
	@cat $(SMOKE)/quickstart/table.txt

# The notebooks' checks and the tests side by side, one thread each.
test: install lint
	OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -j2 unit notebooks
	$(MAKE) --no-print-directory prepare

notebooks: $(addprefix check/,$(CHECKED))

check/%: install
	nbdev_test --n_workers 1 --path $*

unit: install
	pytest -m "not slow"

test-slow: install
	OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -j2 slow-unit slow-notebooks

slow-notebooks: $(addprefix slow/,$(SLOW))

slow/%: install
	nbdev_test --n_workers 0 --flags slow --path $*

slow-unit: install
	pytest -m slow

docs: $(VENV)/docs
	python docs/build.py

$(VENV)/docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[docs]'
	touch $@

MINUTES ?= 30
JOBS    ?= 2

fuzz: install
	python tests/fuzz.py --minutes $(MINUTES)

mutants: install
	python tests/mutants.py --jobs $(JOBS) $(NAMES)

records:
	cd papermill_runs && git ls-files 'results/*/*/result.json' | LC_ALL=C sort | xargs sha256sum > RECORDS.sha256

lint: install
	ruff check .

prepare: install
	@before=$$($(STATE)); nbdev_export && nbdev_clean && python nbs/readme.py && \
	test "$$before" = "$$($(STATE))" || \
		(git status --short -- $(TRACKED) && echo 'the notebooks had not been exported, cleaned or rendered: now they are, commit them' && false)

results: install
	PYTHONPATH=. python nbs/renew.py
	nbdev_clean && python nbs/readme.py

sets: install
	python -c 'import sys; from pathlib import Path; from labeldistill.reproduce.sets import make_sets; \
		made = make_sets(Path.cwd(), $(JOBS)); print(made); sys.exit(made.status)'

dist: install
	rm -rf dist build/lib
	python -m build
	twine check --strict dist/*

lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet '.[dev,docs]'
	(echo '# Versions that are known to work together; made by `make lock`.'; \
	 build/lock/bin/python -m pip freeze --exclude labeldistill) > requirements.lock
