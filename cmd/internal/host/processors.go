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
//
// Threads that are held bring the CPU time of a relayed message from 24 microseconds down
// to 15. Without a processor more, two busy goroutines on two processors make a message
// and its answer take some 80 milliseconds; with it, 19.
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
