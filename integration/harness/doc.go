// Package harness is what stories have in common: it starts the program, brokers and
// token services, runs clients, and reads the program's log and its metrics.
package harness
