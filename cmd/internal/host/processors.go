package host

import "runtime"

// AddProcessors raises GOMAXPROCS by the number of event loops, which keep their threads while
// they wait, so that as many processors as before remain for everything else. More processors
// may mean more loops, so loops is called again after each step. A value that the operator has
// set is raised as well, since a loop takes no time of a processor while it waits.
//
// Keeping the threads reduces the CPU time of a relayed message from 24 microseconds to 15. If
// two goroutines are busy on two processors, a message and its answer take some 80 milliseconds
// without an additional processor, and 19 with it.
func AddProcessors(loops func() int) {
	work := runtime.GOMAXPROCS(0)
	for n := work; n-loops() < work; {
		n++
		runtime.GOMAXPROCS(n)
	}
}
