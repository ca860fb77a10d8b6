package schema

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// suggestKey says what to write instead of an unknown key: a key of the same section that
// looks like it, a key of that name elsewhere, or what is allowed.
func (d *decoder) suggestKey(key string, fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.key
	}
	if name := Nearest(key, names); name != "" {
		return "did you mean " + name + "?"
	}
	for _, k := range keysOf(nil, "", d.root, "") {
		parts := strings.Split(k.Path, ".")
		for i, p := range parts {
			if plain(strings.TrimSuffix(p, "[]")) == plain(key) {
				return "did you mean " + strings.Join(parts[:i+1], ".") + "? Check the indentation"
			}
		}
	}
	return "allowed here: " + strings.Join(names, ", ")
}

// suggestVariable says what to write instead of an unknown variable. List positions are
// those of the given name, as far as it has any.
func (d *decoder) suggestVariable(name string) string {
	var given []string
	for _, part := range strings.Split(name, "_") {
		if n, err := strconv.Atoi(part); err == nil {
			given = append(given, strconv.Itoa(max(0, n)))
		}
	}
	var names []string
	for _, k := range keysOf(nil, d.origins.prefix, d.root, "") {
		left := given
		parts := strings.Split(k.Environment, "_")
		for i, p := range parts {
			if p == "N" && len(left) > 0 {
				parts[i], left = left[0], left[1:]
			}
		}
		names = append(names, strings.Join(parts, "_"))
	}
	if near := Nearest(name, append(names, d.origins.prefix+configVariable)); near != "" {
		return "did you mean " + near + "?"
	}
	return "unset it, or give the variable another name if it is not for this program"
}

// Nearest returns the name that word was most likely meant to be, "" if none is close. The
// beginning of a name is as close as a name with one wrong letter.
func Nearest(word string, names []string) string {
	const longest = 128 // of a word that can be a misspelled name
	if len(word) > longest {
		return ""
	}
	word = plain(word)
	away := func(name string) int {
		name = plain(name)
		if len(word) > 2 && len(word) < len(name) && strings.HasPrefix(name, word) {
			return 1
		}
		return distance(word, name)
	}
	near := slices.MinFunc(names, func(a, b string) int { return cmp.Compare(away(a), away(b)) })
	if away(near) > max(1, min(3, len(word)/3)) {
		return ""
	}
	return near
}

// plain returns name without what does not count when names are compared.
func plain(name string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
}

// distance returns how many bytes must be inserted, deleted, replaced or swapped with their
// neighbour to turn a into b (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
