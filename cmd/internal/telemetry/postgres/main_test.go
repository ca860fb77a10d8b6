//go:build integration

package postgres

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

func TestMain(m *testing.M) {
	// A store takes longer to open than one of SQLite. The flag of the command line counts.
	if err := flag.Set("rapid.checks", "20"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// dsnFile writes a DSN to a file of its own.
func dsnFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dsn")
	harness.WriteFile(t, path, text+"\n")
	return path
}

// open opens a store and closes it with the test.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.OnError == nil {
		o.OnError = func(err error) { t.Errorf("in the background: %v", err) }
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// reports counts what a store reports in the background.
type reports struct{ n atomic.Int64 }

func (r *reports) add(error) { r.n.Add(1) }

// number returns a message that arrived at ts.
func number(ts int64, n int) []payload.Message {
	return []payload.Message{{TS: ts, Arrived: true, Fields: []payload.Field{{Key: "n", Value: payload.Long(int64(n))}}}}
}

// load is devices that store numbers, each after the other, until it is stopped.
type load struct {
	t       *testing.T
	devices []*device
	stop    context.CancelFunc
	running sync.WaitGroup
}

type device struct {
	name   string
	stored atomic.Int64 // the device has stored the numbers below
}

// startLoad starts devices, of which each waits until its message is stored, whatever happens.
// All messages of a device have the same time, so that only their numbers tell them apart.
func startLoad(t *testing.T, s *Store, prefix string, devices int) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, stop: cancel}
	t.Cleanup(l.end)
	for i := range devices {
		d := &device{name: fmt.Sprint(prefix, i)}
		l.devices = append(l.devices, d)
		l.running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				// A device whose message was not stored sends it again.
				for s.Append(t.Context(), d.name, number(int64(n/4), n)) != nil {
					if ctx.Err() != nil {
						return
					}
				}
				d.stored.Store(int64(n + 1))
			}
		})
	}
	return l
}

// await waits until each device has stored some more messages.
func (l *load) await(more int64) {
	l.t.Helper()
	var before []int64
	for _, d := range l.devices {
		before = append(before, d.stored.Load())
	}
	for i, d := range l.devices {
		harness.Eventually(l.t, "progress of "+d.name, func() bool { return d.stored.Load() >= before[i]+more })
	}
}

func (l *load) end() {
	l.stop()
	l.running.Wait()
}

// check ends the load and checks that all messages are stored, in order and once.
func (l *load) check(s *Store) {
	l.t.Helper()
	l.end()
	for _, d := range l.devices {
		want := int64(0)
		for m, err := range s.Messages(l.t.Context(), telemetry.Range{Device: d.name, Start: 0, End: 1 << 40}) {
			if err != nil {
				l.t.Fatal(err)
			}
			if n, _ := m.Fields[0].Value.Long(); n != want {
				l.t.Fatalf("%s: message %d is in the place of %d", d.name, n, want)
			}
			want++
		}
		if stored := d.stored.Load(); want != stored {
			l.t.Errorf("%s: %d messages are in the database, %d were stored", d.name, want, stored)
		}
		points, err := telemetry.Latest(l.t.Context(), s, d.name)
		if n, _ := points["n"].Value.Long(); err != nil || n != want-1 {
			l.t.Errorf("%s: the newest value is %d, want %d, error %v", d.name, n, want-1, err)
		}
	}
}
