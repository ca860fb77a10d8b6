package relay

import (
	"runtime"
	"testing"
	"time"
)

// TestIdle lets a client be silent for a while and then say something: the time since
// then is what counts, with and without goroutines.
func TestIdle(t *testing.T) {
	const silence, tick = 30 * time.Millisecond, 20 * time.Millisecond
	for name, pump := range map[string]*Pump{"quiet": {QuietAfter: time.Millisecond}, "busy": {Goroutines: true}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pump, "tls1.3", "tcp").framed().start()
			for limit := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
				idle, ok := r.session.Idle()
				if !ok {
					t.Fatal("the system does not know")
				}
				if idle > silence {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("idle for %v after a long silence", idle)
				}
			}
			before := time.Now()
			r.send(r.device, packet("up"))
			r.expect(r.broker, string(packet("up")))
			if idle, ok := r.session.Idle(); !ok || idle > time.Since(before)+tick {
				t.Errorf("idle for %v, %v right after a message", idle, ok)
			}
			r.device.Close()
			r.broker.Close()
			r.end()
			if idle, ok := r.session.Idle(); ok {
				t.Errorf("idle for %v after the end", idle)
			}
		})
	}
}

func TestIdleIsNotKnownWithoutTCP(t *testing.T) {
	r := newRig(t, &Pump{}, "unix", "tcp").start()
	if idle, ok := r.session.Idle(); ok {
		t.Errorf("idle for %v", idle)
	}
}
