package observe

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// longest is the length of the longest line, in bytes, without a stack trace.
const longest = 16 << 10

// TestLinesAreShort: long texts of a client, and errors that repeat them, are cut off.
func TestLinesAreShort(t *testing.T) {
	long := strings.Repeat("\x01", 60_000)
	for name, write := range map[string]func(*Log){
		"refusal": func(l *Log) {
			New(l, "").Trace().Refused(proxy.Refusal{Reason: "unknown_token", Listener: "mqtt", ClientID: long, Subject: long, Err: errors.New(long)})
		},
		"session": func(l *Log) {
			c := testClient()
			c.ClientID, c.Grant = long, &authz.Grant{TokenID: long, Subject: long}
			New(l, "").Trace().Closed(c, proxy.End{By: "client", Err: errors.New(long)})
		},
		"message": func(l *Log) { l.Info(long) },
		"context": func(l *Log) { l.With(zap.String("device", long)).Info("x") },
		"fields of every type": func(l *Log) {
			l.Info("x", zap.ByteString("a", []byte(long)), zap.Binary("b", []byte(long)), zap.Any("c", []string{long}), zap.Strings("d", []string{long}),
				zap.Stringer("e", bytes.NewBufferString(long)), zap.Errors("f", []error{errors.New(long)}), zap.Error(errors.Join(errors.New(long), errors.New(long))),
				zap.Dict("g", zap.String("h", long)), zap.Inline(dict{long}), zap.Reflect("i", map[string]string{long: long}), zap.Stack("stack"))
		},
		"slog": func(l *Log) {
			slog.New(zapslog.NewHandler(l.Core())).WithGroup("g").Error(long, "device", long, "error", errors.New(long), "any", []string{long})
		},
		"package log": func(l *Log) { log.New(l.Writer(), "", 0).Print(strings.Repeat(long+"\n", 3)) },
	} {
		for _, format := range []string{"json", "console"} {
			var out bytes.Buffer
			l, err := NewLog(&out, zap.DebugLevel, format)
			if err != nil {
				t.Fatal(err)
			}
			write(l)
			if out.Len() == 0 || out.Len() > longest+6*maxStack {
				t.Errorf("%s, %s: a line of %d bytes", name, format, out.Len())
			}
		}
	}
}

type dict struct{ text string }

func (d dict) MarshalLogObject(e zapcore.ObjectEncoder) error {
	e.AddString("inline", d.text)
	return nil
}

func TestCutTextsSayHowLongTheyWere(t *testing.T) {
	var out bytes.Buffer
	newTestLog(t, &out, zap.InfoLevel).Info("x", zap.String("subject", strings.Repeat("é", 100)), zap.String("client_id", "short"))
	line := lines(t, &out)[0]
	if want := strings.Repeat("é", 64) + "... (200 bytes)"; line["subject"] != want || line["client_id"] != "short" {
		t.Errorf("%v", line)
	}
}

// TestEveryKindOfLineIsLimited: every interface for logging ends in the same limits.
func TestEveryKindOfLineIsLimited(t *testing.T) {
	for name, write := range map[string]func(l *Log, n int){
		"zap":         func(l *Log, n int) { l.Error("cannot accept connections", zap.Int("n", n)) },
		"slog":        func(l *Log, n int) { slog.New(zapslog.NewHandler(l.Core())).Error("not stored", "n", n) },
		"package log": func(l *Log, n int) { log.New(l.Writer(), "", 0).Printf("http: text %d", n) },
		// So many kinds can only be made of what a client sends.
		"other kinds": func(l *Log, n int) {
			if n < maxKinds {
				l.rates.startAtZero(kind{message: fmt.Sprint("kind ", n)})
			}
			l.Info(fmt.Sprint("message ", n))
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			l := newTestLog(t, &out, zap.InfoLevel)
			l.SetRate(10)
			for n := range 1000 {
				write(l, n)
			}
			if n := strings.Count(out.String(), "\n"); n > maxKinds+100 || n < 100 {
				t.Errorf("%s: %d lines of 1000", name, n)
			}
			r := prometheus.NewRegistry()
			r.MustRegister(collector(l.collect))
			if _, err := r.Gather(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// TestStacksOnceAMinute: the stack trace of a bug that many connections meet is needed once.
func TestStacksOnceAMinute(t *testing.T) {
	for name, write := range map[string]func(*Log){
		"proxy": func(l *Log) {
			New(l, "").Trace().Panicked("value", []byte("goroutine 1"))
		},
		"bundled broker": func(l *Log) {
			slog.New(zapslog.NewHandler(l.Core())).Error("panic in the bundled broker", "device", "d", "stack", "goroutine 1")
		},
		"package log": func(l *Log) {
			log.New(l.Writer(), "", 0).Print("http: panic serving 127.0.0.1:1: bug\ngoroutine 1")
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			l := newTestLog(t, &out, zap.InfoLevel)
			l.SetRate(10)
			for range 3 {
				for range 5 {
					write(l)
				}
				time.Sleep(time.Minute)
			}
			with := 0
			all := lines(t, &out)
			for _, line := range all {
				if line["stack"] != nil {
					with++
				}
			}
			if len(all) != 15 || with != 3 {
				t.Errorf("%s: %d lines, %d with a stack, want 15 and 3", name, len(all), with)
			}
		})
	}
}

// TestErrorsHaveNoStack: an error is no bug.
func TestErrorsHaveNoStack(t *testing.T) {
	var out bytes.Buffer
	l := newTestLog(t, &out, zap.InfoLevel)
	slog.New(zapslog.NewHandler(l.Core())).Error("disk full", "error", errors.New("no space"))
	slog.New(zapslog.NewHandler(l.Core(), zapslog.AddStacktraceAt(slog.Level(math.MinInt)))).Error("disk full")
	for _, line := range lines(t, &out) {
		if line["stacktrace"] != nil {
			t.Errorf("%v", line)
		}
	}
}

// TestChangesAreNotLimited: whatever else is logged, every line about an operator's change is
// written.
func TestChangesAreNotLimited(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLog(&out, zap.InfoLevel, "json")
	if err != nil {
		t.Fatal(err)
	}
	log.SetRate(1)
	for range 500 {
		log.Info("change")
		log.Changes.Info("change", zap.String("by", "operate"))
	}
	if n := strings.Count(out.String(), `"by":"operate"`); n != 500 {
		t.Errorf("%d of 500 lines are written", n)
	}
}
