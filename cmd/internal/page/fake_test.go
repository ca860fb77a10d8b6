package page

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page/history"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/refusals"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// fleet is a list of sessions, and what was done to them.
type fleet struct {
	mu      sync.Mutex
	clients []*proxy.Client
}

// newFleet returns n sessions.
func newFleet(n int) *fleet {
	f := &fleet{}
	now := time.Now()
	for i := range n {
		f.clients = append(f.clients, &proxy.Client{
			ID: uint64(i + 1), ClientID: fmt.Sprintf("client-%05d", i), Listener: "tls", Level: 5, TLS: 0x0304, Server: "tcp://10.0.0.1:1883",
			Grant:     &authz.Grant{TokenID: fmt.Sprintf("pump-%05d-k3x2aa", i), Subject: fmt.Sprintf("pump-%05d", i)},
			TokenHash: [32]byte{byte(i), byte(i >> 8)},
			Addr:      netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), uint16(20000+i%40000)),
			Since:     now.Add(-time.Duration(n-i) * 7 * time.Second),
		})
	}
	return f
}

func (f *fleet) sessions() iter.Seq2[*proxy.Client, func() proxy.Activity] {
	return func(yield func(*proxy.Client, func() proxy.Activity) bool) {
		f.mu.Lock()
		all := f.clients
		f.mu.Unlock()
		for _, c := range all {
			if !yield(c, func() proxy.Activity {
				return proxy.Activity{Up: int64(c.ID) * 1234, Down: int64(c.ID) * 87, Denied: int64(c.ID % 3), Idle: time.Duration(c.ID%60) * time.Second}
			}) {
				return
			}
		}
	}
}

func (f *fleet) kick(match func(*proxy.Client) bool, _ error) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	var left []*proxy.Client
	for _, c := range f.clients {
		if !match(c) {
			left = append(left, c)
		}
	}
	n := len(f.clients) - len(left)
	f.clients = left
	return n
}

// fakeStatus is the status of a proxy that has n sessions and a few troubles.
func fakeStatus(n int) admin.Status {
	now := time.Now()
	hourAgo := now.Add(-time.Hour)
	return admin.Status{
		Version: "v1.2.3", Started: now.Add(-50 * time.Hour), Ready: true, Connections: n + n/100, Sessions: n,
		Sources: []admin.SourceStatus{
			{Name: "file0", Up: true}, {Name: "http0", Host: "tokens.example", Since: &hourAgo, LastError: "token service: unavailable: timeout after 2 s", Cache: &admin.CacheStatus{Entries: 41234, Hits: 99123, Misses: 877}},
		},
		Degraded: []string{"token source http0, tokens.example: token service: unavailable: timeout after 2 s"},
		Memory:   admin.MemoryStatus{Used: 140 << 20, Limit: 1 << 30}, Telemetry: &admin.StoreStatus{Bytes: 12 << 30}, Presence: admin.PresenceStatus{Store: "state.db"},
		TokenFiles: []admin.FileStatus{{Path: "tokens.jsonl", Entries: n, Loaded: hourAgo}, {Path: "more.jsonl", Entries: 3, Loaded: hourAgo, Error: "more.jsonl:4: unknown field \"expires\"; did you mean expire_at?"}},
		Upstream: []admin.BrokerStatus{
			{Server: "tcp://10.0.0.1:1883", State: "up", Since: &hourAgo, Sessions: n},
			{Server: "tcp://10.0.0.2:1883", State: "down", Since: &hourAgo, Failures: 12, LastError: "dial tcp 10.0.0.2:1883: connect: connection refused", LastFailed: &now},
		},
		Certificates: []admin.Certificate{{Listener: "tls", NotAfter: now.Add(9 * 24 * time.Hour)}},
		Config:       admin.ConfigStatus{Fingerprint: "5f1c9a20", Loaded: hourAgo},
		LastReload:   &admin.ReloadStatus{At: hourAgo, By: "signal", Outcome: "applied"},
	}
}

