package schema

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// Bounds on the work that a config file may cause.
const (
	maxFile  = 256 << 10 // bytes
	maxDepth = 32        // levels of nesting, aliases aside
	maxKey   = 40        // bytes of an unknown key that a fault repeats
	maxNodes = 5_000     // values, each use of an alias counted anew
)

// treeReader turns YAML into nodes. The library only parses. Keys and values are checked here and
// by the decoder, because the library's own messages name Go types and quote values.
type treeReader struct {
	from  from
	fault func(at origin, path, reason string)
	nodes int                 // read so far
	full  bool                // one of the bounds was exceeded
	open  map[*yaml.Node]bool // lists and sections on the way to the current value
}

func newTreeReader(from from, fault func(at origin, path, reason string)) *treeReader {
	return &treeReader{from: from, fault: fault, open: map[*yaml.Node]bool{}}
}

// read returns the single document of data, and an empty section for an empty document. It
// returns nil after a fault that makes the rest unreadable.
func (r *treeReader) read(data []byte) *node {
	if line := badText(data); line > 0 {
		r.fault(r.at(line), "", "has a byte that is not allowed in YAML; save the file as UTF-8 without control characters")
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		r.fault(r.at(0), "", "cannot be read as YAML")
		return nil
	}
	first, err := document(loader)
	switch {
	case errors.Is(err, io.EOF):
		return &node{form: section}
	case err != nil:
		r.syntax(err)
		return nil
	}
	second, err := document(loader)
	switch {
	case err == nil:
		r.fault(r.at(second.Line), "", "a second document starts here; keep one document in the file")
	case !errors.Is(err, io.EOF):
		r.syntax(err)
		return nil
	}
	n := r.node(first, r.at(first.Line))
	switch {
	case r.full:
		return nil
	case n.form == null:
		return &node{form: section}
	}
	return n
}

func (r *treeReader) at(line int) origin { return origin{from: r.from, line: line} }

// document reads the next document and returns its root. The library panics on events that
// it does not expect, and a config file must not end a running program.
func document(l *yaml.Loader) (root *yaml.Node, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("parser failed")
		}
	}()
	var doc yaml.Node
	if err := l.Load(&doc); err != nil {
		return nil, err
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, errors.New("no document")
	}
	return doc.Content[0], nil
}

// syntax reports what the library found. Only the messages of its scanner and parser are
// repeated, because those consist of fixed words. All others may quote the file.
func (r *treeReader) syntax(err error) {
	e, ok := errors.AsType[*yaml.LoadError](err)
	switch {
	case ok && e.Stage == yaml.ComposerStage:
		r.fault(r.at(e.Mark.Line), "", "an alias (*name) refers to an anchor that does not exist; put a value that starts with * in quotes")
	case ok && (e.Stage == yaml.ScannerStage || e.Stage == yaml.ParserStage):
		r.fault(r.at(e.Mark.Line), "", "is not YAML: "+e.Message+"; check the indentation, and put values with special characters in quotes")
	default:
		r.fault(r.at(0), "", "cannot be read as YAML")
	}
}

// node converts y, which was set at the given origin. What is wrong with it is kept in the
// node, because only the decoder knows its path.
func (r *treeReader) node(y *yaml.Node, at origin) *node {
	if r.nodes++; !r.full && r.nodes > maxNodes {
		r.full = true
		r.fault(at, "", "has too many values, or aliases that repeat too many; write a smaller file")
	}
	switch {
	case r.full:
		return &node{form: broken, origin: at}
	case y.Style&yaml.TaggedStyle != 0:
		return &node{form: broken, origin: at, text: "has a YAML tag (a word after !); remove it, or put the value in quotes"}
	case y.Kind == yaml.AliasNode && r.open[y.Alias]:
		return &node{form: broken, origin: at, text: "is an alias of something that contains it; write the value out"}
	case y.Kind == yaml.AliasNode:
		return r.node(y.Alias, at)
	case y.Kind == yaml.ScalarNode && y.Tag == "!!null":
		return &node{form: null, origin: at}
	case y.Kind == yaml.ScalarNode:
		return &node{form: scalar, origin: at, text: y.Value}
	}
	r.open[y] = true
	defer delete(r.open, y)
	if y.Kind == yaml.MappingNode {
		return r.section(y, at)
	}
	n := &node{form: list, origin: at}
	for _, item := range y.Content {
		if r.full {
			break
		}
		n.items = append(n.items, r.node(item, r.at(item.Line)))
	}
	return n
}

// section converts a mapping. The line of a value is that of its key, where a reader looks
// for it: a block value begins one line below.
func (r *treeReader) section(y *yaml.Node, at origin) *node {
	n := &node{form: section, origin: at}
	for i := 0; i+1 < len(y.Content) && !r.full; i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		e := entry{key: printableKey(key.Value, maxKey), origin: r.at(key.Line)}
		switch {
		case key.Kind != yaml.ScalarNode:
			e.key, e.fault = "?", "a key must be a plain word; put the value in quotes if it was meant as text"
		case key.Tag == "!!merge":
			e.fault = "merge keys are not supported; repeat the keys, or use an alias for a whole value"
		default:
			e.value = r.node(value, e.origin)
		}
		n.entries = append(n.entries, e)
	}
	return n
}

// printableKey returns a key for use in a fault: unchanged if it consists of the characters of
// keys, else quoted, and cut after longest bytes.
func printableKey(key string, longest int) string {
	if len(key) > longest {
		key = key[:longest] + "..."
	}
	if key == "" {
		return `""`
	}
	for _, c := range []byte(key) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.') {
			return strconv.Quote(key)
		}
	}
	return key
}

// badText returns the line of the first byte that is not UTF-8 or is a control character,
// and 0 if there is none. The library refuses these too, but without a line.
func badText(data []byte) int {
	line := 1
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		switch {
		case c == '\n':
			line++
		case c == utf8.RuneError && size <= 1, c < ' ' && c != '\t' && c != '\r', c == 0x7f:
			return line
		}
		i += size
	}
	return 0
}
