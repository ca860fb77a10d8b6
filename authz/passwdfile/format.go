package passwdfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
)

// Format is the program that the file belongs to.
type Format string

// The formats, with the hashes that they may have.
const (
	// Mosquitto is the password_file of Mosquitto: $7$, $6$ and argon2id.
	Mosquitto Format = "mosquitto"
	// Htpasswd is the file of Apache's htpasswd: bcrypt, which needs its option -B.
	Htpasswd Format = "htpasswd"
	// GoAuth is the passwords file of mosquitto-go-auth: PBKDF2, bcrypt and argon2id.
	GoAuth Format = "goauth"
)

// hashes returns how the hashes of a format begin.
func (f Format) hashes() ([]string, error) {
	switch f {
	case Mosquitto:
		return []string{"$7$", "$6$", "$argon2id$"}, nil
	case Htpasswd:
		return []string{"$2"}, nil
	case GoAuth:
		return []string{"PBKDF2$", "$pbkdf2-sha512$", "$2", "$argon2id$"}, nil
	}
	return nil, fmt.Errorf("unknown format %q: want %s, %s or %s", string(f), Mosquitto, Htpasswd, GoAuth)
}

const (
	maxUser = 256 // bytes, which a subject may have
	maxID   = 128 // bytes of a token id
	// maxFaults is the number of faults after which reading ends.
	maxFaults = 20
)

// Fault is one mistake in a file.
type Fault struct {
	// Line counts from 1.
	Line int
	// Reason says what is wrong and what to do. It contains no user name and no hash.
	Reason string
}

// FormatError is returned for a file that was refused because of its content. The file has
// no effect at all, not even the lines that are good.
type FormatError struct {
	// Path is the file as it was named by the caller.
	Path string
	// Faults has the first faults, at least one and at most 20, in the order of their lines.
	Faults []Fault
}

// Error lists the faults, each on a line of its own: path:line: reason.
func (e *FormatError) Error() string {
	var text strings.Builder
	for i, f := range e.Faults {
		if i > 0 {
			text.WriteByte('\n')
		}
		fmt.Fprintf(&text, "%s:%d: %s", e.Path, f.Line, f.Reason)
	}
	if len(e.Faults) == maxFaults {
		text.WriteString("\n" + e.Path + ": there may be more; these are the first 20")
	}
	return text.String()
}

// snapshot is the content of one version of the file. It never changes.
type snapshot struct {
	users map[string]*entry
	blank bool // there are only blank lines
}

// entry is one line.
type entry struct {
	user  string
	hash  passwordhash.Hash
	pair  [32]byte // see authz.PairHash
	line  int
	grant atomic.Pointer[authz.Grant] // made when first asked for
}

// authorization returns the entry's grant, which all its sessions share.
func (e *entry) authorization() *authz.Grant {
	if g := e.grant.Load(); g != nil {
		return g
	}
	e.grant.CompareAndSwap(nil, &authz.Grant{TokenID: e.id(), Subject: e.user, PairHash: e.pair})
	return e.grant.Load()
}

// id returns the token id: the user name, or if it is too long its beginning and a digest.
func (e *entry) id() string {
	if len(e.user) <= maxID {
		return e.user
	}
	whole := authz.PairHash(e.user, "")
	suffix := fmt.Sprintf("-%x", whole[:8])
	head := e.user[:maxID-len(suffix)]
	return strings.ToValidUTF8(head, "") + suffix
}

// parser reads one version of the file.
type parser struct {
	format Format
	hashes []string
	snap   *snapshot
	faults []Fault
}

// parse reads a file's content. A file that breaks the rules yields a *FormatError, without
// its path.
func parse(format Format, content []byte) (*snapshot, error) {
	hashes, err := format.hashes()
	if err != nil {
		return nil, err
	}
	p := parser{format: format, hashes: hashes, snap: &snapshot{users: make(map[string]*entry), blank: true}}
	n := 0
	for line := range bytes.Lines(content) {
		n++
		if err := p.line(n, bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))); err != nil {
			p.faults = append(p.faults, Fault{Line: n, Reason: err.Error()})
		}
		if len(p.faults) == maxFaults {
			break
		}
	}
	if len(p.faults) > 0 {
		return nil, &FormatError{Faults: p.faults}
	}
	return p.snap, nil
}

// line parses line n.
func (p *parser) line(n int, line []byte) error {
	if n == 1 && bytes.HasPrefix(line, []byte("\xef\xbb\xbf")) {
		return errors.New("starts with a byte order mark; save the file as UTF-8 without one")
	}
	if len(bytes.TrimSpace(line)) == 0 {
		return nil
	}
	p.snap.blank = false
	if line[0] == '#' {
		return nil
	}
	switch {
	case !utf8.Valid(line):
		return errors.New("is not valid UTF-8")
	case bytes.ContainsFunc(line, unicode.IsControl):
		return errors.New("the line has control characters, such as NUL: the file is damaged")
	}
	user, stored, ok := strings.Cut(string(line), ":")
	switch {
	case !ok:
		return errors.New("no colon between user name and hash")
	case user == "":
		return errors.New("no user name before the colon")
	case len(user) > maxUser:
		return fmt.Errorf("a user name of %d bytes; at most %d are allowed", len(user), maxUser)
	}
	if other := p.snap.users[user]; other != nil {
		return fmt.Errorf("the same user name as in line %d; take one of them out", other.line)
	}
	hash, err := p.hash(stored)
	if err != nil {
		return err
	}
	p.snap.users[user] = &entry{user: user, hash: hash, pair: authz.PairHash(user, stored), line: n}
	return nil
}

// hash parses the hash of a line.
func (p *parser) hash(stored string) (passwordhash.Hash, error) {
	switch h, err := passwordhash.Parse(stored); {
	case stored == "":
		return h, errors.New("no hash after the colon; a user without a password cannot connect")
	case err != nil && p.format == Mosquitto && !strings.Contains(stored, "$"):
		return h, errors.New("a password in plain text; mosquitto_passwd -U hashes all passwords of a file")
	case err != nil && p.format == Htpasswd:
		return h, fmt.Errorf("%w; htpasswd -B makes bcrypt hashes", err)
	case err == nil && !slices.ContainsFunc(p.hashes, func(s string) bool { return strings.HasPrefix(stored, s) }):
		return h, fmt.Errorf("a hash that files of format %s do not have; these begin with %s", p.format, strings.Join(p.hashes, ", "))
	default:
		return h, err
	}
}

// difference is what happened between two versions of the file.
type difference struct {
	added, removed, changed int
	ended                   []string // token ids
}

// since compares the snapshot with an older one and adopts the entries that have not changed, so
// that sessions continue to share their grants. It must be called before the snapshot is published.
func (s *snapshot) since(old *snapshot) (d difference) {
	for user, e := range s.users {
		was := old.users[user]
		switch {
		case was == nil:
			d.added++
		case was.pair == e.pair:
			e.grant.Store(was.grant.Load())
		default:
			d.changed++
			d.ended = append(d.ended, was.id())
		}
	}
	for user, was := range old.users {
		if s.users[user] == nil {
			d.removed++
			d.ended = append(d.ended, was.id())
		}
	}
	slices.Sort(d.ended)
	return d
}
