package telemetry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// recorder is a Writer that notes what it gets, and waits for the gate if it has one.
type recorder struct {
	gate chan struct{}
	err  error

	mu      sync.Mutex
	calls   []string
	waiting int
}

func (r *recorder) Append(_ context.Context, device string, messages []payload.Message) error {
	if r.gate != nil {
		r.mu.Lock()
		r.waiting++
		r.mu.Unlock()
		<-r.gate
		return r.err
	}
	for _, m := range messages {
		r.calls = append(r.calls, fmt.Sprintf("%s %d %t %s", device, m.TS, m.Arrived, payload.AppendObject(nil, m.Fields)))
	}
	return r.err
}

func (r *recorder) DeleteAttributes(context.Context, string, Scope, []string) error { return nil }

func (r *recorder) SetAttributes(_ context.Context, device string, _ Scope, updated int64, fields []payload.Field) error {
	r.calls = append(r.calls, fmt.Sprintf("%s %d %s", device, updated, payload.AppendObject(nil, fields)))
	return r.err
}

func (r *recorder) AppendAll(_ context.Context, parts []Part) error {
	for _, p := range parts {
		r.calls = append(r.calls, fmt.Sprintf("%s %d messages, %d attributes", p.Device, len(p.Messages), len(p.Attributes)))
	}
	return r.err
}

func (r *recorder) check(t *testing.T, want ...string) {
	t.Helper()
	if got := strings.Join(r.calls, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// at is a clock that stands still.
func at(ms int64) func() time.Time { return func() time.Time { return time.UnixMilli(ms) } }

// TestTextsAreCastUnlessTheyAreKept: "1.10" is the number 1.1 as with ThingsBoard, or a text. A ts in
// a text is a time in both cases.
func TestTextsAreCastUnlessTheyAreKept(t *testing.T) {
	for keep, want := range map[bool][]string{
		false: {`d 5 false {"fw":1.1,"n":7}`, `d 1000 {"fw":1.1}`},
		true:  {`d 5 false {"fw":"1.10","n":7}`, `d 1000 {"fw":"1.10"}`},
	} {
		var r recorder
		i := Intake{Store: &r, Now: at(1000), KeepText: keep}
		if err := i.Telemetry(t.Context(), "d", []byte(`{"ts":"5","values":{"fw":"1.10",n:7}}`)); err != nil {
			t.Error(err)
		}
		if err := i.Attributes(t.Context(), "d", []byte(`{"fw":"1.10"}`)); err != nil {
			t.Error(err)
		}
		r.check(t, want...)
	}
}

func TestIntakeParsesPayloads(t *testing.T) {
	var r recorder
	i := Intake{Store: &r, Now: at(1000)}
	for _, data := range []string{`{temperature:25}`, `[{"ts":5,"values":{"a":"1.0"}},{"b":true}]`, `[]`, `{}`} {
		if err := i.Telemetry(t.Context(), "d", []byte(data)); err != nil {
			t.Error(err)
		}
		if err := i.Attributes(t.Context(), "e", []byte(strings.NewReplacer("[", "{a:[", "]", "]}").Replace(data))); err != nil {
			t.Error(err)
		}
	}
	r.check(t,
		`d 1000 true {"temperature":25}`, `e 1000 {"temperature":25}`,
		`d 5 false {"a":1.0}`, `d 1000 true {"b":true}`, `e 1000 {"a":[{"ts":5,"values":{"a":"1.0"}},{"b":true}]}`,
		`e 1000 {"a":[]}`)
}

func TestStrictIntakeCastsNothing(t *testing.T) {
	var r recorder
	i := Intake{Store: &r, Now: at(1), StrictJSON: true}
	if err := i.Telemetry(t.Context(), "d", []byte(`{"a":1,"b":1.0,"c":"1","d":true,"e":"true"}`)); err != nil {
		t.Fatal(err)
	}
	r.check(t, `d 1 true {"a":1,"b":1.0,"c":"1","d":true,"e":"true"}`)
	if err := i.Telemetry(t.Context(), "d", []byte(`{a:1}`)); !isPayloadError(err) {
		t.Errorf("error %v, want *PayloadError", err)
	}
}

func TestBadPayloadIsPermanent(t *testing.T) {
	var r recorder
	i := Intake{Store: &r}
	for _, call := range []func(context.Context, string, []byte) error{i.Telemetry, i.Attributes} {
		for _, data := range []string{
			``, `{"a":1,}`, `{"":1}`, `[1,2,3,4,5]`, `{"a":"` + strings.Repeat("x", MaxPayload) + `"}`, `{"a":[` + strings.Repeat("1,", 20_000) + `1]}`,
		} {
			if err := call(t.Context(), "d", []byte(data)); !isPayloadError(err) || errors.Is(err, ErrStore) {
				t.Errorf("%.20q: error %v, want *PayloadError", data, err)
			}
		}
	}
	if stats := i.Stats(); stats.Refused != 12 || len(r.calls) != 0 {
		t.Errorf("stats %+v, calls %v", stats, r.calls)
	}
}

// TestIntakeCountsWhatTheStoreRefuses: temporary failures of the store are not counted as refused.
func TestIntakeCountsWhatTheStoreRefuses(t *testing.T) {
	r := recorder{err: fmt.Errorf("%w: no room", ErrStore)}
	i := Intake{Store: &r}
	for _, want := range []int64{0, 1} {
		if err := i.Telemetry(t.Context(), "d", []byte(`{"a":1}`)); !errors.Is(err, r.err) {
			t.Errorf("error %v, want %v", err, r.err)
		}
		if n := i.Stats().Refused; n != want {
			t.Errorf("%v: %d calls counted, want %d", r.err, n, want)
		}
		r.err = &PayloadError{Reason: "too many keys"}
	}
}

// TestTimeFarAheadBecomesThatOfArrival: otherwise it would be the newest value for years.
func TestTimeFarAheadBecomesThatOfArrival(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	var r recorder
	i := Intake{Store: &r, Now: at(now)}
	last := now + MaxAhead.Milliseconds()
	data := fmt.Appendf(nil, `[{"ts":%d,"values":{"a":1}},{"ts":%d,"values":{"b":1}},{"ts":9223372036854775807,"values":{"b":2}}]`, last, last+1)
	if err := i.Telemetry(t.Context(), "d", data); err != nil {
		t.Fatal(err)
	}
	r.check(t, fmt.Sprintf(`d %d false {"a":1}`, last), fmt.Sprintf(`d %d true {"b":1}`, now), fmt.Sprintf(`d %d true {"b":2}`, now))
	if n := i.Stats().Ahead; n != 2 {
		t.Errorf("%d messages counted, want 2", n)
	}
}

func TestTimeFarAheadIsRefusedIfStrict(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	var r recorder
	i := Intake{Store: &r, Now: at(now), StrictJSON: true}
	last := now + MaxAhead.Milliseconds()
	if err := i.Telemetry(t.Context(), "d", fmt.Appendf(nil, `{"ts":%d,"values":{"a":1}}`, last)); err != nil {
		t.Error(err)
	}
	if err := i.Telemetry(t.Context(), "d", fmt.Appendf(nil, `[{"a":2},{"ts":%d,"values":{"a":3}}]`, last+1)); !isPayloadError(err) {
		t.Errorf("error %v, want *PayloadError", err)
	}
	r.check(t, fmt.Sprintf(`d %d false {"a":1}`, last))
	if stats := i.Stats(); stats.Refused != 1 || stats.Ahead != 0 {
		t.Errorf("stats %+v", stats)
	}
}

// TestClockThatIsNotSet: a machine without a battery does not take the present for the
// future.
func TestClockThatIsNotSet(t *testing.T) {
	var r recorder
	i := Intake{Store: &r, Now: at(1000)}
	if err := i.Telemetry(t.Context(), "d", []byte(`{"ts":1767225600000,"values":{"a":1}}`)); err != nil {
		t.Fatal(err)
	}
	r.check(t, `d 1767225600000 false {"a":1}`)
}

// TestPayloadsThatWaitAreBoundedInBytes: all devices may publish the largest payloads at once while
// the store is slow.
func TestPayloadsThatWaitAreBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recorder{gate: make(chan struct{})}
		i := Intake{Store: &r}
		large := []byte(`{"a":"` + strings.Repeat("x", MaxPayload-20) + `"}`)
		small := []byte(`{"a":1}`)
		outcomes := make(chan error, 100)
		send := func(ctx context.Context, data []byte) {
			go func() { outcomes <- i.Telemetry(ctx, "d", data) }()
			synctest.Wait()
		}
		for range 50 {
			send(t.Context(), large)
		}
		const most = intakeMemory / (3 * MaxPayload)
		if r.waiting == 0 || r.waiting > most {
			t.Errorf("%d large payloads are in memory, want 1 to %d", r.waiting, most)
		}
		ctx, cancel := context.WithCancel(t.Context())
		send(ctx, small)
		cancel()
		if err := <-outcomes; !errors.Is(err, context.Canceled) {
			t.Errorf("a call that gave up: error %v, want context.Canceled", err)
		}
		close(r.gate)
		for range 50 {
			if err := <-outcomes; err != nil {
				t.Error(err)
			}
		}

		r.gate, r.waiting = make(chan struct{}), 0
		for range 2000 {
			go func() { _ = i.Telemetry(t.Context(), "d", small) }()
		}
		synctest.Wait()
		if r.waiting != 2000 {
			t.Errorf("%d of 2000 small payloads have room", r.waiting)
		}
		close(r.gate)
	})
}

