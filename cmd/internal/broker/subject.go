package broker

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSubject is the length in bytes of the longest name of a device. It leaves most of the 65,535
// bytes of a topic to the rest.
const maxSubject = 1024

// CheckSubject returns an error if a device cannot have that name, because it has topics with its
// name in them: the name must be one level of a topic name, and must not be the level "me", which
// stands for the device that is connected. Control characters and Unicode's noncharacters are
// refused as well: MQTT clients may close a connection on which they come in a topic
// [MQTT-1.5.4-1] (MQTT 5.0 section 1.5.4), so that one device could cut off everyone who reads.
// The error does not contain the name. The proxy calls CheckSubject before it passes CONNECT on.
func CheckSubject(subject string) error {
	switch {
	case subject == "":
		return errors.New("the subject is empty")
	case subject == "me":
		return errors.New(`the subject is "me", which stands for the device itself in topics`)
	case len(subject) > maxSubject:
		return errors.New("the subject is longer than 1024 bytes")
	case strings.ContainsAny(subject, "/+#"):
		return errors.New("the subject contains one of / + #, which have a meaning in topics")
	case !utf8.ValidString(subject):
		return errors.New("the subject is not UTF-8")
	case strings.ContainsFunc(subject, unicode.IsControl):
		return errors.New("the subject contains a control character")
	case strings.ContainsFunc(subject, isNoncharacter):
		return errors.New("the subject contains a code point that is not a character")
	}
	return nil
}

// isNoncharacter reports whether Unicode has set r aside for internal use.
func isNoncharacter(r rune) bool {
	return r >= 0xFDD0 && r <= 0xFDEF || r&0xFFFE == 0xFFFE
}
