package proxy

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
)

// TestBytesCountWhileASessionLives: what a session moves is seen at once, and stays
// when it has ended.
func TestBytesCountWhileASessionLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		c := b.mustLogin(with(4, "dev", goodToken))
		synctest.Wait()
		if s := b.srv.Stats(); s.Sessions != 1 || s.Connections != 1 || s.Quiet+s.Busy != 1 || s.Up != 0 || s.Down != 0 {
			t.Errorf("at the begin: %+v", s)
		}
		c.Send(publish)
		if _, err := io.ReadFull(c, make([]byte, len(publish))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := b.srv.Stats(); s.Up != int64(len(publish)) || s.Down != int64(len(publish)) {
			t.Errorf("while it lives: %+v, want %d bytes each way", s, len(publish))
		}
		// A pipe does not know when it was used last.
		want := Activity{Up: int64(len(publish)), Down: int64(len(publish)), Idle: -1}
		for client, activity := range b.srv.Sessions() {
			if got := activity(); got != want || client.ClientID != "dev" {
				t.Errorf("%s: %+v, want %+v", client.ClientID, got, want)
			}
		}
		c.Close()
		synctest.Wait()
		if s := b.srv.Stats(); s.Sessions != 0 || s.Up != int64(len(publish)) || s.Down != int64(len(publish)) {
			t.Errorf("after its end: %+v, want %d bytes each way", s, len(publish))
		}
		if e := b.lastEnd(); e.Up != int64(len(publish)) || e.Down != int64(len(publish)) {
			t.Errorf("end of the session: %+v", e)
		}
	})
}

// TestBytesNeverDecrease: sessions begin, move bytes and end while they are counted.
func TestBytesNeverDecrease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.mustLogin(with(4, "first", goodToken)).Close() // sets the policy
		const clients, rounds = 8, 30
		var running sync.WaitGroup
		for i := range clients {
			running.Go(func() {
				for round := range rounds {
					c, ack, err := b.login(with(4, fmt.Sprintf("dev-%d-%d", i, round), goodToken))
					if err != nil || ack.Code != 0 {
						t.Errorf("CONNACK %v, %v", ack.Code, err)
						return
					}
					c.Send(ping)
					if _, err := io.ReadFull(c, make([]byte, len(ping))); err != nil {
						t.Error(err)
					}
					c.Close()
				}
			})
		}
		stop, watched := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(watched)
			for last := (Stats{}); ; {
				s := b.srv.Stats()
				if s.Up < last.Up || s.Down < last.Down || s.Escalations < last.Escalations {
					t.Errorf("%+v after %+v", s, last)
				}
				last = s
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		running.Wait()
		close(stop)
		<-watched
		synctest.Wait()
		if s, want := b.srv.Stats(), int64(clients*rounds*len(ping)); s.Up != want || s.Down != want || s.Sessions != 0 {
			t.Errorf("%+v, want %d bytes each way", s, want)
		}
	})
}
