package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// storeTimeout is how long storing a change may take.
const storeTimeout = 10 * time.Second

// Shared changes the attributes that operators set for devices. Its methods may be called from
// any number of goroutines. Changes are made one after the other, so that a device gets them in
// the order in which they are stored.
type Shared struct {
	// Store is where the attributes are. It is required.
	Store Writer
	// Push sends a change to the sessions of a device, as the JSON that ThingsBoard sends. It is
	// called once the change is stored. It is required and must not block.
	Push func(device string, change []byte)
	// Record keeps a record of a change. It is required.
	Record func(ctx context.Context, action, device, outcome string)

	once sync.Once
	turn *semaphore.Weighted
}

// Set stores attributes, given as one JSON object (RFC 8259) of at most [MaxPayload], and sends
// them to the device. A null is left out. Errors are those of [Writer].
func (s *Shared) Set(ctx context.Context, device string, data []byte) error {
	fields, err := payload.ParseAttributes(data, payload.Options{Strict: true, MaxBytes: MaxPayload})
	if err != nil {
		return err
	}
	if len(fields) == 0 {
		return &PayloadError{Reason: "no attributes"}
	}
	change := payload.AppendObject(nil, fields)
	return s.change(ctx, "set shared attributes", device, len(fields), change, func(ctx context.Context) error {
		return s.Store.SetAttributes(ctx, device, SharedScope, time.Now().UnixMilli(), fields)
	})
}

// Delete deletes attributes of a scope. If it is the shared one, the device gets the keys. Errors
// are those of [Writer].
func (s *Shared) Delete(ctx context.Context, device string, scope Scope, keys []string) error {
	action, change := "delete client attributes", []byte(nil)
	if scope == SharedScope {
		action = "delete shared attributes"
		list, err := json.Marshal(keys)
		if err != nil {
			return err
		}
		change = fmt.Appendf(nil, `{"deleted":%s}`, list)
	}
	return s.change(ctx, action, device, len(keys), change, func(ctx context.Context) error {
		return s.Store.DeleteAttributes(ctx, device, scope, keys)
	})
}

// change stores n attributes, sends the change to the device and records it.
func (s *Shared) change(ctx context.Context, action, device string, n int, change []byte, store func(context.Context) error) error {
	s.once.Do(func() { s.turn = semaphore.NewWeighted(1) })
	if err := s.turn.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.turn.Release(1)
	// A requester that leaves must not keep the device from getting what is stored.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := store(ctx); err != nil {
		s.Record(ctx, action, device, "failed: "+err.Error())
		return err
	}
	if change != nil {
		s.Push(device, change)
	}
	s.Record(ctx, action, device, fmt.Sprintf("%d keys", n))
	return nil
}
