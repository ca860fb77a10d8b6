//go:build !unix

package relay

import "errors"

// descriptor replaces a file descriptor on systems where sockets cannot be read without waiting.
// Every connection is then relayed with blocking calls.
type descriptor int32

const (
	noDescriptor descriptor = -1
	pollable                = false
)

func readNow(descriptor, []byte) (int, error) { return 0, errors.ErrUnsupported }

func writeNow(descriptor, []byte, bool) (int, error) { return 0, errors.ErrUnsupported }

func again(error) bool { return false }

func shutdownWrite(descriptor) error { return errors.ErrUnsupported }

func closeDescriptor(descriptor) {}
