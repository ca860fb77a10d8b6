package observe

import (
	"fmt"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The longest texts in a line, in bytes. A client may choose an id of up to 64 KiB, and each
// of those bytes may take six in JSON.
const (
	maxName  = 128
	maxText  = 512 // of errors and other explanations
	maxStack = 8 << 10
)

// boundedCore writes lines of a bounded size, and of each kind no more than rates allows. All
// lines pass through it, so code that logs need not think of bounds.
type boundedCore struct {
	zapcore.Core
	rates *rateLimiter
}

func (c *boundedCore) With(fields []zapcore.Field) zapcore.Core {
	return &boundedCore{Core: c.Core.With(bounded(fields, false)), rates: c.rates}
}

func (c *boundedCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c *boundedCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	k := lineKind(e.Message, fields)
	suppressed, ok := c.rates.allow(k)
	if !ok {
		return nil
	}
	e.Message, e.Stack = cut(e.Message, maxText), ""
	fields = bounded(fields, hasStack(fields) && c.rates.allowStack(k))
	if suppressed > 0 {
		fields = append(fields, zap.Int64("suppressed", suppressed))
	}
	return c.Core.Write(e, fields)
}

// stackKey is the key of a stack trace.
const stackKey = "stack"

func hasStack(fields []zapcore.Field) bool {
	for i := range fields {
		if fields[i].Key == stackKey {
			return true
		}
	}
	return false
}

// bounded returns fields of a bounded size. It omits the stack trace unless withStack is true.
func bounded(fields []zapcore.Field, withStack bool) []zapcore.Field {
	out := make([]zapcore.Field, 0, len(fields)+1)
	for _, f := range fields {
		limit := maxName
		switch f.Key {
		case stackKey:
			if !withStack {
				continue
			}
			limit = maxStack
		case "error", "detail", "warning", "path", "text", "outcome":
			limit = maxText
		}
		out = append(out, boundedField(f, limit))
	}
	return out
}

// boundedField returns f with at most limit bytes of text. Numbers, times and the like are not
// changed; a value of any other type becomes text.
func boundedField(f zapcore.Field, limit int) zapcore.Field {
	switch f.Type {
	case zapcore.StringType:
		f.String = cut(f.String, limit)
		return f
	case zapcore.ByteStringType:
		if b, ok := f.Interface.([]byte); ok && len(b) <= limit {
			return f
		}
	case zapcore.ErrorType, zapcore.StringerType, zapcore.BinaryType, zapcore.ReflectType,
		zapcore.ArrayMarshalerType, zapcore.ObjectMarshalerType, zapcore.InlineMarshalerType:
	default:
		return f
	}
	values := zapcore.NewMapObjectEncoder()
	f.AddTo(values)
	value, ok := values.Fields[f.Key]
	if !ok {
		value = values.Fields
	}
	return zap.String(f.Key, cut(fmt.Sprint(value), limit))
}

// cut returns at most limit bytes of text. If it truncates the text, it appends the length of
// the text.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	end := limit
	for end > limit-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return fmt.Sprintf("%s... (%d bytes)", text[:end], len(text))
}
