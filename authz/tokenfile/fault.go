package tokenfile

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotFound is wrapped by the errors of [Show] and of the changes of an [Edit] if no
// entry has the id or belongs to the device.
var ErrNotFound = errors.New("no such token or device")

// ErrExists is returned by [Edit.Create] for a device that is to be new, and by [Edit.Import], if
// it exists.
var ErrExists = errors.New("the name exists already")

// Fault is one mistake in a token file.
type Fault struct {
	// Line counts from 1; it is 0 if the fault concerns the file as a whole.
	Line int
	// Field is the key of the entry that is wrong. It is empty if there is none, or if the key
	// might be a token.
	Field string
	// Reason says what is wrong and what to do. It contains no secret.
	Reason string
}

// Error returns the field and the reason. It does not name the line.
func (f *Fault) Error() string {
	if f.Field == "" {
		return f.Reason
	}
	return f.Field + ": " + f.Reason
}

// FormatError is returned for a file that was refused because of its content. None of the file
// takes effect, not even the correct lines.
type FormatError struct {
	// Path is the file as the caller named it.
	Path string
	// Faults has the first faults, at least one and at most 20, in the order of their lines.
	Faults []Fault

	incomplete bool // the lines that an older version has as well were not looked at
}

// ShrinkError is returned for a version of the file that lacks most of the entries in effect,
// if nothing shows that it is complete.
type ShrinkError struct {
	// Path is the file as the caller named it.
	Path string
	// Gone and Left are the numbers of entries that the version lacks and has.
	Gone, Left int
}

// Error includes what to do if the change is intended.
func (e *ShrinkError) Error() string {
	return fmt.Sprintf(`%s: %d of %d entries are gone, and the file was written in place, where a write may have been cut short; `+
		`if that is intended, reload, rename a complete file over this one, or end it with the line {"end":true,"count":%d}`,
		e.Path, e.Gone, e.Gone+e.Left, e.Left)
}

// maxFaults is the number of faults after which parsing ends.
const maxFaults = 20

// Error lists the faults, one per line: path:line: field: reason.
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
		text.WriteString(": " + f.Error())
	}
	if len(e.Faults) == maxFaults {
		text.WriteString("\n" + e.Path + ": there may be more; these are the first 20")
	}
	return text.String()
}

// named sets the path of a *FormatError.
func named(err error, path string) error {
	if broken, ok := errors.AsType[*FormatError](err); ok {
		broken.Path = path
	}
	return err
}
