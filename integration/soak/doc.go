// Package soak keeps thousands of sessions busy for as long as its flags say, and checks
// every byte that passes. Then it imports a fleet, whose devices connect one after the other, and
// prints what that and messages of the bundled broker cost in processor time and memory:
//
//	make soak SOAK=2h DEVICES=100000
//
// Processor time is that of the process, so other work on the machine counts only as far as it
// makes caches cold.
package soak
