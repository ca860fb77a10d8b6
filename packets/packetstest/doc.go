// Package packetstest is an MQTT client for tests. It shows every packet, and can do
// what the clients of other projects hide or never do.
package packetstest
