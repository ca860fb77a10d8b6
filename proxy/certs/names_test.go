package certs

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
)

func TestLocalNames(t *testing.T) {
	always := []string{"localhost", "127.0.0.1", "::1"}
	tests := []struct {
		host  string
		addrs []string
		want  []string
	}{
		{"", nil, nil},
		{"gateway", nil, []string{"gateway", "gateway.local"}},
		{"GW.Example.com.", nil, []string{"gw.example.com", "gw"}},
		{"localhost", nil, []string{"localhost.local"}},
		{"under_score", nil, []string{"under_score", "under_score.local"}},
		{"my box", nil, nil},
		{"zürich", nil, nil},
		{"h", []string{"127.0.0.1/8", "192.0.2.7/24", "192.0.2.7/32", "169.254.3.4/16", "2001:db8::5/64"},
			[]string{"h", "h.local", "192.0.2.7", "169.254.3.4", "2001:db8::5"}},
		{"h", []string{"fe80::1/64", "ff02::1/16", "224.0.0.1/4", "0.0.0.0/0", "nonsense"}, []string{"h", "h.local"}},
	}
	for _, test := range tests {
		var addrs []net.Addr
		for _, a := range test.addrs {
			addrs = append(addrs, address(a))
		}
		if got, want := localNames(test.host, addrs), append(slices.Clone(always), test.want...); !slices.Equal(got, want) {
			t.Errorf("localNames(%q, %s)\n= %q\nwant %q", test.host, test.addrs, got, want)
		}
	}
	if got := LocalNames(); !slices.Equal(got[:3], always) {
		t.Errorf("LocalNames() = %q", got)
	}
}

func TestLocalNamesAreBounded(t *testing.T) {
	var addrs []net.Addr
	for i := range 1000 {
		addrs = append(addrs, address(fmt.Sprintf("10.0.%d.%d/32", i/256, i%256)))
	}
	if got := localNames("node", addrs); len(got) != maxLocalNames || got[3] != "node" {
		t.Errorf("%d names, fourth %q", len(got), got[3])
	}
}

type address string

func (address) Network() string  { return "ip+net" }
func (a address) String() string { return string(a) }

func TestCheckName(t *testing.T) {
	good := []string{"localhost", "a.b-c.d", "Host_1", "192.0.2.1", "::1", "2001:db8::1", strings.Repeat("a", 63)}
	bad := []string{"", ".", "a.", ".a", "a..b", "two words", "fe80::1%eth0", "-a", "*.example.com", "[::1]", "a:1", "é", "a\x00", strings.Repeat("a", 64), strings.Repeat("a.", 127)}
	for _, name := range good {
		if err := checkName(name); err != nil {
			t.Errorf("checkName(%q) = %v", name, err)
		}
	}
	for _, name := range bad {
		if checkName(name) == nil {
			t.Errorf("checkName(%q) = nil", name)
		}
	}
}
