package presence

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/sqlitefile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// fleet is a recorder with the sessions that are reported to it.
type fleet struct {
	*Recorder
	t        testing.TB
	mu       sync.Mutex // guards sessions
	sessions map[*proxy.Client]bool
	changes  []string
	aside    string
}

func newFleet(t testing.TB, o Options) *fleet {
	t.Helper()
	f := &fleet{t: t, sessions: make(map[*proxy.Client]bool)}
	o.Clients = func() iter.Seq[*proxy.Client] {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Values(slices.Collect(maps.Keys(f.sessions)))
	}
	o.Changed = func(err error) { f.changes = append(f.changes, fmt.Sprint(err)) }
	o.Aside = func(path string, _ error) { f.aside = path }
	f.Recorder = New(o)
	return f
}

// inFile is a recorder with a file, which is open.
func inFile(t testing.TB, path string) *fleet {
	t.Helper()
	f := newFleet(t, Options{Target: func() Target { return Target{Path: path} }})
	f.flushed()
	t.Cleanup(func() { _ = f.Close(context.Background()) })
	return f
}

func statePath(t testing.TB) string { return filepath.Join(t.TempDir(), "state.db") }

func (f *fleet) open(subject string) *proxy.Client {
	c := &proxy.Client{Addr: netip.MustParseAddrPort("192.0.2.7:4711"), Grant: &authz.Grant{Subject: subject, TokenID: "t-" + subject}}
	f.mu.Lock()
	f.sessions[c] = true
	f.mu.Unlock()
	f.Opened(c)
	return c
}

func (f *fleet) end(c *proxy.Client) {
	f.mu.Lock()
	delete(f.sessions, c)
	f.mu.Unlock()
	f.Closed(c, proxy.End{})
}

// flushed writes, which must not fail.
func (f *fleet) flushed() {
	f.t.Helper()
	if err := f.flush(context.Background()); err != nil {
		f.t.Fatal(err)
	}
}

// page returns a page as text: the devices, with a star if they are connected, and the next one.
func (f *fleet) page(q Query) string {
	f.t.Helper()
	p, err := f.Devices(context.Background(), q)
	if err != nil {
		f.t.Fatal(err)
	}
	var names []string
	for _, d := range p.Devices {
		if d.Connected {
			d.Subject += "*"
		}
		names = append(names, d.Subject)
	}
	if p.Next != "" {
		names = append(names, "then", p.Next)
	}
	return strings.Join(names, " ")
}

// device returns one device.
func (f *fleet) device(subject string) Device {
	f.t.Helper()
	p, err := f.Devices(context.Background(), Query{Subject: subject, Limit: 1})
	if err != nil || len(p.Devices) != 1 {
		f.t.Fatalf("%s: %v, %v", subject, p.Devices, err)
	}
	return p.Devices[0]
}

func connected(is bool) *bool { return &is }

