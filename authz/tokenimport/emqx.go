package tokenimport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
)

// emqxUser is a user of EMQX's built-in database.
type emqxUser struct {
	id, hash, salt string
	superuser      string
}

// set sets the field with the name of a column or a key.
func (u *emqxUser) set(name, value string) error {
	switch name {
	case "user_id":
		u.id = value
	case "password_hash":
		u.hash = value
	case "salt":
		u.salt = value
	case "is_superuser":
		u.superuser = value
	case "password":
		return errors.New("a password in plain text; have EMQX export the hashes instead, or use format csv, whose column password is hashed")
	default:
		return errors.New("an unknown name; known are user_id, password_hash, salt and is_superuser")
	}
	return nil
}

// emqx reads a table or, from a file whose name says so, JSON.
func (r *reader) emqx(hash string) error {
	h, err := parseEMQXHash(hash)
	if err != nil {
		return err
	}
	if strings.HasSuffix(strings.ToLower(r.source), ".json") {
		return r.emqxJSON(h)
	}
	var names []string
	return r.eachRow(func(header []string) error {
		names = header
		for i, name := range names {
			if err := new(emqxUser).set(name, ""); err != nil {
				return fmt.Errorf("column %d: %w", i+1, err)
			}
		}
		return nil
	}, func(line int, cells []string) error {
		var u emqxUser
		for i, cell := range cells {
			_ = u.set(names[i], cell) // the names are known
		}
		return r.addEMQX(line, u, h)
	})
}

// emqxJSON reads a list of objects.
func (r *reader) emqxJSON(h emqxHash) error {
	content, err := io.ReadAll(r.in)
	if err != nil {
		return err
	}
	line, at := 1, 0
	err = strictjson.EachElement(content, func(element []byte) error {
		rest := content[at:]
		skipped := len(rest) - len(bytes.TrimLeft(rest, " \t\r\n[,"))
		line += bytes.Count(rest[:skipped], []byte("\n"))
		u, err := emqxObject(element)
		if err == nil {
			err = r.addEMQX(line, u, h)
		}
		line += bytes.Count(element, []byte("\n"))
		at += skipped + len(element)
		if err != nil {
			return r.fault(line, err)
		}
		return nil
	})
	if err != nil && !errors.Is(err, errFaults) {
		return r.fault(line, fmt.Errorf("not a JSON list of users: %w", err))
	}
	return err
}

func emqxObject(element []byte) (u emqxUser, err error) {
	if element[0] != '{' {
		return u, fmt.Errorf("want an object with user_id and password_hash, got %s", strictjson.Kind(element))
	}
	err = strictjson.EachMember(element, func(key, value []byte) error {
		text := value
		if value[0] == '"' {
			var err error
			if text, err = strictjson.Text(value); err != nil {
				return err
			}
		} else if string(key) != "is_superuser" {
			return errors.New("a value that is not a string")
		}
		return u.set(string(key), string(text))
	})
	return u, err
}

func (r *reader) addEMQX(line int, u emqxUser, h emqxHash) error {
	if u.id == "" {
		return in("user_id", "is missing")
	}
	stored, err := h.text(u.hash, u.salt)
	if err != nil {
		return in("password_hash", err.Error())
	}
	switch u.superuser {
	case "", "false":
	case "true":
		r.found.Superusers++
	default:
		return in("is_superuser", "want true or false")
	}
	r.addCredential(line, credential{Username: u.id, PasswordHash: stored})
	return nil
}

// emqxHash is the algorithm of EMQX's hashes.
type emqxHash struct {
	name, place, algorithm string
	rounds                 int
}

const emqxHashes = "bcrypt, sha256:prefix, sha256:suffix, sha256:none, the same with sha512, pbkdf2:sha256:ROUNDS or pbkdf2:sha512:ROUNDS"

// parseEMQXHash reads Options.Hash.
func parseEMQXHash(s string) (emqxHash, error) {
	parts := strings.Split(s, ":")
	bad := fmt.Errorf("unknown hash %q: want %s", s, emqxHashes)
	switch h := (emqxHash{name: parts[0]}); {
	case s == "":
		return h, errors.New("EMQX does not write into the file how the passwords were hashed; look at its authenticator, and say " + emqxHashes)
	case s == "bcrypt":
		return h, nil
	case s == "plain":
		return h, errors.New("passwords in plain text are not taken over; have EMQX hash them first")
	case len(parts) == 2 && (h.name == "sha256" || h.name == "sha512"):
		h.place = parts[1]
		if h.place != "prefix" && h.place != "suffix" && h.place != "none" {
			return h, bad
		}
		return h, nil
	case len(parts) == 3 && h.name == "pbkdf2":
		h.algorithm = parts[1]
		var err error
		if h.rounds, err = strconv.Atoi(parts[2]); err != nil || h.rounds < 1 || h.algorithm != "sha256" && h.algorithm != "sha512" {
			return h, bad
		}
		return h, nil
	}
	return emqxHash{}, bad
}

// text returns a hash in the form of package passwordhash.
func (h emqxHash) text(hash, salt string) (string, error) {
	switch {
	case hash == "":
		return "", errors.New("is missing")
	case h.name == "bcrypt":
		_, err := passwordhash.Parse(hash)
		if err == nil && !strings.HasPrefix(hash, "$2") {
			err = errors.New("not a hash of bcrypt")
		}
		return hash, err
	case h.place == "none":
		return passwordhash.Salted(h.name, "", true, hash)
	case salt == "":
		return "", errors.New("has no salt next to it")
	case h.name == "pbkdf2":
		return passwordhash.PBKDF2(h.algorithm, h.rounds, salt, hash)
	}
	return passwordhash.Salted(h.name, salt, h.place == "prefix", hash)
}