// fakeHistory is a day of a proxy that has n sessions.
func fakeHistory(n int) *history.History {
	h := &history.History{}
	totals := make(map[string]float64)
	times := history.Buckets{}
	begin := time.Now().Add(-24 * time.Hour)
	for i := range 24 * 360 {
		at := begin.Add(time.Duration(i+1) * history.Step)
		wave := 1 + 0.2*math.Sin(float64(i)/700) + 0.02*math.Sin(float64(i*i))
		load := float64(n) * wave
		for name, v := range map[string]float64{
			SeriesConnects: load / 600, SeriesBytesUp: load * 120, SeriesBytesDown: load * 40, SeriesMessagesIn: load / 10, SeriesMessagesOut: load / 30,
			SeriesRefused + "unknown_token": load / 9000 * float64(1+i%7), SeriesRefused + "busy": load / 90000 * float64(i/700%5),
			SeriesRefused + "expired": load / 50000, SeriesRefused + "not_mqtt": 0,
		} {
			totals[name] += v * history.Step.Seconds()
		}
		for b := range 24 {
			times[b-44] += uint64(load / (5 + math.Pow(float64(b)-8, 2)*20) * 5)
		}
		r := history.Reading{At: at, Levels: map[string]float64{SeriesSessions: load, SeriesMemory: 40e6 + load*2000}, Totals: map[string]float64{}, Times: history.Buckets{}}
		for name, v := range totals {
			r.Totals[name] = v
		}
		for b, v := range times {
			r.Times[b] = v
		}
		h.Add(r)
	}
	return h
}

// fakeRefusals are the refusals of a few devices.
func fakeRefusals() *refusals.Store {
	s := refusals.New(1000)
	for i := range 120 {
		s.Add(proxy.Refusal{
			Reason: proxy.Reason(authz.Unknown), Err: &authz.Denial{Reason: authz.Unknown}, Sent: true, Code: 5, Level: 4, Listener: "tls",
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i / 2)}), 4000), ClientID: fmt.Sprintf("meter-%d", i/2), Fingerprint: "sha256:5f1c9a20",
		})
	}
	for range 5 {
		s.Add(proxy.Refusal{
			Reason: proxy.Reason(authz.Disabled), Err: &authz.Denial{Reason: authz.Disabled, Detail: "the token pump-00007-k3x2aa is disabled"}, Sent: true, Code: 0x87, Level: 5, Listener: "tls",
			Addr: netip.MustParseAddrPort("10.1.0.7:20007"), ClientID: "client-00007", Fingerprint: "sha256:07000000", Subject: "pump-00007",
		})
	}
	s.Add(proxy.Refusal{Reason: proxy.TLSFailed, Err: errors.New("remote error: tls: unknown certificate authority"), Listener: "tls", Addr: netip.MustParseAddrPort("[2001:db8::7]:20007")})
	return s
}

// fakeDevices lists the devices pump-0000 to pump-0999, of which the even ones are connected.
func fakeDevices(_ context.Context, q presence.Query) (presence.Page, error) {
	var page presence.Page
	for i := range 1000 {
		d := presence.Device{
			Subject: fmt.Sprintf("pump-%04d", i), FirstSeen: time.Now().Add(-100 * time.Hour), LastSeen: time.Now().Add(-time.Duration(i) * time.Minute),
			Address: "10.1.0.7", Connected: i%2 == 0,
		}
		switch {
		case q.Subject != "" && q.Subject != d.Subject, d.Subject <= q.After, q.Connected != nil && *q.Connected != d.Connected:
		case len(page.Devices) == q.Limit:
			page.Next = page.Devices[q.Limit-1].Subject
			return page, nil
		default:
			page.Devices = append(page.Devices, d)
		}
	}
	return page, nil
}

// memory is a store of telemetry. Its device is called by any name.
type memory struct {
	latest, attributes map[string]payload.Value
	messages           []payload.Message
}

// fakeTelemetry is what a device has sent in the last day.
func fakeTelemetry() *memory {
	m := &memory{
		latest:     map[string]payload.Value{"temperature": payload.Double(21.5), "pressure": payload.Long(1013), "state": payload.Text("running"), "open": payload.Bool(false)},
		attributes: map[string]payload.Value{"firmware": payload.Text("1.10"), "serial": payload.Text("007")},
	}
	for i := range 24 * 60 {
		at := time.Now().Add(time.Duration(i-24*60) * time.Minute)
		m.messages = append(m.messages, payload.Message{TS: at.UnixMilli(), Fields: []payload.Field{
			{Key: "temperature", Value: payload.Double(21 + 3*math.Sin(float64(i)/60))}, {Key: "pressure", Value: payload.Long(int64(1013 + i%17))},
		}})
	}
	return m
}

func (m *memory) Keys(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for key := range m.latest {
			if !yield(key, nil) {
				return
			}
		}
	}
}

func points(values map[string]payload.Value, keys []string) iter.Seq2[telemetry.KeyPoint, error] {
	return func(yield func(telemetry.KeyPoint, error) bool) {
		for key, v := range values {
			if len(keys) > 0 && !slices.Contains(keys, key) {
				continue
			}
			if !yield(telemetry.KeyPoint{Key: key, Point: telemetry.Point{TS: time.Now().UnixMilli(), Value: v}}, nil) {
				return
			}
		}
	}
}

