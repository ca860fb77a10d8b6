package upstream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxSecretFile is the largest file, in bytes, that ${file:PATH} reads.
const maxSecretFile = 64 << 10

const allowedPlaceholders = "allowed are ${subject}, ${token_id}, ${client_id}, ${username}, ${token}, ${attrs.NAME}, " +
	"${listener}, ${client_addr}, ${env:NAME} and ${file:PATH}; a literal ${ is written $${"

// source is where the text of a part comes from.
type source uint8

const (
	literal source = iota
	fromSubject
	fromTokenID
	fromClientID
	fromUsername
	fromToken
	fromListener
	fromClientAddr
	fromAttr
	fromEnv
	fromFile
)

// A part is a stretch of a template as it is written.
type part struct {
	source source
	// name is what stands between ${ and }; for a literal it is the text.
	name string
	// key is the name without its attrs., env: or file: in front.
	key string
}

// split cuts a template into literals and placeholders.
func split(text string) ([]part, error) {
	var parts []part
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			parts = append(parts, part{source: literal, name: plain.String()})
			plain.Reset()
		}
	}
	for at := 0; at < len(text); {
		rest := text[at:]
		switch {
		case strings.HasPrefix(rest, "$${"):
			plain.WriteString("${")
			at += len("$${")
		case strings.HasPrefix(rest, "${"):
			name, _, closed := strings.Cut(rest[len("${"):], "}")
			if !closed {
				return nil, fmt.Errorf("the placeholder at byte %d has no closing brace; a literal ${ is written $${", at+1)
			}
			p, err := parsePlaceholder(name)
			if err != nil {
				return nil, fmt.Errorf("the placeholder at byte %d %w", at+1, err)
			}
			flush()
			parts = append(parts, p)
			at += len("${") + len(name) + len("}")
		default:
			plain.WriteByte(rest[0])
			at++
		}
	}
	flush()
	return parts, nil
}

// parsePlaceholder reads what stands between ${ and }. Its errors go on from
// "the placeholder at byte N".
func parsePlaceholder(name string) (part, error) {
	switch name {
	case "":
		return part{}, errors.New("is empty; " + allowedPlaceholders)
	case "subject":
		return part{source: fromSubject, name: name}, nil
	case "token_id":
		return part{source: fromTokenID, name: name}, nil
	case "client_id":
		return part{source: fromClientID, name: name}, nil
	case "username":
		return part{source: fromUsername, name: name}, nil
	case "token":
		return part{source: fromToken, name: name}, nil
	case "listener":
		return part{source: fromListener, name: name}, nil
	case "client_addr":
		return part{source: fromClientAddr, name: name}, nil
	}
	if strings.Contains(name, "${") {
		return part{}, errors.New("has another one inside; placeholders cannot be nested")
	}
	if key, ok := strings.CutPrefix(name, "attrs."); ok {
		if key == "" || !utf8.ValidString(key) || strings.ContainsFunc(key, isControlOrSpace) {
			return part{}, errors.New("needs an attribute's name without spaces: ${attrs.NAME}")
		}
		return part{source: fromAttr, name: name, key: key}, nil
	}
	if key, ok := strings.CutPrefix(name, "env:"); ok {
		if key == "" || strings.ContainsFunc(key, notInVariable) {
			return part{}, errors.New("needs a variable's name of letters, digits and underscores: ${env:NAME}")
		}
		return part{source: fromEnv, name: name, key: key}, nil
	}
	if key, ok := strings.CutPrefix(name, "file:"); ok {
		if !filepath.IsAbs(key) || !utf8.ValidString(key) || strings.ContainsFunc(key, isControl) {
			return part{}, errors.New("needs the absolute path of a file: ${file:/path}")
		}
		return part{source: fromFile, name: name, key: key}, nil
	}
	return part{}, errors.New("is unknown; " + allowedPlaceholders)
}

func isControlOrSpace(r rune) bool { return r == ' ' || isControl(r) }

func notInVariable(r rune) bool { return r == '-' || notInLabel(r) }

// lookup returns the value that v has for the part, and whether there is one.
func (p *part) lookup(v *Values) (value string, found bool) {
	switch p.source {
	case fromSubject:
		return v.Subject, true
	case fromTokenID:
		return v.TokenID, true
	case fromClientID:
		return v.ClientID, true
	case fromUsername:
		return v.Username, true
	case fromToken:
		return v.Token, true
	case fromListener:
		return v.Listener, true
	case fromClientAddr:
		return v.ClientAddr, true
	case fromAttr:
		value, found = v.Attrs[p.key]
		return value, found
	}
	return p.name, true
}

// resolve reads what comes from the environment and from files, and works out
// which characters keep the placeholders of field apart.
func resolve(parts []part, field Field) ([]segment, error) {
	var segments []segment
	size := 0
	for _, p := range parts {
		text, err := p.constant()
		if err != nil {
			return nil, err
		}
		if size += len(text); size > maxField {
			return nil, errTooLong
		}
		if text == "" {
			segments = append(segments, segment{part: p})
			continue
		}
		if problem := field.fault(text); problem != "" {
			if p.source == literal {
				return nil, errors.New("the text of the template " + problem)
			}
			return nil, fmt.Errorf("${%s} %s", p.name, problem)
		}
		if n := len(segments); n > 0 && segments[n-1].source == literal {
			segments[n-1].name += text
			continue
		}
		segments = append(segments, segment{part: part{source: literal, name: text}})
	}
	if !field.identifies() {
		return segments, nil
	}
	return segments, separate(segments)
}

// constant returns the text of a part that is the same for all sessions, and
// nothing for others.
func (p *part) constant() (string, error) {
	switch p.source {
	case literal:
		return p.name, nil
	case fromEnv:
		value := os.Getenv(p.key)
		if value == "" {
			return "", fmt.Errorf("${%s}: the environment variable is not set or empty", p.name)
		}
		return value, nil
	case fromFile:
		content, err := readFile(p.key, maxSecretFile)
		if err != nil {
			return "", fmt.Errorf("${%s}: %w", p.name, err)
		}
		value, cut := strings.CutSuffix(string(content), "\n")
		if cut {
			value = strings.TrimSuffix(value, "\r")
		}
		if value == "" {
			return "", fmt.Errorf("${%s}: the file is empty", p.name)
		}
		return value, nil
	}
	return "", nil
}

// separate sets the character that ends the value of each placeholder but the
// last. A value without that character ends where it first occurs, so the result
// can be read in one way only, from left to right. A single placeholder needs
// nothing, even if it is used twice: the length of the result gives its own.
func separate(segments []segment) error {
	first, last := -1, -1
	several := false
	for i, s := range segments {
		if s.source == literal {
			continue
		}
		if first < 0 {
			first = i
		}
		several = several || s.name != segments[first].name
		last = i
	}
	if !several {
		return nil
	}
	for i := first; i < last; i++ {
		if segments[i].source == literal {
			continue
		}
		next := segments[i+1]
		if next.source != literal {
			return fmt.Errorf("${%s} and ${%s} need a character between them, else two devices could get the same text",
				segments[i].name, next.name)
		}
		_, size := utf8.DecodeRuneInString(next.name)
		segments[i].separator = next.name[:size]
	}
	return nil
}
