package telemetry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

func TestTelemetryKeepsTypes(t *testing.T) {
	now := int64(1000)
	s := open(t, Options{Now: clock(&now)})
	publish(t, s, "d1", `{temperature:25}`)
	publish(t, s, "d1", `{"ts":2000,"values":{"double":25.0,"text":"x1","bool":true,"json":{"a":[1,2.50,null]},"big":1e19}}`)
	publish(t, s, "d1", `[]`)
	publish(t, s, "d1", `{}`)
	const want = `big="10000000000000000000"@2000 bool=true@2000 double=25.0@2000 json={"a":[1,2.50,null]}@2000 temperature=25@1000 text="x1"@2000`
	check(t, "before a flush", latest(t, s, "d1"), want)
	check(t, "one key", latest(t, s, "d1", "temperature", "unknown"), `temperature=25@1000`)
	check(t, "another device", latest(t, s, "d2"), ``)

	path := s.opts.Path
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Path: path})
	check(t, "reopened", latest(t, s, "d1"), want)
	check(t, "range", span(t, s, Query{Device: "d1", Keys: []string{"json", "temperature"}, End: 5000}),
		`{"a":[1,2.50,null]}@2000 25@1000`)
}

func TestStrictDistinguishesWhatCastsMerge(t *testing.T) {
	now := int64(1)
	s := open(t, Options{Now: clock(&now), StrictJSON: true})
	publish(t, s, "d", `{"a":1,"b":1.0,"c":"1","d":true,"e":"true"}`)
	check(t, "latest", latest(t, s, "d"), `a=1@1 b=1.0@1 c="1"@1 d=true@1 e="true"@1`)
}

func TestMessagesOfOneMillisecondMerge(t *testing.T) {
	s := open(t, Options{})
	publish(t, s, "d", `{"ts":5,"values":{"a":1,"j":{"x":1,"n":null}}}`)
	publish(t, s, "d", `[{"ts":5,"values":{"b":2}},{"ts":5,"values":{"a":3,"j":{"y":null}}}]`)
	const want = `a=3@5 b=2@5 j={"y":null}@5`
	check(t, "latest", latest(t, s, "d"), want)
	check(t, "range", span(t, s, Query{Device: "d", Keys: []string{"a", "b", "j"}, End: 9}), `3@5 2@5 {"y":null}@5`)
}

// TestMessagesWithoutTimeAreKept: any number of messages may arrive in a millisecond.
func TestMessagesWithoutTimeAreKept(t *testing.T) {
	now := int64(5)
	s := open(t, Options{Now: clock(&now)})
	publish(t, s, "d", `{"a":1,"b":1}`)
	publish(t, s, "d", `[{"a":2},{"a":2},{"ts":4,"values":{"a":0}},{"b":3}]`)
	publish(t, s, "e", `{"a":9}`)
	a := Query{Device: "d", Keys: []string{"a"}, End: 9}
	check(t, "newest first", span(t, s, a), `2@5 2@5 1@5 0@4`)
	a.Order = "ASC"
	check(t, "oldest first", span(t, s, a), `0@4 1@5 2@5 2@5`)
	check(t, "b", span(t, s, Query{Device: "d", Keys: []string{"b"}, End: 9}), `3@5 1@5`)
	check(t, "latest", latest(t, s, "d"), `a=2@5 b=3@5`)
	check(t, "count", span(t, s, Query{Device: "d", Keys: []string{"a"}, End: 10, Interval: 10, Aggregate: "COUNT"}), `4@5`)
	check(t, "sum", span(t, s, Query{Device: "d", Keys: []string{"a"}, End: 10, Interval: 10, Aggregate: "SUM"}), `5@5`)
	if stats := s.Stats(); stats.Messages != 6 || count(t, s, "telemetry") != 6 {
		t.Errorf("%d messages counted, %d stored, want 6", stats.Messages, count(t, s, "telemetry"))
	}
}

