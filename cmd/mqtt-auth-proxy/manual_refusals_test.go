package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// TestManualListsEveryRefusal: the manual's table has every reason for which a device is
// refused, with the codes that the proxy answers with, and no other.
func TestManualListsEveryRefusal(t *testing.T) {
	listed := listedRefusals(manualText(t))
	for _, reason := range proxy.Reasons() {
		v3, v5 := reason.Codes()
		want := codeText(v3, "%d") + ", " + codeText(v5, "0x%02X")
		switch reason {
		case proxy.Malformed:
			want = "closed, 0x81, 0x82"
		case proxy.NoClientID:
			want = "2, -" // 5.0 needs none
		case proxy.UpstreamRefused:
			want = "passed on, passed on"
		case proxy.HTTPRefused:
			want = "HTTP status, Close frame, HTTP status, Close frame"
		}
		if got := listed[string(reason)]; got != want {
			t.Errorf("the manual says %q about %s, want %q", got, reason, want)
		}
		delete(listed, string(reason))
	}
	for reason := range listed {
		t.Errorf("the manual lists %s, which is no reason", reason)
	}
}

func codeText(code packets.ReasonCode, format string) string {
	if code == 0 {
		return "closed"
	}
	return fmt.Sprintf(format, byte(code))
}

var refusalReason = regexp.MustCompile("`([a-z0-9_]+)`")

// listedRefusals returns the codes that the manual's table gives for each reason.
func listedRefusals(text string) map[string]string {
	_, table, _ := strings.Cut(text, "<!-- refusals -->")
	table, _, _ = strings.Cut(table, "\n\n")
	listed := map[string]string{}
	for _, row := range strings.Split(table, "\n") {
		cells := strings.Split(row, "|")
		if len(cells) != 6 {
			continue
		}
		for _, m := range refusalReason.FindAllStringSubmatch(cells[4], -1) {
			listed[m[1]] = strings.TrimSpace(cells[2]) + ", " + strings.TrimSpace(cells[3])
		}
	}
	return listed
}
