// Package telemetry takes what devices publish to the bundled broker and answers what
// users ask about it. What is stored where is up to a [Store]: package sqlite keeps everything
// in a file, package postgres in a database that several processes share.
//
//	store, err := sqlite.Open(ctx, sqlite.Options{Path: "telemetry.db", Retention: 720 * time.Hour})
//	...
//	intake := &telemetry.Intake{Store: store}
//	err = intake.Telemetry(ctx, device, packet.Payload)  // v1/devices/me/telemetry
//	err = intake.Attributes(ctx, device, packet.Payload) // v1/devices/me/attributes
//	requests := &telemetry.Requests{Store: store}
//	answer, err := requests.Attributes(ctx, device, packet.Payload) // v1/devices/me/attributes/request/1
//	...
//	mux.Handle("/api/plugins/telemetry/", telemetry.Handler(store, &telemetry.Changes{Store: store, ...}))
//	...
//	err = store.Close()
//
// A device is named by any non-empty UTF-8 text, or by a [ChildID] if it is behind a gateway.
// Payloads and their types are those of package payload. The package knows neither MQTT nor who may
// ask: callers authenticate devices and readers.
//
// # Parts
//
// An [Intake] parses payloads and hands them to the store. [Requests] answers what devices ask
// about themselves. [Changes] sets attributes for them and deletes what is stored. [Handler] is the
// HTTP API; it works out a [Query], with its aggregates, from the messages that the store returns.
// A store therefore only appends, deletes and reads back. It knows no HTTP, no JSON grammar and no
// aggregates. Package telemetrytest is the conformance suite that every store passes.
//
// # What is kept
//
// A message without a ts gets the time of arrival and never replaces another one, however
// many arrive in a millisecond; such messages are numbered in order of arrival. A message
// with a ts replaces the values that its keys have at that ts, so that a device may send it
// again. The store also keeps the newest value of each key, which is the last one to arrive
// if several have the same time, and the attributes. A device has at most [MaxKeys] keys
// and [MaxAttributes] attributes of each [Scope]; a payload that would add one more is refused. So is
// one that would give it more than [MaxBytes], for which its messages and the attributes that it has
// published count, each with [RowBytes] in addition to its text. Deletion and retention give room
// back; in a store that drops the messages of a span of time at once, retention does so by then.
//
// A ts more than [MaxAhead] ahead of the clock is replaced by the time of arrival, or refused with
// [Intake.StrictJSON]. It would otherwise stay the newest one for years. A clock that shows a year
// before 2025 has not been set, and then no ts is too far ahead.
//
// What belongs to a device behind a gateway is kept apart from what belongs to devices that connect
// themselves, see [WithChildren]. A gateway has at most [MaxChildren] of them, which together have at
// most [MaxKeys] keys and [MaxBytes].
//
// A store with a retention deletes messages and newest values whose own time is further back than
// that, a few at a time in the background. It also deletes those that are further ahead than the
// retention and [MaxAhead]; they were stored by older versions, or before the clock was set back.
// The message's own time counts: what a device sends with an old ts is deleted in the next round.
// Attributes are kept.
//
// # Errors
//
// An error of an append is a [*PayloadError], which is permanent, or wraps [ErrStore]. After
// the latter the same call may succeed later. Nothing of a failed call is stored, except
// that a call that its context ended may still be.
package telemetry

