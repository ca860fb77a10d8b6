package telemetry

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// keyed is a message with keys from a number up to another.
func keyed(from, to int) []payload.Message {
	m := message(1)
	for i := from; i < to; i++ {
		m.Fields = append(m.Fields, payload.Field{Key: fmt.Sprint(i), Value: payload.Long(1)})
	}
	return []payload.Message{m}
}

// TestKeysAreBounded: no device makes the list of its keys so long that reading it
// hurts others. Whatever the order, exactly maxKeys are taken and known ones always are.
func TestKeysAreBounded(t *testing.T) {
	for _, step := range []int{1000, 4000, maxKeys} {
		s := open(t, Options{Durability: "none"})
		refused := func(what string, list []payload.Message, want bool) {
			t.Helper()
			err := s.Append(t.Context(), "d", list)
			var bad *PayloadError
			if errors.As(err, &bad) != want || err != nil && !want {
				t.Fatalf("steps of %d, %s: error %v, refused want %v", step, what, err, want)
			}
		}
		for n := 0; n < maxKeys; n += step {
			refused("the first", keyed(n, min(n+step, maxKeys)), false)
			refused("known at once", keyed(n, n+10), false)
		}
		refused("one more", keyed(maxKeys, maxKeys+1), true)
		refused("one more among known ones", keyed(maxKeys-5, maxKeys+1), true)
		refused("known", keyed(0, maxKeys), false)
		if err := s.Append(t.Context(), "e", keyed(maxKeys, maxKeys+1)); err != nil {
			t.Errorf("another device: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, Options{Path: s.opts.Path})
		refused("one more after a restart", keyed(maxKeys, maxKeys+1), true)
		refused("known after a restart", keyed(0, 100), false)
		if keys, err := s.Keys(t.Context(), "d"); err != nil || len(keys) != maxKeys {
			t.Errorf("%d keys, error %v", len(keys), err)
		}
	}
}

// TestSameKeysAreCountedOnce: a device that sends the same keys again and again never
// comes to the bound.
func TestSameKeysAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Durability: "none"})
		for i := range 30 {
			if err := s.Append(t.Context(), "d", keyed(0, maxKeys*2/3)); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
			if i%7 == 0 {
				time.Sleep(flushEvery)
			}
		}
		if err := s.Append(t.Context(), "d", keyed(maxKeys*2/3, maxKeys)); err != nil {
			t.Errorf("as many as a device may have: %v", err)
		}
	})
}

// TestForgottenKeysMakeRoom: what retention deletes counts no more.
func TestForgottenKeysMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Durability: "none", Retention: time.Hour})
		at := func(list []payload.Message) []payload.Message {
			list[0].TS = time.Now().UnixMilli()
			return list
		}
		if err := s.Append(t.Context(), "d", at(keyed(0, maxKeys))); err != nil {
			t.Fatal(err)
		}
		if err := s.Append(t.Context(), "d", at(keyed(maxKeys, 2*maxKeys))); err == nil {
			t.Fatal("taken beyond the bound")
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if err := s.Append(t.Context(), "d", at(keyed(maxKeys, 2*maxKeys))); err != nil {
			t.Errorf("after the retention: %v", err)
		}
	})
}
