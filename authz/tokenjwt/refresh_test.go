package tokenjwt

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// issuer is a source of keys that tests turn on and off.
type issuer struct {
	mu      sync.Mutex
	start   time.Time
	content []byte
	maxAge  time.Duration
	err     error
	takes   time.Duration
	asked   []time.Duration // since start
}

func (i *issuer) load(ctx context.Context) (document, error) {
	i.mu.Lock()
	i.asked = append(i.asked, time.Since(i.start))
	d, err, takes := document{content: i.content, maxAge: i.maxAge}, i.err, i.takes
	i.mu.Unlock()
	select {
	case <-time.After(takes):
		return d, err
	case <-ctx.Done():
		return document{}, ctx.Err()
	}
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// times returns when the issuer was asked since the last call.
func (i *issuer) times() []time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	asked := i.asked
	i.asked = nil
	return asked
}

// bubble runs the test with an issuer of one key, k1, and a source that was opened on it.
func bubble(t *testing.T, o Options, test func(t *testing.T, i *issuer, s *Source)) {
	keyring() // takes long, while time in the bubble stands still
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{start: time.Now(), content: named(t, "k1", keyring().p256.Public())}
		s := loaded(t, o, i.load)
		synctest.Wait()
		test(t, i, s)
	})
}

func seconds(n ...int) []time.Duration {
	all := make([]time.Duration, len(n))
	for i := range n {
		all[i] = time.Duration(n[i]) * time.Second
	}
	return all
}

func TestRefreshInterval(t *testing.T) {
	for name, tc := range map[string]struct {
		refresh, maxAge time.Duration
		want            []time.Duration
	}{
		"default":             {0, 0, seconds(0, 300, 600, 900)},
		"option":              {400 * time.Second, 0, seconds(0, 400, 800)},
		"max-age in between":  {0, 250 * time.Second, seconds(0, 250, 500, 750, 1000)},
		"max-age too long":    {0, time.Hour, seconds(0, 300, 600, 900)},
		"max-age too short":   {350 * time.Second, time.Second, nil},
		"max-age beyond both": {350 * time.Second, time.Hour, seconds(0, 350, 700)},
	} {
		t.Run(name, func(t *testing.T) {
			o := strict(Keys{})
			o.Refresh = tc.refresh
			synctest.Test(t, func(t *testing.T) {
				i := &issuer{start: time.Now(), content: named(t, "k1", keyring().p256.Public()), maxAge: tc.maxAge}
				loaded(t, o, i.load)
				time.Sleep(1000*time.Second + time.Millisecond)
				want := tc.want
				if want == nil { // every ten seconds
					for n := range 101 {
						want = append(want, time.Duration(n)*minRefresh)
					}
				}
				if got := i.times(); !slices.Equal(got, want) {
					t.Errorf("asked at %v, want %v", got, want)
				}
			})
		})
	}
}

func TestOutageBacksOffAndKeepsKeys(t *testing.T) {
	bubble(t, strict(Keys{}), func(t *testing.T, i *issuer, s *Source) {
		good := request(signed(t, jose.ES256, keyring().p256, "k1", claims(map[string]any{"exp": time.Now().Unix() + 9999})))
		i.set(func() { i.err = errors.New("connection refused") })
		time.Sleep(900 * time.Second)
		if got, want := i.times(), seconds(0, 300, 310, 330, 370, 450, 610, 910)[:7]; !slices.Equal(got, want) {
			t.Errorf("asked at %v, want %v", got, want)
		}
		if got := outcome(t, s, good); got != "granted" {
			t.Errorf("a good token is %s in an outage", got)
		}
		if st := s.Stats(); st.Failed != 6 || st.Keys != 1 || st.Err == nil || time.Since(st.LastSuccess) != 900*time.Second {
			t.Errorf("Stats = %+v", st)
		}
		i.set(func() { i.err = nil })
		time.Sleep(301 * time.Second)
		if st := s.Stats(); st.Failed != 6 || st.Unchanged == 0 || st.Err != nil {
			t.Errorf("Stats after the outage = %+v", st)
		}
	})
}

func TestBadDocumentKeepsKeys(t *testing.T) {
	bubble(t, strict(Keys{}), func(t *testing.T, i *issuer, s *Source) {
		for _, content := range []string{"", "<html>", `{"keys":[]}`} {
			i.set(func() { i.content = []byte(content) })
			if err := s.Reload(t.Context()); err == nil {
				t.Errorf("Reload of %q = nil", content)
			}
		}
		if got := outcome(t, s, request(signed(t, jose.ES256, keyring().p256, "k1", claims(nil)))); got != "granted" {
			t.Errorf("a good token is %s", got)
		}
	})
}

func TestUnknownKeyIsAskedForSeldom(t *testing.T) {
	bubble(t, strict(Keys{}), func(t *testing.T, i *issuer, s *Source) {
		k := keyring()
		fresh := request(signed(t, jose.ES256, k.other, "k2", claims(nil)))
		forged := request(signed(t, jose.ES256, k.other, "k1", claims(nil)))
		foreign := request(signed(t, jose.ES256, k.other, "k2", claims(map[string]any{"iss": "x"})))
		i.times()
		for n := range 35 { // a second each
			// Between two readings the key may have been made already.
			newOne := "unavailable"
			if n > 0 && n%10 == 0 {
				newOne = "unknown_token"
			}
			if got := outcome(t, s, fresh); got != newOne {
				t.Errorf("after %d s the new one is %s, want %s", n, got, newOne)
			}
			for name, r := range map[string]authz.Request{"forged": forged, "foreign": foreign} {
				if got := outcome(t, s, r); got != "unknown_token" {
					t.Errorf("the %s one is %s", name, got)
				}
			}
			time.Sleep(time.Second)
		}
		if got, want := i.times(), seconds(10, 20, 30); !slices.Equal(got, want) {
			t.Errorf("asked at %v, want %v", got, want)
		}
		time.Sleep(minRefresh)
		for range 5 { // no reason to read the keys again
			outcome(t, s, forged)
			outcome(t, s, foreign)
			outcome(t, s, request("opaque-token"))
		}
		if got := i.times(); len(got) != 0 {
			t.Errorf("asked at %v because of tokens that name a known key, or none", got)
		}
		i.set(func() { i.content = named(t, "k2", k.other.Public()) })
		if got := outcome(t, s, fresh); got != "granted" {
			t.Errorf("after the rotation the new one is %s", got)
		}
	})
}

// TestWithdrawnKeyIsUnknownAtOnce: a removed key does not count as one that may be new.
// Otherwise the holder of its tokens could keep them undecided by causing a read every ten
// seconds.
func TestWithdrawnKeyIsUnknownAtOnce(t *testing.T) {
	bubble(t, strict(Keys{}), func(t *testing.T, i *issuer, s *Source) {
		old := request(signed(t, jose.ES256, keyring().p256, "k1", claims(map[string]any{"exp": time.Now().Unix() + 9999})))
		fresh := request(signed(t, jose.ES256, keyring().other, "k3", claims(nil)))
		i.set(func() { i.content = named(t, "k2", keyring().other.Public()) })
		time.Sleep(minRefresh)
		if got := outcome(t, s, fresh); got != "unknown_token" { // causes a read of the keys
			t.Errorf("a key that is not there after a reading is %s", got)
		}
		for range 20 {
			if got := outcome(t, s, old); got != "unknown_token" {
				t.Errorf("a token of the key that was taken out is %s", got)
			}
			time.Sleep(time.Second)
			outcome(t, s, fresh)
		}
	})
}

func TestUnknownKeyInOutage(t *testing.T) {
	bubble(t, strict(Keys{}), func(t *testing.T, i *issuer, s *Source) {
		fresh := request(signed(t, jose.ES256, keyring().other, "k2", claims(nil)))
		i.set(func() { i.err = errors.New("connection refused") })
		time.Sleep(minRefresh)
		i.times()
		for range 15 {
			if got := outcome(t, s, fresh); got != "unavailable" {
				t.Errorf("in an outage the new token is %s", got)
			}
			time.Sleep(time.Second)
		}
		if got, want := i.times(), seconds(10, 20); !slices.Equal(got, want) {
			t.Errorf("asked at %v, want %v", got, want)
		}
	})
}

