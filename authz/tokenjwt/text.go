package tokenjwt

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// quoted returns a text that anyone may have chosen in a form that is safe in an error.
func quoted(text string) string {
	const longest = 64 // bytes
	if len(text) > longest {
		return strconv.Quote(text[:longest]) + "..."
	}
	return strconv.Quote(text)
}

// listOf returns a string as a list of one, and a list of strings.
func listOf(value any) ([]string, error) {
	elements, ok := value.([]any)
	if !ok {
		elements = []any{value}
	}
	list := make([]string, len(elements))
	for i := range elements {
		if list[i], ok = elements[i].(string); !ok {
			return nil, errors.New("not a text or a list of texts")
		}
	}
	return list, nil
}

// namesOf returns a name as a list of one, and a list of names.
func namesOf(value any) ([]string, error) {
	elements, ok := value.([]any)
	if !ok {
		elements = []any{value}
	}
	list := make([]string, len(elements))
	for i := range elements {
		var err error
		if list[i], err = nameOf(elements[i], math.MaxUint16); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// nameOf returns a string or a whole number of 1 to limit bytes.
func nameOf(value any, limit int) (string, error) {
	text, ok := strictjson.Name(value)
	if !ok {
		return "", errors.New("neither a text nor a whole number")
	}
	return text, checkText(text, limit)
}

// scalarOf returns a string, a number in its original form, or a boolean.
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

// checkText checks that a text has 1 to limit bytes and contains neither control characters nor
// U+FFFD. Many encoders replace a character that they cannot encode by U+FFFD, so that
// different texts become equal.
func checkText(text string, limit int) error {
	switch {
	case text == "":
		return errors.New("empty")
	case len(text) > limit:
		return fmt.Errorf("longer than %d bytes", limit)
	case strings.ContainsRune(text, utf8.RuneError) || strings.ContainsFunc(text, unicode.IsControl):
		return errors.New("contains control characters or U+FFFD")
	}
	return nil
}
