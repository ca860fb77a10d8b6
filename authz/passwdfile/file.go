package passwdfile

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
)

// Options configure how a file is read. Only Format is required.
type Options struct {
	Format Format
	// Workers bounds the checks; nil means workers of the file's own.
	Workers *passwordhash.Workers
	// Interval is the time between two checks of the file; 0 means 250 ms. A change is read once
	// the file has not changed for one interval, or after three intervals at the latest.
	Interval time.Duration
	// OnReload is called for every version of the file that took effect, including the one that
	// Open read, and for every later version that was refused. Calls do not overlap. It must not
	// call Reload. Nil means no calls.
	OnReload func(Reload)
}

// Reload describes the outcome for one version of the file.
type Reload struct {
	// Err is the reason why the version was refused and the last good one stays in effect. It is
	// nil if the version took effect.
	Err error
	// Entries is the number of users that are in effect.
	Entries int
	// Added, Removed and Changed count the users by what happened to them since the last
	// version in effect.
	Added, Removed, Changed int
}

// Status describes a [File].
type Status struct {
	Path string
	// Entries is the number of users in effect.
	Entries int
	// Fingerprint is a hexadecimal digest of the content in effect.
	Fingerprint string
	// Loaded is when the content in effect was last read or found unchanged.
	Loaded time.Time
	// Err is the reason why a newer version is not in effect, or nil if there is none.
	Err error
}

// File is a password file in use. Its methods may be called by many goroutines at once. It need not
// be closed.
type File struct {
	path     string
	options  Options
	current  atomic.Pointer[snapshot]
	follower *files.Follower[*snapshot]

	mu      sync.Mutex
	status  Status
	revoked map[string]struct{} // token ids that Notify has yet to report
}

var (
	_ authz.Authorizer = (*File)(nil)
	_ authz.Notifier   = (*File)(nil)
	_ authz.Taker      = (*File)(nil)
)

const (
	defaultInterval = 250 * time.Millisecond
	// maxSize is the size in bytes of the largest file: a million users with the largest of
	// the usual hashes.
	maxSize = 256 << 20
)

// Open reads the password file at path. A file that is missing or breaks the rules is an
// error, a *[FormatError] in the second case.
func Open(path string, o Options) (*File, error) {
	if _, err := o.Format.hashes(); err != nil {
		return nil, err
	}
	o.Interval = cmp.Or(o.Interval, defaultInterval)
	if o.Workers == nil {
		o.Workers = passwordhash.NewWorkers(0)
	}
	f := &File{path: path, options: o, status: Status{Path: path}, revoked: make(map[string]struct{})}
	f.follower = files.Follow(path, o.Interval, f.parse, f.take, f.refuse)
	f.current.Store(&snapshot{})
	if err := f.Reload(context.Background()); err != nil {
		return nil, err
	}
	return f, nil
}

// Takes implements [authz.Taker].
func (f *File) Takes() authz.Credentials { return authz.Pairs }

// Authorize implements [authz.Authorizer]. It computes a hash if the file has the user.
func (f *File) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("password file: %w", err)
	}
	for {
		e := f.current.Load().users[r.Pair.Username]
		if e == nil || r.Pair.IsZero() {
			return nil, &authz.Denial{Reason: authz.Unknown, Detail: "not in the password file", Keep: authz.Keep{TTL: -1}}
		}
		good, err := f.options.Workers.Check(ctx, e.hash, r.Pair.Password)
		switch {
		case err != nil:
			return nil, err
		case !f.has(e): // it was changed in the meantime
			continue
		case !good:
			return nil, &authz.Denial{Reason: authz.WrongPassword, Detail: fmt.Sprintf("user %q", e.user), Subject: e.user}
		}
		return e.authorization(), nil
	}
}

// has reports whether e is still in effect, unchanged.
func (f *File) has(e *entry) bool {
	now := f.current.Load().users[e.user]
	return now != nil && now.pair == e.pair
}

