# The book's commands. Without make (Windows): README.md gives the same steps in plain commands.
PYTHON ?= python3
BIN := .venv/bin

export PYTHONDONTWRITEBYTECODE :=
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX

.PHONY: help book test notebooks serve course clean lock bench paper newest env edition links bundle pdf speed

help:
	@echo "make book       execute what is outdated and build the site"
	@echo "make test       ruff, unit tests, the book, its notebooks, the site in a browser"
	@echo "make notebooks  write book/notebooks/*.ipynb anew from the text"
	@echo "make serve      build, then show the site at http://localhost:8000"
	@echo "make bundle     the site, notebooks, data and the package in one zip that needs no network"
	@echo "make pdf        the book as one PDF with outline and links; needs Chromium"
	@echo "make course     assignments for students and for instructors, ready to be graded"
	@echo "make bench      each kernel beside the plain version and JAX, into the page Performance"
	@echo "make speed      how long pages take to show on a slow phone, into _build/speed.md"
	@echo "make paper      run the experiments in the papers' sizes; CHAPTERS=\"3 5\" chooses"
	@echo "make newest     the plain notebooks as on Colab, with the newest versions; AT=TAG takes a tag's"
	@echo "make links      ask whether what the site links to still exists"
	@echo "make edition    TERM=2027-spring: a tag, and links that stay with it"
	@echo "make lock       requirements.in -> requirements.txt"
	@echo "make clean      remove _build, but the course with its marks, and .venv*"

env:
	@$(PYTHON) dynbook/publish/environment.py

book: env
	@$(BIN)/python -m dynbook.publish.book

test: env
	@$(BIN)/python -m pytest

notebooks: book
	@rm -rf book/notebooks && cp -r _build/notebooks book/notebooks && rm book/notebooks/.made-from
	@echo "Written: $$(ls book/notebooks/*.ipynb book/notebooks/*/*.ipynb)"

serve: book
	@$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

bundle: book
	@$(BIN)/python -m dynbook.publish.bundle

pdf: book
	@$(BIN)/python -m dynbook.publish.pdf

course: book
	@$(BIN)/python -m dynbook.course.build

bench: env
	@$(BIN)/uv pip install -q --target .venv-bench -r benchmarks/requirements.txt
	@MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_MMAP_THRESHOLD_=33554432 $(BIN)/python benchmarks/run.py

speed: book
	@$(BIN)/python -m dynbook.publish.speed

paper: env
	@$(BIN)/python -m dynbook.publish.paper $(CHAPTERS)

newest: env
	@$(BIN)/python -m dynbook.publish.newest $(CHAPTERS) --at $(or $(AT),HEAD)

links: book
	@$(BIN)/python -m dynbook.publish.links bundle

edition: env
	@$(BIN)/python -m dynbook.publish.edition $(TERM)

lock: env
	@$(BIN)/uv pip compile --universal --python-version 3.10 --no-header --no-annotate -q requirements.in \
		| grep -vE '^(nvidia-|cuda-|triton)' > requirements.tmp && mv requirements.tmp requirements.txt
	@$(BIN)/uv pip compile --universal --python-version 3.10 --no-header --no-annotate -q \
		dynbook/course/requirements.in -o dynbook/course/requirements.txt

clean:
	rm -rf .venv .venv-bench .venv-grading .venv-newest
	if [ -d _build ]; then find _build -mindepth 1 -maxdepth 1 ! -name course -exec rm -rf {} +; fi
