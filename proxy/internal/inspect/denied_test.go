package inspect_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
)

// TestDeniedIsReported: every message and every filter that is not allowed is reported once, with
// its topic, also if the packet arrives in several pieces.
func TestDeniedIsReported(t *testing.T) {
	for _, level := range []byte{3, 4, 5} {
		in := publish(level, "a", 1, "x") + publish(level, "no/x", 0, "x") + publish(level, "no/x", 2, "x") +
			subscribe(level, packets.SUBSCRIBE, "a", "no/y", "a#")
		want := []string{"PUBLISH no/x 0", "PUBLISH no/x 2", "SUBSCRIBE no/y 1", "SUBSCRIBE a# 1"}
		if level >= 5 {
			in += aliased(1, "no/z", 1) + aliased(1, "", 1)
			want = append(want, "PUBLISH no/z 1", "PUBLISH no/z 1")
		}
		for _, n := range []int{1, 5, 1 << 20} {
			var got []string
			up, _ := inspect.New(inspect.Session{Level: level, ACL: rights(t), Broker: inspect.Limits{TopicAliasMaximum: 1}, Denied: func(d inspect.Denied) {
				got = append(got, fmt.Sprintf("%v %s %d", d.Type, d.Topic, d.QoS))
			}})
			if _, _, err := feed(up, in, n); err != nil || !slices.Equal(got, want) {
				t.Errorf("level %d in pieces of %d: %q, %v; want %q", level, n, got, err, want)
			}
		}
	}
}
