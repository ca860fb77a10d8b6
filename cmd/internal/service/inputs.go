package service

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
)

// inputs are the files that a generation was made from and nobody watches, with
// digests of their content. Files in config.Config.Hash are not among them, nor is
// what renews itself: certificates, token files, the files of token sources.
type inputs map[string][sha256.Size]byte

// add takes down what a file holds. It is called before the file is read for its
// meaning: what changes in between is then seen as a change.
func (in inputs) add(path string) {
	if path != "" {
		in[path] = digest(path)
	}
}

// changed reports whether a file holds something else now. A file that is not there
// is one that holds something else.
func (in inputs) changed() bool {
	for path, sum := range in {
		if digest(path) != sum {
			return true
		}
	}
	return false
}

// sum names what the files hold now.
func (in inputs) sum() string {
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(in)) {
		now := digest(path)
		h.Write(now[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// digest returns the digest of a regular file, the zero value for what is none or
// cannot be read.
func digest(path string) (sum [sha256.Size]byte) {
	const most = 16 << 20
	content, _, err := files.Read(path, most)
	if err != nil {
		return sum
	}
	return files.Sum(content)
}
