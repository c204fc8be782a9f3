# make demo: set up, build, simulate, prepare, train on two ranks, evaluate, predict.   make test: set up, run every check.
# SITE names the file in modules/ that knows this machine's packages and libraries.
SITE  ?= debian
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: build demo test clean

build:
	@. modules/$(SITE)
	cargo build --release --locked --workspace

demo: build
	@. modules/$(SITE)
	benches/demo.sh

test:
	@. modules/$(SITE)
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cargo test --release --locked --workspace

clean:
	rm -rf target runs
