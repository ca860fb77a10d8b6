package tokenfile

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotFound is returned by [Rotate], [Extend], [Revoke], [Disable], [Enable] and [Show]
// when no entry has the id or belongs to the device that was named.
var ErrNotFound = errors.New("no such token or device")

// Fault is one thing that is wrong with a token file.
type Fault struct {
	// Line counts from 1; it is 0 where the fault is of the file as a whole.
	Line int
	// Field is the key of the entry that is wrong, empty if it is not one or if
	// naming it might repeat a token.
	Field string
	// Reason is what is wrong and what to do, without a secret in it.
	Reason string
}

// FormatError is returned for a file that was refused because of its content.
// The file has no effect at all, not even the lines that are good.
type FormatError struct {
	// Path is the file as it was named by the caller.
	Path string
	// Faults holds the first of the faults, at least one and at most 20, in the
	// order of their lines.
	Faults []Fault
}

// ShrinkError is returned for a version of the file that lacks most of the entries in
// effect and of which nothing shows that it is whole.
type ShrinkError struct {
	// Path is the file as it was named by the caller.
	Path string
	// Gone and Left are how many entries the version lacks and has.
	Gone, Left int
}

// Error includes what to do if the change is intended.
func (e *ShrinkError) Error() string {
	return fmt.Sprintf(`%s: %d of %d entries are gone, and the file was written in place, where a write may have been cut short; `+
		`if it is meant, reload, rename a whole file over this one, or end it with the line {"end":true,"count":%d}`,
		e.Path, e.Gone, e.Gone+e.Left, e.Left)
}

// maxFaults is the number of faults after which reading ends.
const maxFaults = 20

// Error lists the faults, each on a line of its own: path:line: field: reason.
func (e *FormatError) Error() string {
	var text strings.Builder
	for i, f := range e.Faults {
		if i > 0 {
			text.WriteByte('\n')
		}
		text.WriteString(e.Path)
		if f.Line > 0 {
			fmt.Fprintf(&text, ":%d", f.Line)
		}
		if f.Field != "" {
			text.WriteString(": " + f.Field)
		}
		text.WriteString(": " + f.Reason)
	}
	if len(e.Faults) == maxFaults {
		text.WriteString("\n" + e.Path + ": there may be more; these are the first 20")
	}
	return text.String()
}

// named puts the file's path into a *FormatError.
func named(err error, path string) error {
	if broken, ok := errors.AsType[*FormatError](err); ok {
		broken.Path = path
	}
	return err
}
