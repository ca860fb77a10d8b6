package tokenimport

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// Format is a form of credentials.
type Format string

// The formats, which the package comment describes.
const (
	CSV         Format = "csv"
	JSONL       Format = "jsonl"
	Mosquitto   Format = "mosquitto"
	EMQX        Format = "emqx"
	ThingsBoard Format = "thingsboard"
	HiveMQ      Format = "hivemq"
)

// Formats returns all formats that can be read.
func Formats() []Format { return []Format{CSV, JSONL, Mosquitto, EMQX, ThingsBoard, HiveMQ} }

// Options say what is read.
type Options struct {
	Format Format
	// Source is the name of the source in faults. With [EMQX] one that ends in .json is JSON.
	Source string
	// Hash is how [EMQX] made its hashes: "bcrypt", "sha256:prefix", "sha256:suffix" or
	// "sha256:none" for the place of the salt, the same with sha512, or "pbkdf2:sha256:ROUNDS" and
	// "pbkdf2:sha512:ROUNDS". With [HiveMQ] "plain" says that the passwords are not hashed. Other
	// formats have none.
	Hash string
}

// Found is what a source holds.
type Found struct {
	// Drafts has the entries, and the faults of lines that hold none; [tokenfile.NewBatch] reports
	// these.
	Drafts []tokenfile.Draft
	// Superusers is how many were exempt from rules there. They are not here.
	Superusers int
}

const (
	maxFaults = 20
	maxLine   = 64 << 10 // bytes, of formats with lines
	// maxSource is the size in bytes of the largest source.
	maxSource = 4 << 30
)

// Read reads a source. It returns an error if that cannot be read at all.
func Read(r io.Reader, o Options) (Found, error) {
	if !slices.Contains(Formats(), o.Format) {
		return Found{}, fmt.Errorf("unknown format %q: want %s", string(o.Format), formatList())
	}
	if o.Hash != "" && o.Format != EMQX && o.Format != HiveMQ {
		return Found{}, fmt.Errorf("the hashes of format %s say themselves how they were made; only %s and %s need that", o.Format, EMQX, HiveMQ)
	}
	in := &reader{in: &bounded{r, maxSource}, source: o.Source}
	var err error
	switch o.Format {
	case CSV:
		err = in.table()
	case JSONL:
		err = in.lines(in.jsonLine)
	case Mosquitto:
		err = in.lines(in.passwdLine)
	case EMQX:
		err = in.emqx(o.Hash)
	case ThingsBoard:
		err = in.thingsBoard()
	case HiveMQ:
		err = in.hivemq(o.Hash)
	}
	switch {
	case errors.Is(err, errFaults):
	case err != nil:
		return Found{}, err
	case len(in.found.Drafts) == 0:
		return Found{}, fmt.Errorf("%s contains nothing to import", o.Source)
	}
	return in.found, nil
}

// bounded is a reader that fails when a source is larger than the limit, so that a part is never
// taken for the whole.
type bounded struct {
	io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("larger than %d GiB; import it in parts", int64(maxSource>>30))
	}
	return n, err
}

func formatList() string {
	names := make([]string, 0, len(Formats()))
	for _, f := range Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// reader collects what a source holds.
type reader struct {
	in     io.Reader
	source string
	found  Found
	faults int
}

// errFaults ends the reading because there are enough faults.
var errFaults = errors.New("faults")

// fault reports what is wrong in a line. It returns errFaults when there are enough.
func (r *reader) fault(line int, err error) error {
	f, ok := errors.AsType[*tokenfile.Fault](err)
	if !ok {
		f = &tokenfile.Fault{Reason: err.Error()}
	}
	r.found.Drafts = append(r.found.Drafts, tokenfile.Draft{Line: line, Fault: f})
	if r.faults++; r.faults == maxFaults {
		return errFaults
	}
	return nil
}

// in returns the error about a field or a column.
func in(field, reason string) error { return &tokenfile.Fault{Field: field, Reason: reason} }

func (r *reader) add(line int, entry []byte) {
	r.found.Drafts = append(r.found.Drafts, tokenfile.Draft{Line: line, JSON: entry})
}

// credential is an entry of another program.
type credential struct {
	Subject      string `json:"subject,omitempty"`
	Token        string `json:"token,omitempty"`
	ClientID     string `json:"clientid,omitempty"`
	Username     string `json:"username,omitempty"`
	Password     string `json:"password,omitempty"`
	PasswordHash string `json:"password_hash,omitempty"`
	Gateway      bool   `json:"gateway,omitempty"`

	ACL json.RawMessage `json:"acl,omitempty"`
}

// addCredential adds an entry that has these fields.
func (r *reader) addCredential(line int, c credential) {
	entry, _ := json.Marshal(c) // texts, a boolean, and an ACL that was made here
	r.add(line, entry)
}

// lines calls do with each line that is not blank and no comment.
func (r *reader) lines(do func(n int, line []byte) error) error {
	lines := bufio.NewScanner(r.in)
	lines.Buffer(make([]byte, 0, maxLine), maxLine+2)
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSuffix(lines.Bytes(), []byte("\r"))
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		if len(bytes.TrimSpace(line)) == 0 || line[0] == '#' {
			continue
		}
		var err error
		if !utf8.Valid(line) {
			err = r.fault(n, errors.New("is not valid UTF-8"))
		} else if faulty := do(n, line); faulty != nil {
			err = r.fault(n, faulty)
		}
		if err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return r.fault(n+1, errors.New("longer than 64 KiB"))
	}
	return lines.Err()
}

func (r *reader) jsonLine(n int, line []byte) error {
	r.add(n, bytes.Clone(line))
	return nil
}

// passwdLine takes a line of user name, colon and hash.
func (r *reader) passwdLine(n int, line []byte) error {
	user, hash, ok := strings.Cut(string(line), ":")
	switch {
	case !ok:
		return errors.New("no colon between user name and hash")
	case user == "":
		return errors.New("no user name before the colon")
	case hash == "":
		return errors.New("no hash after the colon; a user without a password cannot be let in")
	}
	r.addCredential(n, credential{Username: user, PasswordHash: hash})
	return nil
}
