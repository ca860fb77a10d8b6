// Package filelock locks files, so that several processes can change a shared file one at a
// time:
//
//	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
//	...
//	defer f.Close() // releases the lock
//	err = filelock.Lock(ctx, f)
//	... // read, change and replace the file at path
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// errLocked means that another process has the lock.
var errLocked = errors.New("another process has locked the file")

// retry is how long Lock waits before it tries again.
const retry = 10 * time.Millisecond

// Lock locks the open file f. If another process has locked it, Lock waits until ctx is done.
// Closing f releases the lock, and so does the end of the process. To protect a file that is
// replaced, lock a file next to it and never remove that: otherwise two processes could each
// lock a different file.
func Lock(ctx context.Context, f *os.File) error {
	for {
		err := tryLock(f)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errLocked) {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		case <-time.After(retry):
		}
	}
}
