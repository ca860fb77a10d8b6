package service

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

// directory is a source of a kind that the program does not have.
type directory struct {
	tokens map[string]string // the subject of each
	asked  int
	closed bool
}

func (d *directory) Authorize(_ context.Context, r authz.Request) (*authz.Grant, error) {
	d.asked++
	subject, ok := d.tokens[r.Token.Reveal()]
	if !ok {
		return nil, authz.ErrUnknown
	}
	return &authz.Grant{Subject: subject}, nil
}

func (d *directory) Takes() authz.Credentials              { return authz.Tokens }
func (d *directory) Open(context.Context, sourceEnv) error { return nil }
func (d *directory) Reload(context.Context) error          { return nil }
func (d *directory) Fault() error                          { return errors.New("a replica is behind") }
func (d *directory) Collect(m observe.SourceMetrics) {
	m.TokenFile(len(d.tokens), time.Time{})
}
func (d *directory) Close() { d.closed = true }

// TestAnySourceCanBeCached: the cache, the check of the form and their metrics are for every
// kind of source.
func TestAnySourceCanBeCached(t *testing.T) {
	d := &directory{tokens: map[string]string{"tk-1": "pump"}}
	auth := config.Auth{Cache: config.Cache{TTL: time.Minute, NegativeTTL: time.Second}, Guard: config.Guard{Prefix: "tk-"}}
	x := &usedSource{source: cached(d, auth, cache.Options{Source: "directory"}), kind: "directory"}
	s := &sources{list: []*usedSource{x}}
	ask := func(token string) (*authz.Grant, error) {
		return x.Authorize(t.Context(), authz.Request{Token: authz.NewToken(token)})
	}
	for range 2 {
		if g, err := ask("tk-1"); err != nil || g.Subject != "pump" {
			t.Fatalf("%v, %v", g, err)
		}
	}
	if d.asked != 1 {
		t.Errorf("asked %d times about one token", d.asked)
	}
	if _, err := ask("another"); !errors.Is(err, authz.ErrUnknown) || d.asked != 1 {
		t.Errorf("a token of the wrong form: %v after %d questions", err, d.asked)
	}
	if n := s.forget(authz.Revocation{Subject: "pump"}); n != 1 {
		t.Errorf("forgot %d answers", n)
	}
	if _, err := ask("tk-1"); err != nil || d.asked != 2 {
		t.Errorf("after the revocation: %v after %d questions", err, d.asked)
	}
	if s.remote() != 1 || !slices.Equal(s.names(), []string{"directory0"}) {
		t.Errorf("%d sources are asked over a network; the names are %q", s.remote(), s.names())
	}
	log, err := observe.NewLog(io.Discard, zap.InfoLevel, "json")
	if err != nil {
		t.Fatal(err)
	}
	o := observe.New(log, "")
	o.Export(observe.State{Sources: func(m observe.SourceMetrics) { x.Collect(m.Of("directory0")) }})
	exported := map[string]exportedMetric{}
	addExported(t, exported, o.Metrics())
	for _, want := range []string{"token_file_entries", "cache_hits_total", "auth_decisions_total", "auth_rate_limited_total"} {
		if _, ok := exported["mqtt_auth_proxy_"+want]; !ok {
			t.Errorf("there is no metric %s", want)
		}
	}
	all, unlogged := s.faults(new(config.Config))
	if all == nil || unlogged == nil || !strings.Contains(all.Error(), "auth.sources[0].directory") {
		t.Errorf("the fault: %v, %v", all, unlogged)
	}
	if x.Close(); !d.closed {
		t.Error("the source within is still open")
	}
}

// TestSourcesAreMadeOnce: what the check of a configuration has made is what is in force.
func TestSourcesAreMadeOnce(t *testing.T) {
	url, _ := startTokenService(t, "device")
	with := func(timeout string) string {
		return bundledConfig + "auth: {sources: [{http: {url: '" + url + "', timeout: " + timeout + "}}]}\n"
	}
	s, _ := startService(t, with("1s"))
	s.reloader.mu.Lock() // keeps the poll of the service away
	defer s.reloader.mu.Unlock()
	first := s.current.Load().sources.list[0]
	edit(t, s, with("2s"))
	plan, err := Load(s.Config, s.Version)
	if err != nil {
		t.Fatal(err)
	}
	next, err := s.prepare(t.Context(), plan, s.current.Load())
	if err != nil {
		t.Fatal(err)
	}
	if next.sources.list[0] != plan.sources[0] {
		t.Error("the source has been made again")
	}
	if s.current.Load().sources.list[0] != first {
		t.Error("a preparation has changed the sources in force")
	}
	next.retire(s.current.Load())
}

// TestNoDemoDeviceWithoutAStart: a first start that fails leaves the next one a first start.
func TestNoDemoDeviceWithoutAStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s, _ := startService(t, bundledConfig)
	s.Close()
	data := s.current.Load().config.Data
	for name, text := range map[string]string{
		"address in use":            "listeners: [{address: '" + taken.Addr().String() + "'}]\nadmin: {address: ''}\n",
		"no place for the database": bundledConfig + "telemetry: {path: /dev/null/telemetry.db}\n",
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.RemoveAll(data); err != nil {
				t.Fatal(err)
			}
			edit(t, s, text)
			if _, err := restart(t, s); err == nil {
				t.Fatal("it starts")
			}
			if _, err := os.Stat(filepath.Join(data, "tokens.jsonl")); !os.IsNotExist(err) {
				t.Errorf("the token file: %v", err)
			}
			edit(t, s, bundledConfig)
			again, err := restart(t, s)
			if err != nil {
				t.Fatal(err)
			}
			if again.demo == nil {
				t.Error("the next start makes no demo device")
			}
		})
	}
}
