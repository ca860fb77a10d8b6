package passwdfile

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

const (
	// fullCheck is the time after which the content is compared even if the file looks the
	// same: a clock that was set back, or two writes in one tick of it, hide a change.
	fullCheck = 10 * time.Second
	// maxMoving is the number of checks after which a file that keeps changing is read
	// nevertheless.
	maxMoving = 3
)

// stamp distinguishes versions of the file without reading it. The zero stamp is that of no
// file.
type stamp struct{ info fs.FileInfo }

// stampOf returns the stamp of the file at path, following symbolic links.
func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info}
}

func (s stamp) equal(o stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == o.info
	}
	return s.unwritten(o) && s.info.Mode() == o.info.Mode()
}

// unwritten reports whether both are of one file that was not written to in between.
func (s stamp) unwritten(o stamp) bool {
	return s.sameFile(o) && s.info.Size() == o.info.Size() && s.info.ModTime().Equal(o.info.ModTime())
}

// sameFile reports whether both stamps are of the same file, even if its content differs.
func (s stamp) sameFile(o stamp) bool {
	return s.info != nil && o.info != nil && os.SameFile(s.info, o.info)
}

// watch is what is known about the file on disk. Only the holder of File.reading may use it.
type watch struct {
	read    stamp             // of what was read last
	sum     [sha256.Size]byte // of its content
	met     stamp             // of the present file, when it was first found under its name
	moving  stamp             // of a change that has not been read yet
	looks   int               // checks since that change was seen
	checked time.Time         // when the content was compared
}

// replaced reports whether now came by a rename or by a changed link: it is another file than the
// one that was read last, and was not written to since it got the name.
func (w *watch) replaced(now stamp) bool { return !w.read.sameFile(now) && w.met.unwritten(now) }

// Notify implements [authz.Notifier]. While it runs, it watches the file by name and follows
// symbolic links, so it also notices renames and links that are swapped. It revokes by token id.
// One call at a time watches; further calls wait until it ends.
func (f *File) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	if acquire(ctx, f.watching) != nil {
		return nil
	}
	defer func() { <-f.watching }()
	tick := time.NewTicker(f.options.Interval)
	defer tick.Stop()
	for {
		f.deliver(ctx, revoked)
		select {
		case <-ctx.Done():
			return nil
		case <-f.news:
		case <-tick.C:
			f.look(ctx)
		}
	}
}

// look reads the file if it has changed and is no longer being written.
func (f *File) look(ctx context.Context) {
	if acquire(ctx, f.reading) != nil {
		return
	}
	defer func() { <-f.reading }()
	w, now := &f.watch, stampOf(f.path)
	if !w.met.sameFile(now) {
		w.met = now
	}
	switch {
	case now.equal(w.read):
		w.looks = 0
		if time.Since(w.checked) < fullCheck {
			return
		}
		w.checked = time.Now()
		if content, _, err := files.Read(f.path, maxSize); err != nil || files.Sum(content) == w.sum {
			return
		}
	case w.looks == 0 || !now.equal(w.moving) && w.looks < maxMoving:
		w.moving = now
		w.looks++
		return
	}
	// A file that was written to meanwhile is checked again. Every other error is reported.
	if err := f.load(false); !errors.Is(err, errChanging) {
		w.looks = 0
	}
}

// revoke leaves the sessions of these tokens to the running call of Notify, or the next.
func (f *File) revoke(ids []string) {
	f.mu.Lock()
	for _, id := range ids {
		f.revoked[id] = struct{}{}
	}
	f.mu.Unlock()
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// deliver reports the revocations that are waiting. Those that it cannot report before ctx ends are
// left for the next call of Notify.
func (f *File) deliver(ctx context.Context, revoked func(authz.Revocation)) {
	f.mu.Lock()
	ids := slices.Sorted(maps.Keys(f.revoked))
	f.mu.Unlock()
	for _, id := range ids {
		if ctx.Err() != nil {
			return
		}
		// Before the call: the id may be revoked once more while it runs.
		f.mu.Lock()
		delete(f.revoked, id)
		f.mu.Unlock()
		revoked(authz.Revocation{TokenID: id})
	}
}