// TestFirstAndLastSeenOutliveTheProcess: and what is not written yet is in the answers too.
func TestFirstAndLastSeenOutliveTheProcess(t *testing.T) {
	path, began := statePath(t), time.Now().Truncate(time.Millisecond)
	f := inFile(t, path)
	a := f.open("a")
	if d := f.device("a"); !d.Connected || d.FirstSeen.Before(began) || d.Address != "192.0.2.7" {
		t.Errorf("before it is written: %+v", d)
	}
	f.flushed()
	f.open("b")
	f.end(a)
	away := f.device("a")
	if away.Connected {
		t.Error("connected after the end")
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f = inFile(t, path)
	if diff := cmp.Diff(away, f.device("a")); diff != "" {
		t.Errorf("after a restart (-before +after)\n%s", diff)
	}
	if got := f.page(Query{Limit: 10}); got != "a b" {
		t.Errorf("after a restart %q: b was connected when the process ended", got)
	}
	f.open("a")
	f.flushed()
	if d := f.device("a"); !d.FirstSeen.Equal(away.FirstSeen) || d.LastSeen.Before(away.LastSeen) || !d.Connected {
		t.Errorf("once more: %+v after %+v", d, away)
	}
	seen, err := TokensSeen(t.Context(), Target{Path: path}, []string{"t-a", "t-b", "t-x"})
	if err != nil || len(seen) != 2 || seen["t-a"].Before(away.LastSeen) {
		t.Errorf("tokens: %v, %v", seen, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestASecondSessionKeepsADeviceConnected: also if the older one ends later than the newer begins.
func TestASecondSessionKeepsADeviceConnected(t *testing.T) {
	f := inFile(t, statePath(t))
	old, now := f.open("a"), f.open("a")
	f.flushed()
	f.end(old)
	f.flushed()
	if !f.device("a").Connected {
		t.Error("away although a session is live")
	}
	f.end(now)
	f.flushed()
	if f.device("a").Connected {
		t.Error("connected without a session")
	}
}

// TestPagesHaveEveryDeviceOnce: whatever of it is written, page after page has the devices in
// order.
func TestPagesHaveEveryDeviceOnce(t *testing.T) {
	checkPages(t, 30, func() *fleet { return inFile(t, statePath(t)) })
}

// checkPages compares the pages of new fleets with what they should be.
func checkPages(t *testing.T, rounds int, begin func() *fleet) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		f := begin()
		all, live := make(map[string]bool), make(map[string]*proxy.Client)
		for range 1 + random.IntN(80) {
			switch subject := fmt.Sprintf("d%02d", random.IntN(40)); {
			case random.IntN(8) == 0:
				f.flushed()
			case live[subject] != nil:
				f.end(live[subject])
				delete(live, subject)
			default:
				live[subject], all[subject] = f.open(subject), true
			}
		}
		for _, is := range []*bool{nil, connected(true), connected(false)} {
			var want, got []string
			for _, subject := range slices.Sorted(maps.Keys(all)) {
				if is == nil || *is == (live[subject] != nil) {
					want = append(want, subject)
				}
			}
			q := Query{Connected: is, Limit: 1 + random.IntN(9)}
			for {
				p, err := f.Devices(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range p.Devices {
					if got = append(got, d.Subject); d.Connected != (live[d.Subject] != nil) {
						t.Errorf("%s: connected is %t", d.Subject, d.Connected)
					}
				}
				if q.After = p.Next; p.Next == "" {
					break
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("pages of %d (-want +got)\n%s", q.Limit, diff)
			}
		}
	}
}

// TestTheOldestAreDeleted: the file has no more devices and tokens than it may have.
func TestTheOldestAreDeleted(t *testing.T) {
	path := statePath(t)
	f := newFleet(t, Options{Target: func() Target { return Target{Path: path} }, max: 200})
	defer f.Close(t.Context())
	for i := range 500 {
		f.pending.device(sighting{subject: fmt.Sprintf("d%03d", i), first: int64(i), last: int64(i)}, 1000)
		f.pending.token(fmt.Sprintf("t%03d", i), int64(i), 1000)
	}
	f.flushed()
	p, err := f.Devices(t.Context(), Query{Limit: MaxLimit})
	if err != nil || len(p.Devices) != 198 || p.Devices[0].Subject != "d302" {
		t.Errorf("%d devices, %v", len(p.Devices), err)
	}
	if seen, err := TokensSeen(t.Context(), Target{Path: path}, make([]string, fewTokens+1)); err != nil || len(seen) != 198 {
		t.Errorf("%d tokens, %v", len(seen), err)
	}
}

// TestADamagedFileIsSetAside: recording goes on in a new one.
func TestADamagedFileIsSetAside(t *testing.T) {
	path := statePath(t)
	junk := []byte(strings.Repeat("this is not a database\n", 1000))
	if err := os.WriteFile(path, junk, 0o600); err != nil {
		t.Fatal(err)
	}
	f := inFile(t, path)
	f.open("a")
	f.flushed()
	kept, err := os.ReadFile(f.aside)
	if f.aside != path+".damaged" || err != nil || string(kept) != string(junk) {
		t.Errorf("kept as %q, %v", f.aside, err)
	}
	if got := f.page(Query{Limit: 1}); got != "a*" {
		t.Errorf("devices %q", got)
	}
}

// TestDamageWhileRunning: what could not be written goes into the new file.
func TestDamageWhileRunning(t *testing.T) {
	path := statePath(t)
	f := inFile(t, path)
	for i := range 3000 {
		f.open(fmt.Sprint("old-", i))
	}
	f.flushed()
	if _, err := f.store.Load().store.(*sqliteStore).db.Exec("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA shrink_memory"); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte(strings.Repeat("\xff", 400_000)), 4096); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	f.open("old-7")
	f.open("new")
	if err := f.flush(t.Context()); !errors.Is(err, errDamaged) {
		t.Fatalf("writing to a damaged file: %v", err)
	}
	f.flushed()
	if got := f.page(Query{Subject: "new", Limit: 1}); got != "new*" || f.aside == "" {
		t.Errorf("devices %q, set aside as %q", got, f.aside)
	}
}

// TestForeignFilesAreLeftAlone: those of other programs and of newer versions are not changed.
// TestAFileThatIsRemovedIsMadeAgain: what is written to a file that has no name any more would be
// lost with the process.
func TestAFileThatIsRemovedIsMadeAgain(t *testing.T) {
	path := statePath(t)
	f := inFile(t, path)
	f.open("live")
	f.flushed()
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(path + end); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	f.end(f.open("later"))
	if err := f.flush(t.Context()); err == nil || !strings.Contains(err.Error(), path+" was removed or replaced") {
		t.Errorf("a file that was removed: %v", err)
	}
	f.flushed()
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := inFile(t, path)
	if a, b := again.device("live"), again.device("later"); a.LastSeen.IsZero() || b.LastSeen.IsZero() {
		t.Errorf("after a restart: %+v, %+v", a, b)
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	for name, statement := range map[string]string{
		"it belongs to another program": "CREATE TABLE x (y)",
		"it has format 9":               fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = 9; CREATE TABLE x (y)", applicationID),
	} {
		path := statePath(t)
		db, err := sqlitefile.Connect(path, "rwc", 1, lockWait)
		if err == nil {
			_, err = db.Exec(statement)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = db.Close()
		f := newFleet(t, Options{Target: func() Target { return Target{Path: path} }})
		f.open("a")
		f.report(t.Context(), f.flush(t.Context()))
		if err := f.Fault(); err == nil || !strings.Contains(err.Error(), name) || f.aside != "" {
			t.Errorf("fault %v, set aside as %q, want %q", err, f.aside, name)
		}
		if _, err := f.Devices(t.Context(), Query{Limit: 1}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), name) {
			t.Errorf("devices: %v", err)
		}
	}
}

// TestAStoreThatFailsLosesNothing: as long as there is room, and counts what it loses afterwards.
func TestAStoreThatFailsLosesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	path := filepath.Join(dir, "state.db")
	f := newFleet(t, Options{Target: func() Target { return Target{Path: path} }, maxPending: 3})
	defer func() { _ = f.Close(context.Background()) }()
	for _, subject := range []string{"a", "b", "c", "d", "a"} {
		f.open(subject)
		f.report(t.Context(), f.flush(t.Context()))
	}
	if s := f.Stats(); s.Pending != 3 || s.Lost < 2 { // the device and the token of d
		t.Errorf("%+v", s)
	}
	if len(f.changes) != 1 || !strings.Contains(f.changes[0], "state.db") {
		t.Errorf("changes %q", f.changes)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f.report(t.Context(), f.flush(t.Context()))
	if got := f.page(Query{Limit: 9}); got != "a* b* c* d*" || len(f.changes) != 2 || f.changes[1] != "<nil>" {
		t.Errorf("devices %q, changes %q", got, f.changes)
	}
}

// recordedStore is a store that only remembers what it was asked.
type recordedStore struct {
	store
	mu    sync.Mutex
	calls []string
}

// take returns the calls since the last take.
func (s *recordedStore) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

func (s *recordedStore) write(_ context.Context, b *batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range b.sortedDevices() {
		s.calls = append(s.calls, fmt.Sprintf("%s %t", d.subject, d.connected))
	}
	return nil
}

func (s *recordedStore) prune(context.Context, int) error { return nil }
func (s *recordedStore) close() error                     { return nil }

// TestIntervalsOfWrites: changes are written every ten seconds and at the end, and devices that
// stay connected every hour.
func TestIntervalsOfWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &recordedStore{}
		f := newFleet(t, Options{
			Target: func() Target { return Target{Path: "x"} },
			open:   func(context.Context, Target) (store, error) { return s, nil },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); f.Run(ctx) }()
		after := func(d time.Duration, want ...string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if diff := cmp.Diff(want, s.take()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		}
		after(time.Second)
		a := f.open("a")
		b := f.open("b")
		f.end(b)
		after(8 * time.Second)
		after(2*time.Second, "a true", "b false")
		after(time.Hour, "a true")
		f.end(a)
		cancel()
		<-done
		if err := f.Close(t.Context()); err != nil {
			t.Error(err)
		}
		after(0, "a false")
	})
}

// BenchmarkPage asks for pages of a file with 300,000 devices, 100,000 of which are connected.
func BenchmarkPage(b *testing.B) {
	f := inFile(b, statePath(b))
	for i := range 300_000 {
		c := f.open(fmt.Sprintf("device-%06d", i))
		if i%3 > 0 {
			f.end(c)
		}
		if i%50_000 == 0 {
			f.flushed()
		}
	}
	f.flushed()
	for name, q := range map[string]Query{
		"all": {}, "connected": {Connected: connected(true)}, "away": {Connected: connected(false)}, "late": {After: "device-299"},
	} {
		for _, q.Limit = range []int{100, MaxLimit} {
			b.Run(fmt.Sprint(name, "/", q.Limit), func(b *testing.B) {
				for b.Loop() {
					if _, err := f.Devices(b.Context(), q); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkOpened is what a session pays.
func BenchmarkOpened(b *testing.B) {
	f := newFleet(b, Options{})
	c := &proxy.Client{Addr: netip.MustParseAddrPort("192.0.2.7:4711"), Grant: &authz.Grant{Subject: "a", TokenID: "t"}}
	b.ReportAllocs()
	for b.Loop() {
		f.Opened(c)
		f.Closed(c, proxy.End{})
	}
}