// TestMessageWithTimeReplaces: what a device sends with a time replaces the values of
// that time, whether they were sent with it or arrived then.
func TestMessageWithTimeReplaces(t *testing.T) {
	now := int64(5)
	s := open(t, Options{Now: clock(&now)})
	publish(t, s, "d", `[{"a":1,"b":1},{"a":2,"c":2},{"a":3}]`)
	publish(t, s, "d", `{"ts":5,"values":{"a":4,"c":4}}`)
	publish(t, s, "d", `{"ts":5,"values":{"a":5}}`)
	all := Query{Device: "d", Keys: []string{"a", "b", "c"}, End: 9}
	check(t, "replaced", span(t, s, all), `5@5 1@5 4@5`)
	check(t, "latest", latest(t, s, "d"), `a=5@5 b=1@5 c=4@5`)
	publish(t, s, "d", `{"a":6}`)
	check(t, "what arrives later replaces nothing", span(t, s, all), `6@5 5@5 1@5 4@5`)
	check(t, "latest after it", latest(t, s, "d"), `a=6@5 b=1@5 c=4@5`)
}

func TestMergeIsBounded(t *testing.T) {
	s := open(t, Options{MaxPayload: 1000})
	text := strings.Repeat("x", 600)
	publish(t, s, "d", `{"ts":5,"values":{"a":"`+text+`"}}`)
	// The second message would fit; the third may not, and takes it along.
	err := s.Telemetry(t.Context(), "d", []byte(`[{"ts":6,"values":{"a":1}},{"ts":5,"values":{"b":"`+text+`"}}]`))
	var bad *PayloadError
	if !errors.As(err, &bad) {
		t.Fatalf("error %v, want *PayloadError", err)
	}
	publish(t, s, "d", `{"ts":5,"values":{"c":1}}`)
	check(t, "kept", span(t, s, Query{Device: "d", Keys: []string{"b", "c", "a"}, End: 9}), `1@5 "`+text+`"@5`)
	check(t, "latest", latest(t, s, "d", "b", "c"), `c=1@5`)
	if n := s.Stats().Refused; n != 1 {
		t.Errorf("%d calls counted as refused, want 1", n)
	}
}

func TestLatestIsTheNewestByItsOwnTime(t *testing.T) {
	s := open(t, Options{})
	publish(t, s, "d", `{"ts":20,"values":{"a":1,"b":1}}`)
	publish(t, s, "d", `{"ts":10,"values":{"a":2,"c":2}}`)
	publish(t, s, "d", `{"ts":20,"values":{"b":3}}`)
	check(t, "latest", latest(t, s, "d"), `a=1@20 b=3@20 c=2@10`)
}

func TestBadPayloadIsPermanent(t *testing.T) {
	s := open(t, Options{MaxPayload: 100, MaxValues: 5})
	for _, call := range []func(context.Context, string, []byte) error{s.Telemetry, s.Attributes} {
		for _, data := range []string{``, `{"a":1,}`, `{"":1}`, `[1,2,3,4,5]`, `{"a":"` + strings.Repeat("x", 100) + `"}`} {
			err := call(t.Context(), "d", []byte(data))
			var bad *PayloadError
			if !errors.As(err, &bad) || errors.Is(err, ErrStore) {
				t.Errorf("%q: error %v, want *PayloadError", data, err)
			}
		}
	}
	if stats := s.Stats(); stats.Refused != 10 || stats.Messages != 0 || stats.Commits != 0 {
		t.Errorf("stats %+v", stats)
	}
}

func TestDeviceNames(t *testing.T) {
	s := open(t, Options{})
	for _, device := range []string{"a b", "a/b", "日本", "'; DROP TABLE telemetry", "\x00", strings.Repeat("n", 70_000)} {
		publish(t, s, device, `{"ts":1,"values":{"k":1}}`)
		check(t, "latest", latest(t, s, device), `k=1@1`)
	}
	for _, device := range []string{"", "\xff"} {
		if err := s.Telemetry(t.Context(), device, []byte(`{"a":1}`)); err == nil {
			t.Errorf("%q: accepted", device)
		}
	}
}

