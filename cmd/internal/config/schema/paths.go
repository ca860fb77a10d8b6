package schema

import "reflect"

// Paths returns every file and directory that the configuration v names, by key. The
// origins are those that v was loaded with.
func (o *Origins) Paths(v any) map[string]string {
	paths := map[string]string{}
	collectPaths(paths, reflect.ValueOf(v).Elem(), "")
	for key, path := range o.secretFiles {
		paths[key+"_file"] = path
	}
	return paths
}

// collectPaths adds the paths in a section.
func collectPaths(paths map[string]string, section reflect.Value, at string) {
	for _, f := range fieldsOf(section.Type()) {
		if f.index < 0 {
			continue
		}
		v, key := section.Field(f.index), join(at, f.key)
		if !f.list {
			f.collectPaths(paths, v, key)
			continue
		}
		for i := range v.Len() {
			f.collectPaths(paths, v.Index(i), Element(key, i))
		}
	}
}

// collectPaths adds the paths in one value of the field.
func (f field) collectPaths(paths map[string]string, v reflect.Value, key string) {
	switch {
	case f.kind == kindSection && v.Kind() == reflect.Pointer && v.IsNil():
	case f.kind == kindSection:
		collectPaths(paths, reflect.Indirect(v), key)
	case f.isPath() && v.String() != "":
		paths[key] = v.String()
	}
}
