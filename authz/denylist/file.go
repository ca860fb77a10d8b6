package denylist

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// maxLine is the maximum length of a line in bytes: that of a subject of 256 bytes, each of
// which is escaped.
const maxLine = 4 << 10

// line is a denial as it is written in the file. Exactly one of the first three fields is set.
type line struct {
	TokenSHA256 string    `json:"token_sha256,omitempty"`
	TokenID     string    `json:"token_id,omitempty"`
	Subject     string    `json:"subject,omitempty"`
	Until       time.Time `json:"until"`
	Follow      bool      `json:"follow,omitempty"`
}

// Open reads the denials in the file at path. If the file does not exist, there are none, and
// [List.Save] creates it. Its directory must exist.
func Open(path string) (*List, error) {
	all, file, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return &List{path: path, denials: all, unsaved: make(map[authz.Revocation]bool), file: file}, nil
}

// readFile returns the denials in the file at path, and the FileInfo of that file, or nil if it
// does not exist.
func readFile(path string) (map[authz.Revocation]denial, fs.FileInfo, error) {
	f, info, err := files.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return make(map[authz.Revocation]denial), nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("denials: %w", err)
	}
	defer func() { _ = f.Close() }()
	all, err := read(f)
	if err != nil {
		return nil, nil, fmt.Errorf("denials: %s%w; correct the line, or remove the file, which lifts all its denials", path, err)
	}
	return all, info, nil
}

// read returns the denial of every line of r. Its error begins with the number of the line.
func read(r io.Reader) (map[authz.Revocation]denial, error) {
	all := make(map[authz.Revocation]denial)
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	n := 0
	for in.Scan() {
		n++
		revocation, d, err := parse(in.Bytes())
		if err == nil && len(all) == Max {
			err = ErrFull
		}
		if err != nil {
			return nil, fmt.Errorf(":%d: %w", n, err)
		}
		all[revocation] = d
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf(":%d: %w", n+1, err)
	}
	return all, nil
}

// parse parses one line. Its errors do not contain any of it.
func parse(text []byte) (authz.Revocation, denial, error) {
	in, err := decode(text)
	if err != nil {
		return authz.Revocation{}, denial{}, err
	}
	r := authz.Revocation{TokenID: in.TokenID, Subject: in.Subject}
	given := 0
	for _, s := range []string{in.TokenSHA256, in.TokenID, in.Subject} {
		if s != "" {
			given++
		}
	}
	if in.TokenSHA256 != "" {
		raw, err := hex.DecodeString(in.TokenSHA256)
		if err != nil || len(raw) != len(r.TokenHash) {
			return authz.Revocation{}, denial{}, errors.New("token_sha256 is not 64 hexadecimal digits")
		}
		copy(r.TokenHash[:], raw)
	}
	switch {
	case given != 1 || r == authz.Revocation{}:
		return authz.Revocation{}, denial{}, errors.New("exactly one of token_sha256, token_id and subject must be set")
	case in.Until.IsZero():
		return authz.Revocation{}, denial{}, errors.New("until is missing")
	case in.Follow && in.Subject != "":
		return authz.Revocation{}, denial{}, errors.New("the denial of a subject cannot follow a token")
	}
	return r, denial{until: whole(in.Until), follow: in.Follow}, nil
}

// decode reads the fields of one line.
func decode(text []byte) (in line, err error) {
	until := ""
	texts := map[string]*string{"token_sha256": &in.TokenSHA256, "token_id": &in.TokenID, "subject": &in.Subject, "until": &until}
	err = strictjson.EachMember(text, func(key, value []byte) error {
		if string(key) == "follow" {
			in.Follow = string(value) == "true"
			return nil
		}
		to, ok := texts[string(key)]
		if !ok {
			return errors.New("an unknown key; there are token_sha256, token_id, subject, until and follow")
		}
		text, err := strictjson.Text(value)
		*to = string(text)
		return err
	})
	if err == nil && until != "" && in.Until.UnmarshalText([]byte(until)) != nil {
		err = errors.New("until is not a time in the form of RFC 3339")
	}
	return in, err
}

// render returns the lines of the file.
func render(denials map[authz.Revocation]denial) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for r, d := range denials {
		entry := line{TokenID: r.TokenID, Subject: r.Subject, Until: d.until.UTC(), Follow: d.follow}
		if r.TokenHash != [sha256.Size]byte{} {
			entry.TokenSHA256 = hex.EncodeToString(r.TokenHash[:])
		}
		if err := enc.Encode(entry); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}