import (
	"context"
	"errors"
	"iter"
	"math"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// Bounds that hold in every store.
const (
	// MaxKeys is the most telemetry keys of one device, unless a store is opened with another
	// number. A device that has more, from before there was a bound, keeps them.
	MaxKeys = 10_000
	// MaxBytes is how many bytes one device may have stored, unless a store is opened with another
	// number. A device that has more, from before there was a bound, keeps them.
	MaxBytes = 8 << 30
	// RowBytes is what each message and each attribute counts in addition to its JSON text and its
	// key. It stands for its place in tables and indexes.
	RowBytes = 64
	// MaxAttributes is the most attributes of one device in one scope. Nothing else would bound
	// them, because attributes have no time at which they end.
	MaxAttributes = 1000
	// MaxPayload is the longest payload in bytes. A stored message to which others add
	// values may become as large as this, or as the largest of them.
	MaxPayload = 1 << 20
	// MaxValues is how many JSON values a payload may have, nested ones, objects and arrays
	// included, MaxDepth how deep they may nest, and MaxKeyLength the longest key in characters.
	MaxValues    = payload.MaxValues
	MaxDepth     = payload.MaxDepth
	MaxKeyLength = payload.MaxKey
	// MaxAhead is how far ahead of the clock a ts may lie.
	MaxAhead = 24 * time.Hour
)

// PayloadError says why a payload was refused. It is permanent, and it never quotes the
// payload.
type PayloadError = payload.Error

// ErrStore is wrapped by every error that the store has caused and not the payload. The
// same call may succeed later.
var ErrStore = errors.New("telemetry store")

// Store keeps the telemetry and the attributes of devices. Its methods may be called from
// any number of goroutines.
type Store interface {
	Writer
	Reader
	Children
	Deleter
	// Writable returns nil while the store can store, and otherwise why it cannot, for
	// readiness. A store that could not write finds out by itself when it can again.
	Writable() error
	// Stats returns totals and current figures.
	Stats() Stats
	// Close stores what was appended, waits for the end of everything that the store does
	// in the background, and frees what it holds. Calls that come later fail with
	// [ErrStore]. A second Close returns what the first did.
	Close() error
}

// Scope says who sets attributes. It is one of the constants below, which are ThingsBoard's names.
// The same key may be in both scopes.
type Scope string

// The scopes.
const (
	ClientScope Scope = "CLIENT_SCOPE" // the device itself
	SharedScope Scope = "SHARED_SCOPE" // operators, for the device to read
)

// Writer is the part of a [Store] that takes what devices publish.
type Writer interface {
	// Append stores messages of one device, all or none, in their order. It returns nil
	// once they are durable, a [*PayloadError] if they can never be stored, and any other
	// error if they were not stored now. If ctx ends first, its error is returned and the
	// messages may or may not be stored. The caller must not change the messages later.
	Append(ctx context.Context, device string, messages []payload.Message) error
	// AppendAll stores what the devices behind one gateway have sent, all or none. Errors are those
	// of Append.
	AppendAll(ctx context.Context, parts []Part) error
	// SetAttributes stores attributes of a device in a scope, all or none: they replace those of
	// the same keys, the others stay. updated is in milliseconds since 1970-01-01 UTC. Errors
	// are those of Append.
	SetAttributes(ctx context.Context, device string, scope Scope, updated int64, fields []payload.Field) error
	// DeleteAttributes deletes those of the attributes of a device that there are. Errors are
	// those of Append.
	DeleteAttributes(ctx context.Context, device string, scope Scope, keys []string) error
}

// Part is what one of several devices has sent: messages, or attributes of the client scope and when
// they were set, in milliseconds since 1970-01-01 UTC. The devices differ.
type Part struct {
	Device     string
	Messages   []payload.Message
	Attributes []payload.Field
	Updated    int64
}

// Deleter is the part of a [Store] that deletes telemetry. Errors are those of [Writer].
type Deleter interface {
	// DeleteValues deletes the values of keys in all messages of some times, and the messages of
	// a time at which no values are left. It does not change newest values.
	DeleteValues(ctx context.Context, device string, keys []string, times []int64) error
	// ReplaceLatest replaces those newest values of the keys of points whose time is in the range
	// r and for which there is no message any more. A point with the zero Value leaves its key
	// without a newest value, though there may be messages up to its TS; if that is
	// math.MinInt64, there are none.
	ReplaceLatest(ctx context.Context, r Range, points []KeyPoint) error
}

// Reader is the part of a [Store] that answers. Its methods see everything whose storing
// has returned; they may or may not see what is stored or deleted meanwhile. A sequence
// ends after its first error, which wraps [ErrStore] or the error of ctx. The caller must
// not wait for anything else while it ranges over one: a store may hold a connection.
type Reader interface {
	// Keys returns the telemetry keys of a device, each once, in any order.
	Keys(ctx context.Context, device string) iter.Seq2[string, error]
	// Latest returns the newest value of each of the keys, or of all if none is given, in
	// any order. Keys that the device does not have are missing. A key without a newest value of
	// which there may be messages, see [Deleter], has the zero Value; [Reader.Keys] leaves it out.
	Latest(ctx context.Context, device string, keys ...string) iter.Seq2[KeyPoint, error]
	// Attributes returns the attributes of the keys in a scope, or all if none is given, like
	// Latest. TS is when they were last set.
	Attributes(ctx context.Context, device string, scope Scope, keys ...string) iter.Seq2[KeyPoint, error]
	// Messages returns the messages in a range, in order.
	Messages(ctx context.Context, r Range) iter.Seq2[payload.Message, error]
}

// Range selects messages of one device by their time.
type Range struct {
	Device string
	// Start and End are in milliseconds since 1970-01-01 UTC. Start belongs to the range,
	// End does not.
	Start, End int64
	// Descending is the newest first. Messages of the same time are in the order of their
	// arrival, or in its reverse.
	Descending bool
}

// Contains reports whether a time is in the range of a [Deleter], to which the last time that there
// is also belongs if it is the End.
func (r Range) Contains(ts int64) bool {
	return ts >= r.Start && (ts < r.End || r.End == math.MaxInt64)
}

// Point is a value and its time.
type Point struct {
	// TS is in milliseconds since 1970-01-01 UTC.
	TS int64
	// Value is the zero Value only where a function says so.
	Value payload.Value
}

// KeyPoint is a [Point] of a key.
type KeyPoint struct {
	Key string
	Point
}

// Stats are totals since the store was opened, except where noted.
type Stats struct {
	Messages   int64 // messages stored
	Points     int64 // values of stored messages
	Attributes int64 // attribute values stored
	Errors     int64 // commits and background work that failed
	Commits    int64 // successful commits of telemetry and attributes
	// CommitTime is how long all commits took together, including failed ones.
	CommitTime time.Duration
	// Queued is how many calls wait for a commit now.
	Queued int
	// DatabaseBytes is how large the database is now, 0 if the store does not know.
	DatabaseBytes int64
}

// ClockIsSet reports whether the clock has been set since the machine started. A machine
// without a battery starts with a date of long ago, which does not show what lies ahead.
func ClockIsSet(now time.Time) bool { return now.Year() >= 2025 }
