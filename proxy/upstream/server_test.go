package upstream

import (
	"strings"
	"testing"
)

func TestParseServer(t *testing.T) {
	tests := []struct{ text, want, network, name string }{
		{"tcp://broker", "tcp://broker:1883", "tcp", "broker"},
		{"tcp://broker:1884", "tcp://broker:1884", "tcp", "broker"},
		{"tcp://my_broker-1.internal.", "tcp://my_broker-1.internal.:1883", "tcp", "my_broker-1.internal."},
		{"tcp://127.0.0.1:65535", "tcp://127.0.0.1:65535", "tcp", "127.0.0.1"},
		{"tcp://3com.example", "tcp://3com.example:1883", "tcp", "3com.example"},
		{"tls://broker", "tls://broker:8883", "tcp", "broker"},
		{"tls://[2001:db8::1]", "tls://[2001:db8::1]:8883", "tcp", "2001:db8::1"},
		{"tls://[fe80::1%eth0]:8884", "tls://[fe80::1%eth0]:8884", "tcp", "fe80::1"},
		{"unix:///run/broker.sock", "unix:///run/broker.sock", "unix", ""},
		{"unix:///run/mqtt@a/100%25:1?x#y", "unix:///run/mqtt@a/100%25:1?x#y", "unix", ""},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			s, err := ParseServer(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if s.String() != tt.want || s.network() != tt.network || s.name() != tt.name {
				t.Errorf("got %s by %s with name %q", s, s.network(), s.name())
			}
			if s.Secure() != strings.HasPrefix(tt.text, "tls:") {
				t.Errorf("Secure() = %v", s.Secure())
			}
			if again, err := ParseServer(s.String()); err != nil || again != s {
				t.Errorf("String() reads back as %v, %v", again, err)
			}
		})
	}
}

// checkSays checks that the error contains all parts, and no secret.
func checkSays(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %q repeats a secret", err)
	}
}

// refusal is an address that ParseServer refuses, and a part of its error.
type refusal struct{ text, says string }

func (r refusal) check(t *testing.T) {
	s, err := ParseServer(r.text)
	if err == nil {
		t.Fatalf("accepted as %s", s)
	}
	checkSays(t, err, r.says)
	if s != (Server{}) {
		t.Errorf("an address came with the error: %v", s)
	}
}

func TestParseServerRefuses(t *testing.T) {
	for _, tt := range []refusal{
		{"", "no scheme"},
		{"broker:1883", "no scheme"},
		{"tcp:broker", "no scheme"},
		{"TCP://broker", "has an unknown scheme"},
		{"://broker", "has an unknown scheme"},
		{"ws://broker", "write tcp://host:port, tls://host:port or unix:///path"},
		{"mqtt://broker", "is called tcp here"},
		{"mqtts://broker", "is called tls here"},
		{"ssl://broker", "is called tls here"},
		{"tcp://", "has no host"},
		{"tcp://:1883", "has no host"},
		{"tcp://.", "no valid host"},
		{"tcp://broker:", "no valid host and port"},
		{"tcp://broker:0", "no valid host and port"},
		{"tcp://broker:65536", "no valid host and port"},
		{"tcp://broker:+1", "no valid host and port"},
		{"tcp://broker:01883", "no valid host and port"},
		{"tcp://broker:mqtt", "no valid host and port"},
		{"tcp://broker:1883/", "has more text after the port"},
		{"tls://broker/mqtt", "write tls://host:8883"},
		{"tcp://broker?x=hunter2", "has more text after the port"},
		{"tcp://broker#hunter2", "has more text after the port"},
		{"tcp://admin:hunter2@broker", "contains a user name or password"},
		{"tls://hunter2@broker:1883/x", "contains a user name or password"},
		{"tcp://admin:hunter2", "no valid host and port"},
		{"hunter2://broker", "has an unknown scheme"},
		{"tcp://::1", "an IPv6 address in brackets"},
		{"tcp://2001:db8::1:1883", "an IPv6 address in brackets"},
		{"tcp://[::1", "an IPv6 address in brackets"},
		{"tcp://[]:1883", "an IPv6 address in brackets"},
		{"tcp://[127.0.0.1]:1883", "an IPv6 address in brackets"},
		{"tcp://[broker]", "an IPv6 address in brackets"},
		{"tcp://[fe80::1%eth 0]", "an IPv6 address in brackets"},
		{"tcp://[fe80::1%\n]", "an IPv6 address in brackets"},
		{"tcp://[::1]1883", "no valid host and port"},
		{"tcp://[::1]:", "no valid host and port"},
		{"tcp://bro ker", "no valid host"},
		{"tcp://bröker", "no valid host"},
		{"tcp://a..b", "no valid host"},
		{"tcp://*.example", "no valid host"},
		{"tcp://" + strings.Repeat("a", 64), "no valid host"},
		{"tcp://" + strings.Repeat("a.", 128), "no valid host"},
		{"tcp://1883", "no valid host"},
		{"tcp://10.0.0", "no valid host"},
		{"tcp://10.0.0.256:1883", "no valid host"},
		{"tcp://-broker:1883", "no valid host"},
		{"tcp://broker-.example", "no valid host"},
	} {
		t.Run(tt.text, tt.check)
	}
}

func TestParseServerRefusesSockets(t *testing.T) {
	for _, tt := range []refusal{
		{"unix://run/broker.sock", "absolute"},
		{"unix://", "absolute"},
		{"unix://@abstract", "absolute"},
		{"unix:///run/", "directory"},
		{"unix:///", "directory"},
		{"unix:///run/a\x00b", "control character"},
		{"unix:///" + strings.Repeat("a", 200), "has a path of 201 bytes"},
	} {
		t.Run(tt.text, tt.check)
	}
}

func TestServerZero(t *testing.T) {
	var s Server
	if s.String() != "" || s.Secure() {
		t.Errorf("zero Server is %q, secure %v", s, s.Secure())
	}
}

func FuzzParseServer(f *testing.F) {
	for _, seed := range []string{"tcp://broker", "tls://[::1]:8883", "unix:///run/b.sock", "tcp://u:p@h:1/", "tls://a.b:65535", "://", "tcp://[fe80::1%a]:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseServer(text)
		if err != nil {
			return
		}
		again, err := ParseServer(s.String())
		if err != nil || again != s {
			t.Fatalf("%q gives %q, which gives %q, %v", text, s, again, err)
		}
		if s.scheme != "unix" && strings.ContainsAny(s.String()[len("tcp://"):], "@/?# ") {
			t.Fatalf("%q gives %q", text, s)
		}
	})
}
