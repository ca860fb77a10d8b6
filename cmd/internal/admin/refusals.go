package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/refusals"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// Refusals is the answer to GET /v1/refusals.
type Refusals struct {
	refusals.Page
	// Reasons are the counts of all refusals, whatever the query selects.
	Reasons []refusals.Count `json:"reasons"`
}

// refusals lists the refusals that the query selects.
func (a *API) refusals(w http.ResponseWriter, r *http.Request) {
	filter, err := RefusalFilter(r.URL.Query(), time.Now())
	if err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, Refusals{a.Refusals.List(filter), a.Refusals.Counts()})
}

// RefusalFilter returns the filter of a query such as that of GET /v1/refusals. Parameters that
// are empty select all. Its error is for the client.
func RefusalFilter(q url.Values, now time.Time) (refusals.Filter, error) {
	if err := checkParameters(q, "subject", "client_id", "address", "reason", "since", "limit", "before"); err != nil {
		return refusals.Filter{}, err
	}
	f := refusals.Filter{Subject: q.Get("subject"), ClientID: q.Get("client_id"), Reason: proxy.Reason(q.Get("reason"))}
	var err error
	if f.Limit, err = limitOf(q); err != nil {
		return f, err
	}
	if f.Address, err = networkOf(q.Get("address")); err != nil {
		return f, err
	}
	if f.Since, err = sinceOf(q.Get("since"), now); err != nil {
		return f, err
	}
	if text := q.Get("before"); text != "" {
		if f.Before, err = strconv.ParseUint(text, 10, 64); err != nil || f.Before == 0 {
			return f, errors.New("before must be the value of next of the page before")
		}
	}
	return f, checkReason(f.Reason)
}

func checkReason(r proxy.Reason) error {
	var known []string
	for _, info := range proxy.Reasons() {
		if r == "" || r == info.Reason {
			return nil
		}
		known = append(known, string(info.Reason))
	}
	return errors.New("reason must be one of " + strings.Join(known, ", "))
}

// networkOf returns the network that text names: an address alone is a network of one.
func networkOf(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return network, errors.New("address must be an IP address, or a network such as 192.0.2.0/24")
	}
	return network, nil
}

// sinceOf returns the time that text names: a time, or how long ago it was.
func sinceOf(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("since must be a time such as %s (RFC 3339), or how long ago, such as 90m", now.UTC().Format(time.RFC3339))
	}
	return t, nil
}