// Confirms reports whether the file knows the user of the grant g, and if so, whether a session
// with it may continue, because the hash of the password is the same. It is for sessions that began
// before the file was added to the configuration, about which Notify does not report changes. The
// digest is g's own.
func (f *File) Confirms(hash [32]byte, g *authz.Grant) (known, good bool) {
	e := f.current.Load().users[g.Subject]
	if e == nil || !g.IsPair() {
		return false, false
	}
	return true, e.pair == hash && e.id() == g.TokenID
}

// Status returns what is in effect and how the last reload went.
func (f *File) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Reload reads the file now. It accepts a version that lacks most of the old lines, because the
// caller has asked for it. It returns nil if the content is in effect, and otherwise the reason why
// the last good version stays in effect.
func (f *File) Reload(ctx context.Context) error {
	return f.follower.Reload(ctx)
}

// parse parses a version of the file. For the content that is in effect it returns the same
// snapshot again.
func (f *File) parse(_ context.Context, content io.ReadSeeker, digest hash.Hash) (*snapshot, error) {
	data, err := io.ReadAll(io.TeeReader(io.LimitReader(content, maxSize+1), digest))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxSize:
		return nil, fmt.Errorf("%s: %w: more than %d bytes", f.path, files.ErrTooLarge, maxSize)
	case hex.EncodeToString(digest.Sum(nil)) == f.Status().Fingerprint:
		return f.current.Load(), nil
	}
	snap, err := parse(f.options.Format, data)
	if broken, ok := errors.AsType[*FormatError](err); ok {
		broken.Path = f.path
	}
	return snap, err
}

// take puts a valid version into effect, unless it may be incomplete. Content that is in effect
// already is reported only after an error.
func (f *File) take(snap *snapshot, o files.Origin) error {
	was, now := f.Status(), Status{Path: f.path, Fingerprint: o.Sum, Loaded: time.Now(), Entries: len(snap.users)}
	if was.Fingerprint == now.Fingerprint {
		f.setStatus(now)
		if was.Err != nil {
			f.report(Reload{Entries: now.Entries})
		}
		return nil
	}
	had := len(f.current.Load().users)
	switch {
	case snap.blank && had > 0:
		return fmt.Errorf("%s: the file is empty, but %d users are in effect; if that is intended, write a comment (# none) into it", f.path, had)
	case files.MostGone(had, now.Entries) && !o.Replaced && !o.Asked:
		return &ShrinkError{Path: f.path, Gone: had - now.Entries, Left: now.Entries}
	}
	f.accept(snap, now)
	return nil
}

// ShrinkError is returned for a version of the file that lacks most of the users in effect and may
// be incomplete.
type ShrinkError struct {
	// Path is the file as it was named by the caller.
	Path string
	// Gone is how many users the version lacks, Left how many it has.
	Gone, Left int
}

// Error includes what to do if the change is intended.
func (e *ShrinkError) Error() string {
	return fmt.Sprintf("%s: %d of %d users are gone, and the file was written in place, where a write may have been cut short; "+
		"if that is intended, request a reload, or rename a complete file over this one", e.Path, e.Gone, e.Gone+e.Left)
}

// refuse reports a version that does not take effect.
func (f *File) refuse(err error) {
	s := f.Status()
	s.Err = err
	f.setStatus(s)
	if !s.Loaded.IsZero() {
		f.report(Reload{Err: err, Entries: s.Entries})
	}
}

// accept puts snap into effect and reports it.
func (f *File) accept(snap *snapshot, now Status) {
	d := snap.since(f.current.Load())
	f.current.Store(snap)
	f.setStatus(now)
	f.revoke(d.ended)
	f.report(Reload{Entries: now.Entries, Added: d.added, Removed: d.removed, Changed: d.changed})
}

func (f *File) setStatus(s Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = s
}

func (f *File) report(r Reload) {
	if f.options.OnReload != nil {
		f.options.OnReload(r)
	}
}