func TestOneFlightForAll(t *testing.T) {
	bubble(t, strict(Keys{}), func(t *testing.T, i *issuer, s *Source) {
		k := keyring()
		fresh := request(signed(t, jose.ES256, k.other, "k2", claims(nil)))
		time.Sleep(minRefresh)
		i.times()
		i.set(func() { i.takes, i.content = 2*time.Second, named(t, "k2", k.other.Public()) })
		var wg sync.WaitGroup
		for n := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(n) * 10 * time.Millisecond)
				if got := outcome(t, s, fresh); got != "granted" {
					t.Errorf("caller %d: %s", n, got)
				}
			})
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		_, err := s.Authorize(impatient, fresh)
		if !errors.Is(err, authz.ErrUnavailable) || time.Since(begin) != time.Second {
			t.Errorf("the impatient caller got %v after %v", err, time.Since(begin))
		}
		wg.Wait()
		if got := i.times(); len(got) != 1 {
			t.Errorf("asked at %v, want once", got)
		}
	})
}

func TestStartWithoutKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{start: time.Now(), content: named(t, "k1", keyring().p256.Public()), err: errors.New("refused"), takes: time.Second}
		o := strict(Keys{})
		o.StartWithoutKeys = true
		s := loaded(t, o, i.load)
		if time.Since(i.start) != 0 {
			t.Error("open waited")
		}
		good := request(signed(t, jose.ES256, keyring().p256, "k1", claims(nil)))
		if got := outcome(t, s, good); got != "unavailable" || time.Since(i.start) != time.Second {
			t.Errorf("%s after %v, want the end of the first reading", got, time.Since(i.start))
		}
		if got := outcome(t, s, request("an-opaque-token")); got != "unknown_token" {
			t.Errorf("what is no JWT is %s without keys", got)
		}
		i.set(func() { i.err = nil })
		if got := outcome(t, s, good); got != "unavailable" || time.Since(i.start) != time.Second {
			t.Errorf("%s at %v, want unavailable at once", got, time.Since(i.start))
		}
		time.Sleep(minRefresh)
		if got := outcome(t, s, good); got != "granted" {
			t.Errorf("%s with keys", got)
		}
	})
}

func TestOpenGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{start: time.Now(), takes: time.Hour}
		o := strict(Keys{URL: "https://id.example/"})
		if _, err := open(t.Context(), o, i.load); !errors.Is(err, context.DeadlineExceeded) || time.Since(i.start) != 5*time.Second {
			t.Errorf("open = %v after %v", err, time.Since(i.start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := open(ctx, o, i.load); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("open = %v after %v", err, time.Since(begin))
		}
	})
}

func TestClose(t *testing.T) {
	bubble(t, strict(Keys{}), func(t *testing.T, i *issuer, s *Source) {
		k := keyring()
		s.Close()
		s.Close()
		i.times()
		time.Sleep(time.Hour)
		if got := i.times(); len(got) != 0 {
			t.Errorf("asked at %v after Close", got)
		}
		exp := map[string]any{"exp": time.Now().Unix() + 60}
		if got := outcome(t, s, request(signed(t, jose.ES256, k.p256, "k1", claims(exp)))); got != "granted" {
			t.Errorf("a good token is %s", got)
		}
		if got := outcome(t, s, request(signed(t, jose.ES256, k.other, "k2", claims(exp)))); got != "unavailable" {
			t.Errorf("one of an unknown key is %s", got)
		}
		for range 3 {
			if err := s.Reload(t.Context()); !errors.Is(err, errClosed) {
				t.Errorf("Reload = %v", err)
			}
		}
	})
}

// TestReloadBeginsAfterwards: a read in progress may have missed what the caller has just
// written.
func TestReloadBeginsAfterwards(t *testing.T) {
	bubble(t, strict(Keys{}), func(t *testing.T, i *issuer, s *Source) {
		i.set(func() { i.takes = time.Second })
		go func() { _ = s.Reload(t.Context()) }()
		synctest.Wait()
		i.set(func() { i.content = named(t, "k2", keyring().other.Public()) })
		if err := s.Reload(t.Context()); err != nil {
			t.Error(err)
		}
		if got := outcome(t, s, request(signed(t, jose.ES256, keyring().other, "k2", claims(nil)))); got != "granted" {
			t.Errorf("the new token is %s", got)
		}
	})
}
