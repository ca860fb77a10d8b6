package service

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// ready returns why no device can be served, or nil.
func (s *Service) ready() error {
	in := s.current.Load()
	switch {
	case s.draining.Load():
		return errors.New("draining")
	case s.bundled != nil:
		return s.bundled.ready()
	}
	if refused, _ := s.login.state(); refused != nil {
		return fmt.Errorf("the broker refuses the proxy's credentials: %w", refused)
	}
	return in.upstream.answers()
}

// degraded returns what does not work although devices can be served: some may be refused.
func (s *Service) degraded() (all []string) {
	in := s.current.Load()
	for _, x := range in.sources.status() {
		if x.LastError != "" {
			all = append(all, "token source "+strings.TrimSuffix(x.Name+", "+x.Host, ", ")+": "+x.LastError)
		}
	}
	for _, b := range in.upstream.poolStatus() {
		if b.State == pool.Down {
			all = append(all, "broker "+b.Server.String()+" is down: "+printable(b.LastError))
		}
	}
	if refused, suspicion := s.login.state(); refused == nil && suspicion != nil {
		all = append(all, "the broker refuses the credentials of a device: "+printable(suspicion))
	}
	if fault := s.presence.Fault(); fault != nil {
		all = append(all, "when devices were seen cannot be recorded: "+printable(fault))
	}
	if s.bundled != nil {
		if fault := s.bundled.sessions.Writable(); fault != nil {
			all = append(all, "sessions of devices and retained messages cannot be kept: "+printable(fault))
		}
	}
	if fault := s.hooks.Stats().Fault; fault != nil {
		all = append(all, "the receiver of events does not accept them: "+printable(fault))
	}
	return all
}

// A monitored source depends on another machine, which may be down.
type monitored interface {
	// Health returns an error if the source cannot decide about tokens whose answers are not
	// remembered, or if something else does not work, and since when. The time may be zero.
	Health() (up bool, since time.Time, err error)
}

// status returns the state of each source, in the order in which they are asked.
func (s *sources) status() (all []admin.SourceStatus) {
	names := s.names()
	for i, x := range s.list {
		st := admin.SourceStatus{Name: names[i], Up: true}
		if h, ok := find[hosted](x.source); ok {
			st.Host = h.Host()
		}
		if m, ok := find[monitored](x.source); ok {
			up, since, err := m.Health()
			st.Up = up
			if err != nil {
				st.Since, st.LastError = timeOrNone(since), printable(err)
			}
		}
		if c, ok := find[*cachedSource](x.source); ok {
			s := c.answers.Stats()
			st.Cache = &admin.CacheStatus{Entries: s.Positive.Entries + s.Negative.Entries, Hits: s.Positive.Hits + s.Negative.Hits, Misses: s.Misses}
		}
		all = append(all, st)
	}
	return all
}

// maxFault is how many bytes of an error are shown.
const maxFault = 512

// printable returns the text of an error in one line that may be shown anywhere, because an error
// may contain text that another program has sent.
func printable(err error) string {
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, textOf(err))
	if len(text) > maxFault {
		text = strings.ToValidUTF8(text[:maxFault], "") + "..."
	}
	return text
}

// summary describes in one line what the service is doing.
func (s *Service) summary() string {
	doing := "serving"
	if s.draining.Load() {
		doing = "shutting down"
	}
	st := s.server.Stats()
	return fmt.Sprintf("%s: %d sessions, %d connections", doing, st.Sessions, st.Connections)
}

// alive returns an error if the process itself cannot serve devices. A broker that is down does
// not count, because restarting the proxy would not help. If a lock is never released, alive
// does not return.
func (s *Service) alive() error {
	s.swap.RLock()
	defer s.swap.RUnlock()
	s.server.Stats()
	if s.draining.Load() {
		return nil
	}
	if got, want := s.server.Listening(), len(s.current.Load().listeners); got < want {
		return fmt.Errorf("%d of %d listeners accept connections", got, want)
	}
	return nil
}
