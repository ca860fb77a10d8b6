package admin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const testSecret = "a-secret-shared-with-the-service"

func sign(secret, timestamp, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "." + body))
	return "hmac-sha256=" + hex.EncodeToString(mac.Sum(nil))
}

func push(h http.Handler, timestamp, signature, body string) int {
	r := httptest.NewRequest(http.MethodPost, "/v1/push", strings.NewReader(body))
	r.Header.Set("X-Timestamp", timestamp)
	r.Header.Set("X-Signature", signature)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestSignedPushRevokes(t *testing.T) {
	f := newFakeProxy()
	h := f.handler()
	now, body := fmt.Sprint(time.Now().Unix()), `{"subject":"alpha"}`
	if status := push(h, now, sign(testSecret, now, body), body); status != 200 || len(f.clients) != 1 {
		t.Errorf("status %d, %d sessions are left", status, len(f.clients))
	}
	if status := push(h, now, sign(testSecret, now, body), body); status != 409 {
		t.Errorf("a replay: status %d, want 409", status)
	}
}

func TestUnsignedPushDoesNothing(t *testing.T) {
	body := `{"subject":"alpha"}`
	now := fmt.Sprint(time.Now().Unix())
	old := fmt.Sprint(time.Now().Add(-pushSkew - time.Minute).Unix())
	ahead := fmt.Sprint(time.Now().Add(pushSkew + time.Minute).Unix())
	for name, tt := range map[string]struct{ timestamp, signature string }{
		"nothing":           {"", ""},
		"no signature":      {now, ""},
		"another secret":    {now, sign("another", now, body)},
		"another body":      {now, sign(testSecret, now, body+" ")},
		"another timestamp": {now, sign(testSecret, old, body)},
		"too old":           {old, sign(testSecret, old, body)},
		"too far ahead":     {ahead, sign(testSecret, ahead, body)},
		"no number":         {"now", sign(testSecret, "now", body)},
		"no prefix":         {now, strings.TrimPrefix(sign(testSecret, now, body), "hmac-sha256=")},
		"half of it":        {now, sign(testSecret, now, body)[:40]},
	} {
		f := newFakeProxy()
		if status := push(f.handler(), tt.timestamp, tt.signature, body); status != 401 || len(f.clients) != 2 || len(f.asked) != 0 {
			t.Errorf("%s: status %d, %d sessions are left", name, status, len(f.clients))
		}
	}
}

func TestNoPushWithoutASecret(t *testing.T) {
	h := newHandler(Options{Access: operator(testToken), PushSecret: fixed(""), API: &API{}})
	now := fmt.Sprint(time.Now().Unix())
	if status := push(h, now, sign("", now, "{}"), "{}"); status != 401 {
		t.Errorf("status %d, want 401", status)
	}
}

func TestRememberedPushesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newPushVerifier(fixed(testSecret), http.NotFoundHandler())
		var s [sha256.Size]byte
		for i := range maxPushes {
			s[0], s[1], s[2] = byte(i), byte(i>>8), byte(i>>16)
			if !v.first(s) {
				t.Fatalf("push %d is taken for a replay", i)
			}
		}
		s[3] = 1
		if v.first(s) {
			t.Error("more are remembered than the bound")
		}
		time.Sleep(2*pushSkew + time.Second)
		if !v.first(s) || len(v.seen) != 1 {
			t.Errorf("%d are remembered after their time", len(v.seen))
		}
	})
}

// FuzzPush: a push without a good signature does nothing, and one with a good signature is
// accepted at most once, whatever its body.
func FuzzPush(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	for _, timestamp := range []string{"1800000000", "1800000300", "1800000301", "1799999699", "-1", "+1800000000", "1.8e9", "", "9223372036854775807", "99999999999999999999"} {
		f.Add(timestamp, sign(testSecret, timestamp, `{"subject":"alpha"}`), `{"subject":"alpha"}`, false)
		f.Add(timestamp, "hmac-sha256=", `{"token_id":"a","mode":"deny"}`, true)
	}
	f.Fuzz(func(t *testing.T, timestamp, signature, body string, signed bool) {
		good := sign(testSecret, timestamp, body)
		if signed {
			signature = good
		}
		called := 0
		verifier := newPushVerifier(func() string { return testSecret }, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called++ }))
		verifier.now = func() time.Time { return now }
		first, second := push(verifier, timestamp, signature, body), push(verifier, timestamp, signature, body)
		seconds, err := strconv.ParseInt(timestamp, 10, 64)
		fresh := err == nil && seconds >= now.Add(-pushSkew).Unix() && seconds <= now.Add(pushSkew).Unix()
		switch {
		case strings.EqualFold(signature, good) && strings.HasPrefix(signature, "hmac-sha256=") && fresh && len(body) <= maxBody:
			if called != 1 || first != http.StatusOK || second != http.StatusConflict {
				t.Errorf("a good push counts %d times: status %d, then %d", called, first, second)
			}
		case called != 0 || first == http.StatusOK || second == http.StatusOK:
			t.Errorf("a push that is not good counts %d times: status %d, then %d", called, first, second)
		}
	})
}
