// Package integration tests the built program against real brokers and clients,
// and the house rules that no single package can see.
//
// The stories need tools that Go does not bring (mosquitto and its clients, Node)
// and carry the build tag integration:
//
//	make integration
//
// Where CI=true is set a missing tool fails a story; elsewhere it is skipped with
// the name of the tool.
package integration
