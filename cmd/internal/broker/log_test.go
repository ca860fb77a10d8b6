package broker

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

func TestLogLeak(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	})
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	for _, handler := range []slog.Handler{slog.NewTextHandler(w, options), slog.NewJSONHandler(w, options)} {
		b, _ := newBroker(t, func(o *Options) { o.Logger = slog.New(handler) })
		const secret = "hunter2"
		l := login{version: 5, id: secret + "id", will: &lastWill{topic: secret, payload: secret}}
		c := connect(t, b, "device-name", l)
		c.Send(c.encode(message{topic: "v2/t", payload: "bad " + secret, qos: 1, id: 1}))
		c.Expect(packets.PUBACK)
		c.Send(l.encode()) // a protocol error, with everything in it
		c.Expect(packets.DISCONNECT)
		c.ExpectEnd()
		c = connect(t, b, "device-name", l)
		c.Send(c.encode(message{topic: secret + "#", payload: secret, qos: 1, id: 1}))
		c.Expect(packets.DISCONNECT)
		c.ExpectEnd()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		for name, form := range map[string]string{
			"text": secret, "byte list": strings.Trim(fmt.Sprint([]byte(secret)), "[]"), "base64": "aHVudGVyM",
			"hex": fmt.Sprintf("%x", secret),
		} {
			if strings.Contains(text, form) {
				t.Errorf("the log contains a secret as %s", name)
			}
		}
		for _, want := range []string{"connection to the bundled broker ended", "device-name", errBad.Error()} {
			if !strings.Contains(text, want) {
				t.Errorf("the log lacks %q", want)
			}
		}
		out.Reset()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
