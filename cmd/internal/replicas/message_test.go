package replicas

import (
	"encoding/base64"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestMessagesWithoutTheSecretHaveNoEffect: messages without the secret, of another topic, altered,
// repeated, or from another time have no effect.
func TestMessagesWithoutTheSecretHaveNoEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newNode(t, "a", testSecret), newNode(t, "b", testSecret)
		run(t, a, b)
		seal := func(secret []byte, topic string, m message) []byte {
			c, err := newCodec(secret, topic, mqttMessage)
			if err != nil {
				t.Fatal(err)
			}
			payload, err := c.seal(m)
			if err != nil {
				t.Fatal(err)
			}
			return payload
		}
		now := time.Now()
		m := message{Name: "x", Instance: "0123456789abcdef", Number: 1, Sent: now.UnixMilli(), Kick: []string{"pump"}}
		late, early := m, m
		late.Sent, early.Sent = now.Add(-MaxSkew-time.Second).UnixMilli(), now.Add(MaxSkew+time.Second).UnixMilli()
		altered := seal(testSecret, "bus", m)
		altered[len(altered)/2] ^= 1
		for name, payload := range map[string][]byte{
			"empty": nil, "text": []byte(`{"name":"x"}`), "large": make([]byte, mqttMessage+1), "altered": altered,
			"other secret": seal([]byte("another secret of more than 32 bytes"), "bus", m), "other topic": seal(testSecret, "other", m),
			"late": seal(testSecret, "bus", late), "early": seal(testSecret, "bus", early),
		} {
			b.deliver(payload)
			if _, kicked, purges, _ := b.see(); kicked != nil || purges != 0 {
				t.Errorf("%s: kicked %v", name, kicked)
			}
		}
		good := seal(testSecret, "bus", m)
		for range 3 {
			b.deliver(good)
		}
		if _, kicked, _, _ := b.see(); len(kicked) != 1 {
			t.Errorf("a message that came three times had effect %d times", len(kicked))
		}
		if s := b.Stats(); s.Unreadable != 6 || s.Late != 2 || s.Repeated != 2 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestMessageTellsNothing(t *testing.T) {
	c, err := newCodec(testSecret, "bus", mqttMessage)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := c.seal(message{Name: "proxy-1", Withdraw: []entry{{Subject: "pump-7"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"proxy-1", "pump-7", "withdraw"} {
		if slices.ContainsFunc(windows(payload, len(text)), func(w string) bool { return w == text }) {
			t.Errorf("the message shows %q", text)
		}
	}
}

// TestListsFitIntoMessages: the longest names and subjects, and lists of them, leave as messages
// that a bus can carry.
func TestListsFitIntoMessages(t *testing.T) {
	long := strings.Repeat("<", maxText) // each becomes six bytes
	for _, largest := range []int{mqttMessage, notifyMessage} {
		c, err := newCodec(testSecret, "bus", largest)
		if err != nil {
			t.Fatal(err)
		}
		entries := slices.Repeat([]entry{{Subject: long, At: math.MinInt64, Until: math.MinInt64, Follow: true}}, 1000)
		sent := 0
		for part := range parts(entries, c.content()) {
			sent += len(part)
			m := message{Name: long[:64], Instance: "0123456789abcdef", Number: math.MaxUint64, Sent: math.MinInt64, To: "0123456789abcdef", Denials: part}
			if payload, err := c.seal(m); err != nil {
				t.Fatalf("a part of %d entries: %v", len(part), err)
			} else if _, err := c.open(payload); err != nil {
				t.Fatal(err)
			}
		}
		for part := range parts(slices.Repeat([]string{long}, 1000), c.content()) {
			sent += len(part)
			if _, err := c.seal(message{Name: long[:64], Kick: part}); err != nil {
				t.Fatal(err)
			}
		}
		if sent != 2000 {
			t.Errorf("%d of 2000 elements were sent", sent)
		}
	}
	if n := base64.RawStdEncoding.EncodedLen(notifyMessage); n >= 8000 {
		t.Errorf("a notification of %d bytes is too large for PostgreSQL", n)
	}
}

// windows returns all parts of b with that length.
func windows(b []byte, length int) (all []string) {
	for i := 0; i+length <= len(b); i++ {
		all = append(all, string(b[i:i+length]))
	}
	return all
}

// FuzzReceive: no payload, and no text that somebody with the secret sends, breaks a replica, and
// what is accepted has bounds.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"name":"a","instance":"0123456789abcdef","number":1,"sent":1,"withdraw":[{"subject":"pump","at":5,"until":9,"follow":true}],"kick":["x"],"purge":true,"ask":0,"to":"0123456789abcdef","denials":[{"token_id":"t"}]}`))
	f.Add([]byte(`{"name":"a","instance":"0123456789abcdef","number":1,"sent":1,"changed":[{"device":"gateway/pump","keys":["interval"]}]}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"name":"a","instance":"0123456789abcdef","number":18446744073709551615,"sent":-1}`))
	c, err := newCodec(testSecret, "bus", mqttMessage)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := c.open(text); err == nil {
			t.Error("a payload without the secret was accepted")
		}
		m, err := parse(text)
		if err != nil {
			return
		}
		if m.Name == "" || len(m.Name) > maxText || len(withdrawals(m.Withdraw)) != len(m.Withdraw) || len(withdrawals(m.Denials)) != len(m.Denials) {
			t.Errorf("accepted %+v", m)
		}
		for _, c := range m.Changed {
			if c.Device == "" || len(c.Device) > maxKey || len(c.Keys) == 0 {
				t.Errorf("accepted %+v", c)
			}
		}
		if payload, err := c.seal(m); err == nil {
			if again, err := c.open(payload); err != nil || again.Number != m.Number {
				t.Errorf("sealed and opened: %+v, %v", again, err)
			}
		}
		n := newNode(t, "b", testSecret)
		m.Sent = time.Now().UnixMilli()
		if payload, err := n.codec.seal(m); err == nil {
			n.deliver(payload)
		}
	})
}
