package tokenfile

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// model is a simple description of what a token file and the sessions that use it should do.
type model struct {
	path    string
	file    *File
	entries map[string]*modelEntry
	order   []string

	mu      sync.Mutex
	revoked map[string]bool
}

type modelEntry struct {
	name             string
	token            authz.Token
	created, expires time.Time
	disabled         bool
	longer           bool // there may be a session with a later expiry, or with none
}

// step is the time between two edits. Whole hours never end within one check of the file after
// a multiple of it.
const (
	step = 30*time.Minute + 15*time.Second
	look = 10 * time.Second
)

func (m *model) add(made Created) {
	m.entries[made.ID] = &modelEntry{name: made.Name, token: made.Token, created: time.Now(), expires: made.Expires}
	m.order = append(m.order, made.ID)
}

func (m *model) remove(id string) {
	delete(m.entries, id)
	m.order = slices.DeleteFunc(m.order, func(s string) bool { return s == id })
}

// named returns the ids that an id or name stands for.
func (m *model) named(idOrName string) (ids []string) {
	for _, id := range m.order {
		if id == idOrName || m.entries[id].name == idOrName {
			ids = append(ids, id)
		}
	}
	return ids
}

// names draws a device, or the id of a token.
func (m *model) names() *rapid.Generator[string] {
	return rapid.SampledFrom(append([]string{"x", "y", "nobody"}, m.order...))
}

// expect loads the edited file and compares the revocations since then, and those of now, with
// ids.
func (m *model) expect(t *rapid.T, ids ...string) {
	if err := m.file.Reload(context.Background()); err != nil {
		t.Fatalf("Reload = %v", err)
	}
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	want := make(map[string]bool)
	for _, id := range ids {
		want[id] = true
	}
	if !maps.Equal(m.revoked, want) {
		t.Fatalf("revoked %v, want %v", m.revoked, want)
	}
	clear(m.revoked)
}

// enabled returns those ids that may have sessions.
func (m *model) enabled(ids []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return m.entries[id].disabled })
}

