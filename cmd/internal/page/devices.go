package page

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/refusals"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// pageSize is how many rows a list shows at once.
const pageSize = 50

// devices is what the list of sessions shows.
type devices struct {
	Search string
	Sort   string
	Pages  pages
	Rows   []admin.Session
	All    int // live sessions, whether they match or not
}

// liveSession is a session with the function that asks for its activity.
type liveSession struct {
	*proxy.Client
	activity func() proxy.Activity
}

func (p *Page) devices(r *request) (any, error) {
	d := devices{Search: strings.TrimSpace(r.query.Get("q")), Sort: r.query.Get("sort")}
	var found []liveSession
	matches := sessionSearch(d.Search)
	for c, activity := range p.API.Sessions() {
		if d.All++; matches(c) {
			found = append(found, liveSession{c, activity})
		}
	}
	switch d.Sort {
	case "subject":
		slices.SortFunc(found, func(a, b liveSession) int {
			return cmp.Or(strings.Compare(a.Subject(), b.Subject()), cmp.Compare(a.ID, b.ID))
		})
	case "client":
		slices.SortFunc(found, func(a, b liveSession) int {
			return cmp.Or(strings.Compare(a.ClientID, b.ClientID), cmp.Compare(a.ID, b.ID))
		})
	default:
		d.Sort = "newest"
		slices.SortFunc(found, func(a, b liveSession) int { return cmp.Compare(b.ID, a.ID) })
	}
	d.Pages = newPages("/devices", r.query, len(found), pageSize)
	for _, s := range found[d.Pages.First:d.Pages.End] {
		d.Rows = append(d.Rows, admin.SessionOf(s.Client, s.activity()))
	}
	return d, nil
}

// sessionSearch returns a function that reports whether the subject, the client id or the address
// of a session contains text, in upper or lower case.
func sessionSearch(text string) func(*proxy.Client) bool {
	if text == "" {
		return func(*proxy.Client) bool { return true }
	}
	text = strings.ToLower(text)
	var buffer []byte
	return func(c *proxy.Client) bool {
		if contains(c.Subject(), text) || contains(c.ClientID, text) {
			return true
		}
		if !c.Addr.IsValid() {
			return false
		}
		buffer = c.Addr.AppendTo(buffer[:0])
		return strings.Contains(string(buffer), text)
	}
}

// contains reports whether s contains text, which is in lower case. It does not allocate for
// ASCII, since it is asked for each session.
func contains(s, text string) bool {
	if len(s) > 0 && !isASCII(s) {
		return strings.Contains(strings.ToLower(s), text)
	}
	for i := 0; i+len(text) <= len(s); i++ {
		if lower(s[i]) == text[0] && equalLower(s[i:i+len(text)], text) {
			return true
		}
	}
	return false
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func equalLower(s, text string) bool {
	for i := range len(s) {
		if lower(s[i]) != text[i] {
			return false
		}
	}
	return true
}

func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

// device is what the page of one device shows.
type device struct {
	Subject  string
	Seen     *presence.Device // nil if it never was, or if that is not known
	Sessions []admin.Session
	More     int // sessions that are not shown
	Refused  []refusedRow
	Tokens   []oneToken
	// Create says that a token can be made for the device.
	Create bool
	// Telemetry says that there is a page with the telemetry of the device.
	Telemetry bool
}

func (p *Page) device(r *request) (any, error) {
	d := device{Subject: r.query.Get("subject")}
	if d.Subject == "" {
		return nil, &statusError{http.StatusBadRequest, "Name the device: /device?subject=NAME."}
	}
	for c, activity := range p.API.Sessions() {
		if c.Subject() != d.Subject {
			continue
		}
		if len(d.Sessions) == pageSize {
			d.More++
			continue
		}
		d.Sessions = append(d.Sessions, admin.SessionOf(c, activity()))
	}
	slices.SortFunc(d.Sessions, func(a, b admin.Session) int { return cmp.Compare(b.ID, a.ID) })
	if seen, err := p.API.Devices(r, presence.Query{Subject: d.Subject, Limit: 1}); err == nil && len(seen.Devices) == 1 {
		d.Seen = &seen.Devices[0]
	}
	d.Tokens, d.Create = p.tokensOf(r, d.Subject)
	d.Telemetry = p.Telemetry != nil
	d.Refused = describe(p.API.Refusals.List(refusals.Filter{Subject: d.Subject, Limit: pageSize}).Refusals)
	return d, nil
}

// tokensOf returns the tokens of a device in all sources that can be changed, and whether there are
// such sources. A source that cannot be read has none; its own page says why.
func (p *Page) tokensOf(r *request, subject string) (all []oneToken, ok bool) {
	if r.live {
		return nil, false // they are not in the part that changes
	}
	sources, err := p.API.TokenSources()
	if err != nil {
		return nil, false
	}
	for _, source := range sources {
		list, err := p.API.ListTokens(r, admin.TokenQuery{Source: source, Subject: subject, Limit: pageSize})
		if err != nil {
			continue
		}
		for _, t := range list.Tokens {
			all = append(all, oneToken{t, source})
		}
	}
	return all, len(sources) > 0
}

// pages says which part of a list is shown, and where the others are.
type pages struct {
	Total      int
	First, End int // of the part that is shown, from 0
	Page, Last int // from 1
	Previous   string
	Next       string
}

// newPages returns the part of a list that a query asks for, with size rows.
func newPages(path string, query url.Values, total, size int) pages {
	at := pages{Total: total, Last: max(1, (total+size-1)/size)}
	at.Page = min(pageNumber(query), at.Last)
	at.First = (at.Page - 1) * size
	at.End = min(at.First+size, total)
	if at.Page > 1 {
		at.Previous = pageLink(path, query, at.Page-1)
	}
	if at.Page < at.Last {
		at.Next = pageLink(path, query, at.Page+1)
	}
	return at
}

// pageNumber returns the number of the part of a list that a query asks for, from 1.
func pageNumber(query url.Values) int {
	n, err := strconv.Atoi(query.Get("page"))
	if err != nil || n < 1 || n > 1<<20 {
		return 1
	}
	return n
}

// pageLink returns the path of another part of the same list.
func pageLink(path string, query url.Values, n int) string {
	q := url.Values{}
	for name, values := range query {
		q[name] = values
	}
	q.Set("page", strconv.Itoa(n))
	return path + "?" + q.Encode()
}

// Shown returns the number of the first row that is shown, from 1.
func (p pages) Shown() int { return min(p.First+1, p.Total) }
