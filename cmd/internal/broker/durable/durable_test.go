package durable

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o Options) *File {
	t.Helper()
	f, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// commit makes a change and waits for it.
func commit(f *File, change func(c *Change)) error {
	var (
		c Change
		r Receipt
	)
	change(&c)
	f.Submit(&c, &r)
	return r.Wait(context.Background())
}

// database opens the database of a file behind its back. Its statements wait for those of the file.
func database(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(30000)")
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content returns what a file has.
func content(t *testing.T, f *File) (all []*Kept, retained []Retained) {
	t.Helper()
	all, err := f.Sessions(t.Context())
	must(t, err)
	must(t, f.Retained(t.Context(), func(r Retained) { retained = append(retained, r) }))
	return all, retained
}

// queueOf returns the queue of a session.
func queueOf(t *testing.T, f *File, key int64) (all []Queued) {
	t.Helper()
	must(t, f.Queue(t.Context(), key, 0, func(q Queued) bool { all = append(all, q); return true }))
	return all
}

// TestFileKeepsEverything: the content is there after the file was opened again, and what was
// deleted is not.
func TestFileKeepsEverything(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "new", "sessions.db")}
	f := open(t, o)
	message := func(text string) Message { return Message{Packet: []byte(text), Version: 5, Expires: 7} }
	s := Session{Key: f.NewKey(), ClientID: "a\x00b", Device: "d", Version: 4, Expiry: 60, Away: 5, Reader: true}
	gone := f.NewKey()
	must(t, commit(f, func(c *Change) {
		c.PutSession(Session{Key: s.Key, ClientID: s.ClientID, Device: "d"})
		c.PutSession(s)
		c.Subscribe(s.Key, Subscription{Filter: "x/#", QoS: 1})
		c.Subscribe(s.Key, Subscription{Filter: "x/#", QoS: 2, NoLocal: true, RetainAsPublished: true, Identifier: 9})
		c.Subscribe(s.Key, Subscription{Filter: "gone"})
		c.Unsubscribe(s.Key, "gone")
		for i := range int64(5) {
			c.Enqueue(s.Key, Queued{Seq: i + 1, PacketID: uint16(i + 1), Message: message(fmt.Sprint(i + 1))})
		}
		c.Release(s.Key, 2)
		c.Dequeue(s.Key, 3)
		c.Receive(s.Key, 8)
		c.Receive(s.Key, 9)
		c.Complete(s.Key, 8)
		c.PutSession(Session{Key: gone, ClientID: "gone", Device: "d"})
		c.Enqueue(gone, Queued{Seq: 1, Message: message("gone")})
		c.Retain(Retained{Topic: "t", Device: "d", Origin: "o", Message: message("old")})
		c.Retain(Retained{Topic: "t", Device: "e", Origin: "p", Message: message("new")})
		c.Retain(Retained{Topic: "gone", Message: message("gone")})
		c.Forget("gone")
	}))
	must(t, commit(f, func(c *Change) { c.DeleteSession(gone); c.Dequeue(s.Key, 5) }))
	must(t, f.Close())
	if err := f.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	f = open(t, o)
	sessions, retained := content(t, f)
	want := []*Kept{{
		Session: s, Subscriptions: []Subscription{{Filter: "x/#", QoS: 2, NoLocal: true, RetainAsPublished: true, Identifier: 9}}, Received: []uint16{9},
	}}
	queue := []Queued{
		{Seq: 1, PacketID: 1, Message: message("1")},
		{Seq: 2, PacketID: 2, Released: true, Message: Message{Version: 5, Expires: 7}},
		{Seq: 4, PacketID: 4, Message: message("4")},
	}
	if diff := cmp.Diff(queue, queueOf(t, f, s.Key)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, sessions); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Retained{{Topic: "t", Device: "e", Origin: "p", Message: message("new")}}, retained); diff != "" {
		t.Error(diff)
	}
	if key := f.NewKey(); key <= s.Key {
		t.Errorf("key %d was used before", key)
	}
	if f.Stats().Bytes == 0 {
		t.Error("the file has no size")
	}
}

