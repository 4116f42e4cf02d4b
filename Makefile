# Everything a contributor or CI does with the project, one target each.
# Bare `make` prints them.

GO       ?= go
PROGRAMS := hpcserad hpcsera-auth hpcsera-agent hpcsera
ifndef VERSION
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
endif

# Static programs: what is built on one Linux runs on every other.
export CGO_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help build test test-unit lint generate-check demo bench chaos clean $(PROGRAMS)

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(PROGRAMS) ## build the programs into bin/

$(PROGRAMS):
	$(GO) build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/$@ ./cmd/$@

test: ## run every test against real Slurm, PostgreSQL and OpenFOAM (installs and stops what it needs)
	@scripts/test

test-unit: ## run the quick tests only: no batch system, no PostgreSQL
	@scripts/test unit

lint: ## check Go, shell and the API contract
	@scripts/lint

generate-check: ## check that generated code belongs to its sources
	@scripts/generate --check

demo: ## watch one job go from a REST call through an agent into a batch system and back
	@scripts/demo

bench: ## measure speed and memory next to what is asked (takes minutes)
	@scripts/test bench

chaos: ## let faults loose on the whole system and count every job: make chaos SEED=1 N=200
	@scripts/test chaos "$(SEED)" "$(N)"

clean: ## remove what was built
	rm -rf bin node_modules
