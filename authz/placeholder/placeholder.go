// Package placeholder parses texts with placeholders, such as "v1/${client_id}/#".
//
// The topics of an access list, the requests to a token service and the credentials for the
// broker all have placeholders with the same names:
//
//	${token}            the access token; ${token_b64} in base64
//	${client_id}        the client identifier; also written ${clientid}
//	${username}         the user name of the CONNECT
//	${password}         the password of the CONNECT
//	${client_addr}      the address the device connects from; also written ${peerhost}
//	${listener}         the name of the listener
//	${subject}          the owner of the token
//	${token_id}         the name of the token
//	${attrs.NAME}       an attribute of the grant; also written ${client_attrs.NAME}
//	${env:NAME}         an environment variable
//	${file:PATH}        the content of a file
//
// and some that exist only in requests. Each use has a [Grammar] with the placeholders that are
// allowed there. The other spellings are those of other products; they mean the same
// everywhere. The user of the package decides which values are accepted and how they are
// escaped. Placeholders in a value are not replaced.
package placeholder

import (
	"errors"
	"fmt"
	"strings"
)

// Part is literal text or a placeholder.
type Part struct {
	// Text is the literal text, or the original text between ${ and }.
	Text string
	// Name is the canonical name of the placeholder: "client_id", and "attrs", "env" or "file"
	// for those with a key. It is empty for literal text.
	Name string
	// Key is the text after the dot or colon.
	Key string
}

// String returns the placeholder's name with its key: "client_id", "attrs.site".
func (p Part) String() string {
	switch {
	case p.Key == "":
		return p.Name
	case p.Name == "attrs":
		return "attrs." + p.Key
	}
	return p.Name + ":" + p.Key
}

// Named returns the placeholder that is written ${text}.
func Named(text string) Part {
	switch text {
	case "clientid":
		return Part{Text: text, Name: "client_id"}
	case "peerhost":
		return Part{Text: text, Name: "client_addr"}
	}
	for _, keyed := range [...]struct{ prefix, name string }{{"attrs.", "attrs"}, {"client_attrs.", "attrs"}, {"env:", "env"}, {"file:", "file"}} {
		if key, ok := strings.CutPrefix(text, keyed.prefix); ok {
			return Part{Text: text, Name: keyed.name, Key: key}
		}
	}
	return Part{Text: text, Name: text}
}

// Grammar lists the placeholders that are allowed in one kind of text.
type Grammar struct {
	// Names are the allowed placeholders, such as "client_id", "attrs.NAME" and "file:PATH".
	Names []string
	// Escaped makes $${ stand for a literal ${.
	Escaped bool
	// Percent has placeholders that can also be written as % and a letter.
	Percent map[byte]string
	// Check returns an error if a placeholder's key is invalid. The message continues "the
	// placeholder at byte N". Nil accepts every key.
	Check func(Part) error
}

// Parse splits text into parts. An error has the position of the mistake as a byte of text,
// counted from 1, and the placeholders that are allowed. It contains nothing of text, which may
// contain a secret.
func (g *Grammar) Parse(text string) (parts []Part, err error) {
	err = g.each(text, func(p Part) error {
		parts = append(parts, p)
		return nil
	})
	return parts, err
}

// Expand returns text with a value in place of each placeholder. The errors are those
// of [Grammar.Parse] and of value.
func (g *Grammar) Expand(text string, value func(Part) (string, error)) (string, error) {
	var out strings.Builder
	err := g.each(text, func(p Part) (err error) {
		if p.Name != "" {
			p.Text, err = value(p)
		}
		out.WriteString(p.Text)
		return err
	})
	return out.String(), err
}

// each calls f for each part of text. It omits empty literals.
func (g *Grammar) each(text string, f func(Part) error) error {
	from, at := 0, 0 // the start of the literal text, and where to continue the search
	for {
		next := strings.IndexByte(text[at:], '$')
		if g.Percent != nil {
			next = strings.IndexAny(text[at:], "$%")
		}
		if next < 0 {
			break
		}
		at += next
		if g.Escaped && strings.HasPrefix(text[at:], "$${") {
			if at > from {
				if err := f(Part{Text: text[from:at]}); err != nil {
					return err
				}
			}
			from, at = at+1, at+len("$${")
			continue
		}
		p, size, err := g.placeholder(text[at:])
		switch {
		case err != nil:
			return fmt.Errorf("the placeholder at byte %d %w", at+1, err)
		case size == 0:
			at++
			continue
		case at > from:
			if err := f(Part{Text: text[from:at]}); err != nil {
				return err
			}
		}
		if err := f(p); err != nil {
			return err
		}
		at += size
		from = at
	}
	if from == len(text) {
		return nil
	}
	return f(Part{Text: text[from:]})
}

// placeholder parses the placeholder at the beginning of text and returns its size in bytes, or
// 0 if there is none.
func (g *Grammar) placeholder(text string) (p Part, size int, err error) {
	if text[0] == '%' {
		if len(text) < 2 || g.Percent[text[1]] == "" {
			return p, 0, nil
		}
		return Named(g.Percent[text[1]]), 2, nil
	}
	inner, ok := strings.CutPrefix(text, "${")
	if !ok {
		return p, 0, nil
	}
	name, _, closed := strings.Cut(inner, "}")
	p, size = Named(name), len("${")+len(name)+len("}")
	switch {
	case !closed && g.Escaped:
		return p, size, errors.New("has no closing brace; a literal ${ is written $${")
	case !closed:
		return p, size, errors.New("has no closing brace")
	case strings.Contains(name, "${"):
		return p, size, errors.New("has another one inside; placeholders cannot be nested")
	case name == "":
		return p, size, errors.New("is empty; " + g.allowed())
	case !g.has(p):
		return p, size, errors.New("is unknown; " + g.allowed())
	case p.Key != "" && g.Check != nil:
		err = g.Check(p)
	}
	return p, size, err
}

// has reports whether the grammar has the placeholder, with a key if it needs one.
func (g *Grammar) has(p Part) bool {
	for _, name := range g.Names {
		if known := Named(name); known.Name == p.Name && (known.Key == "") == (p.Key == "") {
			return true
		}
	}
	return false
}

func (g *Grammar) allowed() string {
	text := "allowed are ${" + strings.Join(g.Names, "}, ${") + "}"
	if g.Escaped {
		text += "; a literal ${ is written $${"
	}
	return text
}
