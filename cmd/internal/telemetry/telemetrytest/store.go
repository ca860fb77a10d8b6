package telemetrytest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

func checkTypes(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.append("d1", 1000, `{temperature:25}`)
	f.append("d1", 0, `{"ts":2000,"values":{"double":25.0,"text":"x1","bool":true,"json":{"a":[1,2.50,null]},"big":1e19,"nul":"\u0000"}}`)
	const want = `big="10000000000000000000"@2000 bool=true@2000 double=25.0@2000 json={"a":[1,2.50,null]}@2000 nul="\u0000"@2000 temperature=25@1000 text="x1"@2000`
	f.check("latest", f.latest("d1"), want)
	f.check("one key", f.latest("d1", "temperature", "unknown"), `temperature=25@1000`)
	f.check("another device", f.latest("d2"), ``)
	f.reopen()
	f.check("reopened", f.latest("d1"), want)
	f.check("range", f.points(telemetry.Query{Device: "d1", Keys: []string{"json", "nul", "temperature"}, End: 5000}),
		`{"a":[1,2.50,null]}@2000 "\u0000"@2000 25@1000`)

	values := []payload.Field{
		{Key: "a", Value: payload.Long(1)}, {Key: "b", Value: payload.Double(1)}, {Key: "c", Value: payload.Text("1")},
		{Key: "d", Value: payload.Bool(true)}, {Key: "e", Value: payload.Text("true")},
	}
	if err := f.Store.Append(t.Context(), "strict", []payload.Message{message(1, values...)}); err != nil {
		t.Fatal(err)
	}
	f.check("what casts would merge", f.latest("strict"), `a=1@1 b=1.0@1 c="1"@1 d=true@1 e="true"@1`)
}

func checkMerge(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.publish("d", `{"ts":5,"values":{"a":1,"j":{"x":1,"n":null}}}`)
	f.publish("d", `[{"ts":5,"values":{"b":2}},{"ts":5,"values":{"a":3,"j":{"y":null}}}]`)
	f.check("latest", f.latest("d"), `a=3@5 b=2@5 j={"y":null}@5`)
	f.check("range", f.points(telemetry.Query{Device: "d", Keys: []string{"a", "b", "j"}, End: 9}), `3@5 2@5 {"y":null}@5`)
}

// checkArrived: any number of messages may arrive in a millisecond.
func checkArrived(t *testing.T, s Suite) {
	f := s.open(t, 0)
	before := f.Store.Stats().Messages
	f.append("d", 5, `{"a":1,"b":1}`)
	f.append("d", 5, `[{"a":2},{"a":2},{"ts":4,"values":{"a":0}},{"b":3}]`)
	f.append("e", 5, `{"a":9}`)
	a := telemetry.Query{Device: "d", Keys: []string{"a"}, End: 9}
	f.check("newest first", f.points(a), `2@5 2@5 1@5 0@4`)
	a.Order = "ASC"
	f.check("oldest first", f.points(a), `0@4 1@5 2@5 2@5`)
	f.check("b", f.points(telemetry.Query{Device: "d", Keys: []string{"b"}, End: 9}), `3@5 1@5`)
	f.check("latest", f.latest("d"), `a=2@5 b=3@5`)
	f.check("count", f.points(telemetry.Query{Device: "d", Keys: []string{"a"}, End: 10, Interval: 10, Aggregate: "COUNT"}), `4@5`)
	f.check("sum", f.points(telemetry.Query{Device: "d", Keys: []string{"a"}, End: 10, Interval: 10, Aggregate: "SUM"}), `5@5`)
	if n := f.Store.Stats().Messages - before; n != 6 || f.messages("d") != 5 {
		t.Errorf("%d messages counted, want 6; %d of d stored, want 5", n, f.messages("d"))
	}
}

// checkReplace: what a device sends with a time replaces the values of that time, whether
// they were sent with it or arrived then.
func checkReplace(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.append("d", 5, `[{"a":1,"b":1},{"a":2,"c":2},{"a":3}]`)
	f.publish("d", `{"ts":5,"values":{"a":4,"c":4}}`)
	f.publish("d", `{"ts":5,"values":{"a":5}}`)
	all := telemetry.Query{Device: "d", Keys: []string{"a", "b", "c"}, End: 9}
	f.check("replaced", f.points(all), `5@5 1@5 4@5`)
	f.check("latest", f.latest("d"), `a=5@5 b=1@5 c=4@5`)
	f.append("d", 5, `{"a":6}`)
	f.check("what arrives later replaces nothing", f.points(all), `6@5 5@5 1@5 4@5`)
	f.check("latest after it", f.latest("d"), `a=6@5 b=1@5 c=4@5`)
}

