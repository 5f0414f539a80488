# Each target sets up what it needs by itself: a bare clone has no .venv.
PYTHON ?= python3
BIN = .venv/bin
# The folder that gets _build/. `make test` has its own, so that its small book does not replace the reader's.
OUT = .

# Notebooks run in their own folder, where a relative path would mean another one.
ifdef ATEXLIB_DATA
DATA := '$(subst ','\'',$(ATEXLIB_DATA))'
HOMELY = d=$(DATA); case "$$d" in ("~"|"~/"*) d="$$HOME/$$(printf %s "$$d" | cut -c 3-)";; esac
override ATEXLIB_DATA := $(shell $(HOMELY); realpath -m -- "$$d")
export ATEXLIB_DATA
endif

.PHONY: book test browser chromium course slides pdf epub paper canary address at dist clean linkcheck lock FORCE

# Two notebooks at a time, with half of the cores each.
book: .venv/.ready $(OUT)/_build/.fresh
	rm -rf $(OUT)/_build/html
	OMP_NUM_THREADS=$(HALF) $(BIN)/python book/execute.py $(OUT)/_build/.jupyter_cache 2
# The nets of the page "The attack, live", as scripts.
	$(BIN)/python book/live.py
# --all: a page read from Sphinx's own cache does not warn again, and a failed build would pass the second time.
	$(BIN)/jb build . --path-output $(OUT) --all -W -n --keep-going
	@realpath $(OUT)/_build/html/index.html

SHARED = ATEXLIB_RESULTS='$(CURDIR)/_build/smoke/results'
HALF = $(shell $(PYTHON) -c "import os; print(max(1, os.cpu_count() // 2))")
PYTEST = OMP_NUM_THREADS=$(HALF) $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test: export ATEXLIB_PRESET = smoke
test: export ATEXLIB_DATASET = digits
test:
# The packages and the browser come at the same time.
	$(MAKE) -j 2 browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
# The longest file first, or the other worker waits for it at the end.
	$(PYTEST) tests/test_workflow.py tests --ignore tests/test_book.py --ignore tests/test_browser.py
# The net that all notebooks begin with is trained once.
	$(SHARED) $(BIN)/python -m atexlib run undefended --dataset digits --preset smoke --seed 0
# Each notebook runs once: what nbval computed goes into the execution cache of the strict book.
	$(SHARED) $(MAKE) _build/smoke/_build/.fresh OUT=_build/smoke
	$(SHARED) NOTEBOOK_CACHE=$(CURDIR)/_build/smoke/_build/.jupyter_cache $(PYTEST) --nbval-lax notebooks
	$(SHARED) $(MAKE) book OUT=_build/smoke
	ATEXLIB_BOOK=_build/smoke/_build/html $(BIN)/pytest -n 2 tests/test_browser.py tests/test_book.py

# A Chromium for tests/test_browser.py: the machine's, Debian's, or Playwright's own.
HAS_CHROMIUM = command -v chromium || command -v chromium-browser || command -v google-chrome
browser: .venv/.ready chromium
	@$(HAS_CHROMIUM) || $(BIN)/playwright install chromium

chromium:
	@$(HAS_CHROMIUM) || { test "$$(id -u)" = 0 && apt-get update && apt-get install -y chromium; } || true

# The chapters for a class: a student's copy without answers, a teacher's with the solutions below the questions.
course: .venv/.ready
	$(BIN)/python book/course.py $(OUT)/_build/course

# The figures of the built book with their captions, as one page of slides.
slides: book
	$(BIN)/python book/slides.py $(OUT)/_build/.jupyter_cache $(OUT)/_build/slides

# The book as one file, _build/manipulated-explanations.pdf and .epub, from the built pages.
pdf epub: book browser
	$(BIN)/python book/one_file.py $(OUT)/_build/html $(OUT)/_build $@

# The sweep of workflow/sweep.yaml; SWEEP takes further options of snakemake: make paper SWEEP=--dry-run
PROFILE = cpu
paper: .venv/.ready
	$(BIN)/snakemake --workflow-profile workflow/profiles/$(PROFILE) $(SWEEP)

# Did a change of the code move the numbers of any kind of result?
canary: .venv/.ready
	$(BIN)/python -m atexlib canary

# Where the book lives, in every file that says so: make address REPOSITORY=someone/some-book
OLD = $(shell sed -n 's|^  url: https://github.com/||p' _config.yml)
SITE = $(subst /,.github.io/,$(1))
# A line in a comment that names the address is shown from the first address on: before, it would lead nowhere.
SHOW = s|^<!-- \(.*$(subst .,\.,$(call SITE,$(OLD))).*\) -->$$|\1|
address:
	@echo '$(subst ','\'',$(REPOSITORY))' | grep -Eqx '[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+' || \
		{ echo "say which: make address REPOSITORY=someone/some-book" >&2; exit 2; }
	git grep -IlzF -e '$(OLD)' -e '$(call SITE,$(OLD))' | xargs -0 sed -i \
		-e '$(SHOW)' \
		-e 's|$(subst .,\.,$(OLD))|$(REPOSITORY)|g' \
		-e 's|$(subst .,\.,$(call SITE,$(OLD)))|$(call SITE,$(REPOSITORY))|g'
	@echo "Now commit and push to https://github.com/$(REPOSITORY). In its settings choose: Pages, Source, GitHub Actions."

# Is this the address? The workflows ask.
at:
	@test "$(REPOSITORY)" = "$(OLD)" || { echo "the address is $(OLD): make address REPOSITORY=$(REPOSITORY)" >&2; exit 1; }

linkcheck: .venv/.ready $(OUT)/_build/.fresh
	$(BIN)/jb build . --path-output $(OUT) --builder linkcheck

# requirements.txt anew from requirements.in, with all that these packages need, for every Python and platform at once.
# What is pinned already stays, unless LOCK says otherwise: make lock LOCK=--upgrade
lock:
	$(PYTHON) -m venv _build/.uv
	_build/.uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.9
	_build/.uv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate \
		--custom-compile-command "make lock" requirements.in --output-file requirements.txt $(LOCK)

# Wheel and sdist, built from the last commit and checked; BUILDER is a Python that has build and twine.
BUILDER = _build/.dist/bin/python
dist: .venv/.ready
	test -x $(BUILDER) || { $(PYTHON) -m venv _build/.dist && \
		$(BUILDER) -m pip install --quiet --disable-pip-version-check build==1.6.1 twine==7.0.0; }
	$(BIN)/python book/package.py $(OUT)/_build/dist $(BUILDER)

clean:
	rm -rf _build .hypothesis .pytest_cache .ruff_cache

.venv/.ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -r requirements.txt
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