// TestReceiptsTellEachSubmitterItsOutcome: many wait for one commit.
func TestReceiptsTellEachSubmitterItsOutcome(t *testing.T) {
	goOn := make(chan struct{}) // for the first commit, until all others wait
	f := open(t, Options{Path: filepath.Join(t.TempDir(), "sessions.db"), MinFree: 1, Free: func(string) (uint64, error) { <-goOn; return 1, nil }})
	const n = 200
	var all [n]Receipt
	for i := range all {
		var c Change
		c.Enqueue(1, Queued{Seq: int64(i)})
		f.Submit(&c, &all[i])
	}
	close(goOn)
	for i := range all {
		must(t, all[i].Wait(t.Context()))
	}
	if commits := f.Stats().Commits; commits > 2 {
		t.Errorf("%d commits for %d changes at once", commits, n)
	}
	var none Receipt
	if err := none.Wait(t.Context()); err != nil {
		t.Errorf("an empty receipt: %v", err)
	}
	var nobody *File
	nobody.Submit(&Change{steps: []step{{kind: forget}}}, &none)
	if err := none.Wait(t.Context()); err != nil {
		t.Errorf("without a file: %v", err)
	}
	must(t, f.Close())
	if err := commit(f, func(c *Change) { c.Forget("x") }); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := f.Writable(); !errors.Is(err, errClosed) {
		t.Errorf("Writable after Close: %v", err)
	}
}

// TestFullDisk: what adds something fails, and what is true anyway is kept for later.
func TestFullDisk(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 30)
	f := open(t, Options{
		Path: filepath.Join(t.TempDir(), "sessions.db"), MinFree: 1 << 20,
		Free: func(string) (uint64, error) { return free.Load(), nil },
	})
	must(t, commit(f, func(c *Change) { c.PutSession(Session{Key: 1, ClientID: "a"}); c.Enqueue(1, Queued{Seq: 1}) }))
	free.Store(1 << 10)
	if err := commit(f, func(c *Change) { c.Enqueue(1, Queued{Seq: 2}); c.Retain(Retained{Topic: "t"}) }); err == nil || !strings.Contains(err.Error(), "sessions.db") {
		t.Errorf("on a full disk: %v", err)
	}
	must(t, commit(f, func(c *Change) { c.Dequeue(1, 1) })) // makes room
	if f.Writable() == nil {
		t.Error("writable on a full disk")
	}
	free.Store(1 << 30)
	must(t, commit(f, func(c *Change) { c.Enqueue(1, Queued{Seq: 3}) }))
	must(t, f.Writable())
	_, retained := content(t, f)
	if queue := queueOf(t, f, 1); len(queue) != 1 || queue[0].Seq != 3 {
		t.Errorf("queue %+v", queue)
	}
	if len(retained) != 1 {
		t.Error("what became true on a full disk is forgotten")
	}
}

// TestFailedCommits are reported once, and tried again with what is still true.
func TestFailedCommits(t *testing.T) {
	var reported, attempts atomic.Int32
	path := filepath.Join(t.TempDir(), "sessions.db")
	f := open(t, Options{
		Path: path, OnError: func(error) { reported.Add(1) }, upkeep: 5 * time.Millisecond,
		MinFree: 1, Free: func(string) (uint64, error) { attempts.Add(1); return 1, nil },
	})
	db := database(t, path)
	_, err := db.Exec("ALTER TABLE retained RENAME TO away")
	must(t, err)
	for range 2 {
		if err := commit(f, func(c *Change) { c.Retain(Retained{Topic: "t"}); c.Enqueue(1, Queued{Seq: 2}) }); err == nil {
			t.Fatal("no error")
		}
		for n := attempts.Load(); attempts.Load() < n+3; { // by itself
			runtime.Gosched()
		}
	}
	if f.Writable() == nil {
		t.Error("writable")
	}
	_, err = db.Exec("ALTER TABLE away RENAME TO retained")
	must(t, err)
	must(t, commit(f, func(c *Change) { c.Forget("other") }))
	must(t, f.Writable())
	if _, retained := content(t, f); len(retained) != 1 {
		t.Errorf("%d retained messages", len(retained))
	}
	if n := reported.Load(); n != 1 {
		t.Errorf("%d reports", n)
	}
}

