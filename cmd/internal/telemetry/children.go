package telemetry

import (
	"context"
	"iter"
	"strconv"
	"strings"
	"sync"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// MaxChildren is the most devices behind one gateway.
const MaxChildren = 10_000

// Children is the part of a [Store] that numbers the devices behind gateways. A number stays, even
// if nothing of the device is left.
type Children interface {
	// ChildNumbers returns the numbers of devices behind a gateway, all different, which begin with
	// 1, or 0 for those that have none. With add these get one. That is an error, a
	// [*PayloadError], if the gateway would have more than [MaxChildren], and then none gets one. A
	// number is never one under which the store has something of a device that is called like a
	// [ChildName]. The other errors are those of [Writer].
	ChildNumbers(ctx context.Context, gateway string, children []string, add bool) ([]int64, error)
	// ChildrenOf returns the names of all devices behind a gateway, in their order.
	ChildrenOf(ctx context.Context, gateway string) iter.Seq2[string, error]
}

// ChildName returns the name under which a store keeps what belongs to a device behind a gateway.
func ChildName(gateway string, number int64) string {
	return "/" + gateway + "/" + strconv.FormatInt(number, 10)
}

// OwnerOf returns the gateway in a [ChildName], and any other name as it is.
func OwnerOf(name string) string {
	if rest, ok := strings.CutPrefix(name, "/"); ok {
		if at := strings.LastIndexByte(rest, '/'); at > 0 {
			return rest[:at]
		}
	}
	return name
}

// AccountOf returns whose keys bound those of a name in a store: all devices behind a gateway have one
// account, whose name is a prefix of theirs, and every other device has one of its own.
func AccountOf(name string) string {
	if OwnerOf(name) == name {
		return name
	}
	return name[:strings.LastIndexByte(name, '/')+1]
}

// ChildID returns the name of a device behind a gateway outside of stores.
func ChildID(gateway, child string) string { return gateway + "/" + child }

// SplitID returns the two parts of a [ChildID]. It reports false for the name of any other device.
func SplitID(device string) (gateway, child string, ok bool) {
	gateway, child, ok = strings.Cut(device, "/")
	return gateway, child, ok && gateway != "" && payload.CheckChild(child) == nil
}

// WithChildren returns a store that knows the devices behind gateways by their [ChildID]. It keeps
// what belongs to them in s under a [ChildName], so that it never meets what belongs to a device
// of that name. It gives a number to a device when something is stored for it.
func WithChildren(s Store) Store { return &family{store: s} }

// family is what WithChildren returns. It does not embed the store, so that a method with the name
// of a device cannot pass it by.
type family struct {
	store Store
	names nameCache
}

// nameCache remembers the names of devices behind gateways in a store. They do not change.
type nameCache struct {
	mu    sync.RWMutex
	names map[string]string // by ChildID
	bytes int
}

// cachedBytes is how many bytes of names are remembered.
const cachedBytes = 8 << 20

func (c *nameCache) get(device string) (name string, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	name, ok = c.names[device]
	return name, ok
}

func (c *nameCache) put(device, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes += len(device) + len(name); c.names == nil || c.bytes > cachedBytes {
		c.names, c.bytes = make(map[string]string), len(device)+len(name)
	}
	c.names[device] = name
}

// name returns the name of a device in the store. It is "" for one behind a gateway that has no
// number and, without add, gets none.
func (f *family) name(ctx context.Context, device string, add bool) (string, error) {
	gateway, child, ok := SplitID(device)
	if !ok {
		return device, nil
	}
	names, err := f.namesOf(ctx, gateway, []string{child}, add)
	if err != nil {
		return "", err
	}
	return names[0], nil
}

// namesOf does the same for several devices behind a gateway.
func (f *family) namesOf(ctx context.Context, gateway string, children []string, add bool) ([]string, error) {
	names := make([]string, len(children))
	var unknown []string
	var at []int // of the unknown ones
	for i, child := range children {
		name, ok := f.names.get(ChildID(gateway, child))
		if names[i] = name; !ok {
			unknown, at = append(unknown, child), append(at, i)
		}
	}
	if unknown == nil {
		return names, nil
	}
	numbers, err := f.store.ChildNumbers(ctx, gateway, unknown, add)
	if err != nil {
		return nil, err
	}
	for i, n := range numbers {
		if n == 0 {
			continue
		}
		names[at[i]] = ChildName(gateway, n)
		// A copy, because the name may be a part of a payload.
		f.names.put(strings.Clone(ChildID(gateway, unknown[i])), names[at[i]])
	}
	return names, nil
}

// named returns what read finds for the name of a device in the store, nothing if it has none.
func named[T any](ctx context.Context, f *family, device string, read func(name string) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		name, err := f.name(ctx, device, false)
		switch {
		case err != nil:
			yield(*new(T), err)
		case name != "":
			read(name)(yield)
		}
	}
}

