package broker

import "testing"

// TestSharedAttributesReachTheDevice: the sessions of the device that have subscribed get a change,
// and no other device does.
func TestSharedAttributesReachTheDevice(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		other := connect(t, b, "e", login{version: version, id: "o"})
		other.thingsboard()
		for filter, want := range map[string][]string{
			"v1/devices/me/attributes": {"v1/devices/me/attributes"}, "v2/a": {"v2/a"}, "v2/a/j": {"v2/a/j"}, "v2/#": {"v2/a", "v2/a/j"}, "v2/t": nil,
		} {
			c := connect(t, b, "d", login{version: version, id: "c"})
			c.subscribe(filter, 1)
			b.PushAttributes("d", []byte(`{"interval":30}`))
			for _, topic := range want {
				if got := c.take(); got.topic != topic || got.payload != `{"interval":30}` || got.qos != 1 || got.retain {
					t.Errorf("%s: got %+v", filter, got)
				}
			}
			c.quiet()
			c.disconnect()
		}
		other.quiet()
	})
}

// TestSharedAttributesWaitForTheDevice: a session that outlives its connection gets the changes in
// order when the device returns.
func TestSharedAttributesWaitForTheDevice(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		l := login{version: version, id: "c", persist: true}
		if version == 5 {
			l.props = prop32(0x11, 3600)
		}
		c := connect(t, b, "d", l)
		c.thingsboard()
		c.disconnect()
		eventually(t, "it is away", func() bool { return b.open() == 0 })
		for _, change := range []string{`{"interval":30}`, `{"deleted":["interval"]}`} {
			b.PushAttributes("d", []byte(change))
		}
		c = connect(t, b, "d", l)
		for _, want := range []string{`{"interval":30}`, `{"deleted":["interval"]}`} {
			if got := c.take(); got.payload != want {
				t.Errorf("got %+v, want %s", got, want)
			}
		}
	})
}

// TestUnreadPushesAreBounded: changes that a device does not read count towards its memory.
func TestUnreadPushesAreBounded(t *testing.T) {
	const share = 64 << 10
	b, _ := newBroker(t, func(o *Options) { o.DeviceMemory = share })
	c := connect(t, b, "d", login{id: "c", persist: true})
	c.thingsboard()
	c.disconnect()
	eventually(t, "it is away", func() bool { return b.open() == 0 })
	for range 100 {
		b.PushAttributes("d", []byte(big(2000)))
	}
	if s := b.Stats(); s.Memory > share || s.Dropped["device_memory"] == 0 || s.Queued == 0 {
		t.Errorf("stats %+v", s)
	}
}

// TestHas: a session counts with and without a connection, and that of a gateway also for the
// devices behind it.
func TestHas(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{id: "c", persist: true})
	for device, want := range map[string]bool{"d": true, "d/child": true, "e": false, "e/d": false} {
		if b.Has(device) != want {
			t.Errorf("%s: %v", device, !want)
		}
	}
	c.disconnect()
	eventually(t, "it is away", func() bool { return b.open() == 0 })
	if !b.Has("d") {
		t.Error("its session is not kept")
	}
}
