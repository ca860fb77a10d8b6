package host

import (
	"os"
	"runtime"
)

// AddProcessors raises GOMAXPROCS until as many processors as before are left for
// everything else next to the event loops, which hold their threads while they wait.
// More processors may mean more loops, so loops is asked again after each step. It
// reports false, and changes nothing, if the operator has set GOMAXPROCS: then all
// processors are for work.
func AddProcessors(loops func() int) bool {
	if os.Getenv("GOMAXPROCS") != "" {
		return false
	}
	work := runtime.GOMAXPROCS(0)
	for n := work; n-loops() < work; {
		n++
		runtime.GOMAXPROCS(n)
	}
	return true
}
