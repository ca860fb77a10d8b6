package passwdfile

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
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
	path    string
	options Options
	current atomic.Pointer[snapshot]

	reading  chan struct{} // a semaphore, held while the file is read and watch is touched
	watching chan struct{} // held by the call of Notify that watches
	news     chan struct{} // has one element if revocations may be waiting
	watch    watch

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
	f := &File{
		path:     path,
		options:  o,
		reading:  make(chan struct{}, 1),
		watching: make(chan struct{}, 1),
		news:     make(chan struct{}, 1),
		status:   Status{Path: path},
		revoked:  make(map[string]struct{}),
	}
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
	if err := acquire(ctx, f.reading); err != nil {
		return err
	}
	defer func() { <-f.reading }()
	const attempts = 4
	for n := 1; ; n++ {
		err := f.load(true)
		if !errors.Is(err, errChanging) || n == attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(f.options.Interval):
		}
	}
}

// errChanging means that the file was written to while it was read. It is temporary.
var errChanging = errors.New("the file changes while it is read")

// acquire takes the semaphore, or returns an error when ctx is done.
func acquire(ctx context.Context, semaphore chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case semaphore <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// load reads the file and, if it is valid, puts it into effect; asked means that Reload was called.
// The caller holds f.reading.
func (f *File) load(asked bool) error {
	content, info, err := files.Read(f.path, maxSize)
	if err != nil {
		f.watch.read = stampOf(f.path)
		return f.refuse(err)
	}
	if !stampOf(f.path).equal(stamp{info}) {
		return fmt.Errorf("%s: %w", f.path, errChanging)
	}
	replaced := f.watch.replaced(stamp{info})
	f.watch.read = stamp{info}
	sum := files.Sum(content)
	f.watch.sum = sum
	now := Status{Path: f.path, Fingerprint: hex.EncodeToString(sum[:]), Loaded: time.Now()}
	if was := f.Status(); was.Fingerprint == now.Fingerprint {
		now.Entries = was.Entries
		f.setStatus(now)
		if was.Err != nil {
			f.report(Reload{Entries: now.Entries})
		}
		return nil
	}
	snap, err := parse(f.options.Format, content)
	if err == nil && !asked {
		err = f.trust(snap, replaced)
	}
	if broken, ok := errors.AsType[*FormatError](err); ok {
		broken.Path = f.path
	}
	if err == nil && snap.blank && len(f.current.Load().users) > 0 {
		err = fmt.Errorf("%s: the file is empty, but %d users are in effect; if that is intended, write a line with a # into it", f.path, len(f.current.Load().users))
	}
	if err != nil {
		return f.refuse(err)
	}
	f.accept(snap, now)
	return nil
}

// maxGone is how many lines a version may always lack, however few there were.
const maxGone = 16

// trust returns an error if snap lacks most of what is in effect and may be an incomplete file.
func (f *File) trust(snap *snapshot, replaced bool) error {
	has := len(snap.users)
	gone := len(f.current.Load().users) - has
	if gone <= maxGone || has >= gone || replaced {
		return nil
	}
	return &ShrinkError{Path: f.path, Gone: gone, Left: has}
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

// refuse reports a version that does not take effect, and returns the reason.
func (f *File) refuse(err error) error {
	s := f.Status()
	s.Err = err
	f.setStatus(s)
	if !s.Loaded.IsZero() {
		f.report(Reload{Err: err, Entries: s.Entries})
	}
	return err
}

// accept puts snap into effect and reports it.
func (f *File) accept(snap *snapshot, now Status) {
	d := snap.since(f.current.Load())
	f.current.Store(snap)
	now.Entries = len(snap.users)
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