func TestAttributes(t *testing.T) {
	now := int64(1000)
	s := open(t, Options{Now: clock(&now)})
	set := func(device, data string) {
		t.Helper()
		if err := s.Attributes(t.Context(), device, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	set("d", `{attribute1: value1, attribute2: true}`)
	set("e", `{"attribute1":1}`)
	now = 2000
	set("d", `{"attribute2":"1.0","attribute3":{"a":null},"gone":null}`)
	set("d", `{}`)
	check(t, "all", attributes(t, s, "d"), `attribute1="value1"@1000 attribute2=1.0@2000 attribute3={"a":null}@2000`)
	check(t, "some", attributes(t, s, "d", "attribute3", "unknown"), `attribute3={"a":null}@2000`)
	check(t, "another device", attributes(t, s, "e"), `attribute1=1@1000`)
	check(t, "telemetry", latest(t, s, "d"), ``)
}

func TestAttributesAreBounded(t *testing.T) {
	s := open(t, Options{})
	many := func(from, to int) []byte {
		var fields []payload.Field
		for i := from; i < to; i++ {
			fields = append(fields, payload.Field{Key: fmt.Sprint(i), Value: payload.Long(int64(i))})
		}
		return payload.AppendObject(nil, fields)
	}
	if err := s.Attributes(t.Context(), "d", many(0, maxAttributes)); err != nil {
		t.Fatal(err)
	}
	if err := s.Attributes(t.Context(), "d", many(maxAttributes-10, maxAttributes)); err != nil {
		t.Errorf("known ones again: %v", err)
	}
	var bad *PayloadError
	if err := s.Attributes(t.Context(), "d", many(maxAttributes-1, maxAttributes+1)); !errors.As(err, &bad) {
		t.Errorf("one more: error %v, want *PayloadError", err)
	}
	if err := s.Attributes(t.Context(), "e", many(0, 1)); err != nil {
		t.Errorf("another device: %v", err)
	}
}

func TestDevicesShareCommits(t *testing.T) {
	const devices, messages = 50, 20
	s := open(t, Options{})
	var publishers sync.WaitGroup
	for d := range devices {
		publishers.Go(func() {
			for i := range messages {
				publish(t, s, fmt.Sprint(d), fmt.Sprintf(`{"ts":%d,"values":{"n":%d,"m":1}}`, i, i))
				if p, err := s.Latest(t.Context(), fmt.Sprint(d), "n"); err != nil || p["n"].TS != int64(i) {
					t.Errorf("device %d does not see its message %d: %v, error %v", d, i, p, err)
				}
			}
		})
	}
	publishers.Wait()
	stats := s.Stats()
	if stats.Messages != devices*messages || stats.Points != 2*devices*messages || stats.Errors != 0 || stats.Queued != 0 {
		t.Errorf("stats %+v", stats)
	}
	if stats.Commits == 0 || stats.Commits >= stats.Messages {
		t.Errorf("%d commits for %d messages of %d devices", stats.Commits, stats.Messages, devices)
	}
	if stats.CommitTime <= 0 || stats.DatabaseBytes <= 0 {
		t.Errorf("stats %+v", stats)
	}
}

func TestFilesAreForTheOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "odd ?name=%41#x&y.db")
	s := open(t, Options{Path: path})
	publish(t, s, "d", `{"a":1}`)
	for name, want := range map[string]os.FileMode{filepath.Dir(path): 0o700, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", filepath.Base(name), got, want)
		}
	}
}

func TestDurability(t *testing.T) {
	for durability, level := range map[string]int{"": 2, "sync": 2, "os": 1, "none": 0} {
		s := open(t, Options{Durability: durability})
		publish(t, s, "d", `{"a":1}`)
		var got int
		if err := s.db.QueryRow("PRAGMA synchronous").Scan(&got); err != nil || got != level {
			t.Errorf("durability %q: synchronous is %d, error %v, want %d", durability, got, err, level)
		}
	}
	_, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "t.db"), Durability: "fsync"})
	if err == nil || !strings.Contains(err.Error(), `"fsync"`) {
		t.Errorf("unknown durability: error %v", err)
	}
}

