package replicas

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

const (
	// maxText is the longest name, subject or token id, in bytes.
	maxText = 256
	// instanceLength is the length of the number of a process, in hexadecimal digits.
	instanceLength = 16
)

// Withdrawal says that tokens are withdrawn.
type Withdrawal struct {
	authz.Revocation // without Grant
	// Until is the end of a denial. It is zero if the token sources are only to be asked again.
	Until time.Time
	// Follow extends the denial to the end of the token, see package denylist.
	Follow bool
	// At is when the tokens were withdrawn, by the clock of the replica that did it.
	At time.Time
	// Missed means that this replica learned about it later, because it was cut off. Sessions
	// that began after At are then not meant.
	Missed bool
}

// message is what replicas send each other. A message with no content says that its sender is
// there.
type message struct {
	Name     string `json:"name"`
	Instance string `json:"instance"`
	Number   uint64 `json:"number"` // counts the messages of the instance
	Sent     int64  `json:"sent"`   // in milliseconds since 1970

	Withdraw []entry  `json:"withdraw,omitempty"`
	Kick     []string `json:"kick,omitempty"` // subjects whose sessions end
	Purge    bool     `json:"purge,omitempty"`
	Changed  []Change `json:"changed,omitempty"`
	Ask      *int64   `json:"ask,omitempty"` // for what was withdrawn since then, and all denials
	// To is the instance that has asked. The message then answers it: Withdraw is what it has
	// missed.
	To      string  `json:"to,omitempty"`
	Denials []entry `json:"denials,omitempty"`
}

// maxKey is the longest name of a device and of a key in a [Change], in bytes: those of devices
// behind gateways have two parts.
const maxKey = 2 << 10

// Change says that shared attributes of a device were set or deleted. It has their keys and not
// their values, which are in the store.
type Change struct {
	Device string   `json:"device"`
	Keys   []string `json:"keys"`
}

// valid reports whether a change can be meant.
func (c Change) valid() bool {
	for _, text := range append([]string{c.Device}, c.Keys...) {
		if text == "" || len(text) > maxKey {
			return false
		}
	}
	return len(c.Keys) > 0
}

// entry is a Withdrawal in a message. Exactly one of the first three fields is set.
type entry struct {
	TokenSHA256 string `json:"token_sha256,omitempty"`
	TokenID     string `json:"token_id,omitempty"`
	Subject     string `json:"subject,omitempty"`
	At          int64  `json:"at,omitempty"`    // in milliseconds since 1970
	Until       int64  `json:"until,omitempty"` // in seconds since 1970; 0 for no denial
	Follow      bool   `json:"follow,omitempty"`
}

// entryOf returns w in the form of a message.
func entryOf(w Withdrawal) entry {
	r := w.Canonical()
	e := entry{TokenID: r.TokenID, Subject: r.Subject, Follow: w.Follow}
	if r.TokenHash != [sha256.Size]byte{} {
		e.TokenSHA256 = hex.EncodeToString(r.TokenHash[:])
	}
	if !w.At.IsZero() {
		e.At = w.At.UnixMilli()
	}
	if !w.Until.IsZero() {
		e.Until = w.Until.Unix()
	}
	return e
}

// withdrawal returns the entry as a Withdrawal, or an error if it is none.
func (e entry) withdrawal() (w Withdrawal, err error) {
	w = Withdrawal{Revocation: authz.Revocation{TokenID: e.TokenID, Subject: e.Subject}, Follow: e.Follow}
	given := 0
	for _, s := range []string{e.TokenSHA256, e.TokenID, e.Subject} {
		if s != "" {
			given++
		}
	}
	if given != 1 || len(e.TokenID) > maxText || len(e.Subject) > maxText {
		return w, errors.New("a withdrawal names one token, token id or subject")
	}
	if e.TokenSHA256 != "" {
		raw, err := hex.DecodeString(e.TokenSHA256)
		if err != nil || len(raw) != sha256.Size || [sha256.Size]byte(raw) == [sha256.Size]byte{} {
			return w, errors.New("token_sha256 is not a digest")
		}
		w.TokenHash = [sha256.Size]byte(raw)
	}
	if e.At != 0 {
		w.At = time.UnixMilli(e.At)
	}
	if e.Until != 0 {
		w.Until = time.Unix(e.Until, 0)
	}
	return w, nil
}

// parts cuts a list into parts that each take at most that many bytes in a message.
func parts[T any](all []T, most int) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		begin, sum := 0, 0
		for i, one := range all {
			text, _ := json.Marshal(one) // which is possible for an entry and for a text
			size := len(text) + len(",")
			if i > begin && sum+size > most {
				if !yield(all[begin:i]) {
					return
				}
				begin, sum = i, 0
			}
			sum += size
		}
		if begin < len(all) {
			yield(all[begin:])
		}
	}
}

// codec encrypts and decrypts messages.
type codec struct {
	aead    cipher.AEAD
	largest int // size of the largest encrypted message, in bytes
}

// content returns how many bytes of lists a message may have. The rest is for everything else.
func (c codec) content() int { return c.largest / 4 * 3 }

// newCodec returns the codec for a bus. Messages of another topic or another form cannot be
// decrypted with it.
func newCodec(secret []byte, topic string, largest int) (codec, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "mqtt-auth-proxy/replicas/1 "+topic, 32)
	if err != nil {
		return codec{}, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return codec{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return codec{aead, largest}, err
}

// seal returns the message as it is sent.
func (c codec) seal(m message) ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(text)+c.aead.Overhead() > c.largest {
		return nil, fmt.Errorf("a message of %d bytes is too large", len(text))
	}
	return c.aead.Seal(nil, nil, text, nil), nil
}

// errUnreadable is the error for a message that was not made with this secret.
var errUnreadable = errors.New("the message was not made with the secret of these replicas")

// open returns the message in a payload that anyone may have sent.
func (c codec) open(payload []byte) (message, error) {
	if len(payload) <= c.aead.Overhead() || len(payload) > c.largest {
		return message{}, errUnreadable
	}
	text, err := c.aead.Open(nil, nil, payload, nil)
	if err != nil {
		return message{}, errUnreadable
	}
	return parse(text)
}

// parse reads a decrypted message.
func parse(text []byte) (m message, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return message{}, errors.New("the message is not in the form of this release")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return message{}, errors.New("the message has more text after its end")
	}
	if m.Name == "" || len(m.Name) > maxText || len(m.Instance) != instanceLength || m.Number == 0 || len(m.To) > instanceLength {
		return message{}, errors.New("the message has no sender")
	}
	for _, subject := range m.Kick {
		if subject == "" || len(subject) > maxText {
			return message{}, errors.New("kick has a text that is no subject")
		}
	}
	for _, c := range m.Changed {
		if !c.valid() {
			return message{}, errors.New("changed has a text that is no device or key")
		}
	}
	for _, all := range [][]entry{m.Withdraw, m.Denials} {
		for _, e := range all {
			if _, err := e.withdrawal(); err != nil {
				return message{}, err
			}
		}
	}
	return m, nil
}

// withdrawals returns the withdrawals of entries that parse has checked.
func withdrawals(all []entry) []Withdrawal {
	list := make([]Withdrawal, 0, len(all))
	for _, e := range all {
		if w, err := e.withdrawal(); err == nil {
			list = append(list, w)
		}
	}
	return list
}
