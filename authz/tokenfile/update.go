package tokenfile

import (
	"regexp"
	"strings"
	"time"
)

// Edit is an edit of a token file. [Update] makes one, and its changes take effect together. They
// do not see one another, except that what is added cannot be added twice: change no entry twice.
type Edit struct{ d *document }

// ByID makes Revoke, Disable, Enable and Extend take names for ids alone. A device may be called as
// a token, which may even be one of its own.
func (e *Edit) ByID() { e.d.byID = true }

// Update locks the file at path, calls change, and writes what it has changed. After an error of
// change, or if the result would break the rules, the file stays as it was. Without create a file
// that does not exist is an error; with it the file begins empty, and is made if there is a change.
func Update(path string, create bool, change func(*Edit) error) error {
	return edit(path, create, func(d *document) error { return change(&Edit{d}) })
}

// Match returns the ids of the entries whose id or device the pattern matches, in the order of
// the file. In the pattern * stands for any number of characters and ? for one.
func (e *Edit) Match(pattern string) (ids []string) {
	match := e.d.matcher(pattern)
	for _, x := range e.d.snap.entries() {
		if match(x.id) || match(x.subject) {
			ids = append(ids, x.id)
		}
	}
	return ids
}

// MatchDevices returns the devices that have a token, not disabled, and that the pattern matches,
// each once and in the order of the file.
func (e *Edit) MatchDevices(pattern string) (devices []string) {
	match, seen := e.d.matcher(pattern), make(map[string]bool)
	for _, x := range e.d.snap.entries() {
		if match(x.subject) && !x.isPair() && !x.disabled && !seen[x.subject] {
			seen[x.subject] = true
			devices = append(devices, x.subject)
		}
	}
	return devices
}

// matcher returns the function that applies a pattern.
func matcher(pattern string) func(string) bool {
	if strings.Contains(pattern, "?") {
		text := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
		return regexp.MustCompile("(?s)^" + text + "$").MatchString
	}
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return func(text string) bool { return text == pattern }
	}
	between := strings.Split(rest, "*")
	last := between[len(between)-1]
	between = between[:len(between)-1]
	return func(text string) bool {
		if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
			return false
		}
		text = text[len(first) : len(text)-len(last)]
		for _, part := range between {
			_, after, ok := strings.Cut(text, part)
			if !ok {
				return false
			}
			text = after
		}
		return true
	}
}

// Create adds a token, or a user name and a password, for a device.
func (e *Edit) Create(o CreateOptions) (Created, error) { return e.d.create(o, time.Now()) }

// Rotate creates a new token for a device that has one. The new token has the conditions and
// the lifetime of the device's last token that is not disabled. Without an overlap the old
// tokens are removed in the same write. With an overlap they stay valid for that long, rounded
// down to seconds, unless they expire before. Old tokens that have expired, or that would not
// become valid in that time, are removed in any case.
func (e *Edit) Rotate(name string, overlap time.Duration) (Created, error) {
	return e.d.rotate(name, overlap, time.Now())
}

// Revoke removes tokens: for each name the one with that id and all of the device with that
// name. It returns their ids.
func (e *Edit) Revoke(names ...string) (ids []string, err error) { return e.d.revoke(names) }

// Disable disables tokens, which are named as for Revoke. They stay in the file.
func (e *Edit) Disable(names ...string) (ids []string, err error) {
	return e.d.setDisabled(true, names)
}

// Enable enables tokens again, which are named as for Revoke.
func (e *Edit) Enable(names ...string) (ids []string, err error) {
	return e.d.setDisabled(false, names)
}

// Extend changes the expiry of tokens, which are named as for Revoke, in whole seconds; zero
// means that they never expire. An earlier expiry ends their sessions at that time. It returns
// the ids.
func (e *Edit) Extend(expires time.Time, names ...string) (ids []string, err error) {
	if err := checkExpiry(expires, time.Now()); err != nil {
		return nil, err
	}
	return e.d.setExpiry(expires, names)
}
