package tokenjwt

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// listOf returns a text as a list of one, and a list of texts.
func listOf(value any) ([]string, error) {
	if text, ok := value.(string); ok {
		return []string{text}, nil
	}
	elements, ok := value.([]any)
	list := make([]string, len(elements))
	for i := range elements {
		if ok {
			list[i], ok = elements[i].(string)
		}
	}
	if !ok {
		return nil, errors.New("not a text or a list of texts")
	}
	return list, nil
}

func nameOf(value any, limit int) (string, error) {
	text, ok := value.(string)
	if !ok {
		return "", errors.New("not a text")
	}
	return text, checkText(text, limit)
}

// scalarOf returns a text, a number as it is written, or a boolean.
func scalarOf(value any) (string, error) {
	switch v := value.(type) {
	case string:
		if v == "" {
			return "", nil
		}
		return v, checkText(v, math.MaxUint16)
	case json.Number:
		return v.String(), nil
	case bool:
		return fmt.Sprint(v), nil
	}
	return "", errors.New("not a text, number or boolean")
}

// checkText holds a text to 1 to limit bytes without control characters. What JSON
// wrote as half a surrogate pair has become U+FFFD, and two texts the same.
func checkText(text string, limit int) error {
	switch {
	case text == "":
		return errors.New("empty")
	case len(text) > limit:
		return fmt.Errorf("longer than %d bytes", limit)
	case strings.ContainsRune(text, utf8.RuneError) || strings.ContainsFunc(text, unicode.IsControl):
		return errors.New("holds control characters or half a surrogate pair")
	}
	return nil
}
