package proxy

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// proxyCredentials is a Rewrite that shows the broker the same user for every client.
func proxyCredentials(r *ConnectRequest) error {
	r.Out.Username, r.Out.HasUsername = "proxy", true
	return nil
}

// TestBrokerAnswersInAnotherVersion: a refusal counts although the broker knows only
// another version of MQTT, and the client gets it in the form of its own.
func TestBrokerAnswersInAnotherVersion(t *testing.T) {
	for _, tt := range []struct {
		level  byte
		answer []byte
		want   []byte
		reason Reason
	}{
		{5, []byte{0x20, 2, 0, 1}, []byte{0x20, 3, 0, 0x84, 0}, UpstreamRefused},
		{5, []byte{0x20, 2, 0, 2}, []byte{0x20, 3, 0, 0x85, 0}, UpstreamRefused},
		{5, []byte{0x20, 2, 0, 3}, []byte{0x20, 3, 0, 0x88, 0}, UpstreamRefused},
		{5, []byte{0x20, 2, 0, 4}, []byte{0x20, 3, 0, 0x88, 0}, UpstreamCredentials},
		{5, []byte{0x20, 2, 0, 5}, []byte{0x20, 3, 0, 0x88, 0}, UpstreamCredentials},
		{5, []byte{0x20, 2, 0, 0x84}, []byte{0x20, 3, 0, 0x84, 0}, UpstreamRefused},
		{5, []byte{0x20, 3, 0, 1, 0}, []byte{0x20, 3, 0, 0x84, 0}, UpstreamRefused},
		{4, []byte{0x20, 3, 0, 0x84, 0}, []byte{0x20, 2, 0, 1}, UpstreamRefused},
		{4, []byte{0x20, 2, 0, 0x84}, []byte{0x20, 2, 0, 1}, UpstreamRefused},
		{4, []byte{0x20, 2, 0, 0x8a}, []byte{0x20, 2, 0, 5}, UpstreamRefused},
		{3, []byte{0x20, 3, 0, 0x9d, 0}, []byte{0x20, 2, 0, 3}, UpstreamRefused},
		{4, []byte{0x20, 2, 0, 1}, []byte{0x20, 2, 0, 1}, UpstreamRefused},
		{5, []byte{0x20, 2, 0, 0}, []byte{0x20, 3, 0, 0x88, 0}, UpstreamUnavailable},
		{4, []byte{0x20, 3, 0, 0, 0}, []byte{0x20, 2, 0, 3}, UpstreamUnavailable},
		{5, []byte{0x20, 1, 0}, []byte{0x20, 3, 0, 0x88, 0}, UpstreamUnavailable},
	} {
		t.Run(fmt.Sprintf("%s % x", versionName(tt.level), tt.answer), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Rewrite = proxyCredentials
				b.broker.raw = tt.answer
				c := b.connect()
				p := with(tt.level, "d", goodToken)
				go c.Write(p.Append(nil))
				got, err := packets.ReadPacket(c, 100)
				r := b.lastRefusal()
				if err != nil || !bytes.Equal(got, tt.want) || r.Reason != tt.reason || byte(r.Code) != tt.want[3] {
					t.Errorf("got % x, error %v, refusal %+v; want % x for %s", got, err, r, tt.want, tt.reason)
				}
			})
		})
	}
}

// TestSuccessRepeatsTheAuthenticationMethod: the broker has not seen the method, since
// the token came with it, and the client must find it in the CONNACK.
func TestSuccessRepeatsTheAuthenticationMethod(t *testing.T) {
	reason := packets.Properties(nil).With(packets.ReasonString, "welcome, and so on and so forth")
	maximum := func(size byte) packets.Properties { return packets.Properties{0x27, 0, 0, 0, size} }
	for _, tt := range []struct {
		name  string
		from  TokenLocation
		limit packets.Properties
		want  packets.ReasonCode
		says  bool // the broker's reason string is there
	}{
		{"authentication data", TokenLocation{place: authData}, nil, packets.Success, true},
		{"user name", TokenLocation{}, nil, packets.Success, true},
		{"room for all", TokenLocation{place: authData}, maximum(100), packets.Success, true},
		{"no room for the reason string", TokenLocation{place: authData}, maximum(30), packets.Success, false},
		{"no room", TokenLocation{place: authData}, maximum(10), packets.PacketTooLarge, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Token = []TokenLocation{tt.from, {place: authData}}
				b.broker.answer.Properties = reason
				p := with(5, "", goodToken)
				p.ClientID = "d"
				p.Properties = append(tt.limit, packets.Properties(nil).With(packets.AuthenticationMethod, "ACCESS-TOKEN").With(packets.AuthenticationData, goodToken)...)
				_, ack, err := b.login(p)
				if err != nil || ack.Code != tt.want {
					t.Fatalf("CONNACK %v, %v; want %v", ack.Code, err, tt.want)
				}
				method, _ := ack.Properties.AuthenticationMethod()
				if want := tt.want == packets.Success; (method == "ACCESS-TOKEN") != want {
					t.Errorf("the authentication method is %q", method)
				}
				if _, says := ack.Properties.ReasonString(); says != tt.says {
					t.Errorf("the reason string is there: %v", says)
				}
				if _, shown := b.broker.lastConnect().Properties.AuthenticationMethod(); shown {
					t.Error("the broker was shown the method")
				}
			})
		})
	}
}

