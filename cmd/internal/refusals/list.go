package refusals

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// Filter selects rows. An empty field selects all.
type Filter struct {
	// Subject and ClientID must be equal to the whole text, as the device sent it or as a row shows
	// it.
	Subject, ClientID string
	// Address is the network of the last refusal.
	Address netip.Prefix
	Reason  proxy.Reason
	// Since selects rows whose last refusal was then or later.
	Since time.Time
	// Before selects rows with smaller numbers: it is Next of the page before.
	Before uint64
	// Limit is the largest number of rows in the page; 0 means no limit.
	Limit int
}

// Page is an answer of List.
type Page struct {
	Refusals []Refusal `json:"refusals"`
	// Total is how many rows match, on all pages.
	Total int `json:"total"`
	// Next is Before of the next page, or 0 if this is the last one.
	Next uint64 `json:"next,omitempty"`
}

// List returns the rows that match, the newest first. A row that gets another refusal moves to the
// first page.
func (s *Store) List(f Filter) Page {
	all := slices.DeleteFunc(s.snapshot(), func(r *Refusal) bool { return !f.matches(r) })
	slices.SortFunc(all, func(a, b *Refusal) int { return cmp.Compare(b.Number, a.Number) })
	p := Page{Refusals: []Refusal{}, Total: len(all)}
	for _, r := range all {
		if f.Before > 0 && r.Number >= f.Before {
			continue
		}
		if n := len(p.Refusals); f.Limit > 0 && n == f.Limit {
			p.Next = p.Refusals[n-1].Number
			break
		}
		p.Refusals = append(p.Refusals, *r)
	}
	return p
}

// matches ignores Before.
func (f Filter) matches(r *Refusal) bool {
	return isName(r.Subject, f.Subject) && isName(r.ClientID, f.ClientID) &&
		(f.Reason == "" || r.Reason == f.Reason) &&
		(!f.Address.IsValid() || f.Address.Contains(r.Address.Addr())) &&
		!r.Last.Before(f.Since)
}

// isName reports whether a row with this name is asked for.
func isName(kept, asked string) bool {
	return asked == "" || kept == asked || kept == bounded(asked, maxName)
}
