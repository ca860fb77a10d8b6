package tokenjwt

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// maxDepth bounds how deep objects and lists are nested.
const maxDepth = 16

// errNotObject is all that is said of bad JSON: it may be a token's.
var errNotObject = errors.New("not a JSON object in UTF-8, nested too deep, or with a key given twice")

// decodeObject decodes exactly one JSON object. Unlike encoding/json it refuses
// what two readers may read differently: doubled keys and broken UTF-8. Numbers
// become json.Number.
func decodeObject(text []byte) (map[string]any, error) {
	if !utf8.Valid(text) || !json.Valid(text) {
		return nil, errNotObject
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	value, err := decodeValue(d, 0)
	if err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errNotObject
	}
	return object, nil
}

func decodeValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, errNotObject
	}
	open, ok := token.(json.Delim)
	switch {
	case !ok:
		return token, nil
	case depth == maxDepth:
		return nil, errNotObject
	case open == '[':
		return decodeList(d, depth+1)
	}
	return decodeMembers(d, depth+1)
}

func decodeList(d *json.Decoder, depth int) (any, error) {
	list := []any{}
	for d.More() {
		value, err := decodeValue(d, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, closeOf(d)
}

func decodeMembers(d *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for d.More() {
		token, err := d.Token()
		key, ok := token.(string)
		if _, doubled := object[key]; err != nil || !ok || doubled {
			return nil, errNotObject
		}
		if object[key], err = decodeValue(d, depth); err != nil {
			return nil, err
		}
	}
	return object, closeOf(d)
}

// closeOf reads the delimiter that More has seen.
func closeOf(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return errNotObject
	}
	return nil
}
