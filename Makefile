# The front door. `make` alone says what there is; the logic lives in scripts/.
#
#   CARGO_TARGET_DIR   where build outputs go          (target/ in this folder)
#   PROXIMADB_CACHE    where test tools are kept       (~/.cache/proximadb)
#   DATA               folder of the full data sets of `make bench-index` (it falls back to data/)
#   DEMO_EXIT=1        `make demo` ends after its answers instead of leaving the server up

.DEFAULT_GOAL := help
.PHONY: help demo demo-kafka build release test test-fast test-gpu soak check fmt bench bench-index bench-gpu clean

CARGO := scripts/cargo.sh
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Not empty where there is NVIDIA's driver: a GPU that only OpenCL finds is then a fault.
NVIDIA = $(or $(wildcard /dev/nvidia0),$(shell command -v nvidia-smi 2> /dev/null))
comma := ,

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: ## build the slim set, search 8,000 real passages, leave a server to play with
	@scripts/bootstrap.sh demo
	$(CARGO) build --profile demo --no-default-features --bin proximadb
	@$(TARGET)/demo/proximadb demo

demo-kafka: ## the same through a real Kafka and a real schema registry (Java; no Docker)
	@scripts/bootstrap.sh test
	@scripts/demo-kafka.sh

build: ## everything, for development
	@scripts/bootstrap.sh build
	$(CARGO) build --workspace --bins

release: ## everything, optimised: target/release/proximadb
	@scripts/bootstrap.sh build
	$(CARGO) build --release --bin proximadb

test: ## every test, with real Kafka, registry, clients and readers
	@scripts/bootstrap.sh test
	@scripts/test.sh all

test-fast: ## what needs no broker, for daily work
	@scripts/bootstrap.sh build
	@scripts/test.sh fast

test-gpu: ## graph builds on this machine's GPU (NVIDIA's: by CUDA); fails where there is none
	@scripts/bootstrap.sh build
	PROXIMADB_REQUIRE=gpu$(if $(NVIDIA),$(comma)cuda) $(CARGO) test -p proximadb-gpu --lib
	PROXIMADB_REQUIRE=gpu$(if $(NVIDIA),$(comma)cuda) $(CARGO) test --lib assemble::gpu

soak: ## exactly once through 20 kills, 2 of the broker, and a million damaged Avro records: tens of minutes
	@scripts/bootstrap.sh test
	PROPTEST_CASES=1000000 $(CARGO) test --workspace --lib avro_plan
	PROXIMADB_REQUIRE=kafka PROXIMADB_EO_RECORDS=200000 PROXIMADB_EO_KILLS=20 \
	  $(CARGO) test --workspace --test blackbox kafka_exactly_once -- --nocapture

check: ## format, import rules, clippy and docs without warnings
	@scripts/bootstrap.sh check
	@scripts/check.sh

fmt: ## format the code
	@scripts/bootstrap.sh check
	$(CARGO) fmt --all

bench: ## figures: see docs/benchmarks.md
	@scripts/bootstrap.sh build
	@scripts/bench.sh

bench-index: ## the index beside hnswlib, faiss, usearch and hnsw_rs: one table, a plot per data set (DATA=folder)
	@scripts/bootstrap.sh build
	@scripts/bench-index.sh

bench-gpu: ## graph builds with a GPU beside the processor's (BENCH_SCALE, BENCH_GPU=auto|cuda|opencl)
	@scripts/bootstrap.sh build
	BENCH_GPU=$(or $(BENCH_GPU),$(if $(NVIDIA),cuda,auto)) $(CARGO) bench --bench gpu_build

clean: ## delete build outputs
	$(CARGO) clean
