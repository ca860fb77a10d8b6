package schema

import "fmt"

// masked is printed in place of a secret.
const masked = "***"

// A Secret prints as *** through fmt, JSON, YAML and the loggers built on them, and as
// nothing when it is empty.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns *** for any secret that is not empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// Format prints like [Secret.String] whatever the verb, %x and %#v included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, s.String()) }

// MarshalText returns [Secret.String], for encoding/json and similar packages.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalYAML returns [Secret.String].
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }
