# Everything a newcomer types. Needs Rust, Python 3 with pip, a C++ compiler and make; libtorch is found or fetched.
#
#   make run     fetch libtorch if there is none, build, start the daemon on the tabletop, open the dashboard
#   make test    every test
#   make lint    formatting, clippy with warnings as errors, dependencies that nobody uses
#   make install PREFIX=~/.local     programs, profiles and the shipped model, in a folder that may be moved
#   make tarball                     the same as target/demask-VERSION-MACHINE.tar.gz
#   make bench   what can be measured, and how; each takes minutes on a quiet machine, so none is run

SHELL := /bin/bash
CARGO ?= cargo
ARGS ?=
# Where `make install` puts what is built, below DESTDIR where a package is made.
PREFIX ?= $(HOME)/.local
DESTDIR ?=
BUILT = target/release
SHARE = $(DESTDIR)$(PREFIX)/share/demask
# Every Rust file. `cargo fmt` does not see those that a list declares by a macro, nor what lies below them.
RUST = find src actors datasets model rewards storage tests tui -name target -prune -o -name '*.rs' -print0

# The checker of unused dependencies, in a version that is pinned, built once into the target folder.
MACHETE_VERSION = 0.9.2
MACHETE = target/tools/bin/cargo-machete

.PHONY: run build install install-built tarball test lint dependencies fmt bench libtorch clean

run: build
	@./target/release/demask run $(ARGS)

build: libtorch
	$(CARGO) build --release --locked --workspace --bins

install: build install-built

# The programs look for what ships in `../share/demask` beside them, so the folder may be moved. libtorch is not in it: the engine
# finds it where it was at build time, or in LD_LIBRARY_PATH.
install-built:
	install -d $(DESTDIR)$(PREFIX)/bin $(SHARE)/profiles $(SHARE)/shipped
	install -m 755 $(BUILT)/demask $(BUILT)/demask-engine $(DESTDIR)$(PREFIX)/bin
	install -m 644 actors/profiles/*.toml $(SHARE)/profiles
	install -m 644 LICENSE-APACHE LICENSE-MIT README.md $(SHARE)
	rm -rf $(SHARE)/shipped/tabletop
	cp -R model/shipped/tabletop $(SHARE)/shipped/tabletop

tarball: build
	@name=demask-$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)-$$(uname -m) && rm -rf target/tarball && \
	  $(MAKE) --no-print-directory install-built PREFIX=/$$name DESTDIR=target/tarball > /dev/null && \
	  tar -C target/tarball -czf target/$$name.tar.gz $$name && echo target/$$name.tar.gz

test: build
	$(CARGO) test --release --locked --workspace

lint: libtorch dependencies
	$(RUST) | xargs -0 rustfmt --edition 2024 --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

# Refuses a dependency that nobody uses. Where the checker cannot be had (no network), a line says that nothing was checked.
dependencies:
	@if [[ "$$($(MACHETE) --version 2> /dev/null)" != *"$(MACHETE_VERSION)"* ]]; then \
	  $(CARGO) install --debug --quiet --locked --root target/tools --target-dir target/tools/build \
	    cargo-machete@$(MACHETE_VERSION) && rm -rf target/tools/build; \
	fi; \
	if [[ -x $(MACHETE) ]]; then $(MACHETE) .; \
	else echo "make lint: cargo-machete $(MACHETE_VERSION) could not be installed: unused dependencies were not checked"; fi

fmt:
	$(RUST) | xargs -0 rustfmt --edition 2024

# A script says what it measures in the words that it opens with.
bench:
	@for script in tests/benches/*.sh; do echo "$$script"; sed -n '2,/^set/s/^#/   /p' "$$script"; done
	@echo tests/benches/query.py; sed -n "2s/^[^A-Z]*/    /p" tests/benches/query.py

# Finds libtorch 2.11 (LIBTORCH, the active Python's PyTorch, the cache) or fetches it, and tells cargo where it is.
libtorch:
	@python3 model/libtorch.py --write-config > /dev/null

clean:
	$(CARGO) clean
