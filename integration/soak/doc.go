// Package soak keeps thousands of sessions busy for as long as its flags say, and checks
// every byte that passes:
//
//	make soak
//	go test -tags integration -timeout 3h ./integration/soak -soak.duration 2h
package soak
