package observe

import (
	"fmt"
	"io"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Log is the log of a process. Devices can cause most lines, so the size of every line and
// the rate of the lines of each kind are bounded: see [Log.SetRate].
type Log struct {
	*zap.Logger
	// Changes is for lines about what operators have done. Their rate is not limited, because no
	// device can cause them.
	Changes *zap.Logger
	rates   *rateLimiter
	lost    func() uint64
}

// NewLog returns a log that writes one line for each entry to w. The level may change at
// any time; the format is json or console. If w is an [Output], a line says how many lines
// it had to drop.
func NewLog(w io.Writer, level zapcore.LevelEnabler, format string) (*Log, error) {
	encoder, err := newEncoder(format)
	if err != nil {
		return nil, err
	}
	l := &Log{
		rates: &rateLimiter{debug: func() bool { return level.Enabled(zapcore.DebugLevel) }, kinds: make(map[kind]*kindState)},
		lost:  func() uint64 { return 0 },
	}
	if o, ok := w.(*Output); ok {
		l.lost = o.Lost
		o.onLoss(func(lost uint64) []byte { return lossNotice(encoder, lost) })
	}
	core := zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)
	// Without an ErrorOutput of its own zap writes to stderr, whatever w is.
	l.Logger = zap.New(&boundedCore{Core: core, rates: l.rates}, zap.ErrorOutput(zapcore.AddSync(io.Discard)))
	unlimited := &rateLimiter{debug: l.rates.debug, kinds: make(map[kind]*kindState)}
	l.Changes = zap.New(&boundedCore{Core: core, rates: unlimited}, zap.ErrorOutput(zapcore.AddSync(io.Discard)))
	return l, nil
}

func newEncoder(format string) (zapcore.Encoder, error) {
	c := zap.NewProductionEncoderConfig()
	c.TimeKey, c.MessageKey = "time", "message"
	c.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	c.EncodeDuration = zapcore.StringDurationEncoder
	switch format {
	case "json":
		return zapcore.NewJSONEncoder(c), nil
	case "console":
		return newConsoleEncoder(c), nil
	}
	return nil, fmt.Errorf("log format %q: want json or console", format)
}

// lossNotice is the line about lines that were lost.
func lossNotice(encoder zapcore.Encoder, lost uint64) []byte {
	entry := zapcore.Entry{Level: zapcore.WarnLevel, Time: time.Now(), Message: "lines of the log were lost: its reader did not read"}
	line, err := encoder.EncodeEntry(entry, []zapcore.Field{zap.Uint64("lines", lost)})
	if err != nil {
		return nil
	}
	defer line.Free()
	return append([]byte(nil), line.Bytes()...)
}

// SetRate limits the lines of each kind to so many a second on average and ten times as many at
// once; at level debug to a hundred times more. Lines are of one kind if they have the same
// message and reason (or cause). The next line of a kind has the field "suppressed" with the
// number of lines that were suppressed. 0 means no limit, which is the default. SetRate may be
// called at any time.
func (l *Log) SetRate(perSecond int) { l.rates.setRate(float64(perSecond)) }

// wants reports whether a line of this level and kind would be written now. If only its rate is
// too high, wants counts it as suppressed. That saves work for lines that an attacker causes.
func (l *Log) wants(level zapcore.Level, k kind) bool {
	return l.Core().Enabled(level) && !l.rates.suppress(k)
}

// Writer returns a writer that logs each text that is written to it, for code that uses package
// log. The text after the first line is taken for a stack trace.
func (l *Log) Writer() io.Writer { return standardWriter{l.Logger} }

type standardWriter struct{ log *zap.Logger }

func (w standardWriter) Write(text []byte) (int, error) {
	first, stack, more := strings.Cut(strings.TrimSpace(string(text)), "\n")
	fields := []zap.Field{zap.String("text", first)}
	if more {
		fields = append(fields, zap.String(stackKey, stack))
	}
	w.log.Warn("message of a library", fields...)
	return len(text), nil
}

// collect makes the metrics of lines that are not in the log.
func (l *Log) collect(e emitter) {
	l.rates.totals(func(k kind, n int64) {
		e.count("log_suppressed_total", "Log lines that were suppressed because too many of their kind came at once. The reason is that of a refusal or the cause of a session's end.",
			float64(n), "message", k.message, "reason", k.reason)
	})
	e.count("log_lost_total", "Log lines that were lost because their reader did not read or was gone.", float64(l.lost()))
}
