package sqlitefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// errInUse is what tryLock returns if the lock is held elsewhere.
var errInUse = errors.New("lock is held")

// Lock makes the caller the only one that uses the database at path, until the returned file is
// closed or the process ends, in whatever way. It locks a file of its own, with .lock at the end of
// its name, because SQLite releases its locks on the database after each transaction. The file
// holds the owner's process id and is never removed: otherwise a second process could lock the
// removed file and a third one the new file.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = tryLock(f)
	if errors.Is(err, errInUse) {
		err = fmt.Errorf("it is in use by %s: stop that process first, or choose another file", owner(f))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// owner names the process that holds the lock f. Just after the lock was acquired, the file is
// still empty or has the id of the previous owner.
func owner(f *os.File) string {
	const longest = 20 // digits of an int64
	text, err := io.ReadAll(io.LimitReader(f, longest))
	pid, notNumber := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || notNumber != nil {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}
