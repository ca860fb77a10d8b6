package page

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
)

// seen is what a list of the devices shows that were ever connected.
type seen struct {
	Search string
	Show   string // all, connected or away
	Rows   []presence.Device
	Next   string // the path of the next rows, or empty
	First  string // the path of the first rows, unless they are shown
	// Path is the page of a device, to which the subject is added.
	Path string
}

// seenDevices lists the devices that were ever connected, for the views of devices and of
// telemetry.
func (p *Page) seenDevices(path, devicePath string) func(*request) (any, error) {
	return func(r *request) (any, error) {
		s := seen{Search: strings.TrimSpace(r.query.Get("q")), Show: r.query.Get("show"), Path: devicePath}
		q := presence.Query{After: r.query.Get("after"), Limit: pageSize}
		switch s.Show {
		case "connected", "away":
			connected := s.Show == "connected"
			q.Connected = &connected
		default:
			s.Show = "all"
		}
		next, err := s.fill(r, p.API.Devices, q)
		if errors.Is(err, presence.ErrUnavailable) {
			return nil, &statusError{http.StatusServiceUnavailable, "The list of devices cannot be read: " + err.Error() + "."}
		}
		query := url.Values{"show": {s.Show}}
		if s.Search != "" {
			query.Set("q", s.Search)
		}
		if q.After != "" {
			s.First = path + "?" + query.Encode()
		}
		if next != "" {
			query.Set("after", next)
			s.Next = path + "?" + query.Encode()
		}
		return s, err
	}
}

// fill reads the rows of a page. With a search they are the devices whose names begin with it,
// which follow one another because the list is in the order of the names.
func (s *seen) fill(ctx context.Context, list func(context.Context, presence.Query) (presence.Page, error), q presence.Query) (next string, err error) {
	if q.After == "" && s.Search != "" {
		found, err := list(ctx, presence.Query{Subject: s.Search, Connected: q.Connected, Limit: 1})
		if err != nil {
			return "", err
		}
		s.Rows = found.Devices
		q.After = s.Search
	}
	found, err := list(ctx, q)
	if err != nil {
		return "", err
	}
	for _, d := range found.Devices {
		if !strings.HasPrefix(d.Subject, s.Search) {
			return "", nil
		}
		s.Rows = append(s.Rows, d)
	}
	return found.Next, nil
}
