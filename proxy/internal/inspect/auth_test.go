package inspect_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	paho "github.com/eclipse/paho.golang/packets"
	mochi "github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
)

func auth(code packets.ReasonCode, method, token string) string {
	a := packets.Auth{Code: code, Properties: packets.Properties(nil).With(packets.AuthenticationMethod, method)}
	if token != "" {
		a.Properties = a.Properties.With(packets.AuthenticationData, token)
	}
	return string(a.Append(nil, 5))
}

// renewing returns the filter of a session whose client renews its token, and the tokens.
func renewing() (up *inspect.Filter, tokens *[]string) {
	tokens = new([]string)
	up, _ = inspect.New(inspect.Session{Level: 5, Renewal: &inspect.Renewal{Method: "m", Renew: func(token []byte) bool {
		*tokens = append(*tokens, string(token))
		return len(*tokens) < 3
	}}})
	return up, tokens
}

// TestAuthIsTakenOut: the token is handed on and the broker does not get the packet, in pieces of
// any size.
func TestAuthIsTakenOut(t *testing.T) {
	in := pingreq + auth(packets.Reauthenticate, "m", "one") + publish(5, "a", 1, "x") + auth(packets.Reauthenticate, "m", "two") + pingreq
	for _, n := range []int{1, 2, 7, 1000} {
		up, tokens := renewing()
		pass, back, err := feed(up, in, n)
		if pass != pingreq+publish(5, "a", 1, "x")+pingreq || back != "" || err != nil || !slices.Equal(*tokens, []string{"one", "two"}) {
			t.Errorf("in pieces of %d: %x, %x, %v, %q", n, pass, back, err, *tokens)
		}
	}
}

// TestInvalidAuthEndsTheSession ends the session, and the client learns the reason code.
func TestInvalidAuthEndsTheSession(t *testing.T) {
	good := auth(packets.Reauthenticate, "m", "t")
	for name, test := range map[string]struct {
		in     string
		code   packets.ReasonCode
		tokens int
	}{
		"another method":        {auth(packets.Reauthenticate, "M", "t"), packets.ProtocolError, 0},
		"continuation":          {auth(packets.ContinueAuthentication, "m", "t"), packets.ProtocolError, 0},
		"success":               {auth(packets.Success, "m", "t"), packets.ProtocolError, 0},
		"no data":               {auth(packets.Reauthenticate, "m", ""), packets.ProtocolError, 0},
		"empty":                 {"\xF0\x00", packets.ProtocolError, 0},
		"flags":                 {"\xF1" + good[1:], packets.MalformedPacket, 0},
		"length beyond the end": {"\xF0\x03\x19\x07\x15", packets.MalformedPacket, 0},
		"one not answered":      {good + good + good, packets.ProtocolError, 3},
		"of 128 KiB":            {"\xF0\x80\x80\x08", packets.PacketTooLarge, 0},
	} {
		up, tokens := renewing()
		pass, back, err := feed(up, pingreq+test.in, 3)
		var d packets.Disconnect
		if e := d.Parse([]byte(back), 5); err == nil || e != nil || d.Code != test.code || pass != pingreq || len(*tokens) != test.tokens {
			t.Errorf("%s: %x passes, %x goes back, %v, %d tokens", name, pass, back, err, len(*tokens))
		}
	}
	// Without a renewal AUTH is one of the packets that pass unread.
	up, _ := newFilters(t, 5)
	if pass, _, err := feed(up, good, 1); pass != good || err != nil {
		t.Errorf("%x, %v", pass, err)
	}
}

// FuzzAuth: a token is handed on only for a packet that Paho reads as an AUTH which
// begins another authentication by the method of the session, and no AUTH passes.
func FuzzAuth(f *testing.F) {
	f.Add([]byte(pingreq+auth(packets.Reauthenticate, "m", "one")+pingreq), byte(3))
	f.Add([]byte(auth(packets.Reauthenticate, "m", "one")+auth(packets.ContinueAuthentication, "m", "two")), byte(1))
	f.Add([]byte("\xF0\x0A\x19\x08\x16\x00\x01t\x15\x00\x01m"), byte(2))
	f.Add([]byte("\xF0\x12\x19\x10\x1F\x00\x01r\x26\x00\x00\x00\x00\x15\x00\x01m\x16\x00\x00"), byte(5))
	f.Fuzz(func(t *testing.T, stream []byte, piece byte) {
		up, tokens := renewing()
		pass, _, err := feed(up, string(stream), int(piece)+1)
		var want []string
		for rest := stream; len(want) < len(*tokens); {
			length, n, err := mochi.DecodeLength(bytes.NewReader(rest[1:]))
			if err != nil || 1+n+length > len(rest) {
				t.Fatalf("tokens %q, but the stream ends before", *tokens)
			}
			if rest[0] == 0xF0 {
				p, err := paho.ReadPacket(bytes.NewReader(rest[:1+n+length]))
				if err != nil {
					t.Fatalf("tokens %q, but Paho says %v", *tokens, err)
				}
				if a := p.Content.(*paho.Auth); a.ReasonCode == 0x19 && a.Properties.AuthMethod == "m" {
					want = append(want, string(a.Properties.AuthData))
				}
			}
			rest = rest[1+n+length:]
		}
		if !slices.Equal(*tokens, want) {
			t.Fatalf("tokens %q, Paho reads %q", *tokens, want)
		}
		for framed := strings.NewReader(pass); framed.Len() > 0; {
			raw, e := packets.ReadPacket(framed, 1<<20)
			if e != nil {
				if err == nil && errors.As(e, new(*packets.MalformedError)) {
					t.Fatalf("%x passes: %v", pass, e)
				}
				break
			}
			if packets.Type(raw[0]>>4) == packets.AUTH {
				t.Fatalf("%x passes", raw)
			}
		}
	})
}
