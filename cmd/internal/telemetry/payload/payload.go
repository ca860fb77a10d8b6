// Package payload parses what devices publish: telemetry messages and client attributes as
// JSON, in the shapes and with the leniency of ThingsBoard's device API, so that a device
// written for it needs no change.
//
//	messages, err := payload.Parse(packet.Payload, time.Now(), payload.Options{})
//	var bad *payload.Error
//	if errors.As(err, &bad) { ... } // permanent: the same bytes fail again
//
// # Shapes
//
// A telemetry payload is one of
//
//	{"key": value, ...}                    one message at the server's time
//	{"ts": ms, "values": {"key": value}}   one message at the device's time
//	[ ... ]                                several messages of either shape
//
// The second shape needs both members. Without "values", "ts" is a key like any other; with both,
// other members are ignored. ts counts milliseconds since 1970. An attributes payload is one object
// of the first shape. [] and {} are valid and empty.
//
// # Grammar
//
// The default grammar is RFC 8259 and, beyond it: keys and values without quotes or in single
// quotes, = and => for the colon, ; for the comma, /* */, // and # comments, raw control characters
// and \' in strings, an array element that is left out as null, true, false and null in any case, a
// UTF-8 byte order mark, and the prefix )]}'. The text {temperature:25}, which is left when a shell
// removes the quotes, is therefore accepted. An unquoted value ends at white space and at any of {
// } [ ] : , ; = / \ #. A byte that is not part of UTF-8 becomes U+FFFD. A trailing comma in an
// object, a second document, and a document that is a scalar are errors.
//
// # Types
//
//	true                         bool
//	25, 1e3, -0                  long, 64 bits
//	25.0, 36.6                   double; a point without an exponent is never a long
//	an integer beyond 64 bits, more than 16 decimal places, a number beyond a double
//	                             string of the plain digits
//	"25", "007", ".5"            cast to the number
//	"1e3", "+5", " 25", "5."     string
//	NaN, hello (unquoted)        string
//	{...}, [...]                 JSON, as compact text
//	null                         the key is dropped
//
// Of a repeated key the last value counts. Keys have 1 to 255 characters and are not blank.
//
// ts is a number or a string of decimal digits, of which a fraction is cut off. Anything else
// is an error, and so is a number that does not fit 64 bits. There are no other limits.
//
// # Strict
//
// With [Options.Strict] only RFC 8259 in UTF-8 is accepted, and nothing is cast: strings stay
// strings. Longs are as above. Every other number with a point or an exponent is the nearest
// double, however many decimal places it has. An integer beyond 64 bits without an exponent
// and a number beyond a double are errors. ts must be a whole number. The rule for repeated
// keys is the same.
package payload

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits for zero fields of [Options].
const (
	defaultMaxBytes = 1 << 20
	MaxValues       = 20_000
	MaxDepth        = 32
)

// MaxKey is the longest key in characters.
const MaxKey = 255

// Options bound and select the grammar. The zero value is the lenient grammar
// with the default limits.
type Options struct {
	// Strict accepts only RFC 8259 and converts no strings to numbers.
	Strict bool
	// KeepText leaves strings that look like numbers as they are.
	KeepText bool
	// MaxBytes is the longest payload in bytes; 0 means 1 MiB. Numbers whose exponent is
	// written out may add no more than that again.
	MaxBytes int
	// MaxValues is how many JSON values a payload may have, nested ones, objects and arrays
	// included; 0 means 20,000.
	MaxValues int
	// MaxDepth is how deep objects and arrays may nest; 0 means 32.
	MaxDepth int
}

func (o Options) withDefaults() Options {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.MaxValues == 0 {
		o.MaxValues = MaxValues
	}
	if o.MaxDepth == 0 {
		o.MaxDepth = MaxDepth
	}
	return o
}

// Message is what a device measured at one time.
type Message struct {
	// TS is in milliseconds since 1970-01-01 UTC; any int64.
	TS int64
	// Arrived says that TS is the time of arrival, because the device gave none.
	Arrived bool
	// Fields have unique keys, in the order in which these first appeared. There is at least
	// one.
	Fields []Field
}

// Field is one key with its value.
type Field struct {
	Key   string
	Value Value
}

// Error says why a payload was refused. It is permanent: the same payload fails every time. Its
// text does not quote the payload.
type Error struct {
	// Offset is the byte in the payload, from 0, at which the fault was found.
	Offset int
	// Reason is fixed text in lower case.
	Reason string
	// Quota says that the payload is good, but that its device has as much as it may have. It is
	// permanent until something of the device is deleted.
	Quota bool
}

// Error implements the error interface.
func (e *Error) Error() string {
	if e.Quota {
		return e.Reason
	}
	return fmt.Sprintf("bad payload at byte %d: %s", e.Offset, e.Reason)
}