// Append implements [Writer].
func (f *family) Append(ctx context.Context, device string, messages []payload.Message) error {
	name, err := f.name(ctx, device, true)
	if err != nil {
		return err
	}
	return f.store.Append(ctx, name, messages)
}

// AppendAll implements [Writer].
func (f *family) AppendAll(ctx context.Context, parts []Part) error {
	own := make([]Part, len(parts))
	copy(own, parts)
	at := make(map[string][]int) // of the devices behind each gateway
	for i, p := range parts {
		if gateway, _, ok := SplitID(p.Device); ok {
			at[gateway] = append(at[gateway], i)
		}
	}
	for gateway, indexes := range at {
		children := make([]string, len(indexes))
		for k, i := range indexes {
			_, children[k], _ = SplitID(parts[i].Device)
		}
		names, err := f.namesOf(ctx, gateway, children, true)
		if err != nil {
			return err
		}
		for k, i := range indexes {
			own[i].Device = names[k]
		}
	}
	return f.store.AppendAll(ctx, own)
}

// SetAttributes implements [Writer].
func (f *family) SetAttributes(ctx context.Context, device string, scope Scope, updated int64, fields []payload.Field) error {
	name, err := f.name(ctx, device, true)
	if err != nil {
		return err
	}
	return f.store.SetAttributes(ctx, name, scope, updated, fields)
}

// DeleteAttributes implements [Writer].
func (f *family) DeleteAttributes(ctx context.Context, device string, scope Scope, keys []string) error {
	name, err := f.name(ctx, device, false)
	if err != nil || name == "" && device != "" {
		return err
	}
	return f.store.DeleteAttributes(ctx, name, scope, keys)
}

// DeleteValues implements [Deleter].
func (f *family) DeleteValues(ctx context.Context, device string, keys []string, times []int64) error {
	name, err := f.name(ctx, device, false)
	if err != nil || name == "" && device != "" {
		return err
	}
	return f.store.DeleteValues(ctx, name, keys, times)
}

// ReplaceLatest implements [Deleter].
func (f *family) ReplaceLatest(ctx context.Context, r Range, points []KeyPoint) error {
	name, err := f.name(ctx, r.Device, false)
	if err != nil || name == "" && r.Device != "" {
		return err
	}
	r.Device = name
	return f.store.ReplaceLatest(ctx, r, points)
}

// Keys implements [Reader].
func (f *family) Keys(ctx context.Context, device string) iter.Seq2[string, error] {
	return named(ctx, f, device, func(name string) iter.Seq2[string, error] { return f.store.Keys(ctx, name) })
}

// Latest implements [Reader].
func (f *family) Latest(ctx context.Context, device string, keys ...string) iter.Seq2[KeyPoint, error] {
	return named(ctx, f, device, func(name string) iter.Seq2[KeyPoint, error] { return f.store.Latest(ctx, name, keys...) })
}

// Attributes implements [Reader].
func (f *family) Attributes(ctx context.Context, device string, scope Scope, keys ...string) iter.Seq2[KeyPoint, error] {
	return named(ctx, f, device, func(name string) iter.Seq2[KeyPoint, error] {
		return f.store.Attributes(ctx, name, scope, keys...)
	})
}

// Messages implements [Reader].
func (f *family) Messages(ctx context.Context, r Range) iter.Seq2[payload.Message, error] {
	return named(ctx, f, r.Device, func(name string) iter.Seq2[payload.Message, error] {
		r.Device = name
		return f.store.Messages(ctx, r)
	})
}

// ChildNumbers implements [Children].
func (f *family) ChildNumbers(ctx context.Context, gateway string, children []string, add bool) ([]int64, error) {
	return f.store.ChildNumbers(ctx, gateway, children, add)
}

// ChildrenOf implements [Children].
func (f *family) ChildrenOf(ctx context.Context, gateway string) iter.Seq2[string, error] {
	return f.store.ChildrenOf(ctx, gateway)
}

// Writable implements [Store].
func (f *family) Writable() error { return f.store.Writable() }

// Stats implements [Store].
func (f *family) Stats() Stats { return f.store.Stats() }

// Close implements [Store].
func (f *family) Close() error { return f.store.Close() }
