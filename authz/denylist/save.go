package denylist

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/filelock"
)

// lockPatience is how long Save waits for another process that is saving.
const lockPatience = time.Second

// Save writes the denials of this process to the file, and puts denials into force that another
// process has written, see the package comment. It does nothing if neither has changed. After
// an error all denials stay in force until the process ends, and the next call tries again.
func (l *List) Save() error {
	l.saving.Lock()
	defer l.saving.Unlock()
	if l.isSaved() && l.isFileUnchanged() {
		return nil
	}
	unlock, err := lock(l.path)
	if err != nil {
		return fmt.Errorf("denials: %w", err)
	}
	defer unlock()
	inFile, file, err := readFile(l.path)
	if err != nil {
		return err
	}
	m, err := l.merge(inFile, time.Now())
	l.report(m.taken)
	if err == nil && m.write {
		file, err = l.write(m)
	}
	if err != nil {
		return fmt.Errorf("denials: %w", err)
	}
	l.file = file
	return nil
}

// lock keeps other processes from changing the file until unlock is called. If the file system
// does not support locks, the file is saved without one.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
	defer cancel()
	if err := filelock.Lock(ctx, f); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// isSaved reports whether no denial was made or changed by this process since the last Save.
func (l *List) isSaved() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.unsaved) == 0
}

// isFileUnchanged reports whether the file is the one that was last read or written.
func (l *List) isFileUnchanged() bool {
	now, err := os.Stat(l.path)
	if err != nil || l.file == nil {
		return errors.Is(err, os.ErrNotExist) && l.file == nil
	}
	return os.SameFile(now, l.file) && now.Size() == l.file.Size() && now.ModTime().Equal(l.file.ModTime())
}

// merged is the result of merging the denials of this process and those in the file.
type merged struct {
	inForce map[authz.Revocation]denial // the new content of the file
	taken   []authz.Revocation          // denials that were not in force in this process before
	unsaved map[authz.Revocation]bool   // the new value of List.unsaved
	write   bool                        // the file must be written
}

// merge puts the denials in the file into force. If both sides have a denial of the same, this
// process's counts if it was made or changed since the last Save, and the file's otherwise. The
// error is ErrFull; the file must then stay as it is.
func (l *List) merge(inFile map[authz.Revocation]denial, now time.Time) (m merged, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.purge(now)
	m.write = len(l.unsaved) > 0
	for r, d := range inFile {
		if l.unsaved[r] || !now.Before(d.until) {
			continue
		}
		if _, known := l.denials[r]; !known {
			if len(l.denials) >= Max {
				return m, ErrFull
			}
			m.taken = append(m.taken, r)
		}
		l.denials[r] = d
	}
	m.inForce = make(map[authz.Revocation]denial, len(l.denials))
	for r, d := range l.denials {
		m.inForce[r] = d
		if other, ok := inFile[r]; !ok || !other.until.Equal(d.until) || other.follow != d.follow {
			m.write = true
		}
	}
	m.unsaved, l.unsaved = l.unsaved, make(map[authz.Revocation]bool)
	return m, nil
}

// write replaces the file and returns its FileInfo.
func (l *List) write(m merged) (fs.FileInfo, error) {
	text, err := render(m.inForce)
	if err == nil {
		err = files.Replace(l.path, text, 0o600)
	}
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		for r := range m.unsaved {
			l.unsaved[r] = true
		}
		return nil, err
	}
	return os.Stat(l.path)
}

// Notify implements [authz.Notifier]: it reports the denials that [List.Save] takes over from
// another process. It does not report those of [List.Deny].
func (l *List) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	listener := &revoked
	l.notifying.Lock()
	l.listeners = append(l.listeners, listener)
	earlier := l.unreported
	l.unreported = nil
	for _, r := range earlier {
		revoked(r)
	}
	l.notifying.Unlock()
	<-ctx.Done()
	l.notifying.Lock()
	defer l.notifying.Unlock()
	l.listeners = slices.DeleteFunc(l.listeners, func(other *func(authz.Revocation)) bool { return other == listener })
	return nil
}

// report reports denials of another process, or stores them until Notify is called.
func (l *List) report(all []authz.Revocation) {
	l.notifying.Lock()
	defer l.notifying.Unlock()
	if len(l.listeners) == 0 && len(l.unreported) < Max {
		l.unreported = append(l.unreported, all...)
	}
	for _, revoked := range l.listeners {
		for _, r := range all {
			(*revoked)(r)
		}
	}
}
