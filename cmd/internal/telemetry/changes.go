package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// storeTimeout is how long storing a change may take.
const storeTimeout = 10 * time.Second

// Changes makes the changes of operators to what is stored of devices. Its methods may be called
// from any number of goroutines. Attributes are changed one after the other, so that a device gets
// the changes in the order in which they are stored. Telemetry is deleted for one caller at a time.
type Changes struct {
	// Store is what is changed. It is required.
	Store Store
	// Push sends a change to the sessions of a device, as the JSON that ThingsBoard sends. It is
	// called once the change is stored. It is required and must not block.
	Push func(device string, change []byte)
	// Announce tells other proxies which attributes of the shared scope have changed, once that is
	// stored. It must not block. Nil means that there are none.
	Announce func(device string, keys []string)
	// Record keeps a record of a change. It is required.
	Record func(ctx context.Context, action, device, outcome string)

	once           sync.Once
	turn, deleting *semaphore.Weighted
}

// init makes the semaphores.
func (s *Changes) init() {
	s.once.Do(func() { s.turn, s.deleting = semaphore.NewWeighted(1), semaphore.NewWeighted(1) })
}

// SetShared stores attributes, given as one JSON object (RFC 8259) of at most [MaxPayload], and
// sends them to the device. A null is left out. Errors are those of [Writer].
func (s *Changes) SetShared(ctx context.Context, device string, data []byte) error {
	fields, err := payload.ParseAttributes(data, payload.Options{Strict: true, MaxBytes: MaxPayload})
	if err != nil {
		return err
	}
	if len(fields) == 0 {
		return &PayloadError{Reason: "no attributes"}
	}
	c := change{action: "set shared attributes", push: payload.AppendObject(nil, fields)}
	for _, f := range fields {
		c.keys = append(c.keys, f.Key)
	}
	return s.change(ctx, device, c, func(ctx context.Context) error {
		return s.Store.SetAttributes(ctx, device, SharedScope, time.Now().UnixMilli(), fields)
	})
}

// DeleteAttributes deletes attributes of a scope. If it is the shared one, the device gets the
// keys. Errors are those of [Writer].
func (s *Changes) DeleteAttributes(ctx context.Context, device string, scope Scope, keys []string) error {
	c := change{action: "delete client attributes", keys: keys}
	if scope == SharedScope {
		c.action, c.push = "delete shared attributes", deleted(keys)
	}
	return s.change(ctx, device, c, func(ctx context.Context) error {
		return s.Store.DeleteAttributes(ctx, device, scope, keys)
	})
}

// deleted returns what a device gets when attributes were deleted.
func deleted(keys []string) []byte {
	list, _ := json.Marshal(keys) // which cannot fail
	return fmt.Appendf(nil, `{"deleted":%s}`, list)
}

// RepeatShared sends a device the present state of shared attributes that another proxy has
// changed. The error is that of the store.
func (s *Changes) RepeatShared(ctx context.Context, device string, keys []string) error {
	release, err := s.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	list, err := Attributes(ctx, s.Store, device, SharedScope, keys...)
	if err != nil {
		return err
	}
	fields := make([]payload.Field, len(list))
	gone := slices.Clone(keys)
	for i, p := range list {
		fields[i] = payload.Field{Key: p.Key, Value: p.Value}
		gone = slices.DeleteFunc(gone, func(key string) bool { return key == p.Key })
	}
	if len(fields) > 0 {
		s.Push(device, payload.AppendObject(nil, fields))
	}
	if len(gone) > 0 {
		s.Push(device, deleted(gone))
	}
	return nil
}

// change is a change of attributes.
type change struct {
	action string
	keys   []string
	push   []byte // for the device, nil for nothing
}

// takeTurn waits until no other change is being made.
func (s *Changes) takeTurn(ctx context.Context) (release func(), err error) {
	s.init()
	return func() { s.turn.Release(1) }, s.turn.Acquire(ctx, 1)
}

// change stores a change, sends it to the device and records it.
func (s *Changes) change(ctx context.Context, device string, c change, store func(context.Context) error) error {
	release, err := s.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer release()
	// A requester that leaves must not keep the device from getting what is stored.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := store(ctx); err != nil {
		s.Record(ctx, c.action, device, "failed: "+err.Error())
		return err
	}
	if c.push != nil {
		s.Push(device, c.push)
		if s.Announce != nil {
			s.Announce(device, c.keys)
		}
	}
	s.Record(ctx, c.action, device, fmt.Sprintf("%d keys", len(c.keys)))
	return nil
}
