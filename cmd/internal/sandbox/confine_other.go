//go:build !linux

package sandbox

// Confine restricts the process to a for the rest of its life. This system cannot.
func Confine(Access) error { return ErrUnavailable }
