// Package filelock locks files, so that several processes can change another file one
// after the other:
//
//	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
//	...
//	defer f.Close() // gives the lock back
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

// errLocked means that the lock is taken.
var errLocked = errors.New("another process has locked the file")

// retry is how long Lock waits before it tries again.
const retry = 10 * time.Millisecond

// Lock locks the open file f for this process, and waits until ctx is done if another one
// has locked it. Closing f gives the lock back, and so does the end of the process. A file
// that is replaced is locked by a file next to it, which stays there: if it were removed,
// two processes could hold two locks.
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
