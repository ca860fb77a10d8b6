package telemetrytest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// rowOf is a message of n bytes in all, as they are counted.
func rowOf(ts int64, n int) payload.Message {
	text := strings.Repeat("x", n-telemetry.RowBytes-len(`{"k":""}`))
	return message(ts, payload.Field{Key: "k", Value: payload.Text(text)})
}

// accepted checks that err is nil.
func (f *fixture) accepted(what string, err error) {
	f.Helper()
	if err != nil {
		f.Errorf("%s: %v", what, err)
	}
}

// overQuota checks that err is a *PayloadError of a quota.
func (f *fixture) overQuota(what string, err error) {
	f.Helper()
	if bad, ok := errors.AsType[*telemetry.PayloadError](err); !ok || !bad.Quota {
		f.Errorf("%s: error %v, want that of a quota", what, err)
	}
}

// sendRow appends a message of n bytes.
func (f *fixture) sendRow(device string, ts int64, n int) error {
	return f.Store.Append(f.Context(), device, []payload.Message{rowOf(ts, n)})
}

// checkByteBound: a device stores as many bytes as it may, to the byte, and other devices are not
// concerned.
func checkByteBound(t *testing.T, s Suite) {
	f := s.openWith(t, Options{MaxBytes: 1000})
	f.accepted("most of it", f.sendRow("d", 1, 600))
	f.accepted("another device", f.sendRow("e", 1, 1000))
	for range 2 {
		f.overQuota("a byte more", f.sendRow("d", 2, 401))
		f.overQuota("with a smaller one", f.Store.Append(t.Context(), "d", []payload.Message{rowOf(2, 100), rowOf(3, 301)}))
		f.reopen()
	}
	f.accepted("the rest", f.sendRow("d", 4, 400))
	f.overQuota("another device that is full", f.sendRow("e", 2, 100))
	f.reopen()
	f.overQuota("the same time", f.sendRow("d", 4, 300))
	if n := f.messages("d"); n != 2 {
		t.Errorf("%d messages", n)
	}
}

// checkChildBytes: a gateway does not get more by inventing devices.
func checkChildBytes(t *testing.T, s Suite) {
	f := s.openWith(t, Options{MaxBytes: 1000})
	reopen := f.Reopen
	f.Reopen = func() telemetry.Store { return telemetry.WithChildren(reopen()) }
	f.use(telemetry.WithChildren(f.Store))
	send := func(device string, ts int64, n int) error {
		return f.Store.AppendAll(t.Context(), []telemetry.Part{{Device: device, Messages: []payload.Message{rowOf(ts, n)}}})
	}
	f.accepted("the first device", send("g/a", 1, 600))
	for range 2 {
		f.overQuota("another one", send("g/b", 1, 500))
		f.overQuota("two", f.Store.AppendAll(t.Context(), []telemetry.Part{
			{Device: "g/c", Messages: []payload.Message{rowOf(1, 200)}}, {Device: "g/d", Messages: []payload.Message{rowOf(1, 300)}},
		}))
		f.reopen()
	}
	f.accepted("the gateway itself", send("g", 1, 1000))
	f.accepted("the rest", send("g/e", 1, 400))
	f.accepted("behind another gateway", send("h/a", 1, 1000))
	f.check("what was refused", f.latest("g/b")+f.latest("g/c")+f.latest("g/d"), ``)
}

// checkAttributeBytes: what a device publishes as attributes counts, what operators set does not.
func checkAttributeBytes(t *testing.T, s Suite) {
	f := s.openWith(t, Options{MaxBytes: 1000})
	set := func(scope telemetry.Scope, key string, n int) error {
		text := strings.Repeat("x", n-telemetry.RowBytes-len(key)-len(`""`))
		return f.Store.SetAttributes(t.Context(), "d", scope, 1, []payload.Field{{Key: key, Value: payload.Text(text)}})
	}
	f.accepted("an attribute", set(telemetry.ClientScope, "a", 600))
	for range 2 {
		f.overQuota("one more", set(telemetry.ClientScope, "b", 500))
		f.overQuota("a longer one", set(telemetry.ClientScope, "a", 1001))
		f.overQuota("a message", f.sendRow("d", 1, 500))
		f.reopen()
	}
	f.accepted("the message that fits", f.sendRow("d", 1, 400))
	f.accepted("the same attribute", set(telemetry.ClientScope, "a", 600))
	f.accepted("of an operator", set(telemetry.SharedScope, "a", 5000))
	f.accepted("a shorter one", set(telemetry.ClientScope, "a", 500))
	f.accepted("a message in its place", f.sendRow("d", 2, 100))
	f.accepted("deletion", f.Store.DeleteAttributes(t.Context(), "d", telemetry.ClientScope, []string{"a", "none"}))
	f.accepted("deletion", f.Store.DeleteAttributes(t.Context(), "d", telemetry.SharedScope, []string{"a"}))
	f.overQuota("more than there is room for", f.sendRow("d", 3, 501))
	f.accepted("a message of that size", f.sendRow("d", 3, 500))
}

