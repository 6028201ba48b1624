# Two rules: every target says what it does in `make help`; tools are pinned here.
GOLANGCI_LINT_VERSION := v2.15.0
TOOLS := $(CURDIR)/.tools
GO ?= go
MODULES := . integration integration/bench
FUZZTIME ?= 15s

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: all
all: build lint test ## what a change must pass before it is sent

.PHONY: build
build: ## compile every package of every module
	@for m in $(MODULES); do (cd $$m && $(GO) build ./... && $(GO) vet ./...) || exit 1; done

.PHONY: test
test: ## the tests of the main module, as in the README
	$(GO) test ./...

.PHONY: race
race: ## the same with the race detector, shuffled, three times
	$(GO) test -race -shuffle=on -count=3 ./...

.PHONY: integration
integration: ## tests that need real servers or take long: PostgreSQL, crash proofs, kill -9, Spin, example runs
	cd integration && $(GO) test -timeout 20m $$($(GO) list ./... | grep -v /interop)
	SLUICE_LONG=1 $(GO) test -count=1 -timeout 20m -run 'TestBinary_Seeds|TestClose_LeavesNothing|TestCluster_RebalanceStorm' ./examples/billpay ./broker/rocketmq

# Parts of it: SLUICE_INTEROP_CLIENTS=java-5 SLUICE_INTEROP_ONLY='^tags/' make interop;
# the documentation of integration/interop has the names.
.PHONY: interop
interop: ## foreign clients against Apache RocketMQ and against this server, compared; needs Java, Maven and Node; for parts of it see go doc of integration/interop
	@rm -f integration/.cache/interop.txt
	@cd integration && SLUICE_INTEROP=1 $(GO) test -count=1 -timeout 40m ./interop/...; \
	status=$$?; cat .cache/interop.txt 2>/dev/null; exit $$status

.PHONY: apache
apache: ## our driver against Apache RocketMQ: the suite of the seam on each kind of cluster, faults, foreign clients, billpay; needs Java and Maven; APACHE takes flags
	@rm -f integration/.cache/apache.txt
	@cd integration && SLUICE_APACHE=1 $(GO) test -count=1 -timeout 20m $(APACHE) ./apache/...; \
	status=$$?; cat .cache/apache.txt 2>/dev/null; exit $$status

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (default 15s; 1000000x is a million executions each)
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

# There are 15 targets where bytes of strangers come in. With 15 s each, two at a
# time and one worker each, that is two minutes for two cores, and one more for
# starting them. What is new is made smaller for a moment only: by default that
# may take a minute, four times what there is. The other ten targets read what
# the store or its user has written.
FUZZ_CI := ./broker/remoting/... ./broker/server
# Where the time ends in the middle of an input, go test may fail with nothing but
# "context deadline exceeded"; an input that fails is always written, and told.
.PHONY: fuzz-ci
fuzz-ci: ## the fuzz targets of what the network sends, two at a time for FUZZTIME each
	@targets=$$(for p in $$($(GO) list $(FUZZ_CI)); do \
	    found=$$($(GO) test -list '^Fuzz' $$p) || exit 1; \
	    echo "$$found" | sed -n "s|^\(Fuzz.*\)|$$p \1|p"; done) && test -n "$$targets" && \
	echo "$$targets" | xargs -P 2 -L 1 sh -c 'out=$$($(GO) test -run "^$$" -fuzz "^$$1\$$" -fuzztime $(FUZZTIME) \
	        -fuzzminimizetime 100x -parallel 1 "$$0" 2>&1); status=$$?; echo "$$0 $$1"; echo "$$out"; \
	    case $$status/$$out in 0/* | *"Failing input"*) ;; *"    context deadline exceeded"*) status=0 ;; esac; exit $$status'

.PHONY: bench
bench: ## the benchmarks, five rounds, with allocations
	$(GO) test -run '^$$' -bench . -benchmem -count 5 ./broker/embedded ./listener

.PHONY: mutants
mutants: ## break the store in known ways, one after the other: the tests must notice every one; MUTANTS takes flags
	cd integration && $(GO) run ./mutants $(MUTANTS)

.PHONY: torture
torture: ## the proofs of the store, and twenty seeds of billpay, with the figures of a release, hours; with root the power cuts too
	cd integration && TORTURE=1 $(GO) test -count=1 -p 1 -timeout 6h ./processes ./durability ./spin ./tcp
	TORTURE=1 $(GO) test -count=1 -run TestBinary_Seeds -timeout 6h ./examples/billpay

.PHONY: bench-store
bench-store: ## the store beside its peers and limits, a quarter of an hour; BENCH takes flags, such as -rows 1,4
	cd integration/bench && $(GO) run ./cmd/bench-store $(BENCH)

.PHONY: bench-tcp
bench-tcp: ## sluice serve beside Apache RocketMQ, a quarter of an hour; BENCH takes flags, such as -rows R1,R3
	cd integration/bench && $(GO) run ./cmd/bench-tcp $(BENCH)

.PHONY: bench-client
bench-client: ## the driver for RocketMQ beside Apache's clients, ten minutes; BENCH takes flags, such as -rows R5,R7
	cd integration/bench && $(GO) run ./cmd/bench-client $(BENCH)

.PHONY: lint
lint: $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION) ## golangci-lint with .golangci.yml, gofmt included
	$< run ./...

.PHONY: fmt
fmt: $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION) ## format every file
	$< fmt ./...

.PHONY: tidy
tidy: ## fail if go.mod or go.sum of a module is not tidy
	@for m in $(MODULES); do (cd $$m && $(GO) mod tidy -diff) || exit 1; done

$(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(TOOLS)/golangci-lint $@
