package main

import (
	"os"
	"runtime"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// addProcessors makes room for event loops that hold their threads while they wait.
// It reports false, and changes nothing, if the operator has said how many processors
// there shall be: then all of them are for work.
func addProcessors() bool {
	if os.Getenv("GOMAXPROCS") != "" {
		return false
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + proxy.EventLoops())
	return true
}
