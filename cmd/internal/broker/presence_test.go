package broker

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// begun and ended are the events of a session with that client identifier.
func begun(clientID string) Presence {
	return Presence{Connected: true, Time: time.UnixMilli(1000).UTC(), ClientID: clientID}
}

func ended(clientID string) Presence {
	return Presence{Time: time.UnixMilli(2000).UTC(), ClientID: clientID, Reason: "closed", By: "client"}
}

// presenceIn returns the event in a message.
func presenceIn(t *testing.T, m message) (p Presence) {
	t.Helper()
	if err := json.Unmarshal([]byte(m.payload), &p); err != nil {
		t.Fatalf("%s: %v", m.payload, err)
	}
	return p
}

// TestReadersLearnWhoIsConnected: with the first session of a device and the end of its last one.
func TestReadersLearnWhoIsConnected(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		r := connectReader(t, b, "dashboard", login{version: version, id: "r"})
		r.subscribe("v1/devices/+/presence", 1)
		r.Ping() // what is retained comes after the SUBACK, and could be what is published below
		device := connect(t, b, "pump-1", login{version: version, id: "d"})
		device.subscribe("#", 1)
		for _, p := range []Presence{begun("a"), begun("b"), ended("a"), ended("b"), ended("b"), begun("c")} {
			b.PublishPresence("pump-1", p)
		}
		for _, want := range []Presence{begun("a"), ended("b"), begun("c")} {
			if m := r.take(); m.topic != "v1/devices/pump-1/presence" || m.qos != 1 || m.retain || presenceIn(t, m) != want {
				t.Errorf("got %+v, want %+v", m, want)
			}
		}
		r.quietReader()
		device.quietReader()
	})
}

// TestLateReadersLearnWhoIsConnected now, by retained messages, and of no other device.
func TestLateReadersLearnWhoIsConnected(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		const n = 20
		for i := range n {
			b.PublishPresence(fmt.Sprint("pump-", i), begun("c"))
			b.PublishPresence(fmt.Sprint("gone-", i), begun("c"))
			b.PublishPresence(fmt.Sprint("gone-", i), ended("c"))
		}
		for filter, want := range map[string]int{
			"v1/devices/+/presence": n, "v1/devices/#": n, "v1/devices/pump-7/presence": 1, "v1/devices/pump-7/#": 1,
			"v1/devices/gone-7/presence": 0, "v1/devices/+/telemetry": 0, "$share/g/v1/devices/+/presence": 0,
		} {
			r := connectReader(t, b, "dashboard", login{version: version, id: "r"})
			r.subscribe(filter, 1)
			seen := make(map[string]bool)
			for range want {
				m := r.take()
				if !m.retain || presenceIn(t, m) != begun("c") {
					t.Errorf("%s: got %+v", filter, m)
				}
				seen[m.topic] = true
			}
			if len(seen) != want {
				t.Errorf("%s: the presence of %d devices came, want %d", filter, len(seen), want)
			}
			r.quietReader()
			r.disconnect()
		}
		device := connect(t, b, "pump-1", login{version: version, id: "d"})
		device.subscribe("#", 1)
		device.quietReader()
	})
}
