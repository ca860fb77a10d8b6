package sqlite

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// fewKeys is a bound that is reached soon.
const fewKeys = 60

// keyed is a message with keys from a number up to another.
func keyed(from, to int) []payload.Message {
	m := message(1)
	for i := from; i < to; i++ {
		m.Fields = append(m.Fields, payload.Field{Key: fmt.Sprint(i), Value: payload.Long(1)})
	}
	return []payload.Message{m}
}

// TestKeysAreBounded: in whatever order they come, exactly as many keys as the limit are
// accepted, and known ones always are.
func TestKeysAreBounded(t *testing.T) {
	for _, step := range []int{7, 25, fewKeys} {
		s := open(t, Options{Durability: "none", MaxKeys: fewKeys})
		refused := func(what string, list []payload.Message, want bool) {
			t.Helper()
			err := s.Append(t.Context(), "d", list)
			var bad *telemetry.PayloadError
			if errors.As(err, &bad) != want || err != nil && !want {
				t.Fatalf("steps of %d, %s: error %v, refused want %v", step, what, err, want)
			}
		}
		for n := 0; n < fewKeys; n += step {
			refused("the first", keyed(n, min(n+step, fewKeys)), false)
			refused("known at once", keyed(n, n+1), false)
		}
		refused("one more", keyed(fewKeys, fewKeys+1), true)
		refused("one more among known ones", keyed(fewKeys-5, fewKeys+1), true)
		refused("known", keyed(0, fewKeys), false)
		if err := s.Append(t.Context(), "e", keyed(fewKeys, fewKeys+1)); err != nil {
			t.Errorf("another device: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, Options{Path: s.opts.Path, MaxKeys: fewKeys})
		refused("one more after a restart", keyed(fewKeys, fewKeys+1), true)
		refused("known after a restart", keyed(0, 10), false)
		if keys, err := telemetry.Keys(t.Context(), s, "d"); err != nil || len(keys) != fewKeys {
			t.Errorf("%d keys, error %v", len(keys), err)
		}
	}
}

// TestSameKeysAreCountedOnce: a device that sends the same keys again and again never reaches the
// bound.
func TestSameKeysAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Durability: "none", MaxKeys: fewKeys})
		for i := range 30 {
			if err := s.Append(t.Context(), "d", keyed(0, fewKeys*2/3)); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
			if i%7 == 0 {
				time.Sleep(flushEvery)
			}
		}
		if err := s.Append(t.Context(), "d", keyed(fewKeys*2/3, fewKeys)); err != nil {
			t.Errorf("as many as a device may have: %v", err)
		}
	})
}

// TestForgottenKeysMakeRoom: keys that retention deletes no longer count.
func TestForgottenKeysMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Durability: "none", Retention: time.Hour, MaxKeys: fewKeys})
		at := func(list []payload.Message) []payload.Message {
			list[0].TS = time.Now().UnixMilli()
			return list
		}
		if err := s.Append(t.Context(), "d", at(keyed(0, fewKeys))); err != nil {
			t.Fatal(err)
		}
		if err := s.Append(t.Context(), "d", at(keyed(fewKeys, 2*fewKeys))); err == nil {
			t.Fatal("taken beyond the bound")
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if err := s.Append(t.Context(), "d", at(keyed(fewKeys, 2*fewKeys))); err != nil {
			t.Errorf("after the retention: %v", err)
		}
	})
}