// TestStoredMessagesAreReported once they are stored, and not if they were not.
func TestStoredMessagesAreReported(t *testing.T) {
	var r recorder
	var reported []string
	i := Intake{Store: &r, Now: at(1000)}
	i.StoredTelemetry = func(_ context.Context, device string, messages []payload.Message) error {
		for _, m := range messages {
			reported = append(reported, fmt.Sprintf("%s telemetry %d %s after %d", device, m.TS, payload.AppendObject(nil, m.Fields), len(r.calls)))
		}
		return nil
	}
	i.StoredAttributes = func(_ context.Context, device string, updated int64, fields []payload.Field) error {
		reported = append(reported, fmt.Sprintf("%s attributes %d %s after %d", device, updated, payload.AppendObject(nil, fields), len(r.calls)))
		return nil
	}
	send := func(data string) {
		_ = i.Telemetry(t.Context(), "d", []byte(data))
		_ = i.Attributes(t.Context(), "d", []byte(data))
	}
	for _, data := range []string{"{}", "{bad", `{"a":1}`} {
		send(data)
	}
	if err := i.Telemetry(t.Context(), "d", []byte(`[{"ts":5,"values":{"b":"x"}},{"ts":6,"values":{"b":"y"}}]`)); err != nil {
		t.Fatal(err)
	}
	r.err = ErrStore
	send(`{"a":2}`)
	want := []string{
		`d telemetry 1000 {"a":1} after 1`, `d attributes 1000 {"a":1} after 2`,
		`d telemetry 5 {"b":"x"} after 4`, `d telemetry 6 {"b":"y"} after 4`,
	}
	if !slices.Equal(reported, want) {
		t.Errorf("reported %q, want %q", reported, want)
	}
}