// checkRoomAfterDeletion: what is deleted no longer counts.
func checkRoomAfterDeletion(t *testing.T, s Suite) {
	f := s.openWith(t, Options{MaxBytes: 1000})
	f.accepted("a message", f.sendRow("d", 10, 600))
	f.accepted("a message", f.sendRow("d", 20, 400))
	if status, _ := f.remove("d", "keys=k&startTs=10&endTs=11"); status != 200 {
		t.Fatalf("status %d", status)
	}
	f.overQuota("more than was deleted", f.sendRow("d", 30, 601))
	f.accepted("as much", f.sendRow("d", 30, 600))
	f.reopen()
	f.overQuota("one more", f.sendRow("d", 40, 100))
}

// checkRoomAfterRetention: nor does what retention deletes.
func checkRoomAfterRetention(t *testing.T, s Suite) {
	const retention = 10 * time.Hour
	f := s.openWith(t, Options{MaxBytes: 1000, Retention: retention})
	f.accepted("a message", f.sendRow("d", f.Now().UnixMilli(), 600))
	f.Advance(retention / 2)
	f.accepted("a message", f.sendRow("d", f.Now().UnixMilli(), 400))
	f.overQuota("one more", f.sendRow("d", f.Now().UnixMilli()+1, 400))
	f.Advance(retention/2 + 2*time.Hour)
	f.overQuota("more than was deleted", f.sendRow("d", f.Now().UnixMilli(), 601))
	f.accepted("as much", f.sendRow("d", f.Now().UnixMilli(), 600))
}

// checkRoomAfterRetentionAhead: nor does what is deleted because it is too far ahead of the clock.
func checkRoomAfterRetentionAhead(t *testing.T, s Suite) {
	f := s.openWith(t, Options{MaxBytes: 1000, Retention: 10 * time.Hour})
	f.accepted("a message", f.sendRow("d", 99999999999999, 600))
	f.accepted("an attribute", f.Store.SetAttributes(t.Context(), "d", telemetry.ClientScope, 1,
		[]payload.Field{{Key: "a", Value: payload.Text(strings.Repeat("x", 333))}}))
	f.overQuota("one more message", f.sendRow("d", 99999999999998, 400))
	f.Advance(time.Hour)
	f.sameUsage("after retention")
	f.overQuota("more than was deleted", f.sendRow("d", f.Now().UnixMilli(), 601))
	f.accepted("as much", f.sendRow("d", f.Now().UnixMilli(), 600))
}

// checkUsage: whatever is stored, replaced, refused and deleted, the bytes that count are those that
// there are.
func checkUsage(t *testing.T, s Suite) {
	const retention = 10 * time.Hour
	f := s.openWith(t, Options{MaxBytes: 4000, Retention: retention})
	f.use(telemetry.WithChildren(f.Store))
	reopen := f.Reopen
	f.Reopen = func() telemetry.Store { return telemetry.WithChildren(reopen()) }
	random := rand.New(rand.NewPCG(1, 2))
	devices := []string{"a", "b", "g", "g/1", "g/2"}
	keys := []string{"k", "l", "m"}
	start := f.Now().UnixMilli()
	for step := range 300 {
		device := devices[random.IntN(len(devices))]
		var err error
		switch n := random.IntN(20); {
		case n < 12:
			var list []payload.Message
			for range 1 + random.IntN(3) {
				m := message(start+int64(random.IntN(20))*60_000, payload.Field{Key: keys[random.IntN(len(keys))], Value: payload.Text(strings.Repeat("x", random.IntN(100)))})
				m.Arrived = random.IntN(3) == 0
				list = append(list, m)
			}
			err = f.Store.Append(t.Context(), device, list)
		case n < 15:
			err = f.Store.SetAttributes(t.Context(), device, telemetry.ClientScope, 1,
				[]payload.Field{{Key: keys[random.IntN(len(keys))], Value: payload.Text(strings.Repeat("y", random.IntN(200)))}})
		case n < 16:
			err = f.Store.DeleteAttributes(t.Context(), device, telemetry.ClientScope, keys[:2])
		case n < 19:
			status, _ := f.remove(strings.ReplaceAll(device, "/", "%2F"), fmt.Sprintf("keys=%s&startTs=%d&endTs=%d", keys[random.IntN(len(keys))], start, start+int64(random.IntN(20))*60_000))
			if status != 200 {
				t.Fatalf("status %d", status)
			}
		default:
			f.reopen()
		}
		if bad, ok := errors.AsType[*telemetry.PayloadError](err); err != nil && !ok || ok && !bad.Quota {
			t.Fatal(err)
		}
		if step%50 == 49 { // a store may take seconds to bring the bytes up to date
			f.sameUsage(fmt.Sprint("step ", step))
		}
	}
	f.Advance(2 * retention)
	f.sameUsage("after retention")
}

func (f *fixture) sameUsage(when string) {
	f.Helper()
	if counted, stored := f.Usage(); !maps.Equal(counted, stored) {
		f.Fatalf("%s: %v are counted, %v are stored", when, counted, stored)
	}
}
