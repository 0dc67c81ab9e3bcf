# Two commands matter: `make demo` (the main job) and `make test`. Both set up what they need.
SHELL := /bin/bash
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo build setup test test-setup compat lint fmt bench fuzz kill-test fault-test overload-test release screenshot clean

demo: build  ## record the fixtures with their bugs, then tell the story (the terminal UI on a terminal)
	@$(TARGET_DIR)/debug/txray demo

build: setup
	cargo build --workspace --bins

setup:
	@scripts/setup

test-setup:
	@scripts/setup --duckdb-cli --postgres-18

test: test-setup  ## every test: units, properties, documentation, end to end against a real PostgreSQL
	cargo build --workspace --bins
	cargo test --workspace --doc --quiet
	@scripts/run-tests

# make compat CLIENT=psql BEHAVIOUR=copy SERVER=18 runs a part of it
compat: test-setup  ## clients × behaviours, directly and through the recorder, on PostgreSQL 15 and 18: docs/compat.md
	cargo build --workspace --bins
	@scripts/with-libduckdb $(TARGET_DIR)/debug/compat --report docs/compat.md $(if $(CLIENT),--client $(CLIENT)) \
	  $(if $(BEHAVIOUR),--behaviour $(BEHAVIOUR)) $(if $(SERVER),--server $(SERVER)) $(if $(KEEP),--keep)

lint: setup
	cargo fmt --all --check
	cargo fmt --manifest-path tests/compat/rust/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt:
	cargo fmt --all

bench: setup  ## figures of README.md and ARCHITECTURE.md
	@scripts/bench

fuzz: setup  ## fuzz each target for SECONDS seconds (60), guided by coverage; needs a C++ compiler
	@scripts/fuzz $(or $(SECONDS),60)

release: setup
	cargo build --release --workspace --bins

kill-test: build  ## kill -9 under load at KILL_ROUNDS=200 random moments; KILL_SEED repeats them
	@$(TARGET_DIR)/debug/kill-test

fault-test: release  ## full disks and a stopped sealer: what the application notices of them
	@$(TARGET_DIR)/release/fault-test

overload-test: release  ## memory of the recorder when ten times more is offered than it may write
	@$(TARGET_DIR)/release/overload-test

screenshot: build  ## docs/screenshot.svg from the demo's trace
	@scripts/screenshot

clean:
	cargo clean
