package telemetrytest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// Suite describes one kind of store.
type Suite struct {
	// New opens a new, empty store, and closes it with t.Cleanup.
	New func(t *testing.T, o Options) Fixture
	// Wrap, if set, runs each check but the one against the model, in a synctest bubble for
	// example.
	Wrap func(t *testing.T, check func(t *testing.T))
}

// Options are those of the store that a check needs.
type Options struct {
	Retention time.Duration // 0 for none
	MaxBytes  int64         // 0 for telemetry.MaxBytes
}

// Fixture is one store and the ways to move it on.
type Fixture struct {
	Store telemetry.Store
	// Now returns the time of the store's clock, which is in 2025 or later.
	Now func() time.Time
	// Advance moves the store's clock on by d, and returns once the store has done what it
	// does in the background in that time.
	Advance func(d time.Duration)
	// Usage returns how many bytes the store counts for its accounts, and how many these have in
	// its tables, with telemetry.RowBytes for each row. Accounts without any are left out.
	Usage func() (counted, stored map[string]int64)
	// Reopen closes the store and returns one with the same data.
	Reopen func() telemetry.Store
}

// Run checks the store that s describes, each rule in a subtest of its own.
func Run(t *testing.T, s Suite) {
	t.Helper()
	if s.Wrap == nil {
		s.Wrap = func(t *testing.T, check func(t *testing.T)) { check(t) }
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s Suite)
	}{
		{"Types", checkTypes},
		{"SameTimeIsMerged", checkMerge},
		{"ArrivedMessagesAreKept", checkArrived},
		{"MessageWithTimeReplaces", checkReplace},
		{"MergedMessageIsBounded", checkMergeBound},
		{"AppendIsAllOrNothing", checkAllOrNothing},
		{"LatestIsNewestByItsOwnTime", checkLatest},
		{"Ranges", checkRanges},
		{"PagesBetweenTimes", checkPages},
		{"LongRanges", checkLongRanges},
		{"Aggregates", checkAggregates},
		{"Attributes", checkAttributes},
		{"AttributesAreBounded", checkAttributeBound},
		{"AttributeRequests", checkAttributeRequests},
		{"ScopesAreApart", checkScopes},
		{"AttributesAreDeleted", checkDeletion},
		{"SharedAttributes", checkShared},
		{"TelemetryIsDeletedAsByThingsBoard", checkTelemetryDeletion},
		{"ValueOfTheFutureIsMended", checkDeletionOfAFutureValue},
		{"KeyWithoutNewestValueKeepsMessages", checkKeyWithoutLatest},
		{"DeletionKeepsOrder", checkDeletionInOneTime},
		{"DeletionTakesManySteps", checkManyDeletions},
		{"MissingKeyReadsNoMessages", checkMissingKey},
		{"KeysAreBounded", checkKeyBound},
		{"BytesAreBounded", checkByteBound},
		{"BytesOfChildrenAreBounded", checkChildBytes},
		{"BytesOfAttributesAreBounded", checkAttributeBytes},
		{"DeletionMakesRoom", checkRoomAfterDeletion},
		{"RetentionMakesRoom", checkRoomAfterRetention},
		{"RetentionOfWhatLiesAheadMakesRoom", checkRoomAfterRetentionAhead},
		{"BytesAreCountedExactly", checkUsage},
		{"Retention", checkRetention},
		{"NoRetention", checkNoRetention},
		{"RetentionDeletesWhatLiesAhead", checkAhead},
		{"Children", checkChildren},
		{"ChildrenAreStoredAllOrNone", checkChildrenAreWhole},
		{"ManyChildren", checkManyChildren},
		{"AttributeRequestsOfGateways", checkChildRequests},
		{"TelemetryOfChildrenIsDeleted", checkChildDeletion},
		{"KeysOfChildrenAreBounded", checkChildKeys},
		{"RetentionOfChildren", checkChildRetention},
		{"KeyBehindManyMessages", checkKeyBehindMany},
		{"Names", checkNames},
		{"Concurrent", checkConcurrent},
		{"Canceled", checkCanceled},
		{"Closed", checkClosed},
		{"HTTP", checkHTTP},
		{"HTTPSubjects", checkHTTPSubjects},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Wrap(t, func(t *testing.T) { c.run(t, s) })
		})
	}
	t.Run("Model", func(t *testing.T) { checkModel(t, s) })
}

// fixture is a Fixture with the ways in which checks use it.
type fixture struct {
	Fixture
	*testing.T
	intake *telemetry.Intake
}

func (s Suite) open(t *testing.T, retention time.Duration) *fixture {
	t.Helper()
	return s.openWith(t, Options{Retention: retention})
}

func (s Suite) openWith(t *testing.T, o Options) *fixture {
	t.Helper()
	f := &fixture{Fixture: s.New(t, o), T: t}
	f.use(f.Store)
	return f
}

func (f *fixture) use(s telemetry.Store) {
	f.Store = s
	f.intake = &telemetry.Intake{Store: s, Now: f.Now}
}

func (f *fixture) reopen() {
	f.Helper()
	f.use(f.Reopen())
}

// publish stores a payload that arrives now.
func (f *fixture) publish(device, data string) {
	f.Helper()
	if err := f.intake.Telemetry(f.Context(), device, []byte(data)); err != nil {
		f.Errorf("publish to %s: %v", device, err)
	}
}

