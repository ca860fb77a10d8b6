package tokenfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// Options says how a token file is watched. The zero value is suitable for most uses.
type Options struct {
	// Interval is the time between two checks of the file; 0 means 250 ms. A changed file is
	// read when it has not changed for one interval, or after three of them.
	Interval time.Duration
	// OnReload is called for every version of the file, one call at a time: for those that took
	// effect, including the one that Open read, and for later ones that were refused. It must
	// not call Reload. Nil means no calls.
	OnReload func(Reload)
}

const defaultInterval = 250 * time.Millisecond

// withDefaults returns o with defaults in place of zero values.
func (o Options) withDefaults() Options {
	o.Interval = cmp.Or(o.Interval, defaultInterval)
	return o
}

// Reload describes the result of reading one version of the file.
type Reload struct {
	// Err is why the version was refused and the last valid one stays in effect; it is nil if
	// the version took effect.
	Err error
	// Entries is the number of entries that are in effect.
	Entries int
	// Added, Removed and Changed count the entries by what happened to their id since the
	// previous version in effect.
	Added, Removed, Changed int
	// Revoked is the number of tokens whose sessions end at once.
	Revoked int
	// Trusted says why a version that lacks most of the old entries took effect nevertheless.
	// It is empty for every other version. See the package comment.
	Trusted string
	// Warnings lists problems that are not errors, such as a file that everyone may read.
	Warnings []string
}

// Status describes a [File].
type Status struct {
	Path string
	// Entries is the number of entries in effect, including disabled ones.
	Entries int
	// Fingerprint is the hexadecimal SHA-256 of the content in effect.
	Fingerprint string
	// Loaded is when the content in effect was last read or found unchanged.
	Loaded time.Time
	// Err is why a newer version is not in effect, or nil if there is none.
	Err error
	// Warnings are those of the version in effect.
	Warnings []string
}

// File is a token file in use. It answers from memory, without locks, and always from a single
// version. Its methods may be called from many goroutines.
//
// It need not be closed. If a configuration changes, keep using the same File; otherwise tokens
// that are removed at that moment are not noticed.
type File struct {
	path     string
	options  Options
	current  atomic.Pointer[snapshot]
	follower *files.Follower[*snapshot]

	mu      sync.Mutex
	status  Status
	stamp   files.Stamp // of the file when what is in effect was read
	revoked revocations
}

var (
	_ authz.Authorizer = (*File)(nil)
	_ authz.Notifier   = (*File)(nil)
)

// Open reads the token file at path. If the file is missing or breaks the rules, it returns an
// error, in the second case a *[FormatError].
func Open(path string, o Options) (*File, error) {
	f := &File{path: path, options: o.withDefaults(), status: Status{Path: path}}
	f.follower = files.Follow(path, f.options.Interval, f.parse, f.take, f.refuse)
	f.current.Store(&snapshot{})
	if err := f.Reload(context.Background()); err != nil {
		return nil, err
	}
	return f, nil
}

// Authorize implements [authz.Authorizer]. Its denials have the token's id and the reason:
// unknown, disabled, or a condition of the grant that is not met.
func (f *File) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	hash := r.Token.Hash()
	e := f.current.Load().withHash(&hash)
	switch {
	case e == nil || e.isPair():
		return nil, notInFile()
	case e.disabled:
		return nil, e.disabledDenial()
	}
	g := e.authorization()
	if err := g.Check(r, time.Now()); err != nil {
		return nil, e.denial(err)
	}
	return g, nil
}

// Confirms reports whether the file has the token with that SHA-256 digest, and whether a
// session with the grant g may continue: the token is enabled and its grant is equal to g or
// less restrictive. It is for sessions that began before the file was added to the
// configuration, for which Notify has no changes to report.
func (f *File) Confirms(hash [32]byte, g *authz.Grant) (known, good bool) {
	snap := f.current.Load()
	e := snap.withHash(&hash)
	if g.IsPair() {
		if e = snap.withID(g.TokenID); e != nil && e.sessionHash() != hash {
			e = nil
		}
	}
	if e == nil || e.isPair() != g.IsPair() {
		return false, false
	}
	now := e.authorization()
	return true, !e.disabled && (now == g || sameRights(now, g) && !endsBefore(now, g))
}

