package broker

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// family is a group of ThingsBoard's device topics, as metrics and the log call it.
type family byte

const (
	familyOther     family = iota
	familyClaim            // devices that are claimed by a customer
	familyFirmware         // firmware and software in chunks
	familyGateway          // gateways with devices behind them
	familyProtobuf         // payloads that are not JSON
	familyProvision        // devices that register themselves
	familyRPC              // commands, other than requests of devices
	families               // how many there are
)

// String returns the name of the family.
func (f family) String() string {
	return [families]string{"other", "claim", "firmware", "gateway", "protobuf", "provision", "rpc"}[f]
}

// familyOf returns the family of a topic or filter.
func familyOf(topic string) family {
	for _, f := range [...]struct {
		root string
		family
	}{
		{"v1/devices/me/claim", familyClaim},
		{"v2/fw", familyFirmware}, {"v2/sw", familyFirmware},
		{"v1/gateway", familyGateway},
		{"v2/t/p", familyProtobuf}, {"v2/a/p", familyProtobuf},
		{"v2/a/req/p", familyProtobuf}, {"v2/a/res/p", familyProtobuf},
		{"v2/r/req/p", familyProtobuf}, {"v2/r/res/p", familyProtobuf},
		{"/provision", familyProvision},
		{"v1/devices/me/rpc", familyRPC}, {"v2/r", familyRPC},
	} {
		if within(topic, f.root) {
			return f.family
		}
	}
	return familyOther
}

// unservedFilter reports whether a filter asks for nothing but topics on which nothing can ever
// come, and of which family. A device then learns from the SUBACK that it need not wait. Answers
// and commands are for one device, so they cannot be shared.
func unservedFilter(filter string) (family, bool) {
	inner, shared := sharedFilter(filter)
	if !shared {
		inner = filter
	}
	f := familyOf(inner)
	switch f {
	case familyOther, familyRPC:
		return f, shared && (within(inner, "v1/devices/me") || within(inner, "v2"))
	}
	return f, true
}

// unserved counts what devices ask for that is not served, and warns of it.
type unserved struct {
	messages, filters [families]atomic.Int64
	daily
}

// daily remembers which devices there was a warning of today. The zero value has seen none.
type daily struct {
	seed   maphash.Seed
	mu     sync.Mutex
	day    int64               // since 1970 of the warnings
	warned map[uint64]struct{} // hashes of the names of devices
}

// maxWarned is for how many devices there is a warning on one day.
const maxWarned = 10_000

// byFamily returns counts by the names of the families.
func byFamily(counts *[families]atomic.Int64) map[string]int64 {
	m := make(map[string]int64, families)
	for f := range families {
		m[f.String()] = counts[f].Load()
	}
	return m
}

// first reports whether there has been no warning of a device on the day of now, in UTC.
func (u *daily) first(device string, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if day := now.Unix() / (24 * 60 * 60); day != u.day || u.warned == nil {
		u.day, u.seed, u.warned = day, maphash.MakeSeed(), make(map[uint64]struct{})
	}
	id := maphash.String(u.seed, device)
	if _, known := u.warned[id]; known || len(u.warned) >= maxWarned {
		return false
	}
	u.warned[id] = struct{}{}
	return true
}

// refuseTopic counts a message to a device topic without a function.
func (b *Broker) refuseTopic(device, topic string) {
	f := familyOf(topic)
	b.unserved.messages[f].Add(1)
	b.warnUnserved(device, f)
}

// refuseFilter counts a subscription to device topics without a function.
func (b *Broker) refuseFilter(device string, f family) {
	b.unserved.filters[f].Add(1)
	b.warnUnserved(device, f)
}

// warnUnserved warns once a day of a device that uses what is not served. The topic is not
// logged, because a device may have put anything into it.
func (b *Broker) warnUnserved(device string, f family) {
	if b.unserved.first(device, time.Now()) {
		b.options.Logger.Warn("device uses topics of ThingsBoard that the bundled broker does not serve; the next warning about this device comes tomorrow at the earliest",
			"device", device, "family", f.String())
	}
}
