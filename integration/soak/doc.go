// Package soak keeps thousands of sessions busy for as long as its flags say, and checks
// every byte that passes:
//
//	make soak SOAK=2h
package soak
