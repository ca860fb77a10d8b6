package upstream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/placeholder"
)

// maxSecretFile is the largest file, in bytes, that ${file:PATH} reads.
const maxSecretFile = 64 << 10

// grammar returns the placeholders that a template may contain.
func grammar() *placeholder.Grammar {
	return &placeholder.Grammar{
		Names: []string{
			"subject", "token_id", "client_id", "username", "token", "attrs.NAME", "listener", "client_addr", "env:NAME", "file:PATH",
		},
		Escaped: true,
		Check:   checkKey,
	}
}

// checkKey returns an error if key cannot follow attrs., env: or file:.
func checkKey(p placeholder.Part) error {
	switch {
	case p.Name == "attrs" && (!utf8.ValidString(p.Key) || strings.ContainsFunc(p.Key, isControlOrSpace)):
		return errors.New("needs an attribute's name without spaces: ${attrs.NAME}")
	case p.Name == "env" && strings.ContainsFunc(p.Key, notInVariable):
		return errors.New("needs a variable's name of letters, digits and underscores: ${env:NAME}")
	case p.Name == "file" && (!filepath.IsAbs(p.Key) || !utf8.ValidString(p.Key) || strings.ContainsFunc(p.Key, isControl)):
		return errors.New("needs the absolute path of a file: ${file:/path}")
	}
	return nil
}

func isControlOrSpace(r rune) bool { return r == ' ' || isControl(r) }

func notInVariable(r rune) bool { return r == '-' || notInLabel(r) }

// lookup returns the value that v has for a placeholder. found reports whether it has one.
func (v *Values) lookup(p *placeholder.Part) (value string, found bool) {
	switch p.Name {
	case "subject":
		return v.Subject, true
	case "token_id":
		return v.TokenID, true
	case "client_id":
		return v.ClientID, true
	case "username":
		return v.Username, true
	case "token":
		return v.Token, true
	case "listener":
		return v.Listener, true
	case "client_addr":
		return v.ClientAddr, true
	}
	value, found = v.Attrs[p.Key]
	return value, found
}

// resolve reads the values that come from the environment and from files, and determines the
// separators between the placeholders of field.
func resolve(parts []placeholder.Part, field Field) ([]segment, error) {
	var segments []segment
	size := 0
	for _, p := range parts {
		text, err := constant(&p)
		if err != nil {
			return nil, err
		}
		if size += len(text); size > maxField {
			return nil, errTooLong
		}
		if text == "" {
			segments = append(segments, segment{Part: p})
			continue
		}
		if problem := field.fault(text); problem != "" {
			if p.Name == "" {
				return nil, errors.New("the text of the template " + problem)
			}
			return nil, fmt.Errorf("${%s} %s", p, problem)
		}
		if n := len(segments); n > 0 && segments[n-1].Name == "" {
			segments[n-1].Text += text
			continue
		}
		segments = append(segments, segment{Part: placeholder.Part{Text: text}})
	}
	if !field.identifies() {
		return segments, nil
	}
	return segments, separate(segments)
}

// constant returns the text of a literal, an environment variable or a file, which is the same
// for all sessions. It returns "" for every other part.
func constant(p *placeholder.Part) (string, error) {
	switch p.Name {
	case "":
		return p.Text, nil
	case "env":
		value := os.Getenv(p.Key)
		if value == "" {
			return "", fmt.Errorf("${%s}: the environment variable is not set or empty", p)
		}
		return value, nil
	case "file":
		content, _, err := files.Read(p.Key, maxSecretFile)
		if err != nil {
			return "", fmt.Errorf("${%s}: %w", p, err)
		}
		value, cut := strings.CutSuffix(string(content), "\n")
		if cut {
			value = strings.TrimSuffix(value, "\r")
		}
		if value == "" {
			return "", fmt.Errorf("${%s}: the file is empty", p)
		}
		return value, nil
	}
	return "", nil
}

// separate sets the character that ends the value of each placeholder but the last. No value
// contains its separator, so the result can be split in only one way, from left to right. A
// template with one placeholder needs no separator, even if it uses the placeholder twice: the
// length of the result determines the length of the value.
func separate(segments []segment) error {
	first, last := -1, -1
	several := false
	for i, s := range segments {
		if s.Name == "" {
			continue
		}
		if first < 0 {
			first = i
		}
		several = several || s.String() != segments[first].String()
		last = i
	}
	if !several {
		return nil
	}
	for i := first; i < last; i++ {
		if segments[i].Name == "" {
			continue
		}
		next := segments[i+1]
		if next.Name != "" {
			return fmt.Errorf("${%s} and ${%s} need a character between them, otherwise two devices could get the same text",
				segments[i], next)
		}
		_, size := utf8.DecodeRuneInString(next.Text)
		segments[i].separator = next.Text[:size]
	}
	return nil
}
