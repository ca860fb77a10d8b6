package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v4"
)

// Render returns the effective configuration as YAML: every key with the value
// in force and, as a comment, where it comes from. Secrets are masked; one that
// was read from a file is shown as that file. The result loads again, to the
// same Config but for masked secrets.
func (c *Config) Render() ([]byte, error) {
	text, err := yaml.Dump(c.section(reflect.ValueOf(c).Elem(), ""), yaml.WithLineWidth(-1))
	if err != nil {
		return nil, fmt.Errorf("render configuration: %w", err)
	}
	return text, nil
}

// Fingerprint names what the configuration says, in 16 hexadecimal digits: the same on
// every machine where all keys have the same values. Secrets do not count, so that
// none can be guessed from it.
func (c *Config) Fingerprint() (string, error) {
	plain := *c
	plain.origins = nil
	text, err := plain.Render()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

func (c *Config) section(v reflect.Value, path string) *yaml.Node {
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
		if file := c.secretFiles[at]; file != "" {
			n.Content = append(n.Content, text(f.pair, ""), text(file, c.comment(at)))
			continue
		}
		n.Content = append(n.Content, text(f.key, ""), c.value(fv, f, at))
	}
	return n
}

func (c *Config) value(v reflect.Value, f field, path string) *yaml.Node {
	switch {
	case f.list && f.kind == kindSection:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			n.Content = append(n.Content, c.section(v.Index(i), element(path, i)))
		}
		return n
	case f.list:
		n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, LineComment: c.comment(path)}
		for i := range v.Len() {
			n.Content = append(n.Content, text(format(f.kind, v.Index(i)), ""))
		}
		return n
	case f.kind == kindSection:
		return c.section(v, path)
	}
	n := text(format(f.kind, v), c.comment(path))
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

// comment names the origin of a value. A Config that was not loaded has none.
func (c *Config) comment(path string) string {
	if c.origins == nil {
		return ""
	}
	return c.origins[path].comment(c.source)
}

func text(value, comment string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, LineComment: comment}
}
