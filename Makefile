# mqtt-auth-proxy. Most targets need only Go. `check` needs a C compiler as well, `integration`
# and `compare` what ./integration/install brings.
.DEFAULT_GOAL := build
export CGO_ENABLED ?= 0

GOLANGCI := v2.15.0
BENCHTIME ?= 1s
SOAK ?= 10m
DEVICES ?= 100000
ROWS ?= usual

.PHONY: run build test check lint integration soak bench compare cross dist clean

run: ## the proxy with its bundled broker, data in ./mqtt-auth-proxy-data
	@echo 'Compiling the proxy. The first time takes minutes; each package is named when it is done.'
	@go run -v ./cmd/mqtt-auth-proxy serve

build: ## bin/mqtt-auth-proxy, one static binary
	go build -trimpath $(if $(VERSION),-ldflags "-X main.release=$(VERSION)") -o bin/mqtt-auth-proxy ./cmd/mqtt-auth-proxy

test: ## all tests that need nothing but Go
	go test ./...

check: lint cross ## test with the race detector, lint, build for every platform
	CGO_ENABLED=1 go test -race ./...

lint:
	@test -z "$$(gofmt -l .)" || { echo "not gofmt'ed:"; gofmt -l .; exit 1; }
	go vet ./...
	go vet -tags integration ./...
	go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI) run --build-tags integration

cross:
	GOOS=linux GOARCH=arm64 go build -o /dev/null ./cmd/mqtt-auth-proxy
	GOOS=linux GOARCH=arm GOARM=7 go build -o /dev/null ./cmd/mqtt-auth-proxy
	GOOS=darwin GOARCH=arm64 go build -o /dev/null ./cmd/mqtt-auth-proxy
	GOOS=windows GOARCH=amd64 go build -o /dev/null ./cmd/mqtt-auth-proxy

integration: build ## stories against real brokers and clients; installs what it needs where it may
	./integration/install
	go test -tags integration -count=1 -timeout 20m -p 1 ./integration/... ./authz/tokenpostgres ./cmd/internal/presence ./cmd/internal/replicas ./cmd/internal/telemetry/postgres ./cmd/mqtt-auth-proxy

soak: ## the soak for as long as SOAK says, with 5,000 sessions at a time; then a fleet of DEVICES
	go test -tags integration -count=1 -timeout 0 -v ./integration/soak -soak.duration $(SOAK) -soak.devices $(DEVICES) -soak.messages 20000 -soak.entries 1000000 -soak.idle 6000

bench: ## benchmarks, in a form that benchstat reads
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

compare: build ## the proxy next to HAProxy, nginx and a bare relay, on the work that ROWS names
	go run ./integration/bench -rows $(ROWS) $(COMPARE)

dist: ## archives, Debian packages and checksums of a release, in dist/
	./integration/recipes/packages/build $(VERSION)

clean:
	rm -rf bin dist