func checkMergeBound(t *testing.T, s Suite) {
	f := s.open(t, 0)
	text := strings.Repeat("x", telemetry.MaxPayload*6/10)
	f.publish("d", `{"ts":5,"values":{"a":"`+text+`"}}`)
	err := f.intake.Telemetry(t.Context(), "d", []byte(`{"ts":5,"values":{"b":"`+text+`"}}`))
	f.refused("a message that would become too large", err)
	f.publish("d", `{"ts":5,"values":{"c":1}}`)
	f.check("kept", f.points(telemetry.Query{Device: "d", Keys: []string{"b", "c"}, End: 9}), `1@5`)
	f.check("latest", f.latest("d", "b", "c"), `c=1@5`)
}

// checkAllOrNothing: if one message of a payload is refused, none of the payload is stored. Other
// devices are not affected.
func checkAllOrNothing(t *testing.T, s Suite) {
	f := s.open(t, 0)
	text := strings.Repeat("x", telemetry.MaxPayload*6/10)
	f.publish("d", `{"ts":5,"values":{"a":"`+text+`"}}`)
	var calls sync.WaitGroup
	for i := range 10 {
		calls.Go(func() {
			f.refused("in the middle", f.intake.Telemetry(t.Context(), "d",
				[]byte(`[{"ts":6,"values":{"a":1}},{"ts":5,"values":{"b":"`+text+`"}},{"ts":7,"values":{"c":1}}]`)))
		})
		calls.Go(func() { f.publish(fmt.Sprint(i), `{"ts":6,"values":{"a":1}}`) })
	}
	calls.Wait()
	f.check("latest", f.latest("d", "b", "c"), ``)
	if n := f.messages("d"); n != 1 {
		t.Errorf("%d messages are stored, want the first alone", n)
	}
	for i := range 10 {
		f.check("another device", f.latest(fmt.Sprint(i)), `a=1@6`)
	}
}

func checkLatest(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.publish("d", `{"ts":20,"values":{"a":1,"b":1}}`)
	f.publish("d", `{"ts":10,"values":{"a":2,"c":2}}`)
	f.publish("d", `{"ts":20,"values":{"b":3}}`)
	f.check("latest", f.latest("d"), `a=1@20 b=3@20 c=2@10`)
	f.reopen()
	f.publish("d", `{"ts":15,"values":{"a":9,"c":9}}`)
	f.check("reopened", f.latest("d"), `a=1@20 b=3@20 c=9@15`)
	f.check("some", f.latest("d", "c", "a", "z"), `a=1@20 c=9@15`)
}

func checkAttributes(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.setAttributes("d", 1000, `{attribute1: value1, attribute2: true}`)
	f.setAttributes("e", 1000, `{"attribute1":1}`)
	f.setAttributes("d", 2000, `{"attribute2":"1.0","attribute3":{"a":null},"gone":null}`)
	f.setAttributes("d", 3000, `{}`)
	const want = `attribute1="value1"@1000 attribute2=1.0@2000 attribute3={"a":null}@2000`
	f.check("all", f.attributes("d"), want)
	f.check("some", f.attributes("d", "attribute3", "unknown"), `attribute3={"a":null}@2000`)
	f.check("another device", f.attributes("e"), `attribute1=1@1000`)
	f.check("telemetry", f.latest("d"), ``)
	f.reopen()
	f.check("reopened", f.attributes("d"), want)
}

func checkAttributeBound(t *testing.T, s Suite) {
	f := s.open(t, 0)
	set := func(device string, from, to int) error {
		return f.Store.SetAttributes(t.Context(), device, telemetry.ClientScope, 1, numbered(from, to))
	}
	const most = telemetry.MaxAttributes
	if err := set("d", 0, most); err != nil {
		t.Fatal(err)
	}
	if err := set("d", most-10, most); err != nil {
		t.Errorf("known ones again: %v", err)
	}
	f.refused("one more", set("d", most-1, most+1))
	if err := set("e", 0, 1); err != nil {
		t.Errorf("another device: %v", err)
	}
	if list, err := telemetry.Attributes(t.Context(), f.Store, "d", telemetry.ClientScope); err != nil || len(list) != most {
		t.Errorf("%d attributes, error %v", len(list), err)
	}
}