// Parse reads a telemetry payload. Messages without a ts of their own get now.
// Messages without fields are left out, so the result may be empty without an
// error. Every error is an [*Error]. The result does not alias data.
func Parse(data []byte, now time.Time, opts Options) ([]Message, error) {
	c, doc, err := read(data, opts)
	if err != nil {
		return nil, err
	}
	switch doc.kind {
	case object:
		return c.message(nil, doc, now.UnixMilli())
	case array:
		return c.messages(doc, now.UnixMilli())
	}
	return nil, &Error{Offset: doc.offset, Reason: "neither an object nor an array"}
}

// ParseAttributes reads an attributes payload: one object. Every error is an
// [*Error]. The result does not alias data.
func ParseAttributes(data []byte, opts Options) ([]Field, error) {
	c, doc, err := read(data, opts)
	if err != nil {
		return nil, err
	}
	if doc.kind != object {
		return nil, &Error{Offset: doc.offset, Reason: "not an object"}
	}
	return c.fields(doc)
}

// converter turns the document's tree into typed values.
type converter struct {
	strict   bool
	keepText bool
	// budget is how many bytes writing exponents out may still add.
	budget int
}

func read(data []byte, opts Options) (*converter, node, error) {
	opts = opts.withDefaults()
	if len(data) > opts.MaxBytes {
		return nil, node{}, &Error{Offset: opts.MaxBytes, Reason: "payload too long"}
	}
	valid := utf8.Valid(data)
	if !valid && opts.Strict {
		return nil, node{}, &Error{Offset: firstInvalid(data), Reason: "not UTF-8"}
	}
	r := &reader{src: string(data), invalid: !valid, lenient: !opts.Strict, depth: opts.MaxDepth, values: opts.MaxValues}
	doc, err := r.document()
	if err != nil {
		return nil, node{}, err
	}
	return &converter{strict: opts.Strict, keepText: opts.Strict || opts.KeepText, budget: opts.MaxBytes}, doc, nil
}

func firstInvalid(data []byte) int {
	offset := 0
	for offset < len(data) {
		char, size := utf8.DecodeRune(data[offset:])
		if char == utf8.RuneError && size == 1 {
			break
		}
		offset += size
	}
	return offset
}

func (c *converter) messages(list node, now int64) ([]Message, error) {
	messages := make([]Message, 0, len(list.members))
	for _, m := range list.members {
		if m.value.kind != object {
			return nil, &Error{Offset: m.value.offset, Reason: "array element is not an object"}
		}
		var err error
		if messages, err = c.message(messages, m.value, now); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

// message appends obj's message to dst, unless it has no fields.
func (c *converter) message(dst []Message, obj node, now int64) ([]Message, error) {
	ts := now
	stamp, hasTS := obj.member("ts")
	values, hasValues := obj.member("values")
	stamped := hasTS && hasValues
	if stamped {
		if values.kind != object {
			return nil, &Error{Offset: values.offset, Reason: "values is not an object"}
		}
		var err error
		if ts, err = c.timestamp(stamp); err != nil {
			return nil, err
		}
		obj = values
	}
	fields, err := c.fields(obj)
	if err != nil || len(fields) == 0 {
		return dst, err
	}
	return append(dst, Message{TS: ts, Arrived: !stamped, Fields: fields}), nil
}

func (c *converter) fields(obj node) ([]Field, error) {
	fields := make([]Field, 0, len(obj.members))
	for _, m := range obj.members {
		if utf8.RuneCountInString(m.key) > MaxKey {
			return nil, &Error{Offset: m.offset, Reason: "key longer than 255 characters"}
		}
		if strings.TrimSpace(m.key) == "" {
			return nil, &Error{Offset: m.offset, Reason: "blank key"}
		}
		if m.value.kind == null {
			continue
		}
		v, err := c.value(m.value)
		if err != nil {
			return nil, err
		}
		fields = append(fields, Field{m.key, v})
	}
	return fields, nil
}

func (c *converter) value(n node) (Value, error) {
	switch n.kind {
	case boolean:
		return Bool(n.text == "true"), nil
	case number:
		return c.number(n.text, n.offset)
	case text:
		if !c.keepText && castable(n.text) {
			return c.number(n.text, n.offset)
		}
		return Text(n.text), nil
	}
	return Value{kind: KindJSON, text: string(n.appendJSON(nil))}, nil
}

func (c *converter) timestamp(n node) (int64, error) {
	switch {
	case n.kind == number:
	case n.kind == text && !c.strict && castable(n.text):
	default:
		return 0, &Error{Offset: n.offset, Reason: "ts is not a number"}
	}
	d := parseDecimal(n.text)
	if c.strict && !d.whole() {
		return 0, &Error{Offset: n.offset, Reason: "ts is not a whole number"}
	}
	ts, ok := d.truncate()
	if !ok {
		return 0, &Error{Offset: n.offset, Reason: "ts does not fit 64 bits"}
	}
	return ts, nil
}