// TestBrokersOwnAuthenticationIsLeftAlone: where the method is the broker's business,
// so is the CONNACK.
func TestBrokersOwnAuthenticationIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		p := with(5, "d", goodToken)
		p.Properties = packets.Properties(nil).With(packets.AuthenticationMethod, "GSSAPI")
		_, ack, err := b.login(p)
		if _, there := ack.Properties.AuthenticationMethod(); err != nil || there {
			t.Errorf("the proxy has added the method; error %v", err)
		}
	})
}

// TestAssignedClientIDIsClaimed: no other subject gets in with the id that the broker
// gave to a client, as long as its session lives.
func TestAssignedClientIDIsClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.broker.answer.Properties = packets.Properties(nil).With(packets.AssignedClientIdentifier, "by-the-broker")
		alpha := b.mustLogin(with(5, "", "good-alpha"))
		if _, ack, _ := b.login(with(5, "by-the-broker", "good-beta")); ack.Code != packets.ClientIDNotValid {
			t.Errorf("another subject: CONNACK %v", ack.Code)
		}
		if _, ack, _ := b.login(with(5, "", "good-beta")); ack.Code != packets.ServerUnavailable {
			t.Errorf("another subject that was assigned the same id: CONNACK %v", ack.Code)
		}
		again := b.mustLogin(with(5, "by-the-broker", "good-alpha"))
		alpha.Close()
		again.Close()
		b.lastEnd()
		b.mustLogin(with(5, "by-the-broker", "good-beta"))
	})
}

// TestRefusalAfterAcceptance: if a broker has accepted the same credentials a moment
// ago, a refusal is about the client and passed on to it.
func TestRefusalAfterAcceptance(t *testing.T) {
	for _, tt := range []struct {
		level          byte
		refusal, later packets.ReasonCode
	}{
		{4, 5, 3}, {4, 4, 3}, {5, 0x87, 0x88}, {5, 0x86, 0x88},
	} {
		t.Run(fmt.Sprintf("%s %v", versionName(tt.level), tt.refusal), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.policy.Rewrite = proxyCredentials
				accept := func() {
					t.Helper()
					b.broker.answer.Code = packets.Success
					b.mustLogin(with(tt.level, "other", "good-other")).Close()
					b.broker.answer.Code = tt.refusal
				}
				refused := func(token string, want packets.ReasonCode) {
					t.Helper()
					if _, ack, err := b.login(with(tt.level, "d", token)); err != nil || ack.Code != want {
						t.Errorf("CONNACK %v, error %v; want %v", ack.Code, err, want)
					}
				}
				b.broker.answer.Code = tt.refusal
				refused(goodToken, tt.later)
				accept()
				refused(goodToken, tt.refusal)
				refused(goodToken, tt.refusal)
				refused("good-beta", tt.later) // a second one in a row: the password may have changed
				accept()
				refused("good-beta", tt.refusal)
				accept()
				time.Sleep(acceptanceLife + second)
				refused(goodToken, tt.later)
			})
		})
	}
}

// TestAcceptanceIsOfTheSameCredentials: what a broker says of other credentials, or
// another broker of these, proves nothing.
func TestAcceptanceIsOfTheSameCredentials(t *testing.T) {
	good := acceptanceKey{server: "a", username: "proxy", password: "p", hasUsername: true, hasPassword: true}
	var a acceptances
	if a.likelyGood(good, "x") {
		t.Error("exonerated without an acceptance")
	}
	a.add(good)
	for _, other := range []acceptanceKey{
		{server: "b", username: "proxy", password: "p", hasUsername: true, hasPassword: true},
		{server: "a", username: "proxy", password: "q", hasUsername: true, hasPassword: true},
		{server: "a", username: "pump", password: "p", hasUsername: true, hasPassword: true},
		{server: "a"},
	} {
		if a.likelyGood(other, "x") {
			t.Errorf("%+v is exonerated", other)
		}
	}
	if !a.likelyGood(good, "x") {
		t.Error("the accepted credentials are not exonerated")
	}
	for i := range 2 * maxAcceptances {
		a.add(acceptanceKey{username: fmt.Sprint(i)})
	}
	if len(a.last) != maxAcceptances {
		t.Errorf("%d are remembered, want %d", len(a.last), maxAcceptances)
	}
}
