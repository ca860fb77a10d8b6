package tokenimport

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// xmlFile reads an XML file element by element. The package expands no entities but the five of
// XML itself and those of characters.
type xmlFile struct{ in *xml.Decoder }

func newXMLFile(r io.Reader) xmlFile {
	d := xml.NewDecoder(r)
	d.CharsetReader = func(string, io.Reader) (io.Reader, error) {
		return nil, errors.New("the file is not in UTF-8; convert it with iconv")
	}
	return xmlFile{d}
}

// elements has the elements that are known at a place, with what reads each of them to its end.
type elements map[string]func(line int) error

func (x *xmlFile) line() int {
	line, _ := x.in.InputPos()
	return line
}

// next returns the next part of the file. Its errors repeat nothing of the file.
func (x *xmlFile) next() (xml.Token, error) {
	token, err := x.in.Token()
	if _, broken := errors.AsType[*xml.SyntaxError](err); broken {
		return nil, errors.New("not well-formed XML; in texts & is written &amp; and < is written &lt;")
	}
	if _, ok := token.(xml.Directive); ok {
		return nil, errors.New("a DOCTYPE, which this format does not have")
	}
	return token, err
}

// children reads what is in an element, up to its end.
func (x *xmlFile) children(known elements) error {
	for {
		token, err := x.next()
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.StartElement:
			read := known[token.Name.Local]
			if read == nil || token.Name.Space != "" {
				return errors.New("an element that this format does not have here")
			}
			if err := read(x.line()); err != nil {
				return err
			}
		case xml.EndElement:
			return nil
		case xml.CharData:
			if len(bytes.TrimSpace(token)) > 0 {
				return errors.New("text between elements")
			}
		}
	}
}

// leaf returns what reads the text of an element that is there once at most.
func (x *xmlFile) leaf(to **string) func(int) error {
	return func(int) error {
		text, err := x.text()
		if err == nil && *to != nil {
			err = errors.New("an element that is there twice")
		}
		*to = &text
		return err
	}
}

// text reads the text of an element, up to its end.
func (x *xmlFile) text() (string, error) {
	var b strings.Builder
	for {
		token, err := x.next()
		if err != nil {
			return "", err
		}
		switch token := token.(type) {
		case xml.StartElement:
			return "", errors.New("an element that this format does not have here")
		case xml.EndElement:
			return b.String(), nil
		case xml.CharData:
			b.Write(token)
		}
	}
}
