package payload

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Child is a part of a payload that a gateway publishes for the devices behind it: what one of them
// has measured, or its attributes.
type Child struct {
	Name     string
	Messages []Message
	Fields   []Field
}

// maxChild is the longest name of a device behind a gateway in characters, that of ThingsBoard.
const maxChild = 255

// CheckChild returns why a name cannot be that of a device behind a gateway, as an [*Error], or nil.
// A name is one level of a topic, so it has neither / nor + nor #. It is neither empty nor . nor ..,
// which programs that make a path of it would take for another folder (RFC 3986 section 5.2.4). It
// has at most 255 characters, and none of them is a control character, one that Unicode has set
// aside for internal use, or U+FFFD, which stands for a byte that is not UTF-8 and would make
// different names the same.
func CheckChild(name string) error {
	if reason := childFault(name); reason != "" {
		return &Error{Reason: reason}
	}
	return nil
}

func childFault(name string) string {
	switch {
	case name == "":
		return "the name of a device behind a gateway is empty"
	case utf8.RuneCountInString(name) > maxChild:
		return "the name of a device behind a gateway is longer than 255 characters"
	case name == "." || name == "..":
		return "the name of a device behind a gateway is . or .."
	case strings.ContainsAny(name, "/+#"):
		return "the name of a device behind a gateway has a /, a + or a #"
	case !utf8.ValidString(name) || strings.ContainsRune(name, utf8.RuneError):
		return "the name of a device behind a gateway is not UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "the name of a device behind a gateway has a control character"
	case strings.ContainsFunc(name, isNoncharacter):
		return "the name of a device behind a gateway has a code point that is not a character"
	}
	return ""
}

// isNoncharacter reports whether Unicode has set r aside for internal use.
func isNoncharacter(r rune) bool {
	return r >= 0xFDD0 && r <= 0xFDEF || r&0xFFFE == 0xFFFE
}

// ParseChildren reads what a gateway publishes as telemetry of the devices behind it: an object whose
// keys are their names, each with a telemetry payload, such as
//
//	{"room 1":[{"ts":1451649600512,"values":{"temperature":20}}],"room 2":[{"temperature":21}]}
//
// A device without messages has a part too. Of a repeated name the last one counts. Every error is
// an [*Error]. The result does not alias data.
func ParseChildren(data []byte, now time.Time, opts Options) ([]Child, error) {
	return parseChildren(data, opts, func(c *converter, value node) (child Child, err error) {
		switch value.kind {
		case object:
			child.Messages, err = c.message(nil, value, now.UnixMilli())
		case array:
			child.Messages, err = c.messages(value, now.UnixMilli())
		default:
			err = &Error{Offset: value.offset, Reason: "neither an object nor an array"}
		}
		return child, err
	})
}

// ParseChildAttributes is [ParseChildren] for attributes. The value of each name is an attributes
// payload.
func ParseChildAttributes(data []byte, opts Options) ([]Child, error) {
	return parseChildren(data, opts, func(c *converter, value node) (child Child, err error) {
		if value.kind != object {
			return child, &Error{Offset: value.offset, Reason: "not an object"}
		}
		child.Fields, err = c.fields(value)
		return child, err
	})
}

// parseChildren calls parse with the value of each device.
func parseChildren(data []byte, opts Options, parse func(*converter, node) (Child, error)) ([]Child, error) {
	c, doc, err := read(data, opts)
	if err != nil {
		return nil, err
	}
	if doc.kind != object {
		return nil, &Error{Offset: doc.offset, Reason: "not an object with the names of devices"}
	}
	children := make([]Child, 0, len(doc.members))
	for _, m := range doc.members {
		if reason := childFault(m.key); reason != "" {
			return nil, &Error{Offset: m.offset, Reason: reason}
		}
		child, err := parse(c, m.value)
		if err != nil {
			return nil, err
		}
		child.Name = m.key
		children = append(children, child)
	}
	return children, nil
}
