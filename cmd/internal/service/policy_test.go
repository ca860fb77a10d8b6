package service

import (
	"errors"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// TestBadNamesAreNoBrokerFault: the names of a device or its grant may not fit into a
// template, and then the reason says whose fault that is.
func TestBadNamesAreNoBrokerFault(t *testing.T) {
	for _, c := range []struct {
		template string
		values   upstream.Values
		want     proxy.Reason
	}{
		{"${client_id}/${subject}", upstream.Values{ClientID: "a/b", Subject: "s"}, proxy.ClientIDNotUsable},
		{"${subject}/${client_id}", upstream.Values{ClientID: "c", Subject: "s/t"}, proxy.IdentityNotUsable},
		{"${username}:${client_id}", upstream.Values{ClientID: "c", Username: "a:b"}, proxy.IdentityNotUsable},
		{"${username}:${client_id}", upstream.Values{ClientID: "c"}, proxy.IdentityNotUsable},
		{"${subject}:${client_id}", upstream.Values{ClientID: strings.Repeat("c", 65535), Subject: "s"}, proxy.ClientIDNotUsable},
		{"${attrs.site}", upstream.Values{}, proxy.SourceUnavailable},
	} {
		parsed, err := upstream.ParseTemplate(c.template, upstream.ClientID)
		if err != nil {
			t.Fatal(err)
		}
		_, err = parsed.Expand(c.values)
		refused, ok := errors.AsType[*proxy.RefusedError](templateError("upstream.client_id", err))
		if err == nil || !ok || refused.Reason != c.want {
			t.Errorf("%s: %v is refused as %v, want %s", c.template, err, refused, c.want)
		}
	}
}