func (m *model) create(t *rapid.T) {
	o := CreateOptions{Name: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name")}
	if hours := rapid.IntRange(0, 3).Draw(t, "hours"); hours > 0 {
		o.Expires = time.Now().Add(time.Duration(hours) * time.Hour)
	}
	made, err := Create(m.path, o)
	if err != nil {
		t.Fatalf("Create = %v", err)
	}
	m.add(made)
	m.expect(t)
}

func (m *model) rotate(t *rapid.T) {
	name := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name")
	overlap := time.Duration(rapid.IntRange(0, 2).Draw(t, "overlap")) * time.Hour
	old := slices.DeleteFunc(slices.Clone(m.order), func(id string) bool { return m.entries[id].name != name })
	on := m.enabled(old)
	made, err := Rotate(m.path, name, overlap)
	if (err == nil) != (len(on) > 0) || len(old) == 0 && !errors.Is(err, ErrNotFound) {
		t.Fatalf("Rotate = %v with %d tokens, %d of them enabled", err, len(old), len(on))
	}
	if err != nil {
		return
	}
	last := m.entries[on[len(on)-1]]
	var want time.Time
	if !last.expires.IsZero() {
		want = time.Now().Add(last.expires.Sub(last.created))
	}
	if !made.Expires.Equal(want) {
		t.Fatalf("the new token expires at %v, want %v", made.Expires, want)
	}
	var gone []string
	for _, id := range old {
		e, until := m.entries[id], time.Now().Add(overlap)
		switch {
		case overlap == 0 || !e.expires.IsZero() && !e.expires.After(time.Now()):
			if !e.disabled {
				gone = append(gone, id)
			}
			m.remove(id)
		case e.expires.IsZero() || e.expires.After(until):
			e.expires, e.longer = until, !e.disabled
		}
	}
	m.add(made)
	m.expect(t, gone...)
}

func (m *model) revoke(t *rapid.T) {
	name := m.names().Draw(t, "name")
	ids, err := Revoke(m.path, name)
	m.checkNamed(t, name, ids, err)
	gone := m.enabled(ids)
	for _, id := range ids {
		m.remove(id)
	}
	m.expect(t, gone...)
}

func (m *model) disable(t *rapid.T) {
	name := m.names().Draw(t, "name")
	ids, err := Disable(m.path, name)
	m.checkNamed(t, name, ids, err)
	gone := m.enabled(ids)
	for _, id := range ids {
		m.entries[id].disabled, m.entries[id].longer = true, false
	}
	m.expect(t, gone...)
}

func (m *model) enable(t *rapid.T) {
	name := m.names().Draw(t, "name")
	ids, err := Enable(m.path, name)
	m.checkNamed(t, name, ids, err)
	for _, id := range ids {
		m.entries[id].disabled = false
	}
	m.expect(t)
}

func (m *model) checkNamed(t *rapid.T, name string, ids []string, err error) {
	want := m.named(name)
	if !slices.Equal(ids, want) || errors.Is(err, ErrNotFound) != (len(want) == 0) {
		t.Fatalf("%s stands for %q, %v; want %q", name, ids, err, want)
	}
}

// wait lets time pass. Of the tokens that expire now, only those with sessions that have
// another expiry are revoked.
func (m *model) wait(t *rapid.T) {
	time.Sleep(step)
	var gone []string
	for id, e := range m.entries {
		if e.longer && !e.expires.After(time.Now()) {
			gone = append(gone, id)
			e.longer = false
		}
	}
	m.expect(t, gone...)
}

// check asks for every token, and compares the list.
func (m *model) check(t *rapid.T) {
	for id, e := range m.entries {
		want := authz.Reason("")
		switch {
		case e.disabled:
			want = authz.Disabled
		case !e.expires.IsZero() && !e.expires.After(time.Now()):
			want = authz.Expired
		}
		g, err := m.file.Authorize(context.Background(), authz.Request{Token: e.token})
		if reasonOf(err) != want || want == "" && (g.TokenID != id || g.Subject != e.name || !g.Expires.Equal(e.expires)) {
			t.Fatalf("%s: %+v, %v; want %q", id, g, err, want)
		}
	}
	listed, err := List(m.path)
	if err != nil && len(m.entries) > 0 {
		t.Fatalf("List = %v", err)
	}
	got := make([]string, 0, len(listed))
	for _, e := range listed {
		got = append(got, e.ID)
	}
	if !slices.Equal(got, m.order) {
		t.Fatalf("List = %q, want %q", got, m.order)
	}
}

func TestModel(t *testing.T) {
	path := tokenPath(t)
	rapid.Check(t, func(rt *rapid.T) {
		inBubble(t, rt, func(t *rapid.T) {
			m := newModel(t, path)
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() { _ = m.file.Notify(ctx, m.note) })
			defer wg.Wait()
			defer cancel()
			t.Repeat(map[string]func(*rapid.T){
				"create": m.create, "rotate": m.rotate, "revoke": m.revoke,
				"disable": m.disable, "enable": m.enable, "wait": m.wait, "": m.check,
			})
		})
	})
}

// inBubble runs f in a bubble of its own, and reports its failure outside: rapid panics with
// it, and counts hours that pass in a bubble as its own.
func inBubble(t *testing.T, rt *rapid.T, f func(t *rapid.T)) {
	var thrown any
	synctest.Test(t, func(*testing.T) {
		defer func() { thrown = recover() }()
		f(rt)
	})
	if thrown != nil {
		panic(thrown)
	}
}

func newModel(t *rapid.T, path string) *model {
	if err := replaceFile(path, nil, writing(header())); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path, Options{Interval: look})
	if err != nil {
		t.Fatal(err)
	}
	return &model{path: path, file: f, entries: make(map[string]*modelEntry), revoked: make(map[string]bool)}
}

func (m *model) note(r authz.Revocation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revoked[r.TokenID] = true
}
