package presence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Device is what is known of one subject.
type Device struct {
	Subject string `json:"subject"`
	// FirstSeen is when its first session began, and LastSeen when a session of it last began or
	// ended, or the present while one is live.
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
	// Address is the IP address that it had when it was seen last. It is empty if that is not
	// known.
	Address string `json:"address,omitempty"`
	// Connected says whether it has a live session.
	Connected bool `json:"connected"`
}

// MaxLimit is the largest [Query.Limit].
const MaxLimit = 1000

// Query selects devices.
type Query struct {
	// Subject, if it is not empty, selects one device.
	Subject string
	// Connected, if it is not nil, selects the devices that are or are not connected.
	Connected *bool
	// After is the Next of the page before, and empty for the first one.
	After string
	// Limit is how many devices the page may have, 1 to [MaxLimit].
	Limit int
}

// Page is the answer to a [Query]. Its devices are in the order of the bytes of their subjects.
// Their number may be less than the limit, and 0, although there is another page.
type Page struct {
	Devices []Device `json:"devices"`
	// Next is empty if there is no other page.
	Next string `json:"next,omitempty"`
}

// ErrUnavailable is wrapped by the errors of [Recorder.Devices] while the store cannot be used.
var ErrUnavailable = errors.New("first and last seen are not available")

// readTimeout limits how long a read waits for the store.
const readTimeout = 5 * time.Second

// Devices returns a page of devices. It takes a few milliseconds at any number of devices,
// provided that the store answers.
func (r *Recorder) Devices(ctx context.Context, q Query) (Page, error) {
	if q.Limit < 1 || q.Limit > MaxLimit {
		return Page{}, fmt.Errorf("limit is a number from 1 to %d", MaxLimit)
	}
	open := r.store.Load()
	if open == nil {
		return Page{}, fmt.Errorf("%w: %w", ErrUnavailable, *r.fault.Load())
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	now := time.Now()
	found, next, err := r.find(ctx, open, q)
	if err != nil {
		return Page{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	r.bringUpToDate(found, now)
	page := Page{Devices: make([]Device, 0, min(len(found), q.Limit)), Next: next}
	for _, subject := range slices.Sorted(maps.Keys(found)) {
		d := found[subject]
		switch {
		case q.Connected != nil && *q.Connected != d.Connected, next != "" && subject > next:
		case len(page.Devices) == q.Limit:
			page.Next = page.Devices[q.Limit-1].Subject
			return page, nil
		default:
			page.Devices = append(page.Devices, *d)
		}
	}
	return page, nil
}

// find returns all devices that may be on the page, with what the store knows about them. If next
// is not empty, devices after next may be missing.
func (r *Recorder) find(ctx context.Context, s store, q Query) (found map[string]*Device, next string, err error) {
	found = make(map[string]*Device)
	var subjects []string
	if q.Subject != "" {
		subjects = []string{q.Subject}
	} else {
		k := kindOf(q.Connected)
		list, err := s.page(ctx, k, q.After, q.Limit+1)
		if err != nil {
			return nil, "", err
		}
		for i := range list {
			found[list[i].Subject] = &list[i]
		}
		if len(list) > q.Limit {
			next = list[q.Limit].Subject
		}
		subjects = r.recent(k, q.After, q.Limit+1)
		subjects = slices.DeleteFunc(subjects, func(name string) bool { return found[name] != nil || next != "" && name > next })
	}
	if len(subjects) == 0 {
		return found, next, nil
	}
	list, err := s.lookup(ctx, subjects)
	if err != nil {
		return nil, "", err
	}
	for i := range list {
		found[list[i].Subject] = &list[i]
	}
	for _, subject := range subjects {
		if found[subject] == nil {
			found[subject] = &Device{Subject: subject}
		}
	}
	return found, next, nil
}

func kindOf(connected *bool) kind {
	switch {
	case connected == nil:
		return everyDevice
	case *connected:
		return connectedDevices
	}
	return awayDevices
}

// recent returns the first subjects after the given one, in order, that are of the kind although
// the store may not know it yet.
func (r *Recorder) recent(k kind, after string, limit int) []string {
	found := smallest{limit: limit}
	r.mu.Lock()
	defer r.mu.Unlock()
	if k == connectedDevices {
		for subject := range r.live {
			if subject > after {
				found.add(subject)
			}
		}
		return found.sorted()
	}
	for _, b := range []*batch{r.pending, r.writing} {
		for subject := range b.devices {
			if subject > after && (k == everyDevice || r.live[subject] == 0) {
				found.add(subject)
			}
		}
	}
	return found.sorted()
}

// smallest collects the texts that are first in order, each once, without sorting all texts.
type smallest struct {
	limit int
	list  []string
	full  bool // there are limit texts up to last
	last  string
}

func (s *smallest) add(text string) {
	if s.full && text >= s.last {
		return
	}
	if s.list = append(s.list, text); len(s.list) >= 4*s.limit {
		s.list = s.sorted()
	}
}

func (s *smallest) sorted() []string {
	slices.Sort(s.list)
	list := slices.Compact(s.list)
	if len(list) >= s.limit {
		list = list[:s.limit]
		s.full, s.last = true, list[s.limit-1]
	}
	return list
}

// bringUpToDate adds what the store does not know yet, and removes devices that were never seen.
func (r *Recorder) bringUpToDate(found map[string]*Device, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for subject, d := range found {
		for _, b := range []*batch{r.writing, r.pending} {
			if s, ok := b.devices[subject]; ok {
				d.add(s)
			}
		}
		_, pending := r.pending.devices[subject]
		_, writing := r.writing.devices[subject]
		if r.live[subject] > 0 {
			d.Connected, d.LastSeen = true, now.UTC().Truncate(time.Millisecond)
		} else if pending || writing {
			d.Connected = false
		}
		if d.FirstSeen.IsZero() {
			if !d.Connected {
				delete(found, subject)
			}
			d.FirstSeen = d.LastSeen // the record was lost
		}
	}
}

// add merges a sighting into d.
func (d *Device) add(s sighting) {
	first, last := fromMillis(s.first), fromMillis(s.last)
	if d.FirstSeen.IsZero() || first.Before(d.FirstSeen) {
		d.FirstSeen = first
	}
	if last.Before(d.LastSeen) {
		return
	}
	d.LastSeen, d.Address = last, cmp.Or(s.address(), d.Address)
}

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// TokensSeen returns when each of the token ids was last used. Ids that were never used are
// missing.
func (r *Recorder) TokensSeen(ctx context.Context, ids []string) (map[string]time.Time, error) {
	open := r.store.Load()
	if open == nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, *r.fault.Load())
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	seen, err := open.tokens(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		for _, b := range []*batch{r.writing, r.pending} {
			if at, ok := b.tokens[id]; ok && seen[id].Before(fromMillis(at)) {
				seen[id] = fromMillis(at)
			}
		}
	}
	return seen, nil
}