// checkKeyBound: no device can have so many keys that reading them slows others down.
func checkKeyBound(t *testing.T, s Suite) {
	f := s.open(t, 0)
	send := func(device string, from, to int) error {
		return f.Store.Append(t.Context(), device, []payload.Message{message(1, numbered(from, to)...)})
	}
	const most = telemetry.MaxKeys
	accepted := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for from := 0; from < most; from += most / 4 {
		accepted("within the bound", send("d", from, from+most/4))
	}
	err := send("d", most, most+1)
	f.refused("one more", err)
	if bad, ok := errors.AsType[*telemetry.PayloadError](err); !ok || !bad.Quota {
		t.Errorf("error %v does not say that it is a quota", err)
	}
	f.refused("one more among known ones", send("d", most-5, most+1))
	accepted("known ones", send("d", 0, most/2))
	accepted("another device", send("e", most, most+1))
	f.reopen()
	f.setAttributes("d", 1, `{"attribute":1}`) // which has no part in the count
	f.refused("one more after reopening", send("d", most, most+1))
	accepted("known ones after reopening", send("d", most-10, most))
	if keys, err := telemetry.Keys(t.Context(), f.Store, "d"); err != nil || len(keys) != most {
		t.Errorf("%d keys, error %v", len(keys), err)
	}
}

// checkNames: names and texts come from devices. A store keeps them as they are, or refuses
// permanently what its database cannot store: after a temporary error a device would send it
// forever.
func checkNames(t *testing.T, s Suite) {
	f := s.open(t, 0)
	for _, device := range []string{"a b", "a/b", "日本", "'; DROP TABLE telemetry", `\`, "%s", strings.Repeat("n", 1000)} {
		f.publish(device, `{"ts":1,"values":{"k":1}}`)
		f.check("latest of "+device, f.latest(device), `k=1@1`)
	}
	for _, device := range []string{"", "\xff"} {
		if err := f.intake.Telemetry(t.Context(), device, []byte(`{"a":1}`)); err == nil {
			t.Errorf("device %q: accepted", device)
		}
		if err := f.intake.Attributes(t.Context(), device, []byte(`{"a":1}`)); err == nil {
			t.Errorf("attributes of device %q: accepted", device)
		}
	}
	for _, key := range []string{"a b", "'", `"`, `\`, "日本", "\u202e", strings.Repeat("k", 255)} {
		fields := []payload.Field{{Key: key, Value: payload.Text(key)}}
		if err := f.Store.Append(t.Context(), "keys", []payload.Message{message(1, fields...)}); err != nil {
			t.Errorf("key %q: %v", key, err)
		}
		if p, err := telemetry.Latest(t.Context(), f.Store, "keys", key); err != nil || p[key].Value != payload.Text(key) {
			t.Errorf("key %q: %v, error %v", key, p[key], err)
		}
	}
	nul := []payload.Field{{Key: "a\x00b", Value: payload.Long(1)}}
	for what, err := range map[string]error{
		"telemetry":  f.Store.Append(t.Context(), "nul", []payload.Message{message(1, nul...)}),
		"attributes": f.Store.SetAttributes(t.Context(), "nul", telemetry.ClientScope, 1, nul),
	} {
		if err != nil {
			f.refused(what+" with a NUL in a key", err)
		}
	}
}

// checkConcurrent: each device sees what it has stored, whatever the others do.
func checkConcurrent(t *testing.T, s Suite) {
	const devices, messages = 50, 20
	f := s.open(t, 0)
	before := f.Store.Stats()
	var publishers sync.WaitGroup
	for d := range devices {
		publishers.Go(func() {
			for i := range messages {
				f.publish(fmt.Sprint(d), fmt.Sprintf(`{"ts":%d,"values":{"n":%d,"m":1}}`, i, i))
				if p, err := telemetry.Latest(t.Context(), f.Store, fmt.Sprint(d), "n"); err != nil || p["n"].TS != int64(i) {
					t.Errorf("device %d does not see its message %d: %v, error %v", d, i, p, err)
				}
			}
		})
	}
	publishers.Wait()
	after := f.Store.Stats()
	if after.Messages-before.Messages != devices*messages || after.Points-before.Points != 2*devices*messages ||
		after.Errors != 0 || after.Queued != 0 || after.Commits <= before.Commits {
		t.Errorf("stats %+v", after)
	}
	for d := range devices {
		if n := f.messages(fmt.Sprint(d)); n != messages {
			t.Errorf("device %d has %d messages, want %d", d, n, messages)
		}
	}
}

