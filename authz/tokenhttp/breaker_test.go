package tokenhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/breaker"
)

// TestFaultsOfOneDoNotAffectOthers: a faulty record, a token that makes the service fail, or a
// pause for one device do not affect other addresses, however often they happen and even if no
// other device asks in between.
func TestFaultsOfOneDoNotAffectOthers(t *testing.T) {
	for name, a := range map[string]reply{
		"faulty record": faulty, "500": down, "429": hurried, "400": {status: 400},
		"503": {status: 503, header: http.Header{"Retry-After": {"30"}}},
	} {
		t.Run("one key, "+name, func(t *testing.T) {
			open(t, func(c *clinic) {
				c.set("bad", a)
				for i := range 200 {
					c.ask("bad", 1, false)
					time.Sleep(100 * time.Millisecond)
					if i%20 == 0 {
						c.want("allow", fmt.Sprint("neighbour ", i), 1, false)
						c.want("allow", fmt.Sprint("stranger ", i), 2, false)
					}
				}
			})
		})
		t.Run("many keys of one address, "+name, func(t *testing.T) {
			open(t, func(c *clinic) {
				for i := range 200 {
					token := fmt.Sprint("bad ", i)
					c.set(token, a)
					c.ask(token, 1, false)
					time.Sleep(100 * time.Millisecond)
					if i%20 == 0 {
						c.want("allow", fmt.Sprint("stranger ", i), 2, false)
					}
				}
			})
		})
		t.Run("one key of many addresses, "+name, func(t *testing.T) {
			open(t, func(c *clinic) {
				c.set("bad", a)
				for i := range 200 {
					c.ask("bad", i, false)
				}
				c.want("allow", "stranger", 201, false)
			})
		})
	}
}

// TestContentNeverOpensTheBreaker: a service that answers is asked, even if its answers make no
// sense.
func TestContentNeverOpensTheBreaker(t *testing.T) {
	open(t, func(c *clinic) {
		for _, a := range []reply{faulty, {status: 404}, {status: 302}, okJSON(`{}`), okJSON(strings.Repeat(" ", 300<<10))} {
			c.set("", a)
			for i := range 50 {
				c.want("error", fmt.Sprint("device ", i), i, false)
			}
		}
		if n := c.questions(); n != 250 {
			t.Errorf("%d questions were put, want 250", n)
		}
	})
}

// TestOutage: after faults of five devices at five addresses the service is no longer asked,
// except by the few that probe it.
func TestOutage(t *testing.T) {
	open(t, func(c *clinic) {
		c.outage()
		for i := range 200 { // each address that has met no fault yet, five per second
			c.want("error", fmt.Sprint("next ", i), i, false)
		}
		if n := c.questions(); n != breaker.Threshold {
			t.Errorf("%d questions at once, want %d", n, breaker.Threshold)
		}
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			for i := range breaker.Threshold {
				c.want("error", "again", i, false)
			}
		}
		// Ten seconds; the first address may try in the first and the sixth of them.
		if n := c.questions(); n > 3*breaker.Threshold || n < breaker.Threshold {
			t.Errorf("five addresses asked %d times in ten seconds", n)
		}
		time.Sleep(breaker.TryEvery)
		c.set("", reply{status: 403})
		c.want("deny not_authorized", "one", 1, false)
		for i := range 100 {
			c.want("deny not_authorized", fmt.Sprint("all ", i), i, false)
		}
	})
}

// TestOutageBehindOneAddress: if all devices share an address, five keys are enough.
func TestOutageBehindOneAddress(t *testing.T) {
	open(t, func(c *clinic) {
		c.set("", down)
		for i := range breaker.Threshold {
			c.want("error", fmt.Sprint("device ", i), 1, false)
		}
		c.questions()
		for i := range 100 {
			c.want("error", fmt.Sprint("next ", i), 1, i%2 == 0)
		}
		if n := c.questions(); n != 1 {
			t.Errorf("%d questions at once, want the one of a known key", n)
		}
		c.want("error", "first", 2, false)
		c.set("", reply{status: 204})
		time.Sleep(breaker.TryEvery)
		c.want("allow", "one", 1, false)
		c.want("allow", "two", 1, false)
	})
}

