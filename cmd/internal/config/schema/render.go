package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Render returns the configuration v, a pointer to a struct, as YAML: every key with the
// value in force and, as a comment, where it was set. The origins are those that v was
// loaded with; with the zero Origins there are no comments. Secrets are masked, and one
// that was read from a file is shown as that file. The result loads again to an equal
// configuration, apart from masked secrets.
func (o *Origins) Render(v any) ([]byte, error) { return renderer{Origins: o}.render(v) }

// RenderChanged is like Render with only those keys that have been set, to something else than
// their defaults. It returns nothing if there are none.
func (o *Origins) RenderChanged(v any) ([]byte, error) {
	return renderer{Origins: o, changed: true}.render(v)
}

// renderer makes YAML of a configuration.
type renderer struct {
	*Origins
	changed bool // leave out what has its default
}

func (o renderer) render(v any) ([]byte, error) {
	top := o.section(reflect.ValueOf(v).Elem(), "")
	if o.changed && len(top.Content) == 0 {
		return nil, nil
	}
	text, err := yaml.Dump(top, yaml.WithLineWidth(-1))
	if err != nil {
		return nil, fmt.Errorf("render configuration: %w", err)
	}
	return text, nil
}

// Fingerprint names the values of the configuration v, in 16 hexadecimal digits, which are
// the same on every machine where all keys have the same values. Secrets do not count, so
// that none can be guessed from it. The path of a file with a secret does.
func (o *Origins) Fingerprint(v any) (string, error) {
	text, err := (&Origins{paths: o.paths}).Render(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

func (o renderer) section(v reflect.Value, path string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fieldsOf(v.Type()) {
		if f.index < 0 {
			continue
		}
		at, fv := join(path, f.key), v.Field(f.index)
		if fv.Kind() == reflect.Pointer {
			if fv.IsNil() {
				continue
			}
			fv = fv.Elem()
		}
		if file := o.paths[join(path, f.pair)]; f.pair != "" && file != "" {
			n.Content = append(n.Content, text(f.pair, ""), text(file, o.comment(at)))
			continue
		}
		if value := o.value(fv, f, at); value != nil {
			n.Content = append(n.Content, text(f.key, ""), value)
		}
	}
	return n
}

// value returns nil if the value is to be left out.
func (o renderer) value(v reflect.Value, f field, path string) *yaml.Node {
	switch {
	case f.list && f.kind == kindSection:
		if short, ok := f.shortest(v); ok {
			return o.value(short, field{list: true, kind: kindString, value: f.value}, path)
		}
		n, set := &yaml.Node{Kind: yaml.SequenceNode}, false
		for i := range v.Len() {
			element := o.section(v.Index(i), Element(path, i))
			set = set || len(element.Content) > 0
			n.Content = append(n.Content, element)
		}
		if o.changed && !set {
			return nil
		}
		return n
	case f.list:
		n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, LineComment: o.comment(path)}
		for i := range v.Len() {
			n.Content = append(n.Content, text(f.format(v.Index(i)), ""))
		}
		if o.changed && (n.LineComment == ofDefault || strings.NewReplacer(`"`, "", "'", "").Replace(f.value) == listText(n.Content)) {
			return nil
		}
		return n
	case f.kind == kindSection:
		n := o.section(v, path)
		if o.changed && len(n.Content) == 0 {
			return nil
		}
		return n
	case o.changed && (o.comment(path) == ofDefault || f.format(v) == f.value):
		return nil
	}
	n := text(f.format(v), o.comment(path))
	switch f.kind {
	case kindBoolean:
		n.Tag = "!!bool"
	case kindInteger:
		n.Tag = "!!int"
	case kindRatio:
		n.Tag = "!!float"
	}
	return n
}

// listText returns a list as the default of a key is written, without quotes.
func listText(elements []*yaml.Node) string {
	texts := make([]string, len(elements))
	for i, e := range elements {
		texts[i] = e.Value
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// shortest returns the values that stand for the sections in v, if each of them can be written as
// one value.
func (f field) shortest(v reflect.Value) (values reflect.Value, ok bool) {
	if f.short == "" {
		return reflect.Value{}, false
	}
	all := []string{}
	for i := range v.Len() {
		for _, one := range fieldsOf(f.section()) {
			text := one.format(v.Index(i).Field(one.index))
			if one.key == f.short {
				all = append(all, text)
			} else if text != one.value {
				return reflect.Value{}, false
			}
		}
	}
	return reflect.ValueOf(all), true
}

func text(value, comment string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, LineComment: comment}
	if strings.Contains(value, "\n") {
		n.Style = yaml.DoubleQuotedStyle // the comment of a block would become a part of it
	}
	return n
}
