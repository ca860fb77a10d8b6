package proxy

import (
	"context"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestRefusalNamesTheDevice: a refusal names the device if the token is known, whether it is valid
// or not. A guess names no device.
func TestRefusalNamesTheDevice(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func() (*authz.Grant, error)
		want   string
	}{
		"expired":        {func() (*authz.Grant, error) { return &authz.Grant{Subject: "pump", Expires: time.Now()}, nil }, "pump"},
		"disabled":       {func() (*authz.Grant, error) { return nil, &authz.Denial{Reason: authz.Disabled, Subject: "pump"} }, "pump"},
		"unknown":        {func() (*authz.Grant, error) { return nil, &authz.Denial{Reason: authz.Unknown} }, ""},
		"no such broker": {func() (*authz.Grant, error) { return &authz.Grant{Subject: "pump"}, nil }, "pump"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.broker.err = errTest
				b.policy.Authorizer = authorizerFunc(func(context.Context, authz.Request) (*authz.Grant, error) { return tt.answer() })
				c := b.connect()
				p := with(4, "d", "token")
				c.Send(p.Append(nil))
				if _, err := c.ReadConnack(); err != nil {
					t.Error(err)
				}
				c.ExpectEnd()
				if r := b.lastRefusal(); r.Subject != tt.want {
					t.Errorf("refusal %+v, want the device %q", r, tt.want)
				}
			})
		})
	}
}

// TestConnackFitsTheClient: a 5.0 client with a Maximum Packet Size gets
// no larger CONNACK, of the proxy or of the broker.
func TestConnackFitsTheClient(t *testing.T) {
	maximum := func(n byte) packets.Properties { return packets.Properties{0x27, 0, 0, 0, n} }
	reason := packets.Properties(nil).With(packets.ReasonString, "go away")
	verbose := append(slices.Clip(reason), "\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01v"...)
	withID := append(slices.Clip(reason), "\x12\x00\x02id"...)
	for _, tt := range []struct {
		name   string
		token  string
		max    byte
		answer packets.Connack
		want   string // in bytes; empty: closed without a CONNACK
		reason Reason // of the refusal
	}{
		{"own refusal that fits", "bad", 5, packets.Connack{}, "\x20\x03\x00\x86\x00", "unknown_token"},
		{"own refusal that does not", "bad", 4, packets.Connack{}, "", "unknown_token"},
		{"refusal of the broker that fits", goodToken, 15, packets.Connack{Code: packets.ReasonCode(0x8A), Properties: reason},
			"\x20\x0D\x00\x8A\x0A\x1F\x00\x07go away", UpstreamRefused},
		{"refusal of the broker without its words", goodToken, 14, packets.Connack{Code: packets.ReasonCode(0x8A), Properties: verbose},
			"\x20\x03\x00\x8A\x00", UpstreamRefused},
		{"refusal of the broker that does not fit", goodToken, 4, packets.Connack{Code: packets.ReasonCode(0x8A), Properties: reason}, "", UpstreamRefused},
		{"success without its words", goodToken, 12, packets.Connack{Properties: withID}, "\x20\x08\x00\x00\x05\x12\x00\x02id", ""},
		{"success that does not fit", goodToken, 9, packets.Connack{Properties: withID}, "\x20\x03\x00\x95\x00", TooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.broker.answer = tt.answer
				p := with(5, "d", tt.token)
				p.Properties = maximum(tt.max)
				c := b.connect()
				c.Send(p.Append(nil))
				got := make([]byte, len(tt.want))
				if _, err := io.ReadFull(c, got); err != nil || string(got) != tt.want {
					t.Errorf("CONNACK % x, error %v; want % x", got, err, tt.want)
				}
				if tt.reason == "" {
					return
				}
				c.ExpectEnd()
				if r := b.lastRefusal(); r.Reason != tt.reason || r.Sent != (tt.want != "") {
					t.Errorf("refusal %+v, want reason %q", r, tt.reason)
				}
			})
		})
	}
}
