package schema

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	names := []string{"address", "tls", "certificate", "max_packet", "client_id", "min_version"}
	for word, want := range map[string]string{
		"adress": "address", "addres": "address", "addrses": "address", "Address": "address",
		"cert": "certificate", "max-packet": "max_packet", "maxPacket": "max_packet", "clientid": "client_id",
		"ssl": "", "tlss": "tls", "x": "", "": "", "bind": "", "version": "",
		strings.Repeat("address", 100): "",
	} {
		if got := Nearest(word, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "abd", 1}, {"abc", "xabc", 1}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