// TestFilesThatAreNotOpened: the error names the file and says what to do.
func TestFilesThatAreNotOpened(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(path("text"), []byte(strings.Repeat("not a database ", 100)), 0o600))
	for name, statement := range map[string]string{"newer": "PRAGMA user_version = 99", "foreign": "PRAGMA application_id = 1"} {
		f := open(t, Options{Path: path(name)})
		must(t, f.Close())
		_, err := database(t, path(name)).Exec(statement)
		must(t, err)
	}
	open(t, Options{Path: path("used")})
	for _, tt := range []struct{ name, want string }{
		{"text", "is damaged: stop the proxy, restore a backup, or move the file"},
		{"newer", "it has format 99, this version reads 2: run the version that made it"},
		{"foreign", "it belongs to another program: move it away"},
		{"used", fmt.Sprint(os.Getpid())},
	} {
		f, err := Open(t.Context(), Options{Path: path(tt.name)})
		if err == nil {
			_ = f.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path(tt.name)) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := Open(t.Context(), Options{Path: path("new"), Durability: "maybe"}); err == nil {
		t.Error("unknown durability")
	}
}

// TestMessagesOfEndedSessionsAreDeleted a few at a time, also those of a process before.
func TestMessagesOfEndedSessionsAreDeleted(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "sessions.db"), Durability: "none"}
	f := open(t, o)
	must(t, commit(f, func(c *Change) {
		for i := range int64(trimRows + 100) {
			c.Enqueue(1, Queued{Seq: i, Message: Message{Packet: make([]byte, 100)}})
			c.Enqueue(2, Queued{Seq: i})
		}
	}))
	must(t, commit(f, func(c *Change) { c.DeleteSession(1) }))
	left := func() (n int) {
		must(t, f.readers.QueryRow("SELECT count(*) FROM queue").Scan(&n))
		return n
	}
	for range 3 { // the end of the process deletes some
		must(t, f.Close())
		f = open(t, o)
		if _, err := f.Sessions(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := left(); n != 0 {
		t.Errorf("%d messages of no session are left", n)
	}
}

// TestFileShrinks once what it had is gone, without anything else being written.
func TestFileShrinks(t *testing.T) {
	f := open(t, Options{Path: filepath.Join(t.TempDir(), "sessions.db"), Durability: "none", upkeep: 5 * time.Millisecond})
	must(t, commit(f, func(c *Change) {
		for i := range int64(4000) {
			c.Enqueue(1, Queued{Seq: i, Message: Message{Packet: make([]byte, 10_000)}})
		}
	}))
	full := f.Stats().Bytes
	must(t, commit(f, func(c *Change) { c.DeleteSession(1) }))
	for deadline := time.Now().Add(time.Minute); f.Stats().Bytes > full/2; {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes of %d are left", f.Stats().Bytes, full)
		}
		runtime.Gosched()
	}
}

