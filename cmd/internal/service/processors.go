package service

import (
	"os"
	"runtime"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// addProcessors makes room for event loops that hold their threads while they wait:
// as many processors as before are left for everything else. More processors may mean
// more loops. It reports false, and changes nothing, if the operator has said how many
// processors there shall be: then all of them are for work.
func addProcessors() bool {
	if os.Getenv("GOMAXPROCS") != "" {
		return false
	}
	work := runtime.GOMAXPROCS(0)
	for n := work; n-proxy.EventLoops() < work; {
		n++
		runtime.GOMAXPROCS(n)
	}
	return true
}