// TestKnownKeyProbes: while the breaker is open, there is one question about a known key per
// second. Its fault is the answer for all known keys until the next; a decision closes the
// breaker.
func TestKnownKeyProbes(t *testing.T) {
	open(t, func(c *clinic) {
		c.outage()
		for range 10 {
			for i := range 100 {
				c.want("error", fmt.Sprint("known ", i), i, true)
			}
			if n := c.questions(); n != 1 {
				t.Fatalf("%d questions in a second, want 1", n)
			}
			time.Sleep(breaker.ProbeEvery)
		}
		c.set("withdrawn", reply{status: 403})
		c.want("deny not_authorized", "withdrawn", 1, true)
		if b := c.source.Stats().Breaker; b != "closed" {
			t.Errorf("after a decision the breaker is %s", b)
		}
	})
}

// TestKnownKeysWaitForTheProbe: after a long outage it is not known whether it is over, so
// known keys wait for the probe, and then ask themselves if the outage is over.
func TestKnownKeysWaitForTheProbe(t *testing.T) {
	for name, tc := range map[string]struct {
		now       reply
		want      string
		questions int
	}{"over": {reply{status: 204}, "allow", 20}, "lasting": {down, "error", 1}} {
		t.Run(name, func(t *testing.T) {
			open(t, func(c *clinic) {
				c.outage()
				time.Sleep(time.Hour)
				c.set("", tc.now)
				c.takes = 2 * time.Second
				got := make(chan string, 20)
				for i := range 20 {
					go func() { got <- c.ask(fmt.Sprint("known ", i), i, true) }()
				}
				synctest.Wait()
				if n := len(c.asked); n != 1 || c.source.Stats().Breaker != "half-open" {
					t.Errorf("%d questions at once, the breaker is %s", n, c.source.Stats().Breaker)
				}
				for range 20 {
					if g := <-got; g != tc.want {
						t.Errorf("a known key: %s, want %s", g, tc.want)
					}
				}
				if n := c.questions(); n != tc.questions {
					t.Errorf("%d questions, want %d", n, tc.questions)
				}
				if tc.want == "allow" {
					return
				}
				// While the next probe runs, which takes long, the others need not wait.
				time.Sleep(breaker.ProbeEvery)
				go func() { got <- c.ask("next", 1, true) }()
				synctest.Wait()
				began := time.Now()
				c.want("error", "known 1", 1, true)
				if d := time.Since(began); d != 0 {
					t.Errorf("a known key waits %v", d)
				}
				<-got
			})
		})
	}
}

// TestProbeThatIsGivenUp: the caller of a probe may give up; the next one takes its place.
func TestProbeThatIsGivenUp(t *testing.T) {
	open(t, func(c *clinic) {
		c.outage()
		c.set("", reply{status: 204})
		c.takes = time.Second
		ctx, cancel := context.WithTimeout(c.Context(), 100*time.Millisecond)
		defer cancel()
		go func() {
			_, _ = c.source.Authorize(ctx, authz.Request{Token: authz.NewToken("leaves"), Known: true})
		}()
		synctest.Wait()
		c.want("allow", "stays", 1, true)
		if n := c.questions(); n != 2 {
			t.Errorf("%d questions, want 2", n)
		}
	})
}

