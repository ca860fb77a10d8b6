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
func (o *Origins) Render(v any) ([]byte, error) {
	text, err := yaml.Dump(o.section(reflect.ValueOf(v).Elem(), ""), yaml.WithLineWidth(-1))
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

func (o *Origins) section(v reflect.Value, path string) *yaml.Node {
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
		n.Content = append(n.Content, text(f.key, ""), o.value(fv, f, at))
	}
	return n
}

func (o *Origins) value(v reflect.Value, f field, path string) *yaml.Node {
	switch {
	case f.list && f.kind == kindSection:
		if short, ok := f.shortest(v); ok {
			return o.value(short, field{list: true, kind: kindString}, path)
		}
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			n.Content = append(n.Content, o.section(v.Index(i), Element(path, i)))
		}
		return n
	case f.list:
		n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, LineComment: o.comment(path)}
		for i := range v.Len() {
			n.Content = append(n.Content, text(f.format(v.Index(i)), ""))
		}
		return n
	case f.kind == kindSection:
		return o.section(v, path)
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