// TestRowsOutOfRange: the error says what to do, as for any other damage.
func TestRowsOutOfRange(t *testing.T) {
	for _, statement := range []string{
		"INSERT INTO sessions VALUES (1, 'a', 'd', 300, 0, 0, 0)", "INSERT INTO sessions VALUES (1, 'a', 'd', 4, -1, 0, 0)",
		"INSERT INTO subscriptions VALUES (1, 'x', 900, 0, 0, 0)", "INSERT INTO received VALUES (1, 70000)",
		"INSERT INTO queue VALUES (1, 1, 70000, 0, 0, 4, x'')", "INSERT INTO retained VALUES ('t', 'd', 'o', 0, 999, x'')",
	} {
		path := filepath.Join(t.TempDir(), "sessions.db")
		f := open(t, Options{Path: path, Durability: "none"})
		_, err := database(t, path).Exec(statement)
		must(t, err)
		_, err = f.Sessions(t.Context())
		err = errors.Join(err, f.Queue(t.Context(), 1, 0, func(Queued) bool { return true }), f.Retained(t.Context(), func(Retained) {}))
		if err == nil || !strings.Contains(err.Error(), path+" is damaged: stop the proxy, restore a backup, or move") {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func BenchmarkEnqueue(b *testing.B) {
	for _, durability := range []string{"sync", "os"} {
		b.Run(durability, func(b *testing.B) {
			f, err := Open(b.Context(), Options{Path: filepath.Join(b.TempDir(), "sessions.db"), Durability: durability})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			m := Message{Packet: make([]byte, 100)}
			b.SetParallelism(50)
			b.RunParallel(func(pb *testing.PB) {
				key := f.NewKey()
				for seq := int64(1); pb.Next(); seq++ {
					err := commit(f, func(c *Change) { c.Enqueue(key, Queued{Seq: seq, Message: m}) })
					if err != nil {
						b.Error(err)
						return
					}
					var c Change
					c.Dequeue(key, seq)
					f.Submit(&c, nil)
				}
			})
		})
	}
}

// TestWhatIsKeptOfFailedCommitsIsBounded: a device that connects and subscribes again and again
// while the disk is full does not use more and more memory.
func TestWhatIsKeptOfFailedCommitsIsBounded(t *testing.T) {
	var free atomic.Uint64
	f := open(t, Options{
		Path: filepath.Join(t.TempDir(), "sessions.db"), MinFree: 1 << 20,
		Free: func(string) (uint64, error) { return free.Load(), nil },
	})
	for i := range 50 {
		err := commit(f, func(c *Change) {
			c.PutSession(Session{Key: 1, ClientID: "a", Expiry: uint32(i)})
			c.Unsubscribe(1, "x")
			c.Subscribe(1, Subscription{Filter: "x", QoS: byte(i % 3)})
			c.Retain(Retained{Topic: "t", Device: strconv.Itoa(i)})
			c.PutSession(Session{Key: int64(i) + 2, ClientID: "b"})
			c.DeleteSession(int64(i) + 2)
		})
		if err == nil {
			t.Fatal("no error")
		}
	}
	must(t, f.Close()) // so that the writing goroutine has ended
	n := 0
	for _, c := range f.kept {
		n += len(c.steps)
	}
	if most := 4 + 50; n > most {
		t.Errorf("%d steps are kept, want at most %d", n, most)
	}
}

// TestLastStepCounts of those that are kept about the same.
func TestLastStepCounts(t *testing.T) {
	var free atomic.Uint64
	f := open(t, Options{
		Path: filepath.Join(t.TempDir(), "sessions.db"), MinFree: 1 << 20,
		Free: func(string) (uint64, error) { return free.Load(), nil },
	})
	for i := range 5 {
		_ = commit(f, func(c *Change) {
			c.PutSession(Session{Key: 1, ClientID: "a", Expiry: uint32(i)})
			c.Unsubscribe(1, "x")
			c.Subscribe(1, Subscription{Filter: "x", QoS: byte(i % 3)})
			c.Retain(Retained{Topic: "t", Device: strconv.Itoa(i)})
			c.Retain(Retained{Topic: "gone"})
			c.Forget("gone")
		})
	}
	free.Store(1 << 30)
	must(t, commit(f, func(c *Change) { c.Forget("other") }))
	sessions, retained := content(t, f)
	if len(sessions) != 1 || sessions[0].Expiry != 4 || len(sessions[0].Subscriptions) != 1 || sessions[0].Subscriptions[0].QoS != 1 {
		t.Errorf("sessions %+v", sessions)
	}
	if len(retained) != 1 || retained[0].Device != "4" {
		t.Errorf("retained %+v", retained)
	}
}

// TestQueueIsReadFromAPlace: its first messages have packet identifiers, the others not yet, and
// places say how many bytes there are.
func TestQueueIsReadFromAPlace(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "sessions.db")}
	f := open(t, o)
	key := f.NewKey()
	var places []int64
	end := int64(0)
	must(t, commit(f, func(c *Change) {
		for i := range 5 {
			m := Message{Packet: []byte(strings.Repeat("x", 100*i)), Version: 5}
			places = append(places, end+1)
			c.Enqueue(key, Queued{Seq: end + 1, Message: m})
			end += m.Size()
		}
		c.SetPacketID(key, places[0], 7)
		c.SetPacketID(key, places[1], 8)
		c.SetPacketID(key, places[2], 9)
		c.Dequeue(key, places[2])
	}))
	if last, err := f.End(t.Context(), key); err != nil || last != end {
		t.Errorf("the end is %d, %v, want %d", last, err, end)
	}
	if last, err := f.End(t.Context(), key+1); err != nil || last != 0 {
		t.Errorf("the end of an empty queue is %d, %v", last, err)
	}
	got := map[int64]uint16{}
	must(t, f.Queue(t.Context(), key, 0, func(q Queued) bool {
		got[q.Seq] = q.PacketID
		return q.PacketID != 0
	}))
	if want := map[int64]uint16{places[0]: 7, places[1]: 8, places[3]: 0}; !cmp.Equal(got, want) {
		t.Errorf("from the beginning: %v, want %v", got, want)
	}
	var rest []int64
	must(t, f.Queue(t.Context(), key, places[1]+1, func(q Queued) bool { rest = append(rest, q.Seq); return true }))
	if !cmp.Equal(rest, places[3:]) {
		t.Errorf("the rest: %v, want %v", rest, places[3:])
	}
}

// TestDiscardedMessagesAreCounted once they are gone, and only those that were there.
func TestDiscardedMessagesAreCounted(t *testing.T) {
	var (
		free  atomic.Uint64
		count atomic.Int64
	)
	free.Store(1 << 30)
	f := open(t, Options{
		Path: filepath.Join(t.TempDir(), "sessions.db"), MinFree: 1 << 20,
		Free: func(string) (uint64, error) { return free.Load(), nil },
	})
	must(t, commit(f, func(c *Change) {
		for i := range int64(10) {
			c.Enqueue(1, Queued{Seq: 10 * i})
		}
		c.Dequeue(1, 20)
		c.Discard(1, 5, 19, &count)
		c.Enqueue(2, Queued{Seq: 15})
	}))
	if n := count.Load(); n != 1 {
		t.Errorf("%d were counted, want 1", n)
	}
	free.Store(0)
	err := commit(f, func(c *Change) {
		c.Enqueue(1, Queued{Seq: 31})
		c.Discard(1, 15, 45, &count)
	})
	if err == nil {
		t.Error("no error")
	}
	var r Receipt
	f.Sync(&r)
	must(t, r.Wait(t.Context()))
	if n := count.Load(); n != 3 { // 30 and 40: nothing was added
		t.Errorf("%d were counted, want 3", n)
	}
	var left []int64
	for _, q := range queueOf(t, f, 1) {
		left = append(left, q.Seq)
	}
	if want := []int64{0, 50, 60, 70, 80, 90}; !cmp.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
}

// TestSpaceIsScarceBeforeItIsUsedUp.
func TestSpaceIsScarceBeforeItIsUsedUp(t *testing.T) {
	var free atomic.Uint64
	f := open(t, Options{
		Path: filepath.Join(t.TempDir(), "sessions.db"), MinFree: 1 << 20,
		Free: func(string) (uint64, error) { return free.Load(), nil },
	})
	for _, tt := range []struct {
		free     uint64
		scarce   bool
		writable bool
	}{{2 << 20, false, true}, {2<<20 - 1, true, true}, {1<<20 - 1, true, false}} {
		free.Store(tt.free)
		if f.Scarce() != tt.scarce || (f.Writable() == nil) != tt.writable {
			t.Errorf("%d bytes free: scarce %v, writable %v", tt.free, f.Scarce(), f.Writable())
		}
	}
}

// TestFormatOfBefore is read, and is the present one from then on.
func TestFormatOfBefore(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "sessions.db")}
	f := open(t, o)
	must(t, commit(f, func(c *Change) { c.Enqueue(f.NewKey(), Queued{Seq: 3, PacketID: 4}) }))
	must(t, f.Close())
	_, err := database(t, o.Path).Exec("PRAGMA user_version = 1")
	must(t, err)
	f = open(t, o)
	if q := queueOf(t, f, 1); len(q) != 1 || q[0].PacketID != 4 {
		t.Errorf("the queue is %+v", q)
	}
	var version int
	must(t, database(t, o.Path).QueryRow("SELECT user_version FROM pragma_user_version").Scan(&version))
	if version != schemaVersion {
		t.Errorf("format %d", version)
	}
}