// TestFaultAttribution: a fault belongs to its question while other addresses get decisions,
// and to the service if they meet faults, too, or do not ask.
func TestFaultAttribution(t *testing.T) {
	open(t, func(c *clinic) {
		c.set("bad", down)
		c.set("content", faulty)
		c.set("busy", hurried)
		c.set("later", okJSON(`{"result":"deny","reason_code":"busy"}`))
		c.want("error", "bad", 1, false) // no other device has asked
		c.want("allow", "good", 1, false)
		c.want("error", "bad", 1, false) // nor has another address
		c.want("allow", "good", 2, false)
		c.want("error of its own", "bad", 1, false)
		c.want("error of its own", "content", 1, false)
		c.want("busy", "later", 1, false)
		c.want("busy", "busy", 1, false)
		c.want("error", "bad", 2, false)
		c.want("error", "bad", 3, false) // after 2
		c.want("allow", "good", 4, false)
		time.Sleep(breaker.Recently)
		c.want("error", "bad", 1, false) // too long ago
	})
}

// TestRetryAfter: the pause that the service asks for applies to the key that was asked about.
// A known key may be asked about after a 503, since its old grant may be used only then.
func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"7": 7 * time.Second, "3600": time.Minute, "": 0, "soon": 0, "-5": 0,
		"Sat, 01 Jan 2000 00:00:20 GMT": 20 * time.Second,
		"Fri, 31 Dec 1999 23:59:59 GMT": 0,
		"99999999999999999999999999999": time.Minute, "18700000000000000000A": 0,
	} {
		for status, outcome := range map[int]string{503: "error", 429: "busy"} {
			open(t, func(c *clinic) { // begins at 2000-01-01 00:00 UTC
				c.set("", reply{status: status, header: http.Header{"Retry-After": {header}}})
				c.want(outcome, "first", 1, false)
				c.set("", reply{status: 204})
				c.want("allow", "other", 1, false)
				if want > 0 {
					time.Sleep(want - time.Millisecond)
					c.questions()
					c.want(outcome, "first", 1, false)
					if n := c.questions(); n != 0 {
						t.Errorf("%d with %s: asked again before its time", status, header)
					}
					if status == 429 {
						c.want(outcome, "first", 1, true)
					}
					time.Sleep(time.Millisecond)
				}
				c.want("allow", "first", 1, false)
			})
		}
	}
	open(t, func(c *clinic) {
		c.set("", reply{status: 503, header: http.Header{"Retry-After": {"30"}}})
		c.want("error", "first", 1, false)
		c.set("", reply{status: 403})
		c.want("deny not_authorized", "first", 1, true)
	})
}

// TestRetryAfterOfSeveral: a pause that five keys and addresses got applies to all.
func TestRetryAfterOfSeveral(t *testing.T) {
	open(t, func(c *clinic) {
		c.set("", hurried)
		for i := range breaker.Threshold {
			c.want("busy", fmt.Sprint("device ", i), i, false)
		}
		c.set("", reply{status: 204})
		c.questions()
		time.Sleep(30*time.Second - time.Millisecond)
		for _, known := range []bool{false, true} {
			c.want("busy", "stranger", 100, known)
		}
		if n := c.questions(); n != 0 {
			t.Errorf("%d questions in the pause", n)
		}
		time.Sleep(time.Millisecond)
		c.want("allow", "stranger", 100, false)
	})
	t.Run("503", func(t *testing.T) {
		open(t, func(c *clinic) {
			c.outage()
			c.set("", reply{status: 503, header: http.Header{"Retry-After": {"30"}}})
			c.want("error", "finds out", 50, false)
			c.questions()
			time.Sleep(29 * time.Second)
			c.want("error", "stranger", 100, false)
			if n := c.questions(); n != 0 {
				t.Errorf("%d questions about unknown keys in the pause", n)
			}
			c.want("error", "known", 100, true)
			if n := c.questions(); n != 1 {
				t.Errorf("%d questions about known keys in the pause, want 1 a second", n)
			}
		})
	})
}

// TestTimeout: the whole call, including retries and the body, ends within its timeout.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := piped(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, Options{})
		start := time.Now()
		_, err := s.Authorize(t.Context(), pump())
		if took := time.Since(start); err == nil || took != 3*time.Second {
			t.Errorf("an answer without an end took %v: %v", took, err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Error("the Source's own limit looks like the caller's")
		}
	})
}
