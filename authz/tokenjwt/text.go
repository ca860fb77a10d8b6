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

// quoted returns a text that anybody may have chosen as it stands in an error.
func quoted(text string) string {
	const longest = 64 // bytes
	if len(text) > longest {
		return strconv.Quote(text[:longest]) + "..."
	}
	return strconv.Quote(text)
}

// listOf returns a text as a list of one, and a list of texts.
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

// nameOf returns a text or a whole number of 1 to limit bytes.
func nameOf(value any, limit int) (string, error) {
	text, ok := strictjson.Name(value)
	if !ok {
		return "", errors.New("neither a text nor a whole number")
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

// checkText holds a text to 1 to limit bytes without control characters, and without
// U+FFFD, which many encoders write for a character that they cannot read, so that
// several texts become one.
func checkText(text string, limit int) error {
	switch {
	case text == "":
		return errors.New("empty")
	case len(text) > limit:
		return fmt.Errorf("longer than %d bytes", limit)
	case strings.ContainsRune(text, utf8.RuneError) || strings.ContainsFunc(text, unicode.IsControl):
		return errors.New("holds control characters or U+FFFD")
	}
	return nil
}
