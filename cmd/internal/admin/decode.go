package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
)

// decode reads a JSON object strictly: a change must be made to what the body names, and not to
// what package json makes of it. Its errors contain nothing of the content, which may be a token.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return errors.New("the body is too large or did not arrive completely")
	}
	if err := checkJSON(body); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return errors.New("the body is not a JSON object with the fields of this call")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the body has more text after its JSON object")
	}
	return nil
}

// checkJSON refuses what package json repairs: text that is not UTF-8, halves of surrogate pairs,
// and keys that are given twice, of which the last would count. It leaves other faults to package
// json. No call has fields with objects.
func checkJSON(body []byte) error {
	if !utf8.Valid(body) {
		return errors.New("the body is not UTF-8")
	}
	literal := bytes.ContainsRune(body, utf8.RuneError) || bytes.Contains(bytes.ToLower(body), []byte(`\ufffd`))
	dec := json.NewDecoder(bytes.NewReader(body))
	keys, depth, key := make(map[string]bool), 0, false
	for {
		token, err := dec.Token()
		if err != nil {
			return nil
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				depth++
			} else {
				depth--
			}
			key = depth == 1
			continue
		case string:
			if !literal && strings.ContainsRune(t, utf8.RuneError) {
				return errors.New("the body has half of a surrogate pair")
			}
			if name := strings.ToLower(t); depth == 1 && key {
				if keys[name] {
					return errors.New("the body has a key twice")
				}
				keys[name] = true
				key = false
				continue
			}
		}
		if depth == 1 {
			key = true
		}
	}
}
