package payload

// kind is the JSON type of a node.
type kind byte

const (
	null kind = iota
	boolean
	number
	text
	array
	object
)

// node is one JSON value of the document.
type node struct {
	kind   kind
	offset int // of its first byte
	// text is "true" or "false", the number as written, or the string's content.
	text    string
	members []member // of an object or an array
}

// member is an element of an array, where key is empty, or a member of an
// object, whose keys are unique.
type member struct {
	key    string
	offset int // of the key
	value  node
}

func (n node) member(key string) (node, bool) {
	for _, m := range n.members {
		if m.key == key {
			return m.value, true
		}
	}
	return node{}, false
}

// reader is a recursive descent parser over one document.
type reader struct {
	src     string
	pos     int
	lenient bool
	invalid bool // src is not UTF-8 throughout
	depth   int  // how many more levels may nest
	values  int  // how many more values may come
}

func (r *reader) fail(reason string) error { return &Error{Offset: r.pos, Reason: reason} }

// peek skips white space and returns the next byte, or 0 with ok false at the end.
func (r *reader) peek() (c byte, ok bool, err error) {
	if err := r.skipSpace(); err != nil {
		return 0, false, err
	}
	if r.pos == len(r.src) {
		return 0, false, nil
	}
	return r.src[r.pos], true, nil
}

func (r *reader) document() (node, error) {
	if r.lenient {
		if err := r.skipPrefix(); err != nil {
			return node{}, err
		}
	}
	n, err := r.value()
	if err != nil {
		return node{}, err
	}
	if _, more, err := r.peek(); err != nil {
		return node{}, err
	} else if more {
		return node{}, r.fail("data after the document")
	}
	return n, nil
}

func (r *reader) value() (node, error) {
	c, ok, err := r.peek()
	if err != nil {
		return node{}, err
	}
	if !ok {
		return node{}, r.fail("a value is missing at the end")
	}
	if r.values--; r.values < 0 {
		return node{}, r.fail("too many values")
	}
	n := node{offset: r.pos}
	switch {
	case c == '{':
		n.kind = object
		n.members, err = r.nested((*reader).objectMembers)
	case c == '[':
		n.kind = array
		n.members, err = r.nested((*reader).arrayMembers)
	case r.isQuote(c):
		n.kind = text
		n.text, err = r.quoted()
	default:
		n.kind, n.text, err = r.bareValue()
	}
	return n, err
}

func (r *reader) nested(members func(*reader) ([]member, error)) ([]member, error) {
	if r.depth == 0 {
		return nil, r.fail("nested too deep")
	}
	r.depth--
	r.pos++
	list, err := members(r)
	r.depth++
	return list, err
}

// objectMembers reads what follows the opening brace.
func (r *reader) objectMembers() ([]member, error) {
	var set memberSet
	c, ok, err := r.peek()
	if err != nil {
		return nil, err
	}
	if ok && c == '}' {
		r.pos++
		return nil, nil
	}
	for {
		m, err := r.objectMember()
		if err != nil {
			return nil, err
		}
		set.put(m)
		more, err := r.next('}')
		if err != nil || !more {
			return set.members, err
		}
	}
}

func (r *reader) objectMember() (member, error) {
	c, ok, err := r.peek()
	if err != nil {
		return member{}, err
	}
	m := member{offset: r.pos}
	switch {
	case !ok:
		return member{}, r.fail("object is not closed")
	case r.isQuote(c):
		m.key, err = r.quoted()
	case r.lenient && isBare(c):
		m.key = r.bare()
	default:
		err = r.fail("a key is missing")
	}
	if err != nil {
		return member{}, err
	}
	if err := r.colon(); err != nil {
		return member{}, err
	}
	m.value, err = r.value()
	return m, err
}

func (r *reader) colon() error {
	c, ok, err := r.peek()
	if err != nil {
		return err
	}
	switch {
	case ok && c == ':':
		r.pos++
	case ok && c == '=' && r.lenient:
		r.pos++
		if r.pos < len(r.src) && r.src[r.pos] == '>' {
			r.pos++
		}
	default:
		return r.fail("no colon after a key")
	}
	return nil
}

// arrayMembers reads what follows the opening bracket.
func (r *reader) arrayMembers() ([]member, error) {
	var list []member
	for {
		c, ok, err := r.peek()
		if err != nil {
			return nil, err
		}
		if ok && c == ']' && list == nil {
			r.pos++
			return nil, nil
		}
		var n node
		if ok && (c == ']' || r.isComma(c)) && r.lenient {
			n, err = r.elided()
		} else {
			n, err = r.value()
		}
		if err != nil {
			return nil, err
		}
		list = append(list, member{offset: n.offset, value: n})
		more, err := r.next(']')
		if err != nil || !more {
			return list, err
		}
	}
}

// elided returns the null for an array element that is left out.
func (r *reader) elided() (node, error) {
	if r.values--; r.values < 0 {
		return node{}, r.fail("too many values")
	}
	return node{kind: null, offset: r.pos}, nil
}

// next reads the comma after a member, or the closing byte, and reports
// whether another member follows.
func (r *reader) next(closing byte) (more bool, err error) {
	c, ok, err := r.peek()
	switch {
	case err != nil:
		return false, err
	case !ok:
		return false, r.fail("object or array is not closed")
	case c != closing && !r.isComma(c):
		return false, r.fail("neither a comma nor the end of the object or array")
	}
	r.pos++
	return c != closing, nil
}

func (r *reader) isComma(c byte) bool { return c == ',' || c == ';' && r.lenient }

func (r *reader) isQuote(c byte) bool { return c == '"' || c == '\'' && r.lenient }

// memberSet collects the members of an object. Of a repeated key it keeps the last value, in
// the place of the first.
type memberSet struct {
	members []member
	index   map[string]int // only once there are too many to search
}

const searchable = 16

func (s *memberSet) put(m member) {
	if i, ok := s.find(m.key); ok {
		s.members[i].value = m.value
		return
	}
	s.members = append(s.members, m)
	switch {
	case s.index != nil:
		s.index[m.key] = len(s.members) - 1
	case len(s.members) > searchable:
		s.index = make(map[string]int, 2*searchable)
		for i := range s.members {
			s.index[s.members[i].key] = i
		}
	}
}

func (s *memberSet) find(key string) (int, bool) {
	if s.index != nil {
		i, ok := s.index[key]
		return i, ok
	}
	for i := range s.members {
		if s.members[i].key == key {
			return i, true
		}
	}
	return 0, false
}
