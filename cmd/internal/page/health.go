package page

import (
	"fmt"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page/chart"
)

// The states of a part of the proxy.
const good, warn, bad = "good", "warn", "bad"

// certificateSoon is how long before its end a certificate is shown as a warning.
const certificateSoon = 14 * 24 * time.Hour

// healthOf returns the state of every part, in an order that does not change.
func healthOf(s admin.Status, now time.Time) []health {
	ready := health{Part: "Devices", State: good, Text: "are served", Since: s.Started}
	if len(s.Degraded) > 0 {
		ready.State, ready.Text = warn, "are served, but something does not work"
	}
	if !s.Ready {
		ready.State, ready.Text, ready.Detail = bad, "are not served", s.NotReady
	}
	all := []health{ready}
	for _, b := range s.Upstream {
		all = append(all, brokerHealth(b))
	}
	for _, x := range s.Sources {
		all = append(all, sourceHealth(x))
	}
	for _, f := range s.TokenFiles {
		all = append(all, fileHealth("Token file", f))
	}
	for _, f := range s.PasswordFiles {
		all = append(all, fileHealth("Password file", f))
	}
	if s.Replicas != nil {
		all = append(all, replicasHealth(s.Replicas)...)
	}
	if s.Telemetry != nil {
		all = append(all, storeHealth("Telemetry", s.Telemetry.Error, "the database has "+chart.Bytes(float64(s.Telemetry.Bytes))))
	}
	all = append(all, storeHealth("First and last seen", s.Presence.Error, s.Presence.Store), memoryHealth(s.Memory))
	for _, c := range s.Certificates {
		all = append(all, certificateHealth(c, now))
	}
	if s.Hooks != nil {
		all = append(all, hooksHealth(s.Hooks))
	}
	if s.LastReload != nil {
		all = append(all, reloadHealth(s.LastReload))
	}
	return append(all, health{Part: "Configuration", State: good, Text: "in force", Since: s.Config.Loaded, Detail: "fingerprint " + s.Config.Fingerprint})
}

func brokerHealth(b admin.BrokerStatus) health {
	h := health{Part: "Broker " + b.Server, Text: b.State, Detail: fmt.Sprintf("%d sessions", b.Sessions)}
	h.Change, h.Path = "Take out of use", brokerPath("/brokers/drain", b.Server)
	switch b.State {
	case "up":
		h.State = good
	case "down":
		h.State = bad
	case "drained":
		h.State, h.Text = warn, "out of use"
		h.Change, h.Path = "Use again", brokerPath("/brokers/enable", b.Server)
	default:
		h.State = warn
	}
	if b.Since != nil {
		h.Since = *b.Since
	}
	if b.LastError != "" {
		h.add("last error: " + b.LastError)
		if b.LastFailed != nil {
			h.Detail += " (" + moment(*b.LastFailed) + ")"
		}
	}
	return h
}

func sourceHealth(s admin.SourceStatus) health {
	h := health{Part: "Token source " + s.Name, State: good, Text: "answers", Detail: s.Host}
	if s.LastError != "" {
		h.State, h.Text = warn, "degraded"
	}
	if !s.Up {
		h.State, h.Text = bad, "does not answer"
	}
	if s.Since != nil {
		h.Since = *s.Since
	}
	if c := s.Cache; c != nil && c.Hits+c.Misses > 0 {
		h.add(fmt.Sprintf("%.1f %% of requests answered by the cache, which has %d answers", 100*float64(c.Hits)/float64(c.Hits+c.Misses), c.Entries))
	}
	h.add(s.LastError)
	return h
}

// add adds a text to the details.
func (h *health) add(text string) {
	if h.Detail != "" && text != "" {
		h.Detail += "; "
	}
	h.Detail += text
}

func storeHealth(part, fault, detail string) health {
	h := health{Part: part, State: good, Text: "is stored", Detail: detail}
	if fault != "" {
		h.State, h.Text = bad, "is not stored"
		h.add(fault)
	}
	return h
}

func hooksHealth(k *admin.HooksStatus) health {
	h := health{Part: "Events to " + k.Receiver, State: good, Text: "are delivered", Detail: fmt.Sprintf("%d delivered, %d waiting, %d dropped, %d rejected", k.Delivered, k.Queued, k.Dropped, k.Rejected)}
	if k.LastDelivered != nil {
		h.Since = *k.LastDelivered
	}
	if k.LastError != "" {
		h.State, h.Text = warn, "are not delivered"
		h.add(k.LastError)
	}
	return h
}

func memoryHealth(m admin.MemoryStatus) health {
	h := health{Part: "Memory", State: good, Text: "enough", Detail: chart.Bytes(float64(m.Used))}
	if m.Limit > 0 {
		h.Detail += " of " + chart.Bytes(float64(m.Limit))
	}
	if m.Full {
		h.State, h.Text = bad, "nearly used up"
		h.add("new connections are refused")
	}
	return h
}

func fileHealth(kind string, f admin.FileStatus) health {
	h := health{Part: kind + " " + f.Path, State: good, Text: "in force", Since: f.Loaded, Detail: fmt.Sprintf("%d entries", f.Entries)}
	for _, w := range f.Warnings {
		h.State = warn
		h.add(w)
	}
	if f.Error != "" {
		h.State, h.Text = bad, "a newer version is not in force"
		h.add(f.Error)
	}
	return h
}

func replicasHealth(r *admin.ReplicasStatus) (all []health) {
	for _, b := range r.Servers {
		h := health{Part: "Bus of the replicas at " + b.Server, State: good, Text: "connected"}
		if !b.Connected {
			h.State, h.Text, h.Detail = bad, "not connected", b.LastError
		}
		all = append(all, h)
	}
	h := health{Part: "Other replicas", State: good, Text: fmt.Sprintf("%d heard", len(r.Heard)), Detail: "this one is " + r.Name}
	if len(r.Heard) == 0 {
		h.State, h.Text = warn, "none heard"
	}
	return append(all, h)
}

func certificateHealth(c admin.Certificate, now time.Time) health {
	h := health{Part: "Certificate of listener " + c.Listener, State: good, Text: "valid", End: c.NotAfter}
	switch {
	case !now.Before(c.NotAfter):
		h.State, h.Text = bad, "expired"
	case c.NotAfter.Sub(now) < certificateSoon:
		h.State, h.Text = warn, "expires soon"
	}
	return h
}

func reloadHealth(r *admin.ReloadStatus) health {
	h := health{Part: "Last reload, by " + r.By, State: good, Text: r.Outcome, Since: r.At, Detail: r.Error}
	if r.Error != "" {
		h.State = bad
	}
	return h
}