// gated is a store whose commits wait for the gate to be closed. It must be
// used in a synctest bubble.
func gated(t *testing.T) (s *Store, gate chan struct{}) {
	gate = make(chan struct{})
	return open(t, Options{free: func(string) (uint64, error) {
		<-gate
		return 1 << 40, nil
	}}), gate
}

func TestCloseCommitsWhatIsQueued(t *testing.T) {
	// The writing goroutine may see Close or the queue first: give it both chances.
	for range 10 {
		synctest.Test(t, testCloseCommitsWhatIsQueued)
	}
}

func testCloseCommitsWhatIsQueued(t *testing.T) {
	const queued = 10
	s, gate := gated(t)
	outcomes := make(chan error, queued+1)
	for i := range queued + 1 {
		go func() {
			outcomes <- s.Telemetry(context.Background(), "d", fmt.Appendf(nil, `{"ts":%d,"values":{"a":1}}`, i))
		}()
		synctest.Wait()
	}
	if n := s.Stats().Queued; n != queued {
		t.Errorf("%d calls are queued, want %d", n, queued)
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	synctest.Wait()
	if err := s.Telemetry(t.Context(), "d", []byte(`{"a":1}`)); !errors.Is(err, ErrStore) {
		t.Errorf("after Close: error %v, want ErrStore", err)
	}
	close(gate)
	for range queued + 1 {
		if err := <-outcomes; err != nil {
			t.Errorf("queued before Close: %v", err)
		}
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if stats := s.Stats(); stats.Messages != queued+1 || stats.Commits != 2 {
		t.Errorf("stats %+v, want the first message alone and the others in one commit", stats)
	}
	s = open(t, Options{Path: s.opts.Path})
	points, err := s.Range(t.Context(), Query{Device: "d", Keys: []string{"a"}, End: queued + 1})
	if err != nil || len(points["a"]) != queued+1 {
		t.Errorf("%d messages are stored, error %v", len(points["a"]), err)
	}
}

func TestCallThatGaveUpIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, gate := gated(t)
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error), make(chan error)
		go func() { first <- s.Telemetry(t.Context(), "d", []byte(`{"ts":1,"values":{"a":1}}`)) }()
		synctest.Wait()
		go func() { second <- s.Telemetry(ctx, "d", []byte(`{"ts":2,"values":{"a":2}}`)) }()
		synctest.Wait()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
		close(gate)
		if err := <-first; err != nil {
			t.Error(err)
		}
		publish(t, s, "d", `{"ts":3,"values":{"b":3}}`)
		check(t, "latest", latest(t, s, "d"), `a=1@1 b=3@3`)
	})
}

func TestContext(t *testing.T) {
	s := open(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Telemetry(ctx, "d", []byte(`{"a":1}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if _, err := s.Latest(ctx, "d"); !errors.Is(err, context.Canceled) {
		t.Errorf("read: error %v, want context.Canceled", err)
	}
	publish(t, s, "d", `{"ts":1,"values":{"b":1}}`)
	check(t, "latest", latest(t, s, "d", "b"), `b=1@1`)
}

func TestFlushKeepsMemoryBounded(t *testing.T) {
	s := open(t, Options{})
	for device := range 3 {
		var fields []payload.Field
		for i := range maxRecent {
			fields = append(fields, payload.Field{Key: fmt.Sprint(i), Value: payload.Long(int64(device))})
		}
		if err := s.Append(t.Context(), fmt.Sprint(device), []payload.Message{message(1, fields...)}); err != nil {
			t.Fatal(err)
		}
		if n := len(s.recent.of("0")) + len(s.recent.of("1")) + len(s.recent.of("2")); n > maxRecent {
			t.Errorf("%d keys wait after device %d", n, device)
		}
	}
	check(t, "first device", latest(t, s, "0", "0", "9999"), `0=0@1 9999=0@1`)
	check(t, "last device", latest(t, s, "2", "0", "9999"), `0=2@1 9999=2@1`)
}