// append stores a payload that arrived at ts.
func (f *fixture) append(device string, ts int64, data string) {
	f.Helper()
	messages, err := payload.Parse([]byte(data), time.UnixMilli(ts), payload.Options{})
	if err == nil {
		err = f.Store.Append(f.Context(), device, messages)
	}
	if err != nil {
		f.Errorf("append to %s: %v", device, err)
	}
}

func (f *fixture) setAttributes(device string, updated int64, data string) {
	f.Helper()
	fields, err := payload.ParseAttributes([]byte(data), payload.Options{})
	if err == nil {
		err = f.Store.SetAttributes(f.Context(), device, telemetry.ClientScope, updated, fields)
	}
	if err != nil {
		f.Errorf("attributes of %s: %v", device, err)
	}
}

// refused checks that err is a *PayloadError and nothing else.
func (f *fixture) refused(what string, err error) {
	f.Helper()
	if _, ok := errors.AsType[*telemetry.PayloadError](err); !ok || errors.Is(err, telemetry.ErrStore) {
		f.Errorf("%s: error %v, want a *PayloadError", what, err)
	}
}

// latest shows the newest values of a device as "key=value@ts", in order of keys. It also
// checks that Keys returns the same keys.
func (f *fixture) latest(device string, keys ...string) string {
	f.Helper()
	points, err := telemetry.Latest(f.Context(), f.Store, device, keys...)
	if err != nil {
		f.Fatal(err)
	}
	names, err := telemetry.Keys(f.Context(), f.Store, device)
	if err != nil {
		f.Fatal(err)
	}
	var parts []string
	for _, key := range names {
		if p, ok := points[key]; ok {
			parts = append(parts, key+"="+show(p))
		}
	}
	if len(parts) != len(points) || len(keys) == 0 && len(names) != len(points) {
		f.Errorf("Keys returns %v, Latest %d points", names, len(points))
	}
	return strings.Join(parts, " ")
}

// points shows what a query finds, key by key.
func (f *fixture) points(q telemetry.Query) string {
	f.Helper()
	points, err := telemetry.Points(f.Context(), f.Store, q)
	if err != nil {
		f.Fatal(err)
	}
	var parts []string
	for _, key := range q.Keys {
		for _, p := range points[key] {
			parts = append(parts, show(p))
		}
	}
	return strings.Join(parts, " ")
}

// attributes shows the attributes of a device like latest.
func (f *fixture) attributes(device string, keys ...string) string {
	f.Helper()
	list, err := telemetry.Attributes(f.Context(), f.Store, device, telemetry.ClientScope, keys...)
	if err != nil {
		f.Fatal(err)
	}
	var parts []string
	for _, a := range list {
		parts = append(parts, a.Key+"="+show(a.Point))
	}
	return strings.Join(parts, " ")
}

// messages returns how many messages of a device there are, whatever their time.
func (f *fixture) messages(device string) (n int) {
	f.Helper()
	for _, err := range f.Store.Messages(f.Context(), telemetry.Range{Device: device, Start: -1 << 63, End: 1<<63 - 1}) {
		if err != nil {
			f.Fatal(err)
		}
		n++
	}
	return n
}

func (f *fixture) check(what, got, want string) {
	f.Helper()
	if got != want {
		f.Errorf("%s:\n got %.500s\nwant %.500s", what, got, want)
	}
}

// get asks the HTTP API about a device and returns status and body.
func (f *fixture) get(path string) (int, string) {
	f.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(f.Context(), http.MethodGet, "/api/plugins/telemetry/DEVICE/"+path, nil)
	telemetry.Handler(f.Store, nil).ServeHTTP(w, r)
	if !json.Valid(w.Body.Bytes()) {
		f.Errorf("%s: the answer is not JSON: %s", path, w.Body)
	}
	return w.Code, strings.TrimSuffix(w.Body.String(), "\n")
}

func show(p telemetry.Point) string {
	return string(p.Value.AppendJSON(nil)) + "@" + strconv.FormatInt(p.TS, 10)
}

func message(ts int64, fields ...payload.Field) payload.Message {
	return payload.Message{TS: ts, Fields: fields}
}

// readers are the methods of telemetry.Reader, each of which reads all that it finds.
func (f *fixture) readers(ctx context.Context, device string) map[string]func() error {
	return map[string]func() error{
		"Keys":         func() error { _, err := telemetry.Keys(ctx, f.Store, device); return err },
		"Latest":       func() error { _, err := telemetry.Latest(ctx, f.Store, device); return err },
		"Latest(keys)": func() error { _, err := telemetry.Latest(ctx, f.Store, device, "a", "b"); return err },
		"Attributes":   func() error { _, err := telemetry.Attributes(ctx, f.Store, device, telemetry.ClientScope); return err },
		"Messages": func() error {
			_, err := telemetry.Points(ctx, f.Store, telemetry.Query{Device: device, Keys: []string{"a"}, End: 10})
			return err
		},
	}
}

// numbered returns fields whose keys are the numbers from one up to another.
func numbered(from, to int) []payload.Field {
	fields := make([]payload.Field, 0, to-from)
	for i := from; i < to; i++ {
		fields = append(fields, payload.Field{Key: strconv.Itoa(i), Value: payload.Long(int64(i))})
	}
	return slices.Clip(fields)
}
