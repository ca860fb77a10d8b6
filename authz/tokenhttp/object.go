package tokenhttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxDepth is how deep an answer may nest; the deepest field, a rule of an
// access list, needs four.
const maxDepth = 16

// object is a JSON object. Its values are object, []any, string, json.Number,
// bool and nil.
type object []member

type member struct {
	key   string
	value any
	raw   json.RawMessage
}

// parseObject reads text as one JSON object and nothing behind it. What
// encoding/json lets pass is refused: doubled keys, keys that differ in case
// only, text that is not UTF-8 and halves of surrogate pairs. No error repeats
// any of the text.
func parseObject(text []byte) (object, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("the answer is not UTF-8")
	}
	if !json.Valid(text) {
		return nil, errors.New("the answer is not valid JSON")
	}
	p := parser{text: text, dec: json.NewDecoder(bytes.NewReader(text))}
	p.dec.UseNumber()
	value, err := p.value(0)
	if err != nil {
		return nil, err
	}
	o, ok := value.(object)
	if !ok {
		return nil, errors.New("the answer is not a JSON object")
	}
	return o, nil
}

// parser builds values from tokens of text that is known to be valid.
type parser struct {
	text []byte
	dec  *json.Decoder
}

func (p *parser) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("the answer nests too deeply")
	}
	token, err := p.dec.Token()
	if err != nil {
		return nil, errors.New("the answer is not valid JSON")
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '{' {
			return p.object(depth + 1)
		}
		return p.array(depth + 1)
	case string:
		return token, intact(token)
	}
	return token, nil
}

// intact reports what encoding/json puts in the place of half a surrogate pair.
func intact(s string) error {
	if strings.ContainsRune(s, utf8.RuneError) {
		return errors.New("the answer holds a character that is none (U+FFFD)")
	}
	return nil
}

func (p *parser) object(depth int) (any, error) {
	o := object{}
	seen := make(map[string]bool)
	for p.dec.More() {
		token, err := p.dec.Token()
		key, ok := token.(string)
		if err != nil || !ok {
			return nil, errors.New("the answer is not valid JSON")
		}
		if err := intact(key); err != nil {
			return nil, err
		}
		if f := folded(key); seen[f] {
			return nil, errors.New("the answer has a key twice (upper and lower case count as the same)")
		} else {
			seen[f] = true
		}
		start := p.dec.InputOffset()
		value, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		raw := bytes.TrimLeft(p.text[start:p.dec.InputOffset()], ": \t\r\n")
		o = append(o, member{key: key, value: value, raw: raw})
	}
	_, err := p.dec.Token()
	return o, err
}

func (p *parser) array(depth int) (any, error) {
	list := []any{}
	for p.dec.More() {
		value, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	_, err := p.dec.Token()
	return list, err
}

// folded returns a text that is the same for all spellings of key that
// strings.EqualFold holds to be equal.
func folded(key string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, key)
}

// lookup finds the member at path, whose names are divided by dots; a name may
// list spellings: "ok|Ok". A key that differs from the wanted one in case only
// is an error: other decoders would read it.
func (o object) lookup(path string) (*member, error) {
	name, rest, nested := strings.Cut(path, ".")
	m, err := o.find(name)
	if m == nil || err != nil || !nested {
		return m, err
	}
	inner, ok := m.value.(object)
	if !ok {
		return nil, fmt.Errorf("%s is not an object", name)
	}
	return inner.lookup(rest)
}

func (o object) find(name string) (*member, error) {
	for spelling := range strings.SplitSeq(name, "|") {
		for i := range o {
			if o[i].key == spelling {
				return &o[i], nil
			}
		}
	}
	for i := range o {
		if strings.EqualFold(o[i].key, name) {
			return nil, fmt.Errorf("%s is spelled in another case", name)
		}
	}
	return nil, nil
}

// parseForm reads text as application/x-www-form-urlencoded.
func parseForm(text []byte) (object, error) {
	values, err := url.ParseQuery(string(text))
	if err != nil {
		return nil, errors.New("the answer is not a valid form")
	}
	o := object{}
	seen := make(map[string]bool)
	for key, list := range values {
		if f := folded(key); len(list) != 1 || seen[f] {
			return nil, errors.New("the answer has a key twice (upper and lower case count as the same)")
		} else {
			seen[f] = true
		}
		if !utf8.ValidString(key) || !utf8.ValidString(list[0]) {
			return nil, errors.New("the answer is not UTF-8")
		}
		o = append(o, member{key: key, value: list[0]})
	}
	return o, nil
}
