package passwordhash

import (
	"context"
	"encoding/base64"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

func rawBase64(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }

// slowScheme takes a minute, and notes how many run at once.
type slowScheme struct {
	takes        cost
	running, top *atomic.Int64
}

func (s *slowScheme) cost() cost { return s.takes }

func (s *slowScheme) matches(string) (bool, error) {
	s.top.Store(max(s.top.Load(), s.running.Add(1)))
	defer s.running.Add(-1)
	<-time.After(time.Minute)
	return true, nil
}

func newSlow(c cost) *slowScheme {
	return &slowScheme{takes: c, running: new(atomic.Int64), top: new(atomic.Int64)}
}

func TestChecksAreBounded(t *testing.T) {
	for name, tc := range map[string]struct {
		takes cost
		most  int64
	}{
		"by processors":       {cost{processors: 1}, 4},
		"by lanes":            {cost{processors: 2}, 2},
		"by more lanes":       {cost{processors: 16}, 1},
		"by memory":           {cost{processors: 1, memory: 128 << 20}, 2},
		"by a little of both": {cost{processors: 1, memory: 46 << 20}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, slow := NewWorkers(4), newSlow(tc.takes)
				for range 20 {
					go func() {
						if good, err := w.Check(t.Context(), Hash{slow}, authz.NewToken("x")); !good || err != nil {
							t.Error(good, err)
						}
					}()
				}
				time.Sleep(time.Hour)
				if top := slow.top.Load(); top != tc.most {
					t.Errorf("%d checks ran at once, want %d", top, tc.most)
				}
				if s := w.Stats(); s.Hashes != 20 || s.Time != 20*time.Minute {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestNoRoomInTime: a check that gets no room before its deadline is busy, which is neither
// a denial nor an outage.
func TestNoRoomInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, slow := NewWorkers(1), newSlow(cost{processors: 1})
		go func() { _, _ = w.Check(t.Context(), Hash{slow}, authz.NewToken("x")) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		good, err := w.Check(ctx, Hash{slow}, authz.NewToken("x"))
		if good || !errors.Is(err, authz.ErrBusy) || errors.Is(err, authz.ErrDenied) {
			t.Errorf("%v, %v; want ErrBusy", good, err)
		}
		if _, err := w.Check(ctx, Hash{slow}, authz.NewToken("x")); !errors.Is(err, authz.ErrBusy) {
			t.Errorf("after the deadline: %v", err)
		}
		time.Sleep(time.Hour)
		if _, err := w.Check(t.Context(), Hash{slow}, authz.NewToken("x")); err != nil {
			t.Errorf("the room was not given back: %v", err)
		}
	})
}