func (m *memory) Latest(_ context.Context, _ string, keys ...string) iter.Seq2[telemetry.KeyPoint, error] {
	return points(m.latest, keys)
}

func (m *memory) Attributes(_ context.Context, _ string, _ telemetry.Scope, keys ...string) iter.Seq2[telemetry.KeyPoint, error] {
	return points(m.attributes, keys)
}

func (m *memory) Messages(_ context.Context, r telemetry.Range) iter.Seq2[payload.Message, error] {
	return func(yield func(payload.Message, error) bool) {
		for _, message := range m.messages {
			if message.TS >= r.Start && message.TS < r.End && !yield(message, nil) {
				return
			}
		}
	}
}

// ChildNumbers is not needed by the page.
func (m *memory) ChildNumbers(context.Context, string, []string, bool) ([]int64, error) {
	return nil, errors.New("not here")
}

// ChildrenOf has many, of which the first has a name that must be escaped.
func (m *memory) ChildrenOf(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := range 300 {
			if !yield(fmt.Sprintf("%03d <b> & room", i), nil) {
				return
			}
		}
	}
}

// fileStore is the token file at a path.
type fileStore string

func (f fileStore) Update(_ context.Context, create bool, _ tokenfile.Scope, change func(*tokenfile.Edit) error) error {
	return tokenfile.Update(string(f), create, change)
}

func (f fileStore) Page(ctx context.Context, q tokenfile.Query) (tokenfile.Page, error) {
	return tokenfile.ReadPage(ctx, string(f), q)
}

// withTokens gives a page a token file with n devices, one token each.
func withTokens(t testing.TB, n int) func(*Options) {
	file := fileStore(filepath.Join(t.TempDir(), "tokens.jsonl"))
	if err := file.Update(t.Context(), true, tokenfile.All(), func(e *tokenfile.Edit) error {
		for i := range n {
			if _, err := e.Create(tokenfile.CreateOptions{Name: fmt.Sprintf("pump-%05d", i), Disabled: i == 7}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return func(o *Options) {
		o.API.Tokens = func() ([]admin.NamedStore, error) { return []admin.NamedStore{{Name: "file0", TokenStore: file}}, nil }
		o.API.TokensSeen = func(_ context.Context, ids []string) (map[string]time.Time, error) {
			return map[string]time.Time{ids[0]: time.Now().Add(-time.Hour)}, nil
		}
		o.Listeners = func() []Listener {
			return []Listener{{Name: "plain", Port: 1883}, {Name: "tls", Port: 8883, TLS: true, CA: "ca-root.pem"}}
		}
	}
}

// newPage returns a page that shows a fleet.
func newPage(t testing.TB, f *fleet, change ...func(*Options)) *Page {
	o := Options{
		API: &admin.API{
			Status:   func() admin.Status { return fakeStatus(len(f.clients)) },
			Sessions: f.sessions,
			Kick:     f.kick,
			KickSubject: func(subject string) int {
				return f.kick(func(c *proxy.Client) bool { return c.Subject() == subject }, nil)
			},
			Withdraw: func(admin.Withdrawal) (int, error) { return 1, nil },
			Save:     func() error { return nil },
			Refusals: fakeRefusals(),
			Devices:  fakeDevices,
			Audit:    &admin.Audit{},
		},
		History:   &history.History{},
		Telemetry: fakeTelemetry(),
		Panicked:  func(p *task.Panic) { t.Errorf("panic: %v\n%s", p, p.Stack) },
	}
	for _, c := range change {
		c(&o)
	}
	return New(o)
}

// The tokens of the roles in tests.
const operateToken, readToken = "operate-token-for-tests", "read-token-for-tests"

// handler serves a page behind the checks of the admin side.
func handler(p *Page) http.Handler {
	return admin.NewServer(admin.Options{
		Access: func() *admin.Access {
			return &admin.Access{Tokens: admin.Tokens{admin.Operate: operateToken, admin.Read: readToken}, Address: "127.0.0.1:9883"}
		},
		Page: p.Routes(),
	}).Handler
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	return ask(h, httptest.NewRequest(http.MethodGet, path, nil), operateToken)
}

// getAsReader is get with the role read.
func getAsReader(h http.Handler, path string) *httptest.ResponseRecorder {
	return ask(h, httptest.NewRequest(http.MethodGet, path, nil), readToken)
}

func post(h http.Handler, path, form string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return ask(h, r, operateToken)
}

func ask(h http.Handler, r *http.Request, token string) *httptest.ResponseRecorder {
	r.Host = "localhost"
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
