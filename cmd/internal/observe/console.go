package observe

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// consoleEncoder writes lines for people. A line begins with what happened and why, and the other
// fields follow in the order in which they were logged:
//
//	15:04:05.000 INFO  refused: unknown_token: not in the token file  addr=10.0.0.7:4711 client_id=d1
//
// An error that begins with the reason does not repeat it.
// Texts that a terminal or a reader could mistake for something else are quoted.
type consoleEncoder struct {
	zapcore.Encoder // of the fields alone, as a JSON object
	buffers         buffer.Pool
}

// why are the fields that say why something happened, in the order in which they are written.
func why() []string { return []string{"reason", "cause", "detail", "error", "text"} }

// newConsoleEncoder returns an encoder that encodes the values of fields as c says.
func newConsoleEncoder(c zapcore.EncoderConfig) zapcore.Encoder {
	c.TimeKey, c.LevelKey, c.NameKey, c.CallerKey, c.FunctionKey, c.MessageKey, c.StacktraceKey = "", "", "", "", "", "", ""
	return &consoleEncoder{Encoder: zapcore.NewJSONEncoder(c), buffers: buffer.NewPool()}
}

// Clone implements zapcore.Encoder.
func (e *consoleEncoder) Clone() zapcore.Encoder {
	return &consoleEncoder{Encoder: e.Encoder.Clone(), buffers: e.buffers}
}

// EncodeEntry implements zapcore.Encoder.
func (e *consoleEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	object, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	defer object.Free()
	members, err := membersOf(object.Bytes())
	if err != nil {
		return nil, err
	}
	line := e.buffers.Get()
	line.AppendTime(entry.Time, "15:04:05.000")
	line.AppendString(" " + entry.Level.CapitalString())
	line.AppendString(strings.Repeat(" ", max(1, len("ERROR ")-len(entry.Level.CapitalString()))))
	line.AppendString(sentence(entry.Message))
	said := ""
	for _, name := range why() {
		for _, m := range members {
			if m.name == name {
				text := strings.TrimPrefix(m.text(), "denied: ")
				line.AppendString(": " + sentence(strings.TrimPrefix(text, said+": ")))
				said = text
			}
		}
	}
	gap := "  "
	for _, m := range members {
		if !slices.Contains(why(), m.name) {
			line.AppendString(gap + word(m.name) + "=" + m.word())
			gap = " "
		}
	}
	line.AppendByte('\n')
	return line, nil
}

// member is a member of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// membersOf returns the members of a JSON object in their order.
func membersOf(object []byte) (all []member, err error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil { // the brace
		return nil, err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: name.(string)} // as every name of a member is
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// text returns the value: of a string its content, and otherwise JSON.
func (m member) text() string {
	var s string
	if json.Unmarshal(m.value, &s) == nil {
		return s
	}
	return string(m.value)
}

// word returns the value as one word.
func (m member) word() string {
	if m.value[0] == '"' {
		return word(m.text())
	}
	return sentence(string(m.value))
}

// sentence returns a text in which blanks are no separators. It is quoted if a terminal would act
// on a part of it.
func sentence(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// word returns a text that has no blank and nothing that ends a value, or that is quoted.
func word(text string) string {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune(` "=`, r) }) {
		return strconv.Quote(text)
	}
	return text
}
