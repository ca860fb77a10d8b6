package schema

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// configVariable follows the prefix in the name of the variable that names the
	// config file.
	configVariable = "CONFIG"
	// maxVariable is how much of a variable's name a fault repeats, in bytes.
	maxVariable = 128
)

// variable returns the name of a key in the environment. List positions that are empty, as
// in [Key], become N.
func variable(prefix, path string) string {
	path = strings.ReplaceAll(path, "[]", "_N")
	return prefix + strings.ToUpper(strings.NewReplacer(".", "_", "[", "_", "]", "").Replace(path))
}

// environment returns the values of the variables with the prefix.
func environment(prefix string, environ []string) map[string]string {
	vars := map[string]string{}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && strings.HasPrefix(name, prefix) {
			vars[name] = value
		}
	}
	return vars
}

// compareNames orders names by their parts and numbers by value, so that position 9 comes
// before 10.
func compareNames(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "_"), strings.Split(b, "_"), func(a, b string) int {
		x, errX := strconv.Atoi(a)
		y, errY := strconv.Atoi(b)
		if errX == nil && errY == nil {
			return cmp.Compare(x, y)
		}
		return cmp.Compare(a, b)
	})
}

// overlay writes the environment onto the nodes of the file, list positions in their order.
func (d *decoder) overlay(root *node, vars map[string]string) {
	prefix := d.origins.prefix
	for _, name := range slices.SortedFunc(maps.Keys(vars), compareNames) {
		at := origin{from: fromEnvironment, variable: name}
		steps, ok := resolve(d.root, strings.TrimPrefix(name, prefix))
		switch {
		case name == prefix+configVariable || !ok && serviceLink(name, vars[name]):
		case !ok:
			d.report.add(at, "", "is an unknown variable; "+d.suggestVariable(name))
		default:
			if err := assign(root, steps, at, vars[name]); err != nil {
				d.report.add(at, "", err.Error())
			}
		}
	}
}

// step is one key on the way to a value, and the position in its list if the way leads
// through an element.
type step struct {
	field    field
	position int // -1 for the whole value
}

// resolve finds the key that a variable without its prefix names.
func resolve(section reflect.Type, name string) ([]step, bool) {
	for _, f := range fieldsOf(section) {
		rest, ok := strings.CutPrefix(name, strings.ToUpper(f.key))
		if !ok {
			continue
		}
		if rest == "" {
			return []step{{f, -1}}, true
		}
		rest, ok = strings.CutPrefix(rest, "_")
		if !ok {
			continue
		}
		s := step{f, -1}
		if f.list {
			digits, tail, _ := strings.Cut(rest, "_")
			n, err := strconv.Atoi(digits)
			if err != nil || n < 0 || strconv.Itoa(n) != digits {
				continue
			}
			s.position, rest = n, tail
			if tail == "" {
				return []step{s}, true
			}
		}
		if f.kind != kindSection {
			continue
		}
		if more, ok := resolve(f.section(), rest); ok {
			return append([]step{s}, more...), true
		}
	}
	return nil, false
}

// assign writes a value at the end of steps and makes the sections on the way. What the
// file has there in a wrong form stays, and the decoder reports it.
func assign(n *node, steps []step, at origin, text string) error {
	for i, s := range steps {
		last := i == len(steps)-1
		if last && s.position < 0 {
			v, err := s.field.node(at, text)
			if err != nil {
				return err
			}
			n.set(s.field.key, v)
			if s.field.pair != "" {
				n.remove(s.field.pair, at)
			}
			return nil
		}
		next := n.get(s.field.key)
		if count := next.len(); s.position > count {
			return fmt.Errorf("leaves a hole: %d elements are set before it, so the next position is %d", count, count)
		}
		if next == nil {
			next = &node{form: s.field.shape(), origin: at}
			n.set(s.field.key, next)
		}
		if s.position < 0 {
			n = next
			continue
		}
		one := s.field
		one.list = false
		v := &node{form: section, origin: at}
		if last {
			var err error
			if v, err = one.node(at, text); err != nil {
				return err
			}
		}
		switch {
		case s.position == len(next.items):
			next.items = append(next.items, v)
		case last:
			next.items[s.position] = v
		}
		if n = next.items[s.position]; !last && one.abbreviated(n) {
			value := *n
			*n = node{form: section, origin: n.origin}
			n.set(one.short, &value)
		}
	}
	return nil
}

// node returns the value of a variable in the form of its key.
func (f field) node(at origin, text string) (*node, error) {
	switch {
	case f.kind == kindSection && f.short == "":
		name := at.variable
		if f.list {
			name += "_0"
		}
		first := keysOf(nil, name+"_", f.section(), "")[0].Environment
		return nil, fmt.Errorf("is %s and takes no value; set its keys, such as %s", f.shape(), first)
	case !f.list:
		return &node{form: scalar, origin: at, text: text}, nil
	}
	n := &node{form: list, origin: at}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" || strings.Contains(text, ",") {
			n.items = append(n.items, &node{form: scalar, origin: at, text: part})
		}
	}
	return n, nil
}

// serviceLink reports whether Kubernetes made the variable. It adds these to every pod for
// each Service, and a Service with the name of the program yields names with the prefix.
// The value tells a link from a misspelled key.
func serviceLink(name, value string) bool {
	host := regexp.MustCompile(`_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$`)
	port := regexp.MustCompile(`_PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)
	if host.MatchString(name) {
		return true
	}
	match := port.FindStringSubmatch(name)
	return match != nil && (match[3] != "" || regexp.MustCompile(`^(tcp|udp|sctp)://`).MatchString(value))
}
