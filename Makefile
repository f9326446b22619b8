# Everything a newcomer types. Needs Rust, Python 3 with pip, a C++ compiler and make; libtorch is found or fetched.
#
#   make run     fetch libtorch if there is none, build, start the daemon on the tabletop, open the dashboard
#   make test    every test
#   make lint    formatting and clippy, warnings as errors
#   make bench   what can be measured, and how; each takes minutes on a quiet machine, so none is run

SHELL := /bin/bash
CARGO ?= cargo
ARGS ?=
# Files that a list declares by a macro, where `cargo fmt` does not see them.
LISTED = $(wildcard rewards/src/rewards/*.rs rewards/src/benchmarks/*.rs datasets/src/formats/*.rs tui/src/screens/*.rs)

.PHONY: run build test lint fmt bench libtorch clean

run: build
	@./target/release/demask run $(ARGS)

build: libtorch
	$(CARGO) build --release --locked --workspace --bins

test: build
	$(CARGO) test --release --locked --workspace

lint: libtorch
	$(CARGO) fmt --all --check
	rustfmt --edition 2024 --check $(LISTED)
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --all
	rustfmt --edition 2024 $(LISTED)

# A script says what it measures in the words that it opens with.
bench:
	@for script in tests/benches/*.sh; do echo "$$script"; sed -n '2,/^set/s/^#/   /p' "$$script"; done
	@echo tests/benches/query.py; sed -n "2s/^[^A-Z]*/    /p" tests/benches/query.py

# Finds libtorch 2.11 (LIBTORCH, the active Python's PyTorch, the cache) or fetches it, and tells cargo where it is.
libtorch:
	@python3 model/libtorch.py --write-config > /dev/null

clean:
	$(CARGO) clean