func sameRights(a, b *authz.Grant) bool {
	return a.TokenID == b.TokenID && a.Subject == b.Subject && a.Superuser == b.Superuser && a.Gateway == b.Gateway && a.Role == b.Role &&
		a.ACL.Equal(b.ACL) && a.Limits.Equal(b.Limits) && maps.Equal(a.Attrs, b.Attrs) &&
		a.Upstream.Username == b.Upstream.Username && a.Upstream.ClientID == b.Upstream.ClientID &&
		a.Upstream.Password.Equal(b.Upstream.Password) && a.Only.NotBefore.Equal(b.Only.NotBefore) &&
		slices.Equal(a.Only.ClientIDs, b.Only.ClientIDs) && slices.Equal(a.Only.Usernames, b.Only.Usernames) &&
		slices.Equal(a.Only.Addrs, b.Only.Addrs) && slices.Equal(a.Only.Certificates, b.Only.Certificates)
}

// endsBefore reports whether a expires before b.
func endsBefore(a, b *authz.Grant) bool {
	return !a.Expires.IsZero() && (b.Expires.IsZero() || a.Expires.Before(b.Expires))
}

func notInFile() error {
	return &authz.Denial{Reason: authz.Unknown, Detail: "not in the token file", Keep: notKept()}
}

func (e *entry) disabledDenial() error {
	return &authz.Denial{Reason: authz.Disabled, Detail: "token " + e.id, Subject: e.subject, Keep: notKept()}
}

// denial adds the token's id to an error of the grant's Check.
func (e *entry) denial(err error) error {
	d, ok := errors.AsType[*authz.Denial](err)
	if !ok {
		return err
	}
	return &authz.Denial{Reason: d.Reason, Detail: "token " + e.id + ": " + d.Detail, Subject: d.Subject, Keep: notKept()}
}

// Status returns what is in effect and the result of the last reload.
func (f *File) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Reload reads the file now. It accepts a version that lacks most of the old entries as
// intended. It returns nil if the content is in effect, and otherwise why the last valid
// version stays in effect: the file cannot be read, breaks the rules (a *[FormatError]), keeps
// changing, or is empty.
func (f *File) Reload(ctx context.Context) error {
	return explained(f.path, f.follower.Reload(ctx))
}

// parse parses a version of the file.
func (f *File) parse(ctx context.Context, content io.ReadSeeker, digest hash.Hash) (*snapshot, error) {
	snap, err := parseWith(ctx, content, f.current.Load(), digest)
	return snap, named(err, f.path)
}

// take puts a valid version into effect, unless it may be incomplete.
func (f *File) take(snap *snapshot, o files.Origin) error {
	trusted, err := f.trust(snap, o)
	if err != nil {
		return err
	}
	f.accept(snap, trusted, o.Stamp, Status{
		Path: f.path, Entries: snap.len(), Fingerprint: o.Sum, Loaded: time.Now(), Warnings: warnings(f.path, o.Mode),
	})
	return nil
}

// trust decides whether snap may replace the version in effect. If it lacks most of the
// entries, something must show that it is complete; trusted says what did.
func (f *File) trust(snap *snapshot, o files.Origin) (trusted string, err error) {
	had, has := f.current.Load().len(), snap.len()
	switch {
	case had == 0:
		return "", nil
	case snap.blank:
		return "", fmt.Errorf(`%s: empty, but %d entries are in effect; if that is intended, write the line {"end":true,"count":0} into it`, f.path, had)
	case !files.MostGone(had, has):
		return "", nil
	case snap.end != 0:
		return "it has an end line", nil
	case o.Replaced:
		return "it replaced the old file", nil
	case o.Asked:
		return "the reload was requested", nil
	}
	return "", &ShrinkError{Path: f.path, Gone: had - has, Left: has}
}

// refuse reports a version that does not take effect.
func (f *File) refuse(err error) {
	err = explained(f.path, err)
	s := f.Status()
	s.Err = err
	f.setStatus(s)
	if !s.Loaded.IsZero() {
		f.report(Reload{Err: err, Entries: s.Entries})
	}
}

// accept puts snap into effect and reports it. Content that is already in effect is reported
// only after an error, or with other warnings.
func (f *File) accept(snap *snapshot, trusted string, stamp files.Stamp, now Status) {
	was := f.Status()
	if now.Fingerprint == was.Fingerprint {
		f.setInEffect(f.current.Load(), stamp, now)
		if was.Err != nil || !slices.Equal(was.Warnings, now.Warnings) {
			f.report(Reload{Entries: now.Entries, Warnings: now.Warnings})
		}
		return
	}
	d := snap.since(f.current.Load())
	f.setInEffect(snap, stamp, now)
	f.revoke(d)
	f.report(Reload{
		Entries: now.Entries, Added: d.added, Removed: d.removed, Changed: d.changed,
		Revoked: len(d.ended), Trusted: trusted, Warnings: now.Warnings,
	})
}

func (f *File) setInEffect(snap *snapshot, stamp files.Stamp, s Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current.Store(snap)
	f.stamp, f.status = stamp, s
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
