// Package integration tests the built program against real brokers and clients,
// and the house rules that no single package can see.
//
// The stories need tools that Go does not bring (mosquitto and its clients, Node,
// HAProxy, Chromium) and carry the build tag integration:
//
//	make integration
//
// Where CI=true is set a missing tool fails a story; elsewhere it is skipped with
// the name of the tool. A story starts the program as its users do, on ports and
// files of its own, so that stories run beside one another. When it ends, all that
// the program has printed, at the level debug, is searched for every secret that
// was used.
//
// Stories can be told of another binary, or of one with the race detector:
//
//	go test -tags integration ./integration -proxy.binary /usr/bin/mqtt-auth-proxy
//	go test -tags integration ./integration -proxy.race
//
// TestBrowser keeps pictures of its pages on request:
//
//	go test -tags integration -run TestBrowser ./integration -artifacts -outputdir DIR
//
// What the stories share is in package harness. The recipes are tested by package
// recipes. Package soak can run for hours. What the whole program costs next to
// others on the same work is measured by the tool in bench.
package integration
