# Each target sets up what it needs by itself: a bare clone has no .venv.
PYTHON ?= python3
BIN = .venv/bin
# The folder that gets _build/. `make test` has its own, so that its small book does not replace the reader's.
OUT = .

# Notebooks run in their own folder, where a relative path would mean another one.
ifdef ATEXLIB_DATA
override ATEXLIB_DATA := $(abspath $(ATEXLIB_DATA))
export ATEXLIB_DATA
endif

.PHONY: book test paper smoke-notebooks smoke-book address clean linkcheck FORCE

book: .venv/.ready $(OUT)/_build/.fresh
	rm -rf $(OUT)/_build/html
# --all: a page read from Sphinx's own cache does not warn again, and a failed build would pass the second time.
	$(BIN)/jb build . --path-output $(OUT) --all -W -n --keep-going
	@realpath $(OUT)/_build/html/index.html

# OMP_NUM_THREADS: two workers on two cores, not two times all cores.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

test: export ATEXLIB_PRESET = smoke
test: export ATEXLIB_DATASET = digits
test: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) tests --ignore tests/test_book.py
	$(MAKE) --jobs 2 --output-sync=target smoke-notebooks smoke-book
	ATEXLIB_BOOK=_build/smoke/_build/html $(BIN)/pytest tests/test_book.py

# The sweep of workflow/sweep.yaml; SWEEP takes further options of snakemake: make paper SWEEP=--dry-run
PROFILE = cpu
paper: .venv/.ready
	$(BIN)/snakemake --workflow-profile workflow/profiles/$(PROFILE) $(SWEEP)

# Each runs every notebook, once for its outputs and once for its pages: side by side they keep two cores busy.
smoke-notebooks: .venv/.ready
	$(PYTEST) --nbval-lax notebooks

smoke-book: .venv/.ready
	OMP_NUM_THREADS=1 $(MAKE) book OUT=_build/smoke

# Where the book lives, in every notebook and setting: make address REPOSITORY=someone/some-book
OLD = $(shell sed -n 's|^  url: https://github.com/||p' _config.yml)
address:
	@test -n "$(REPOSITORY)" || { echo "say which: make address REPOSITORY=someone/some-book" >&2; exit 2; }
	sed -i 's|$(OLD)|$(REPOSITORY)|g' _config.yml notebooks/*.ipynb notebooks/solutions/*.ipynb

linkcheck: .venv/.ready $(OUT)/_build/.fresh
	$(BIN)/jb build . --path-output $(OUT) --builder linkcheck

clean:
	rm -rf _build .hypothesis .pytest_cache .ruff_cache

.venv/.ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# jupyter-book runs a notebook again when the notebook changed, not when the library, the packages or a setting did:
# then its execution cache is thrown away.
SOURCES := $(shell find src -type f -not -path '*/__pycache__/*' -not -path '*.egg-info/*')

$(OUT)/_build/.fresh: $(OUT)/_build/.settings .venv/.ready $(SOURCES)
	rm -rf $(OUT)/_build/.jupyter_cache
	touch $@

# The settings and the names of the sources (one may be gone), rewritten only when they differ.
$(OUT)/_build/.settings: FORCE
	@mkdir -p $(@D)
	@{ env | grep '^ATEXLIB_' | sort; printf '%s\n' $(sort $(SOURCES)); } > $@.new
	@cmp -s $@.new $@ || cp $@.new $@
