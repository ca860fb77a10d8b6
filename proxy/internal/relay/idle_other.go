//go:build !linux

package relay

import "time"

// Idle returns how long ago data last came from or went to the client. It is known only on Linux.
func (*Session) Idle() (time.Duration, bool) { return 0, false }
