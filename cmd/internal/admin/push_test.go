package admin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
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
	h := newHandler(Options{Token: fixed(testToken), PushSecret: fixed(""), API: &API{}})
	now := fmt.Sprint(time.Now().Unix())
	if status := push(h, now, sign("", now, "{}"), "{}"); status != 401 {
		t.Errorf("status %d, want 401", status)
	}
}

func TestRememberedPushesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newPushGate(fixed(testSecret), http.NotFoundHandler())
		var s [sha256.Size]byte
		for i := range maxPushes {
			s[0], s[1], s[2] = byte(i), byte(i>>8), byte(i>>16)
			if !g.first(s) {
				t.Fatalf("push %d is taken for a replay", i)
			}
		}
		s[3] = 1
		if g.first(s) {
			t.Error("more are remembered than the bound")
		}
		time.Sleep(2*pushSkew + time.Second)
		if !g.first(s) || len(g.seen) != 1 {
			t.Errorf("%d are remembered after their time", len(g.seen))
		}
	})
}
