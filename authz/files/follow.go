package files

import (
	"context"
	"errors"
	"hash"
	"io"
	"io/fs"
	"time"
)

const (
	// fullCheck is how often the content is compared even if the stamp has not changed: if the
	// clock was set back, or for two writes in one tick of the clock, the stamp does not show
	// the change.
	fullCheck = 10 * time.Second
	// maxMoving is the number of checks after which a file that keeps changing is read
	// nevertheless.
	maxMoving = 3
	// maxTorn is the number of consecutive reads during which the file changed, after which
	// that is reported.
	maxTorn = 20
	// maxGone is how many entries may disappear in one version, whatever their share. So few
	// entries fit into one write, and a write is not cut short between two lines.
	maxGone = 16
)

// ParseFunc parses the content of an open file from its beginning. It writes everything that it
// reads to digest, once.
type ParseFunc[T any] func(ctx context.Context, f io.ReadSeeker, digest hash.Hash) (T, error)

// Follower reads a file again whenever it has changed and is no longer being written. It is made
// by [Follow]; its methods may be called from many goroutines.
type Follower[T any] struct {
	path     string
	interval time.Duration
	parse    ParseFunc[T]
	accept   func(T, Origin) error
	refuse   func(error)

	// Both are semaphores rather than mutexes so that waiting ends with a context.
	reading  chan struct{} // held while the file is read and seen is used
	watching chan struct{} // held by the call of Run that watches
	news     chan struct{} // has one element after Wake

	seen sight
}

// Origin says how a version of the file came to be.
type Origin struct {
	// Sum is the SHA-256 of the content in hexadecimal digits.
	Sum string
	// Mode has the permissions of the file, and Stamp distinguishes it from other versions.
	Mode  fs.FileMode
	Stamp Stamp
	// Replaced means that the version was put in place by a rename or a changed link, so that it is
	// complete. Asked means that [Follower.Reload] was called.
	Replaced, Asked bool
}

// sight is what the follower knows about the file on disk. It belongs to the holder of
// Follower.reading.
type sight struct {
	read    version   // the version that was read last
	met     Stamp     // of the current file, when it was first found under its name
	moving  Stamp     // of a change that has not been read yet
	looks   int       // the number of checks since that change
	torn    int       // consecutive reads during which the file changed
	checked time.Time // when the content was last compared
}

// Follow returns a follower that checks the file at path at the interval. It parses each version
// and passes a valid one to accept, which puts it into effect or returns why not. It passes every
// error, including that of a file that cannot be read, to refuse. Only one of the functions is
// called at a time.
func Follow[T any](path string, interval time.Duration, parse ParseFunc[T], accept func(T, Origin) error, refuse func(error)) *Follower[T] {
	return &Follower[T]{
		path: path, interval: interval, parse: parse, accept: accept, refuse: refuse,
		reading: make(chan struct{}, 1), watching: make(chan struct{}, 1), news: make(chan struct{}, 1),
	}
}

// MostGone reports whether a version with has entries may be the beginning of a file whose write
// was cut short, because so many of the had entries that are in effect are missing.
func MostGone(had, has int) bool {
	gone := had - has
	return gone > maxGone && has < gone
}

// Reload reads the file now. It returns nil if the content is in effect, and otherwise the fault,
// or [ErrChanging] if the file keeps changing.
func (f *Follower[T]) Reload(ctx context.Context) error {
	if err := acquire(ctx, f.reading); err != nil {
		return err
	}
	defer func() { <-f.reading }()
	const attempts = 4
	for n := 1; ; n++ {
		err := f.load(ctx, true)
		if !errors.Is(err, ErrChanging) || n == attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(f.interval):
		}
	}
}

// acquire acquires the semaphore, or gives up when ctx is done.
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

// load reads the file and, if it is valid, puts it into effect. The caller holds f.reading.
func (f *Follower[T]) load(ctx context.Context, asked bool) error {
	value, v, err := readVersion(ctx, f.path, f.parse)
	if errors.Is(err, ErrChanging) || ctx.Err() != nil {
		v.close()
		return err
	}
	replaced := f.seen.replaced(v.stamp)
	f.seen.read.close()
	f.seen.read, f.seen.checked = v, time.Now()
	if err == nil {
		err = f.accept(value, Origin{Sum: v.sum, Mode: v.stamp.info.Mode(), Stamp: v.stamp, Replaced: replaced, Asked: asked})
	}
	if err != nil {
		f.refuse(err)
	}
	return err
}

// Run watches the file by name and through links, so that renames and changed links are noticed,
// until ctx is done. It calls deliver at the beginning, after each check and after [Follower.Wake];
// there is no check while deliver runs. Only one call watches at a time; others wait.
func (f *Follower[T]) Run(ctx context.Context, deliver func()) {
	if acquire(ctx, f.watching) != nil {
		return
	}
	defer func() { <-f.watching }()
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	for {
		deliver()
		select {
		case <-ctx.Done():
			return
		case <-f.news:
		case <-tick.C:
			f.Check(ctx)
		}
	}
}

// Wake makes the running call of [Follower.Run], or the next one, call deliver soon.
func (f *Follower[T]) Wake() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// Check reads the file if it has changed and is no longer being written. Run calls it at the
// interval.
func (f *Follower[T]) Check(ctx context.Context) {
	if acquire(ctx, f.reading) != nil {
		return
	}
	defer func() { <-f.reading }()
	s, now := &f.seen, StampOf(f.path)
	if !s.met.sameFile(now) {
		s.met = now
	}
	switch {
	case now.Equal(s.read.stamp):
		s.looks = 0
		if time.Since(s.checked) < fullCheck || !f.contentChanged() {
			return
		}
	case s.looks == 0 || !now.Equal(s.moving) && s.looks < maxMoving:
		s.moving = now
		s.looks++
		return
	}
	err := f.load(ctx, false)
	if !errors.Is(err, ErrChanging) {
		s.looks, s.torn = 0, 0
		return
	}
	if s.torn++; s.torn == maxTorn {
		f.refuse(err)
	}
}

// replaced reports whether the version with that stamp was put in place by a rename or a changed
// link: it is the first version that is read of another file, and that file has not been written to
// since it got the name.
func (s *sight) replaced(now Stamp) bool {
	return !s.read.stamp.sameFile(now) && s.met.unwritten(now)
}

// contentChanged compares the content with the version that was read last.
func (f *Follower[T]) contentChanged() bool {
	f.seen.checked = time.Now()
	content, err := fingerprint(f.path)
	return err == nil && content != f.seen.read.sum
}
