# Ballast. `make help` lists what there is; `make demo` and `make test` do all of their own set-up.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Without cgo the binaries are static, and share their build cache with the Kubernetes build.
export CGO_ENABLED := 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/ballast-lb/ballast/internal/version.Version=$(VERSION)
TOOL := go tool -modfile=tools/go.mod
IMAGE ?= ballast:dev

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.PHONY: root
root:
	@[ "$$(id -u)" = 0 ] || { echo "This needs root on a Debian machine: it installs packages and makes network namespaces. Try: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

.PHONY: demo
demo: root deps kube build ## Bring up a whole cluster, use the load balancer, tear down (KEEP=1: stay up). Needs root
	KUBEBUILDER_ASSETS=$$(cat bin/.kube) bin/lab demo

.PHONY: test
test: root deps kube ingress build test-build test-unit test-e2e ## Run all tests: unit, API server, then end to end in network namespaces. Needs root

.PHONY: test-build
test-build: kube ## Build every test binary, so that nothing compiles while tests run
	@echo "== building the test binaries"
	go test -exec /bin/true -tags e2e ./... >/dev/null
	go test -exec /bin/true ./... >/dev/null

.PHONY: test-unit
test-unit: kube ## Run unit, property and API server tests and the seeds of the fuzz tests
	@echo "== unit and API server tests"
	KUBEBUILDER_ASSETS=$$(cat bin/.kube) go test -timeout 15m -parallel 4 ./...

.PHONY: test-e2e
test-e2e: root deps kube ingress build ## Run the tests in network namespaces, one after the other; what failed stands at the end. Needs root
	@echo "== tests in network namespaces"
	KUBEBUILDER_ASSETS=$$(cat bin/.kube) $(TOOL) gotestsum --format standard-verbose -- \
		-p 1 -parallel 6 -count 1 -timeout 40m -tags e2e ./test/... 2>&1 | grep --line-buffered -vE '^=== (RUN|PAUSE|CONT|NAME)'

.PHONY: interop
interop: root deps ## Try everything that BGP and BFD here can do with FRR, BIRD, OpenBGPD and GoBGP, and print a table. Needs root
	go test -C test/interop -count 1 -timeout 10m -tags e2e -parallel 6 -run '^TestMatrix$$'

.PHONY: bench
bench: root deps kube build ## Run the benchmarks: Go's, and those on a control plane. Needs root
	go test -run '^$$' -bench . -benchmem -cpu 1 ./internal/...
	BALLAST_MEMBERS=200 go test -run MembersOnALAN -count 1 -v -timeout 60m ./internal/membership
	go build -o bin/ ./test/bench
	KUBEBUILDER_ASSETS=$$(cat bin/.kube) bin/bench allocation
	KUBEBUILDER_ASSETS=$$(cat bin/.kube) bin/bench speaker
	KUBEBUILDER_ASSETS=$$(cat bin/.kube) bin/bench failover
	KUBEBUILDER_ASSETS=$$(cat bin/.kube) bin/bench failover -run partition -partition 3m
	KUBEBUILDER_ASSETS=$$(cat bin/.kube) bin/bench bgp
	KUBEBUILDER_ASSETS=$$(cat bin/.kube) bin/bench first

.PHONY: build
build: ## Build bin/controller, bin/speaker, bin/kubectl-ballast and bin/lab
	@mkdir -p bin
	go build -ldflags '$(LDFLAGS)' -o bin/ ./controller ./speaker ./cmd/kubectl-ballast ./test/lab/cmd/lab

.PHONY: image
image: build ## Build the container image $(IMAGE) with buildah
	@command -v buildah >/dev/null || { echo "buildah is missing: apt-get install buildah" >&2; exit 1; }
	buildah build --storage-driver vfs --isolation chroot -t $(IMAGE) .

.PHONY: generate
generate: ## Generate deep copies, CRDs and RBAC
	$(TOOL) controller-gen object paths=./api/...
	$(TOOL) controller-gen crd paths=./api/... output:crd:artifacts:config=config/crd/bases
	$(TOOL) controller-gen rbac:roleName=ballast-controller,fileName=controller_role.yaml paths=./controller output:rbac:dir=config/rbac
	$(TOOL) controller-gen rbac:roleName=ballast-speaker,fileName=speaker_role.yaml paths=./speaker output:rbac:dir=config/rbac

.PHONY: lint
lint: ## Run the linters
	$(TOOL) golangci-lint run ./...
	$(TOOL) golangci-lint run --build-tags e2e ./test/...

.PHONY: verify
verify: generate ## Generate, format, tidy and lint, and fail if that changes anything
	$(TOOL) golangci-lint fmt ./...
	go mod tidy
	cd test/kube && go mod tidy
	cd test/ingress && go mod tidy
	cd tools && go mod tidy
	$(MAKE) lint
	@git diff --exit-code || { echo "make verify: generated or formatted files differ from what is committed" >&2; exit 1; }
	@test -z "$$(git status --porcelain)" || { git status --short; echo "make verify: the tree is not clean" >&2; exit 1; }

.PHONY: deps
deps: ## Install what is needed from Debian's packages (routers without starting them). Needs root
	@tools/deps.sh

# kube says, in bin/.kube, where the Kubernetes binaries are.
.PHONY: kube
kube: ## Build the Kubernetes binaries for lab and API tests, once (KUBEBUILDER_ASSETS overrides)
	@mkdir -p bin
	@cd test/kube && go run . >../../bin/.kube

.PHONY: ingress
ingress: ## Build the Ingress controller (skipper) for the ladder test, once
	@cd test/ingress && go run . >/dev/null
