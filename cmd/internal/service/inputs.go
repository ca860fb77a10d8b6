package service

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// inputs are files that a generation was made from and that nothing else watches, with the
// digests of their content. Not among them are the files that the hash of the configuration
// covers, and those that are read again by the part that uses them: certificates, token
// files, the keys and credentials of token sources.
type inputs map[string][sha256.Size]byte

// add notes what a file holds. It is called before the file is read for its meaning, so
// that a change in between is noticed.
func (in inputs) add(path string) {
	if path != "" {
		in[path] = digest(path)
	}
}

// changed reports whether a file holds something else now. A file that is gone does.
func (in inputs) changed() bool {
	for path, sum := range in {
		if digest(path) != sum {
			return true
		}
	}
	return false
}

// sum returns a digest of what the files hold now.
func (in inputs) sum() string {
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(in)) {
		now := digest(path)
		h.Write(now[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// digest returns the digest of a regular file. It returns the zero value for anything else,
// and for a file that cannot be read.
func digest(path string) (sum [sha256.Size]byte) {
	const most = 16 << 20
	content, _, err := files.Read(path, most)
	if err != nil {
		return sum
	}
	return files.Sum(content)
}
