# make book   sets everything up, trains what is missing, executes the chapters, builds the site
# make pdf    the same, then prints the site as one PDF, _build/train-short-test-long.pdf, with Chromium
# make test   sets everything up, checks style and types, runs every test
# make check  the same without the tests that train, drive a browser or start processes: under two minutes
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: book pdf test check notebooks lint clean

book: $(STAMP)
	$(RUN) -m alibi book

pdf: $(STAMP)
	$(RUN) -m alibi book --pdf

test: lint
	$(RUN) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: lint
	$(RUN) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -m "not slow"

notebooks: $(STAMP)
	$(RUN) -m alibi book --refresh

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ": make PYTHON=python3.11")'
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV), which takes about two minutes the first time"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[test]" --constraint constraints.txt
	@touch $@

clean:
	rm -rf _build dist