func checkCanceled(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.publish("d", `{"ts":1,"values":{"b":1}}`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls := f.readers(ctx, "d")
	calls["Append"] = func() error { return f.intake.Telemetry(ctx, "d", []byte(`{"a":1}`)) }
	calls["SetAttributes"] = func() error { return f.intake.Attributes(ctx, "d", []byte(`{"a":1}`)) }
	for name, call := range calls {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v, want context.Canceled", name, err)
		}
	}
	f.publish("d", `{"ts":1,"values":{"b":2}}`)
	f.check("afterwards", f.latest("d", "b"), `b=2@1`)
}

func checkClosed(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.publish("d", `{"a":1}`)
	if err := f.Store.Writable(); err != nil {
		t.Errorf("not writable: %v", err)
	}
	for range 2 {
		if err := f.Store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	calls := f.readers(t.Context(), "d")
	calls["Append"] = func() error { return f.intake.Telemetry(t.Context(), "d", []byte(`{"a":1}`)) }
	calls["SetAttributes"] = func() error { return f.intake.Attributes(t.Context(), "d", []byte(`{"a":1}`)) }
	calls["Writable"] = f.Store.Writable
	for name, call := range calls {
		if err := call(); !errors.Is(err, telemetry.ErrStore) {
			t.Errorf("%s: error %v, want ErrStore", name, err)
		}
	}
	if f.Store.Stats().Messages != 1 {
		t.Error("Stats forgets when the store is closed")
	}
}

func checkRetention(t *testing.T, s Suite) {
	const retention = 10 * time.Hour
	f := s.open(t, retention)
	start := f.Now()
	var old []payload.Message
	for i := range 1500 {
		old = append(old, message(start.UnixMilli()+int64(i), payload.Field{Key: "a", Value: payload.Long(1)}))
	}
	devices := []string{"0", "1", "2"}
	for _, device := range devices {
		if err := f.Store.Append(t.Context(), device, old); err != nil {
			t.Fatal(err)
		}
	}
	f.setAttributes("0", 7, `{"a":1}`)
	f.Advance(retention / 2)
	young := f.Now().UnixMilli()
	f.publish("1", `{"b":1}`)
	f.publish("1", `{"ts":1,"values":{"ancient":1}}`)
	f.Advance(retention / 4)
	f.check("what is not old yet", fmt.Sprint(f.messages("0"), f.messages("1"), f.messages("2")), "1500 1501 1500")
	f.Advance(retention/4 + time.Hour)
	f.check("what was old", fmt.Sprint(f.messages("0"), f.messages("1"), f.messages("2")), "0 1 0")
	f.check("old device", f.latest("0"), ``)
	f.check("young device", f.latest("1"), fmt.Sprintf(`b=1@%d`, young))
	f.check("attributes", f.attributes("0"), `a=1@7`)
	f.Advance(retention)
	for _, device := range devices {
		f.check("after another retention", fmt.Sprint(f.messages(device), f.latest(device)), `0`)
	}
}

func checkNoRetention(t *testing.T, s Suite) {
	f := s.open(t, 0)
	f.publish("d", `{"ts":1,"values":{"a":1}}`)
	f.Advance(48 * time.Hour)
	f.check("latest", f.latest("d"), `a=1@1`)
	if n := f.messages("d"); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// checkAhead: such messages are from before there was a bound. The newest value is then the
// newest of those that are left.
func checkAhead(t *testing.T, s Suite) {
	const retention = 48 * time.Hour
	f := s.open(t, retention)
	now := f.Now().UnixMilli()
	for i := range int64(600) {
		// Append, unlike an Intake, does not look at times.
		f.append("d", 99999999999999+i, `{"a":99,"gone":1}`)
	}
	f.publish("d", `[{"a":1,"b":1},{"a":2}]`)
	kept := now + (retention - time.Hour).Milliseconds()
	f.append("e", kept, `{"a":7}`)
	f.Advance(time.Hour)
	f.check("latest", f.latest("d"), fmt.Sprintf(`a=2@%d b=1@%d`, now, now))
	f.check("within the retention", f.latest("e"), fmt.Sprintf(`a=7@%d`, kept))
	if n := f.messages("d"); n != 2 {
		t.Errorf("%d messages are left, want 2", n)
	}
}
